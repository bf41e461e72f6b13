/**
 * Carries an answer that the kernel left to the agent: read from the upstream connection, written to the client's
 * connection in the form that the proxy would give it. Either the whole answer (phase AGENT), or the rest of one whose
 * beginning went through the kernel (phase HANDOVER), which the caller starts only behind the barrier.
 */
import { JOINED_ANSWER_HEADERS } from '../plan/answers.js';
import { takeAnswerHead } from './answer-head.js';
import { type ExchangeEdits, editAnswer } from './answer-programs.js';
import { announcedBody, type BodyKind, ChunkScanner, type Head, headerValues } from './http-framing.js';

export interface PumpSink {
  /** Bytes for the client. `last`: the answer ends with them. */
  write(bytes: Buffer, last: boolean): void;
  /**
   * The answer cannot be completed. `started`: bytes of it were written already (the client must be reset); otherwise
   * `status` is the one to answer with.
   */
  fail(started: boolean, reason: 'protocol' | 'terminated'): void;
  /** The final head was read; returning true means that the caller takes care of it (retries) and the pump stops. */
  head?(status: number, head: Head): boolean;
}

const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade']);

export class AnswerPump {
  #buffer = Buffer.alloc(0);
  /** the head for the client, until it is known whether bytes of the body came with it: a write less, and a wake-up less */
  #held: Buffer | undefined;
  #state: 'head' | 'body' | 'done' = 'head';
  #body: BodyKind = { kind: 'none' };
  #left = 0;
  #chunks: ChunkScanner | undefined;
  #raw = false;
  #started = false;
  /** bytes of the body, without framing, that were written to the client */
  body = 0;
  /** the client's connection is to be closed after this answer */
  closing = false;
  /** whether the server may be sent another request on the same connection */
  reusable = true;

  constructor(
    private readonly sink: PumpSink,
    private readonly isHead: boolean,
    /**
     * whether the client's connection ends with the answer: always (the request was not complete), when the server's
     * does (an answer of the proxy), or never
     */
    private readonly ending: 'always' | 'with-server' | 'never' = 'never',
    /** when the request was sent (monotonic, ns), where the headers that Envoy adds are wanted */
    private readonly envoyHeaders?: bigint,
    private readonly edits?: ExchangeEdits,
  ) {}

  /** A pump for the rest of an answer. */
  static resume(sink: PumpSink, rest: { chunkState: number; remaining: bigint } | { left: number }): AnswerPump {
    const pump = new AnswerPump(sink, false);
    pump.#started = true;
    pump.#state = 'body';
    if ('left' in rest) {
      pump.#body = { kind: 'length', length: rest.left };
      pump.#left = rest.left;
    } else {
      pump.#body = { kind: 'chunked' };
      pump.#chunks = ChunkScanner.at(rest.chunkState, rest.remaining);
      pump.#raw = true;
    }
    return pump;
  }

  /** Whether the final head was written to the client. */
  get started(): boolean {
    return this.#started;
  }

  get done(): boolean {
    return this.#state === 'done';
  }

  /** Bytes from the server. */
  feed(bytes: Buffer): void {
    let input = bytes;
    while (input.length > 0 && this.#state !== 'done') {
      input = this.#state === 'head' ? this.#head(input) : this.#content(input);
    }
    if (input.length > 0) this.reusable = false; // more than was asked for
    if (this.#held) this.#write(Buffer.alloc(0), false);
  }

  #write(bytes: Buffer, last: boolean): void {
    const held = this.#held;
    this.#held = undefined;
    this.sink.write(held ? (bytes.length > 0 ? Buffer.concat([held, bytes]) : held) : bytes, last);
  }

  /** The server has closed the connection. */
  end(): void {
    this.reusable = false;
    if (this.#state === 'done') return;
    if (this.#state === 'body' && this.#body.kind === 'close') {
      this.#finish(Buffer.from('0\r\n\r\n', 'latin1'));
      return;
    }
    // An end inside a head is no HTTP to Envoy; an end before any byte is a broken connection.
    this.#fail(this.#state === 'head' && this.#buffer.length > 0 ? 'protocol' : 'terminated');
  }

  #fail(reason: 'protocol' | 'terminated'): void {
    if (this.#held) this.#write(Buffer.alloc(0), false);
    this.#state = 'done';
    this.reusable = false;
    this.sink.fail(this.#started, reason);
  }

  /** `more`: how many bytes there are behind the answer, which nobody asked for. */
  #finish(last: Buffer, more = 0): void {
    this.#state = 'done';
    if (more > 0) this.reusable = false;
    this.#write(last, true);
  }

  #head(input: Buffer): Buffer {
    this.#buffer = Buffer.concat([this.#buffer, input]);
    const taken = takeAnswerHead(this.#buffer);
    if (taken === 'more') return Buffer.alloc(0);
    this.#buffer = Buffer.alloc(0);
    const body = taken === 'bad' ? undefined : announcedBody(taken.head, 'close');
    if (taken === 'bad' || !body) {
      this.#fail('protocol');
      return Buffer.alloc(0);
    }
    const { head, status, rest } = taken;
    // interim answers are not for the client (Envoy drops them, too), but one to a wish that nobody had is an answer
    if (status < 200 && status !== 101) return rest;
    if (this.sink.head?.(status, head)) {
      this.#state = 'done';
      return rest;
    }
    const bodiless = this.isHead || status === 101 || status === 204 || status === 304;
    const connection = headerValues(head, 'connection').join(',').toLowerCase();
    const old = head.startLine.startsWith('HTTP/1.0');
    if (/\bclose\b/.test(connection) || (old && !/\bkeep-alive\b/.test(connection))) this.reusable = false;
    this.closing = this.ending === 'always' || (this.ending === 'with-server' && !this.reusable);
    this.#started = true;
    this.#body = bodiless ? { kind: 'none' } : body;
    const text = clientHead(head, status, this.#body, this.closing, this.envoyHeaders, this.edits, this.isHead);
    if (bodiless || (body.kind === 'length' && body.length === 0)) {
      this.#finish(text, rest.length);
      return rest;
    }
    if (body.kind === 'length') this.#left = body.length;
    if (body.kind === 'chunked') this.#chunks = new ChunkScanner();
    this.#state = 'body';
    this.#held = text;
    return rest;
  }

  #content(input: Buffer): Buffer {
    if (this.#body.kind === 'length') {
      const piece = input.subarray(0, this.#left);
      this.body += piece.length;
      this.#left -= piece.length;
      if (this.#left === 0) this.#finish(piece, input.length - piece.length);
      else this.#write(piece, false);
      return input.subarray(piece.length);
    }
    if (this.#body.kind === 'close') {
      this.body += input.length;
      this.#write(chunk(input), false);
      return Buffer.alloc(0);
    }
    const pieces: Buffer[] = [];
    const used = this.#chunks!.feed(input, (piece) => pieces.push(piece));
    for (const piece of pieces) this.body += piece.length;
    if (this.#chunks!.bad) {
      this.#fail('protocol');
      return Buffer.alloc(0);
    }
    // In the middle of an answer the framing must go on as the kernel left it; trailers are rare enough to pass.
    const out = this.#raw ? input.subarray(0, used) : Buffer.concat(pieces.map(chunk));
    if (this.#chunks!.done) {
      const last = this.#raw ? out : Buffer.concat([out, Buffer.from('0\r\n\r\n', 'latin1')]);
      this.#finish(last, input.length - used);
    } else if (out.length > 0) this.#write(out, false);
    return input.subarray(used);
  }
}

function chunk(data: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${data.length.toString(16)}\r\n`, 'latin1'), data, Buffer.from('\r\n', 'latin1')]);
}

/**
 * The head for the client: HTTP/1.1, without hop-by-hop headers, framed by length or by chunks, with the route's edits.
 * In the order of Envoy: the router adds the service time and edits, then filters, then the connection manager.
 */
function clientHead(
  head: Head,
  status: number,
  body: BodyKind,
  closing: boolean,
  envoyHeaders: bigint | undefined,
  edits: ExchangeEdits | undefined,
  isHead: boolean,
): Buffer {
  let headers: [name: string, value: string][] = [];
  for (const [name, value] of head.headers) {
    if (HOP_BY_HOP.has(name) || ((status === 204 || status === 101) && name === 'content-length')) continue;
    const before = JOINED_ANSWER_HEADERS.has(name) ? headers.find(([n]) => n === name) : undefined;
    if (before) before[1] += `,${value}`;
    else headers.push([name, value]);
  }
  if (envoyHeaders !== undefined) {
    const elapsed = (process.hrtime.bigint() - envoyHeaders) / 1_000_000n;
    headers.push(['x-envoy-upstream-service-time', String(elapsed)]);
  }
  headers = editAnswer(headers, edits).map(([name, value]) => [name, value]);
  if (envoyHeaders !== undefined) {
    headers = headers.filter(([name]) => name !== 'server');
    if (!headers.some(([name]) => name === 'date')) headers.push(['date', new Date().toUTCString()]);
    headers.push(['server', 'envoy']);
  }
  // Envoy announces chunks to HEAD where there is no length
  const lengthless = isHead && status !== 204 && status !== 304 && !headers.some(([n]) => n === 'content-length');
  const chunked = body.kind === 'chunked' || body.kind === 'close' || lengthless;
  const lines = [
    `HTTP/1.1${head.startLine.slice(8)}`,
    ...headers.map(([name, value]) => `${name}: ${value}`),
    ...(closing ? ['connection: close'] : []),
    ...(chunked ? ['transfer-encoding: chunked'] : []),
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
}
