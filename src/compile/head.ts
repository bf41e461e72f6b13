/**
 * A request's head as the scanner of the image reads it: the reference of what bpf/http1.h does, byte for byte.
 *
 * After the scanner the same rules hold here and in bpf/http1.h. A head is ODD (the proxy decides) when
 * - it is longer than MAX_HEAD bytes, has more than MAX_LINES header lines, or a value with 16 or more bytes of white
 *   space behind it,
 * - a header that has a slot is repeated: how Envoy's matchers and edits see such headers is its business,
 * - Host is missing; Content-Length is not 1 to 18 digits,
 * - X-Forwarded-Proto is neither `http` nor `https`,
 * - Connection is anything but `keep-alive`,
 * - a header of SLOT.ODD, Transfer-Encoding, TE, Upgrade, Expect, Trailer or Proxy-Connection is there.
 */
import { MAX_HEAD, MAX_LINES, SCAN, SLOT } from '../layout/image.js';

/** A half-open range of bytes of the head. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

/** One header line: its slot, the whole line with its CR LF, and its value without surrounding white space. */
export interface Line extends Span {
  readonly slot: number;
  readonly value: Span;
}

/** A head that the scanner took apart. */
export interface Head {
  readonly bytes: Uint8Array;
  readonly method: Span;
  readonly target: Span;
  /** the target up to the first '?' */
  readonly path: Span;
  /** what follows the first '?'; undefined: there is none */
  readonly query: Span | undefined;
  readonly lines: readonly Line[];
  /** the client's address, network order */
  readonly source?: Uint8Array;
  /** index of the first bucket that the request takes from */
  readonly bucket?: number;
  /** a FIGURE of a bucket, by index */
  readonly figure?: (bucket: number, figure: number) => number;
  /** of requests that are traced: the id that the server gets ('': none), and whether the span is sampled */
  readonly traced?: { readonly id: string; readonly sampled: boolean } | undefined;
}

const SPACE = 0x20;
const TAB = 9;
/** White space behind a value that is looked at, in bytes. */
const MAX_TRAILING = 16;

/** Runs the scanner whose start row and class map are given over `bytes`. */
export function scan(image: DataView, start: number, classes: number, bytes: Uint8Array): Head | 'partial' | 'odd' {
  let row = start;
  let methodEnd = 0;
  let question = -1;
  let targetEnd = 0;
  let lineFrom = 0;
  let slot = 0;
  let valueFrom = -1;
  const lines: Line[] = [];
  for (let i = 0; i < bytes.length && i < MAX_HEAD; i++) {
    const cell = image.getUint32(row + 4 * image.getUint8(classes + bytes[i]!), true);
    switch (cell >>> 24) {
      case SCAN.METHOD_END:
        methodEnd = i;
        break;
      case SCAN.QUERY:
        question = i;
        break;
      case SCAN.TARGET_END:
        targetEnd = i;
        break;
      case SCAN.LINE:
        if (lines.length === MAX_LINES) return 'odd';
        lineFrom = i;
        break;
      case SCAN.NAME_END:
        slot = image.getUint32(row, true);
        valueFrom = -1;
        break;
      case SCAN.VALUE:
        valueFrom = i;
        break;
      case SCAN.VALUE_END: {
        const from = valueFrom < 0 ? i : valueFrom;
        let to = i;
        while (to > from && (bytes[to - 1] === SPACE || bytes[to - 1] === TAB)) to--;
        if (i - to >= MAX_TRAILING) return 'odd';
        lines.push({ slot, from: lineFrom, to: i + 2, value: { from, to } });
        break;
      }
      case SCAN.HEAD_END: {
        const target = { from: methodEnd + 1, to: targetEnd };
        return {
          bytes: bytes.subarray(0, i + 1),
          method: { from: 0, to: methodEnd },
          target,
          path: question < 0 ? target : { from: target.from, to: question },
          query: question < 0 ? undefined : { from: question + 1, to: targetEnd },
          lines,
        };
      }
      case SCAN.ODD:
        return 'odd';
    }
    row = cell & 0xffffff;
  }
  return bytes.length >= MAX_HEAD ? 'odd' : 'partial';
}

/** The bytes of a span. */
export function slice(head: Head, span: Span): Uint8Array {
  return head.bytes.subarray(span.from, span.to);
}

/** Values of the lines with this slot joined by ','; undefined when there is none. */
export function headerValue(head: Head, slot: number): Uint8Array | undefined {
  const values = head.lines.filter((line) => line.slot === slot).map((line) => slice(head, line.value));
  if (values.length === 0) return undefined;
  return Buffer.concat(values.flatMap((value, i) => (i === 0 ? [value] : [Buffer.from(','), value])));
}

const NEVER = [
  SLOT.ODD,
  SLOT.TRANSFER_ENCODING,
  SLOT.TE,
  SLOT.UPGRADE,
  SLOT.EXPECT,
  SLOT.TRAILER,
  SLOT.PROXY_CONNECTION,
];
/** The rules about a head as a whole (see the top of this file). */
export function isOdd(head: Head): boolean {
  const bySlot = new Map<number, string[]>();
  for (const { slot, value } of head.lines) {
    const text = Buffer.from(slice(head, value)).toString('latin1').toLowerCase();
    bySlot.set(slot, [...(bySlot.get(slot) ?? []), text]);
  }
  for (const [slot, { length }] of bySlot) {
    if (slot !== SLOT.OTHER && length > 1) return true;
  }
  if (NEVER.some((slot) => bySlot.has(slot))) return true;
  const all = (slot: number) => bySlot.get(slot) ?? [];
  if (all(SLOT.HOST).length !== 1 || all(SLOT.HOST)[0] === '') return true;
  const lengths = all(SLOT.CONTENT_LENGTH);
  if (lengths.length > 1 || lengths.some((length) => !/^[0-9]{1,18}$/.test(length))) return true;
  const schemes = all(SLOT.X_FORWARDED_PROTO);
  if (schemes.length > 1 || schemes.some((scheme) => scheme !== 'http' && scheme !== 'https')) return true;
  return all(SLOT.CONNECTION).some((option) => option !== 'keep-alive');
}
