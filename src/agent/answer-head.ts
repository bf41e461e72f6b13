/**
 * Heads of answers from servers, read as Envoy reads them: it takes more than the grammar allows (lines that end with a
 * line feed alone, folded lines, other versions), refuses more than the grammar refuses, and passes on what is plain again.
 */
import { type Head, headerLines, headerValues, isText } from './http-framing.js';

/** Bytes of a head that are waited for: its limit is 60 KiB, looked at whenever something was read. */
const MAX_HEAD = 80 * 1024;
/** Header lines that Envoy takes from a server. */
const MAX_LINES = 100;
const LF = 0x0a;
const CR = 0x0d;

export interface AnswerHead {
  readonly head: Head;
  readonly status: number;
  /** what came behind it */
  readonly rest: Buffer;
}

/** Where the head in `bytes` ends, behind its empty line, or -1. */
function endOfHead(bytes: Buffer): number {
  for (let at = bytes.indexOf(LF); at >= 0; at = bytes.indexOf(LF, at + 1)) {
    if (bytes[at + 1] === LF) return at + 2;
    if (bytes[at + 1] === CR && bytes[at + 2] === LF) return at + 3;
  }
  return -1;
}

/** Envoy refuses bodies where there cannot be one (RFC 9112, section 6.1; RFC 9110, section 8.6). */
function announcesImpossible(head: Head, status: number): boolean {
  if (status >= 200 && status !== 204) return false;
  return (
    headerValues(head, 'transfer-encoding').length > 0 || headerValues(head, 'content-length').some((v) => v !== '0')
  );
}

/**
 * Takes the head at the beginning of `bytes`.
 * @returns `more` when it is not complete, `bad` when Envoy takes it for none
 */
export function takeAnswerHead(bytes: Buffer): AnswerHead | 'more' | 'bad' {
  const end = endOfHead(bytes);
  if (end > MAX_HEAD || (end < 0 && bytes.length > MAX_HEAD)) return 'bad';
  if (end < 0) return 'more';
  const lines = bytes.toString('latin1', 0, end).split('\n').slice(0, -2);
  const first = /^HTTP\/(\d\.\d)[ \t]+([1-9]\d\d)(?:[ \t](.*))?$/s.exec(lines[0]!.replaceAll('\r', ''));
  const headers = headerLines(lines.slice(1));
  if (!first || !headers || headers.length > MAX_LINES || !isText(first[3] ?? '')) return 'bad';
  const head = { startLine: `HTTP/${first[1]} ${first[2]} ${(first[3] ?? '').trim()}`, headers, length: end };
  const status = Number(first[2]);
  return announcesImpossible(head, status) ? 'bad' : { head, status, rest: bytes.subarray(end) };
}
