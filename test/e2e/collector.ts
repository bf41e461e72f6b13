/** Collectors of spans: what they are sent, in one form for Zipkin's JSON and OpenTelemetry's protobuf. */
import { createServer } from 'node:http';
import { createServer as createHttp2 } from 'node:http2';
import type { AddressInfo } from 'node:net';
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
      if (wire === 0) return reader.int32();
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
      const pieces: Buffer[] = [];
      stream.on('data', (piece: Buffer) => pieces.push(piece));
      stream.on('end', () => {
        const rest = Object.fromEntries([':path', ':authority', 'user-agent', 'te'].map((name) => [name, head[name]]));
        this.spans.push(...spansOf(Buffer.concat(pieces).subarray(5), rest));
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
