/** Collectors of spans: what they are sent, in one form for Zipkin's JSON and OpenTelemetry's protobuf. */
import { createServer } from 'node:http';
import { createServer as createHttp2 } from 'node:http2';
import type { AddressInfo } from 'node:net';
import type { Readable } from 'node:stream';
import { BinaryReader } from '@bufbuild/protobuf/wire';

/** A span as it came, without its times but with whether they make sense. */
export interface Collected {
  readonly traceId: string;
  readonly id: string;
  readonly parentId?: string;
  readonly name: string;
  readonly kind: unknown;
  readonly tags: Readonly<Record<string, string>>;
  readonly timed: boolean;
  /** everything else that was said: of the span, of who sent it, of the request in which it came */
  readonly rest: unknown;
}

type Json = Record<string, unknown>;

/** A message of protobuf by the numbers of its fields: text or bytes in hexadecimal digits, numbers, messages by `inside`. */
function read(bytes: Uint8Array, inside: Record<number, (bytes: Uint8Array) => unknown>): Map<number, unknown[]> {
  const reader = new BinaryReader(bytes);
  const found = new Map<number, unknown[]>();
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    const value = (): unknown => {
      if (wire === 0) return Number(reader.int64());
      if (wire === 1) return reader.fixed64();
      if (wire === 5) return reader.fixed32();
      const own = reader.bytes();
      return inside[number]?.(own) ?? Buffer.from(own).toString('hex');
    };
    found.set(number, [...(found.get(number) ?? []), value()]);
  }
  return found;
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
const one = (message: Map<number, unknown[]>, field: number): unknown => message.get(field)?.[0];
const attribute = (bytes: Uint8Array): unknown => {
  const entry = read(bytes, { 1: text, 2: (value) => one(read(value, { 1: text }), 1) });
  return [one(entry, 1), one(entry, 2)];
};

function spansOf(bytes: Uint8Array, rest: Json): Collected[] {
  const span = (own: Uint8Array): Collected => {
    const found = read(own, { 3: text, 5: text, 9: attribute, 15: (status) => [...read(status, {})] });
    const [from, to] = [BigInt(String(one(found, 7))), BigInt(String(one(found, 8)))];
    return {
      traceId: String(one(found, 1)),
      id: String(one(found, 2)),
      ...(found.has(4) ? { parentId: String(one(found, 4)) } : {}),
      name: String(one(found, 5)),
      kind: one(found, 6),
      tags: Object.fromEntries((found.get(9) ?? []) as [string, string][]),
      timed: from <= to && Math.abs(Number(from / 1_000_000n) - Date.now()) < 60_000,
      rest: { ...rest, flags: one(found, 16), status: found.get(15), state: one(found, 3) },
    };
  };
  const scoped = (own: Uint8Array) => {
    const found = read(own, { 1: (scope) => [...read(scope, { 1: text, 2: text })], 2: span });
    const spans = (found.get(2) ?? []) as Collected[];
    return spans.map((s) => ({ ...s, rest: { ...(s.rest as Json), scope: found.get(1) } }));
  };
  const resource = (own: Uint8Array) => (read(own, { 1: attribute }).get(1) ?? []).map(String).sort();
  const all = (own: Uint8Array) => {
    const found = read(own, { 1: resource, 2: scoped });
    const spans = (found.get(2) ?? []).flat() as Collected[];
    return spans.map((s) => ({ ...s, rest: { ...(s.rest as Json), resource: found.get(1) } }));
  };
  return (read(bytes, { 1: all }).get(1) ?? []).flat() as Collected[];
}

function fromZipkin(span: Json, rest: Json): Collected {
  const { traceId, id, parentId, name, kind, tags, timestamp, duration, annotations, ...others } = span;
  const told = annotations as { timestamp: number; value: string }[];
  const [from, length] = [Number(timestamp), Number(duration)];
  return {
    traceId: String(traceId),
    id: String(id),
    ...(parentId === undefined ? {} : { parentId: String(parentId) }),
    name: String(name),
    kind,
    tags: tags as Record<string, string>,
    timed: length >= 0 && Math.abs(from / 1000 - Date.now()) < 60_000 && told.every((a) => a.timestamp >= from),
    rest: { ...rest, ...others, annotations: told.map((a) => a.value) },
  };
}

const numbers = (bytes: Uint8Array): unknown[] => [
  ...read(bytes, { 2: text, 3: text, 5: text, 6: text, 7: text, 8: text }),
];
const pair = (bytes: Uint8Array): unknown => {
  const found = read(bytes, { 1: text, 2: text });
  return [one(found, 1), one(found, 2) ?? ''];
};

/** A segment of SkyWalking: the tags are those of its first span. */
function fromSegment(bytes: Uint8Array, rest: Json): Collected {
  const spans: Map<number, unknown[]>[] = [];
  const segment = read(bytes, {
    ...{ 1: text, 2: text, 4: text, 5: text },
    3: (own) => spans.push(read(own, { 5: numbers, 6: text, 7: text, 12: pair })),
  });
  const [first, ...others] = spans.map((span) => {
    const { 3: from, 4: to, 12: tags, ...fields } = Object.fromEntries(span);
    const list = ((tags ?? []) as [string, string][]).sort(([a], [b]) => (a < b ? -1 : 1));
    const timed = Number(from?.[0]) <= Number(to?.[0]) && Math.abs(Number(from?.[0]) - Date.now()) < 60_000;
    return { tags: list, timed, fields };
  });
  return {
    traceId: String(one(segment, 1)),
    id: String(one(segment, 2)),
    name: String(one(segment, 4)),
    kind: one(segment, 5),
    tags: Object.fromEntries(first!.tags),
    timed: first!.timed,
    rest: { ...rest, fields: first!.fields, others },
  };
}

/** Messages of a gRPC stream, each when it is there as a whole. */
function eachMessage(stream: Readable, take: (message: Buffer) => void): void {
  let got = Buffer.alloc(0);
  stream.on('data', (piece: Buffer) => {
    got = Buffer.concat([got, piece]);
    while (got.length >= 5 && got.length >= 5 + got.readUInt32BE(1)) {
      const end = 5 + got.readUInt32BE(1);
      take(got.subarray(5, end));
      got = got.subarray(end);
    }
  });
}

/** Two collectors, one that is sent JSON over HTTP/1.1, and one that is called by gRPC. */
export class Collectors {
  readonly spans: Collected[] = [];
  readonly #http = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    request.on('end', () => {
      const { host, 'content-type': type, 'x-kept': kept } = request.headers;
      const rest = { url: request.url, method: request.method, host, type, kept };
      const list = JSON.parse(Buffer.concat(pieces).toString()) as Json[];
      this.spans.push(...list.map((span) => fromZipkin(span, rest)));
      response.writeHead(202).end();
    });
  });
  readonly #grpc = createHttp2();

  async open(): Promise<{ http: number; grpc: number }> {
    this.#grpc.on('stream', (stream, head) => {
      const names = [':path', ':authority', 'user-agent', 'te', 'authentication'];
      const rest = Object.fromEntries(names.map((name) => [name, head[name]]));
      const segments = String(head[':path']).includes('skywalking');
      eachMessage(stream, (bytes) =>
        this.spans.push(...(segments ? [fromSegment(bytes, rest)] : spansOf(bytes, rest))),
      );
      stream.on('error', () => undefined);
      stream.on('end', () => {
        stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
        stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
        stream.end(Buffer.alloc(5));
      });
    });
    await new Promise<void>((resolve) => this.#http.listen(0, '127.0.0.1', resolve));
    await new Promise<void>((resolve) => this.#grpc.listen(0, '127.0.0.1', resolve));
    const port = (server: { address(): unknown }) => (server.address() as AddressInfo).port;
    return { http: port(this.#http), grpc: port(this.#grpc) };
  }

  close(): void {
    this.#http.close();
    this.#http.closeAllConnections();
    this.#grpc.close();
  }
}
