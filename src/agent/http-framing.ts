/**
 * Where HTTP/1.1 messages begin and end (RFC 9112 section 6), for bytes that the agent carries. It only needs to be
 * right when it claims to be: whatever is not plain becomes `opaque`, and an opaque connection is carried without
 * looking at it any more.
 */

/** A head that was read completely. Header names in lower case, values trimmed. */
export interface Head {
  readonly startLine: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** bytes of the head, the empty line included */
  readonly length: number;
}

export type BodyKind =
  | { readonly kind: 'none' }
  | { readonly kind: 'length'; readonly length: number }
  | { readonly kind: 'chunked' }
  | { readonly kind: 'close' };

const MAX_HEAD = 96 * 1024;

/** All values of a header. */
export function headerValues(head: Head, name: string): string[] {
  return head.headers.filter(([n]) => n === name).map(([, value]) => value);
}

/** Parses a head (bytes up to and including the empty line). @returns undefined when it is not plain */
export function parseHead(bytes: Buffer): Head | undefined {
  const lines = bytes.toString('latin1').split('\r\n');
  const startLine = lines[0] ?? '';
  const headers: [string, string][] = [];
  for (const line of lines.slice(1, -2)) {
    const match = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*$/s.exec(line);
    if (!match) return undefined;
    headers.push([match[1]!.toLowerCase(), match[2]!]);
  }
  return { startLine, headers, length: bytes.length };
}

/** What RFC 9110, section 5.5 lets stand in values; Envoy asks the same of reason phrases. */
export const isText = (text: string): boolean => /^[\t\x20-\x7e\x80-\xff]*$/.test(text);

/**
 * Splits lines of headers or trailers: folded ones are joined, carriage returns go.
 * @returns undefined when a line is none
 */
export function headerLines(lines: readonly string[]): [name: string, value: string][] | undefined {
  const headers: [string, string][] = [];
  for (const line of lines) {
    const last = headers.at(-1);
    if (/^[ \t]/.test(line)) {
      if (!last) return undefined;
      last[1] += line;
      continue;
    }
    const match = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):(.*)$/s.exec(line);
    if (!match) return undefined;
    headers.push([match[1]!.toLowerCase(), match[2]!]);
  }
  for (const header of headers) {
    header[1] = header[1].replaceAll('\r', '').replace(/^[ \t]+|[ \t]+$/g, '');
    if (!isText(header[1])) return undefined;
  }
  return headers;
}

/** The body that headers announce, without regard to methods and statuses; undefined when they contradict each other. */
export function announcedBody(head: Head, otherwise: 'none' | 'close'): BodyKind | undefined {
  const codings = headerValues(head, 'transfer-encoding');
  const lengths = headerValues(head, 'content-length');
  if (codings.length > 0) {
    if (lengths.length > 0 || codings.length > 1 || codings[0]!.toLowerCase() !== 'chunked') return undefined;
    return { kind: 'chunked' };
  }
  if (lengths.length === 0) return { kind: otherwise };
  if (lengths.length > 1 || !/^\d{1,15}$/.test(lengths[0]!)) return undefined;
  return { kind: 'length', length: Number(lengths[0]) };
}

/**
 * Finds the end of a chunked body (RFC 9112 section 7.1), fed piece by piece. What Envoy lets pass beside the grammar does
 * here, too: white space behind sizes, bytes between data and its line's end, trailers whose lines end with a line feed alone.
 */
export class ChunkScanner {
  #state: 'size' | 'extension' | 'data' | 'data-end' | 'trailer' | 'done' | 'bad' = 'size';
  #left = 0;
  #digits = 0;
  /** the byte before was a carriage return */
  #cr = false;
  #trailers = '';
  /** the framing itself is passed on: only what the grammar has */
  #strict = false;

  get done(): boolean {
    return this.#state === 'done';
  }
  get bad(): boolean {
    return this.#state === 'bad';
  }

  /** Continues where the kernel's parser stands. `state`: 0 size, 1 extension, 2 data, 3 data end, 4 end (CHUNK). */
  static at(state: number, remaining: bigint): ChunkScanner {
    const scanner = new ChunkScanner();
    const low = Number(remaining & 0xffffffffn);
    scanner.#state = (['size', 'extension', 'data', 'data-end', 'trailer'] as const)[state] ?? 'bad';
    scanner.#left = state <= 2 ? low : 0;
    scanner.#digits = state === 0 && remaining >> 32n ? 1 : 0;
    // The kernel takes no extensions, and counts the bytes of CR LF behind data and at the end.
    scanner.#cr = state === 1 || (state === 3 && low === 1);
    scanner.#strict = true;
    return scanner;
  }

  /**
   * @param onData called with each piece of the content
   * @returns how many bytes of `bytes` belong to the body
   */
  feed(bytes: Buffer, onData?: (piece: Buffer) => void): number {
    let at = 0;
    while (at < bytes.length && this.#state !== 'done' && this.#state !== 'bad') {
      if (this.#state === 'data') {
        const n = Math.min(this.#left, bytes.length - at);
        onData?.(bytes.subarray(at, at + n));
        at += n;
        this.#left -= n;
        if (this.#left === 0) this.#to('data-end');
        continue;
      }
      this.#byte(bytes[at]!);
      at++;
    }
    return at;
  }

  #to(state: 'size' | 'extension' | 'data' | 'data-end' | 'trailer'): void {
    this.#state = state;
    this.#cr = false;
    this.#digits = 0;
  }

  #byte(c: number): void {
    const cr = this.#cr;
    this.#cr = c === 0x0d;
    switch (this.#state) {
      case 'size': {
        const digit = Number.parseInt(String.fromCharCode(c), 16);
        if (!Number.isNaN(digit)) {
          this.#left = this.#left * 16 + digit;
          this.#digits++;
          if (this.#left > 0xffff_ffff_ffff) this.#state = 'bad';
        } else if (this.#digits > 0 && [0x0d, 0x3b, 0x20, 0x09].includes(c)) this.#state = 'extension';
        else this.#state = 'bad';
        return;
      }
      case 'extension':
        if (cr !== (c === 0x0a)) this.#state = 'bad';
        else if (c === 0x0a) this.#to(this.#left === 0 ? 'trailer' : 'data');
        return;
      case 'data-end':
        if (c === 0x0a && (cr || !this.#strict)) this.#to('size');
        else if (this.#strict && (cr || c !== 0x0d)) this.#state = 'bad';
        return;
      case 'trailer':
        this.#trailer(c);
        return;
    }
  }

  #trailer(c: number): void {
    this.#trailers += String.fromCharCode(c);
    if (this.#trailers.length > MAX_HEAD) this.#state = 'bad';
    if (c !== 0x0a || !/(^|\n)\r?\n$/.test(this.#trailers.slice(-3))) return;
    const lines = this.#trailers.split('\n').slice(0, -2);
    this.#state = headerLines(lines) ? 'done' : 'bad';
  }
}

/** Reads one message after another from a stream of bytes, only to know where each ends. */
export class MessageTracker {
  #head: Buffer[] = [];
  #headLength = 0;
  #body: BodyKind | undefined;
  #left = 0;
  #chunks: ChunkScanner | undefined;
  opaque = false;

  /**
   * @param bodyOf the body of a message with this head; undefined: not plain
   * @param onEnd a message is complete
   */
  constructor(
    private readonly bodyOf: (head: Head) => BodyKind | undefined,
    private readonly onEnd: () => void,
  ) {}

  /** True between messages. */
  get idle(): boolean {
    return !this.opaque && this.#headLength === 0 && !this.#body;
  }

  feed(input: Buffer): void {
    let bytes = input;
    while (bytes.length > 0 && !this.opaque) {
      bytes = this.#body ? this.#feedBody(bytes) : this.#feedHead(bytes);
    }
  }

  #feedHead(bytes: Buffer): Buffer {
    this.#head.push(bytes);
    this.#headLength += bytes.length;
    const all = this.#head.length === 1 ? bytes : Buffer.concat(this.#head);
    const end = all.indexOf('\r\n\r\n');
    if (end < 0) {
      if (this.#headLength > MAX_HEAD) this.opaque = true;
      this.#head = [all];
      return Buffer.alloc(0);
    }
    this.#head = [];
    this.#headLength = 0;
    const head = parseHead(all.subarray(0, end + 4));
    const body = head && this.bodyOf(head);
    if (!body) {
      this.opaque = true;
      return Buffer.alloc(0);
    }
    this.#begin(body);
    return all.subarray(end + 4);
  }

  #begin(body: BodyKind): void {
    if (body.kind === 'none' || (body.kind === 'length' && body.length === 0)) {
      this.onEnd();
      return;
    }
    this.#body = body;
    if (body.kind === 'length') this.#left = body.length;
    if (body.kind === 'chunked') this.#chunks = new ChunkScanner();
  }

  #feedBody(bytes: Buffer): Buffer {
    const body = this.#body!;
    if (body.kind === 'close') return Buffer.alloc(0);
    let used: number;
    let done: boolean;
    if (body.kind === 'length') {
      used = Math.min(this.#left, bytes.length);
      this.#left -= used;
      done = this.#left === 0;
    } else {
      used = this.#chunks!.feed(bytes);
      done = this.#chunks!.done;
      if (this.#chunks!.bad) {
        this.opaque = true;
        return Buffer.alloc(0);
      }
    }
    if (done) {
      this.#body = undefined;
      this.onEnd();
    }
    return bytes.subarray(used);
  }
}

/** Body of a request; undefined when the connection must be carried blindly from here (CONNECT, upgrade, HTTP/1.0). */
export function requestBody(head: Head): BodyKind | undefined {
  if (!/^[A-Z]+ \S+ HTTP\/1\.1$/.test(head.startLine) || head.startLine.startsWith('CONNECT ')) return undefined;
  if (headerValues(head, 'upgrade').length > 0) return undefined;
  return announcedBody(head, 'none');
}

/** Status of a response head, 0 when the line is malformed. */
export function statusOf(head: Head): number {
  const match = /^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(head.startLine);
  return match ? Number(match[1]) : 0;
}

/** Body of the response to a request of `method` (RFC 9112 section 6.3). */
export function responseBody(head: Head, method: string): BodyKind | undefined {
  const status = statusOf(head);
  if (status === 0 || status === 101) return undefined;
  if (status < 200 || status === 204 || status === 304 || method === 'HEAD') return { kind: 'none' };
  return announcedBody(head, 'close');
}
