/** A server whose answers to the tries of one request are written in the request itself. */
import { createHash } from 'node:crypto';
import type http2 from 'node:http2';

/** What the tries of requests saw, by `x-id`. */
export class Tries {
  readonly #seen = new Map<string, string[]>();

  /** @param most attempts that are counted: a proxy that carries on, and is not told of the first try, counts from its own */
  constructor(private readonly most = 2) {}

  /** For each try: the server, the attempt it was called, and what arrived. */
  of(id: string): readonly string[] {
    return this.#seen.get(id) ?? [];
  }

  /**
   * `x-plan: g14,ok`: a head alone with gRPC's status 14, then an answer. hN: such a head with a body behind it; sN: a status of
   * HTTP; late: 14 in trailers behind a body; limited: g14 by a rate limiter; early: 103, then g14; resetN; gone: the
   * connection ends; goaway: the stream was not taken. With `now` behind it, before the request's end.
   */
  readonly script = (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders, server: string): boolean => {
    const [id, plan] = [headers['x-id'], headers['x-plan']];
    if (typeof id !== 'string' || typeof plan !== 'string') return false;
    const seen = this.#seen.get(id) ?? [];
    this.#seen.set(id, seen);
    const steps = plan.split(',');
    const step = steps[Math.min(seen.length, steps.length - 1)]!;
    const at = seen.length;
    const attempt = String(Math.min(this.most, Number(headers['x-envoy-attempt-count'])));
    const told = `${server} ${attempt}`;
    seen.push(told);
    const hash = createHash('sha256');
    let length = 0;
    stream.on('data', (chunk: Buffer) => {
      hash.update(chunk);
      length += chunk.length;
    });
    const answer = (): void =>
      carryOut(
        stream,
        step.replace('now', ''),
        JSON.stringify(Object.entries({ ...headers, 'x-envoy-attempt-count': attempt }).sort()),
      );
    if (step.endsWith('now')) {
      stream.resume();
      answer();
    } else {
      stream.on('end', () => {
        seen[at] = `${told} ${length} ${hash.digest('hex')}`;
        answer();
      });
    }
    return true;
  };
}

function carryOut(stream: http2.ServerHttp2Stream, step: string, saw: string): void {
  const number = Number(/\d+$/.exec(step)?.[0]);
  const grpc = { ':status': 200, 'content-type': 'application/grpc' };
  const head = { ...grpc, 'grpc-status': String(number), 'grpc-message': 'as it was asked' };
  if (step.startsWith('reset')) stream.close(number);
  else if (step === 'gone') stream.session?.destroy();
  else if (step === 'goaway') stream.session?.goaway(0, Math.max(0, stream.id! - 2));
  else if (step.startsWith('s')) {
    stream.respond({ ':status': number, 'content-type': 'text/plain' });
    stream.end(step);
  } else if (step.startsWith('g')) stream.respond(head, { endStream: true });
  else if (step.startsWith('h')) {
    stream.respond(head);
    stream.end('body');
  } else if (step === 'limited')
    stream.respond({ ...head, 'grpc-status': '14', 'x-envoy-ratelimited': 'true' }, { endStream: true });
  else if (step === 'early') {
    stream.additionalHeaders({ ':status': 103, 'x-hint': 'a' });
    stream.respond({ ...head, 'grpc-status': '14' }, { endStream: true });
  } else {
    stream.respond({ ...grpc, 'x-saw': saw }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': step === 'late' ? '14' : '0' }));
    stream.end('a whole answer');
  }
}
