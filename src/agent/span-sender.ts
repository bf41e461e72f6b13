/**
 * Sends spans to the collectors that tracing names, by way of the proxy: it knows their clusters, with their endpoints,
 * protocols and certificates (src/proxy/collectors.ts).
 */
import { request as httpRequest } from 'node:http';
import { type ClientHttp2Session, connect as http2Connect } from 'node:http2';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { segmentObject } from '../observe/segment.js';
import type { Span } from '../observe/span.js';
import { openTelemetryRequest, zipkinJson } from '../observe/span-messages.js';
import type { Collector, TracePlan } from '../plan/tracing.js';
import { COLLECTOR_HEADER } from '../proxy/index.js';
import { GRPC_PREFIX } from './grpc-socket.js';

const FLUSH_MS = 500;
const TIMEOUT_MS = 5000;
/** Spans in one message, and spans that may wait in all. */
const MOST = 200;
const WAITING = 20_000;

/** The address that Envoy takes for this host's own: the first that is not a loopback one. */
function ownAddress(): string {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return all.find(({ family, internal }) => family === 'IPv4' && !internal)?.address ?? '127.0.0.1';
}

function framed(bytes: Uint8Array): Buffer {
  const head = Buffer.alloc(GRPC_PREFIX);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

export class SpanSender {
  readonly #waiting = new Map<string, { readonly trace: TracePlan; spans: Span[] }>();
  #count = 0;
  #timer: NodeJS.Timeout | undefined;
  #session: ClientHttp2Session | undefined;
  #version: Promise<string> | undefined;
  /** spans that collectors have taken, and spans that nobody has */
  readonly counts = { sent: 0, lost: 0 };

  /**
   * @param path Unix socket of the proxy
   * @param version what the proxy says it is
   */
  constructor(
    private readonly path: string,
    private readonly version: () => Promise<string>,
  ) {}

  add(trace: TracePlan, span: Span): void {
    if (this.#count >= WAITING) {
      this.counts.lost++;
      return;
    }
    this.#count++;
    const { collector, service, instance, egress, shared } = trace;
    const key = JSON.stringify([collector, service, instance, egress, shared]);
    const known = this.#waiting.get(key);
    if (known) known.spans.push(span);
    else this.#waiting.set(key, { trace, spans: [span] });
    this.#timer ??= setTimeout(() => void this.flush(), FLUSH_MS);
  }

  /** Sends what waits. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    this.#count = 0;
    const sendings: Promise<void>[] = [];
    for (const { trace, spans } of all)
      for (let at = 0; at < spans.length; at += MOST) sendings.push(this.#send(trace, spans.slice(at, at + MOST)));
    await Promise.all(sendings);
  }

  async #send(trace: TracePlan, spans: readonly Span[]): Promise<void> {
    const { collector, tracer } = trace;
    try {
      if (!collector) throw new Error('there is no collector');
      if (tracer === 'zipkin') await this.#post(collector, 'application/json', zipkinJson(trace, spans, ownAddress()));
      else if (tracer === 'skywalking') {
        const segments = spans.map((span) => framed(segmentObject(trace, span)));
        await this.#call(collector, Buffer.concat(segments), Object.fromEntries(collector.headers));
      } else {
        this.#version ??= this.version();
        const version = await this.#version;
        const bytes = openTelemetryRequest(trace, spans, version);
        const agent = { 'user-agent': `OTel-OTLP-Exporter-Envoy/${version}` };
        if (collector.protocol === 'grpc') await this.#call(collector, framed(bytes), agent);
        else await this.#post(collector, 'application/x-protobuf', bytes, agent);
      }
      this.counts.sent += spans.length;
    } catch {
      this.#version = undefined;
      this.counts.lost += spans.length;
    }
  }

  #post(
    { cluster, host, path, headers }: Collector,
    type: string,
    body: string | Uint8Array,
    more: Record<string, string> = {},
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const request = httpRequest(
        {
          socketPath: this.path,
          method: 'POST',
          path,
          timeout: TIMEOUT_MS,
          headers: { host, 'content-type': type, ...more, ...Object.fromEntries(headers), [COLLECTOR_HEADER]: cluster },
        },
        (answer) => {
          answer.resume();
          answer.once('end', () =>
            (answer.statusCode ?? 500) < 300 ? resolve() : reject(new Error(`status ${answer.statusCode}`)),
          );
          answer.once('error', reject);
        },
      );
      request.once('timeout', () => request.destroy(new Error('timeout')));
      request.once('error', reject);
      request.end(body);
    });
  }

  #call({ cluster, host, path }: Collector, body: Buffer, more: Record<string, string>): Promise<void> {
    const session = this.#connected();
    return new Promise((resolve, reject) => {
      const stream = session.request({
        ':method': 'POST',
        ':scheme': 'http',
        ':authority': host,
        ':path': path,
        te: 'trailers',
        'content-type': 'application/grpc',
        ...more,
        [COLLECTOR_HEADER]: cluster,
      });
      let status: unknown;
      stream.setTimeout(TIMEOUT_MS, () => stream.close());
      stream.once('response', (head) => {
        status = head['grpc-status'];
      });
      stream.once('trailers', (trailers) => {
        status = trailers['grpc-status'];
      });
      stream.once('error', reject);
      stream.once('close', () => (status === '0' ? resolve() : reject(new Error(`gRPC status ${String(status)}`))));
      stream.resume();
      stream.end(body);
    });
  }

  #connected(): ClientHttp2Session {
    if (this.#session && !this.#session.closed && !this.#session.destroyed) return this.#session;
    const session = http2Connect('http://collector', { createConnection: () => connect(this.path) });
    session.once('error', () => session.destroy());
    session.once('goaway', () => session.close());
    session.unref();
    this.#session = session;
    return session;
  }

  async close(): Promise<void> {
    await this.flush();
    this.#session?.close();
  }
}
