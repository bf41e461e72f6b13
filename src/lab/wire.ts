/** HTTP/1.1 as bytes: what tests need to see exactly, without a client library's opinions in between. */

export type HeaderList = [name: string, value: string][];

export interface Head {
  /** the three parts of the first line */
  readonly first: readonly [string, string, string];
  readonly headers: HeaderList;
}

export interface Answer {
  readonly status: number;
  readonly version: string;
  readonly headers: HeaderList;
  readonly body: Buffer;
  /** how the end of the body was known */
  readonly framing: 'none' | 'length' | 'chunked' | 'close';
  readonly trailers: HeaderList;
  /** status codes of the 1xx answers before it */
  readonly interim: number[];
}

/** All values of a header (name in any case), in order. */
export function headerValues(headers: HeaderList, name: string): string[] {
  const lower = name.toLowerCase();
  return headers.filter(([n]) => n.toLowerCase() === lower).map(([, v]) => v);
}

function parseHeaderLines(lines: string[]): HeaderList {
  return lines.map((line) => {
    const colon = line.indexOf(':');
    if (colon <= 0) throw new Error(`not a header line: ${JSON.stringify(line)}`);
    return [line.slice(0, colon), line.slice(colon + 1).trim()];
  });
}

/** Splits a message head (without the empty line). @throws Error if it is none */
export function parseHead(text: string): Head {
  const lines = text.split('\r\n');
  const first = lines.shift()!;
  const match = first.match(/^(\S+) (\S+)(?: (.*))?$/);
  if (!match) throw new Error(`not a first line: ${JSON.stringify(first)}`);
  return { first: [match[1]!, match[2]!, match[3] ?? ''], headers: parseHeaderLines(lines) };
}

/** Takes bytes as they come; gives lines and counted bytes. Generators below wait on it. */
export class ByteQueue {
  #data: Buffer = Buffer.alloc(0);
  #ended: Error | 'end' | undefined;
  #wake: (() => void) | undefined;

  push(chunk: Buffer): void {
    this.#data = this.#data.length ? Buffer.concat([this.#data, chunk]) : chunk;
    this.#wake?.();
  }

  /** No more bytes: an orderly end, or the error that ended it. */
  end(why: Error | 'end'): void {
    this.#ended ??= why;
    this.#wake?.();
  }

  get buffered(): number {
    return this.#data.length;
  }

  async #more(): Promise<void> {
    if (this.#ended === 'end') throw new Error('connection closed before the message was complete');
    if (this.#ended) throw this.#ended;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }

  /** True when no byte is left and none will come. */
  async atEnd(): Promise<boolean> {
    while (this.#data.length === 0 && !this.#ended) await this.#more();
    return this.#data.length === 0;
  }

  /** Bytes up to `mark`, which is consumed too. */
  async until(mark: string): Promise<string> {
    let from = 0;
    for (;;) {
      const at = this.#data.indexOf(mark, Math.max(0, from - mark.length));
      if (at >= 0) {
        const text = this.#data.toString('latin1', 0, at);
        this.#data = this.#data.subarray(at + mark.length);
        return text;
      }
      from = this.#data.length;
      await this.#more();
    }
  }

  /** Exactly `n` bytes. */
  async bytes(n: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    let left = n;
    for (;;) {
      const part = this.#data.subarray(0, left);
      parts.push(part);
      left -= part.length;
      this.#data = this.#data.subarray(part.length);
      if (left === 0) return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
      await this.#more();
    }
  }

  /** Everything up to an orderly end. @throws the connection's error */
  async rest(): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (;;) {
      if (this.#data.length) parts.push(this.#data);
      this.#data = Buffer.alloc(0);
      if (this.#ended === 'end') return Buffer.concat(parts);
      await this.#more();
    }
  }
}

/** Reads a chunked body with its trailers (RFC 9112, 7.1). */
export async function readChunked(queue: ByteQueue): Promise<{ body: Buffer; trailers: HeaderList }> {
  const parts: Buffer[] = [];
  for (;;) {
    const size = Number.parseInt(await queue.until('\r\n'), 16);
    if (!Number.isFinite(size)) throw new Error('bad chunk size');
    if (size === 0) break;
    parts.push(await queue.bytes(size));
    if ((await queue.until('\r\n')) !== '') throw new Error('no CR LF after a chunk');
  }
  const trailers: string[] = [];
  for (let line = await queue.until('\r\n'); line !== ''; line = await queue.until('\r\n')) trailers.push(line);
  return { body: Buffer.concat(parts), trailers: parseHeaderLines(trailers) };
}

/**
 * Reads one final answer and the 1xx answers before it (RFC 9112, 6.3).
 * @param method of the request: answers to HEAD have no body
 * @param onHead called when the final head has been read
 */
export async function readAnswer(queue: ByteQueue, method: string, onHead?: () => void): Promise<Answer> {
  const interim: number[] = [];
  for (;;) {
    const { first, headers } = parseHead(await queue.until('\r\n\r\n'));
    const status = Number(first[1]);
    if (!first[0].startsWith('HTTP/1.') || !(status >= 100)) throw new Error(`not an answer: ${first.join(' ')}`);
    if (status < 200 && status !== 101) {
      interim.push(status);
      continue;
    }
    onHead?.();
    const common = { status, version: first[0], headers, interim };
    const none = { ...common, body: Buffer.alloc(0), framing: 'none' as const, trailers: [] };
    if (method === 'HEAD' || status === 204 || status === 304 || status === 101) return none;
    if (method === 'CONNECT' && status < 300) return none;
    if (/\bchunked\s*$/i.test(headerValues(headers, 'transfer-encoding').join(','))) {
      return { ...common, framing: 'chunked', ...(await readChunked(queue)) };
    }
    const length = headerValues(headers, 'content-length')[0];
    if (length !== undefined) {
      return { ...common, framing: 'length', body: await queue.bytes(Number(length)), trailers: [] };
    }
    return { ...common, framing: 'close', body: await queue.rest(), trailers: [] };
  }
}

/** The bytes of a request or answer head: first line, headers, empty line. */
export function formatHead(first: string, headers: HeaderList): string {
  return `${first}\r\n${headers.map(([n, v]) => `${n}: ${v}\r\n`).join('')}\r\n`;
}

/** `body` in chunks of `size` bytes, with the closing chunk. */
export function chunkedBytes(body: Buffer, size: number): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < body.length; at += size) {
    const piece = body.subarray(at, at + size);
    parts.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n'));
  }
  parts.push(Buffer.from('0\r\n\r\n'));
  return Buffer.concat(parts);
}
