/**
 * The messages of Envoy's external authorization and processing services as far as they are needed here: fields by the
 * numbers of envoy/service/auth/v3 and ext_proc/v3, all others are skipped.
 */
import type { IncomingHttpHeaders } from 'node:http2';
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { BREAKER_KEYS, LIMIT_KEY, SHOWN_KEY, TIMEOUT_KEY } from '../proxy/index.js';
import type { Advice, ConsultedRequest } from './consult.js';

type Fields = Readonly<Record<number, (reader: BinaryReader) => void>>;

/** Reads a message: calls what is given for the fields that are there, all of which are length-delimited. @throws for bad input */
function read(bytes: Uint8Array, fields: Fields): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    const field = wireType === WireType.LengthDelimited ? fields[number] : undefined;
    if (field) field(reader);
    else reader.skip(wireType, number);
  }
}

/** A field that is a message. */
const inside =
  (fields: Fields) =>
  (reader: BinaryReader): void =>
    read(reader.bytes(), fields);

/**
 * A CheckRequest: headers as received, the client's address, and which limit is meant: by the context of the route, else
 * (it is not there, or empty) by the metadata that the filter sends.
 */
export function decodeCheck(bytes: Uint8Array, metadata: IncomingHttpHeaders): ConsultedRequest {
  const headers: [string, string][] = [];
  const context = new Map<string, string>();
  let sourceIp = '';
  /** a map's entry, or a HeaderValue: key, value, raw_value */
  const pair = (add: (name: string, value: string) => void) => (reader: BinaryReader) => {
    let [name, value] = ['', ''];
    read(reader.bytes(), {
      1: (r) => {
        name = r.string();
      },
      2: (r) => {
        value = r.string();
      },
      3: (r) => {
        value = Buffer.from(r.bytes()).toString('latin1');
      },
    });
    add(name, value);
  };
  const socketAddress = inside({
    2: (r) => {
      sourceIp = r.string();
    },
  });
  const http = inside({ 13: inside({ 1: pair((name, value) => void headers.push([name, value])) }) });
  const attributes = inside({
    1: inside({ 1: inside({ 1: socketAddress }) }),
    4: inside({ 2: http }),
    10: pair((name, value) => void context.set(name, value)),
  });
  read(bytes, { 1: attributes });
  const limit = context.get(LIMIT_KEY) || metadata[LIMIT_KEY];
  const said = (key: string): string => (typeof metadata[key] === 'string' ? metadata[key] : '');
  const { cluster, end, quiet } = BREAKER_KEYS;
  return {
    limit: typeof limit === 'string' ? limit : '',
    cluster: said(cluster),
    end: said(end),
    quiet: said(quiet) !== '',
    timeoutMs: Number(context.get(TIMEOUT_KEY) ?? 0),
    headers,
    sourceIp,
  };
}

/** PERMISSION_DENIED of google.rpc.Code. */
const DENIED = 7;

/** Writes one message. */
class Encoder {
  readonly #writer = new BinaryWriter();

  message(number: number, write: () => void): void {
    this.#writer.tag(number, WireType.LengthDelimited).fork();
    write();
    this.#writer.join();
  }

  text(number: number, value: string): void {
    this.#writer.tag(number, WireType.LengthDelimited).string(value);
  }

  integer(number: number, value: number): void {
    this.#writer.tag(number, WireType.Varint).int32(value);
  }

  finish(): Uint8Array {
    return this.#writer.finish();
  }
}

/** A CheckResponse that lets the request pass, or answers it; its dynamic metadata has the bucket. */
export function encodeAnswer({ refusal, bucket, headers = [] }: NonNullable<Advice>): Uint8Array {
  const to = new Encoder();
  to.message(1, () => refusal && to.integer(1, DENIED));
  if (refusal)
    to.message(2, () => {
      to.message(1, () => to.integer(1, refusal.status));
      for (const { name, value } of refusal.headers)
        to.message(2, () =>
          to.message(1, () => {
            to.text(1, name);
            to.text(2, value.map((piece) => (piece.kind === 'literal' ? piece.value : '')).join(''));
          }),
        );
      to.text(3, refusal.body);
    });
  else
    to.message(3, () => {
      for (const [name, value] of headers)
        to.message(2, () => {
          to.message(1, () => {
            to.text(1, name);
            to.text(2, value);
          });
          to.message(2, () => undefined); // do not append
        });
    });
  if (bucket !== undefined)
    to.message(4, () =>
      to.message(1, () => {
        to.text(1, SHOWN_KEY);
        to.message(2, () => to.text(3, bucket));
      }),
    );
  return to.finish();
}

/** The bucket that the answer is to tell of, from a ProcessingRequest's metadata; '': none. */
export function decodeProcessing(bytes: Uint8Array): string {
  let bucket = '';
  const value = (reader: BinaryReader): void => {
    let key = '';
    read(reader.bytes(), {
      1: (r) => {
        key = r.string();
      },
      2: inside({
        3: (r) => {
          const text = r.string();
          if (key === SHOWN_KEY) bucket = text;
        },
      }),
    });
  };
  read(bytes, { 8: inside({ 1: inside({ 2: inside({ 1: value }) }) }) });
  return bucket;
}

/** A ProcessingResponse to the headers of an answer, with lines that are added to them. */
export function encodeAdditions(lines: readonly (readonly [name: string, value: string])[]): Uint8Array {
  const to = new Encoder();
  const mutation = (): void => {
    for (const [name, value] of lines)
      to.message(1, () => {
        to.message(1, () => {
          to.text(1, name);
          to.text(3, value); // raw_value: `value` is not looked at here
        });
        to.message(2, () => to.integer(1, 1)); // append
      });
  };
  to.message(2, () => to.message(1, () => to.message(2, mutation)));
  return to.finish();
}
