/** The same requests through the kernel and through Envoy alone, to servers that answer as the requests say. */
import assert from 'node:assert/strict';
import type http2 from 'node:http2';
import { sleep } from '../../src/lab/processes.js';
import type { Tries } from './h2-tries.js';
import { ask, type H2World } from './h2-world.js';

export interface Outcome {
  readonly headers: http2.IncomingHttpHeaders;
  readonly trailers: http2.IncomingHttpHeaders;
  readonly body: string;
  readonly reset: number;
}

/** One request; what becomes of it. */
function attempt(
  session: http2.ClientHttp2Session,
  headers: http2.OutgoingHttpHeaders,
  body: Buffer | undefined,
): Promise<Outcome> {
  return new Promise((resolve) => {
    const stream = session.request(headers, { endStream: !body });
    let [answer, trailers, text] = [{}, {}, ''] as [http2.IncomingHttpHeaders, http2.IncomingHttpHeaders, string];
    stream.on('response', (h) => (answer = h));
    stream.on('trailers', (h) => (trailers = h));
    stream.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
    stream.on('error', () => undefined);
    stream.on('close', () => resolve({ headers: answer, trailers, body: text, reset: stream.rstCode ?? 0 }));
    if (body) stream.end(body);
  });
}

const OWN = new Set(['date', 'server', 'x-envoy-upstream-service-time']);
/** What Envoy and the kernel must agree on. */
function told({ headers, trailers, body, reset }: Outcome, id: string): unknown {
  const text = (h: http2.IncomingHttpHeaders) =>
    Object.entries(h)
      .filter(([name]) => !OWN.has(name))
      .map(([name, value]) =>
        `${name}: ${value}`
          .replaceAll(id, 'ID')
          .replace(/[0-9a-f]{8}-[0-9a-f-]{27}/, 'UUID')
          .replace(/127\.0\.0\.1:\d+/g, 'HERE'),
      )
      .sort();
  return { headers: text(headers), trailers: text(trailers), body, reset };
}

export class Bench {
  #ids = 0;
  constructor(
    readonly world: H2World,
    readonly tries: Tries,
    readonly ours: http2.ClientHttp2Session,
    readonly theirs: http2.ClientHttp2Session,
  ) {}

  /** Waits until the kernel takes streams of all these routes. */
  async settled(paths: readonly string[] = ['/one', '/two'], session = this.ours): Promise<void> {
    for (const path of paths)
      for (let before = this.world.decided(); this.world.decided() === before; )
        await ask(session, { ':method': 'POST', ':path': path }, undefined);
  }

  /** Nothing is left of streams that are over. */
  async empty(): Promise<void> {
    const left = () =>
      ['h2_streams', 'h2_kept', 'h2_stages'].map((map) => [...this.world.plane.map(map).keys()].length);
    for (let i = 0; i < 300 && left().some((n) => n > 0); i++) await sleep(10);
    assert.deepEqual(left(), [0, 0, 0], 'streams, what is kept, heads on their way');
  }

  async request(session: http2.ClientHttp2Session, path: string, plan: string, body: Buffer | undefined, more = {}) {
    const id = `id${++this.#ids}`;
    const headers = {
      ...{ ':method': 'POST', ':path': path, ':authority': 'calls', te: 'trailers' },
      ...{ 'content-type': 'application/grpc', 'x-id': id, 'x-plan': plan, ...more },
    };
    const found = told(await attempt(session, headers, body), id);
    return { found, tries: this.tries.of(id) };
  }

  /** The same through both; the kernel begins the stream. */
  async same(path: string, plan: string, body: Buffer | undefined, more = {}): Promise<readonly string[]> {
    const before = this.world.decided();
    const own = await this.request(this.ours, path, plan, body, more);
    assert.equal(this.world.decided() - before, 1, `${path} ${plan}: begun by the kernel`);
    const alone = await this.request(this.theirs, path, plan, body, more);
    assert.deepEqual(own, alone, `${path} ${plan}`);
    return own.tries;
  }
}
