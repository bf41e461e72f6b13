/**
 * The messages of Envoy's external authorization service as far as they are needed here: fields by the numbers of
 * envoy/service/auth/v3, all others are skipped.
 */
import type { IncomingHttpHeaders } from 'node:http2';
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { LIMIT_KEY } from '../proxy/index.js';
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
  return { limit: typeof limit === 'string' ? limit : '', headers, sourceIp };
}

/** PERMISSION_DENIED of google.rpc.Code. */
const DENIED = 7;

/** A CheckResponse that lets the request pass, or answers it. */
export function encodeAnswer(advice: NonNullable<Advice>): Uint8Array {
  const writer = new BinaryWriter();
  const message = (number: number, write: () => void): void => {
    writer.tag(number, WireType.LengthDelimited).fork();
    write();
    writer.join();
  };
  const text = (number: number, value: string): void => void writer.tag(number, WireType.LengthDelimited).string(value);
  const integer = (number: number, value: number): void => void writer.tag(number, WireType.Varint).int32(value);
  if (advice === 'pass') {
    message(1, () => undefined);
    message(3, () => undefined);
    return writer.finish();
  }
  message(1, () => integer(1, DENIED));
  message(2, () => {
    message(1, () => integer(1, advice.status));
    for (const { name, value } of advice.headers)
      message(2, () =>
        message(1, () => {
          text(1, name);
          text(2, value.map((piece) => (piece.kind === 'literal' ? piece.value : '')).join(''));
        }),
      );
    text(3, advice.body);
  });
  return writer.finish();
}
