/** The bytes that the reference interpreter sends: templates, edited heads. */
import {
  ActionSpec,
  ADD,
  AddSpec,
  MAX_MATCHES,
  PIECE,
  PieceSpec,
  TemplateSpec,
  TRACER,
  TraceSpec,
} from '../layout/actions.js';
import { MAX_HEAD, SLOT } from '../layout/image.js';
import { get, getBig } from '../layout/struct.js';
import { decidedId, isTraced } from '../plan/trace-ids.js';
import { type Head, headerValue, type Span, slice } from './head.js';

/** Most bytes of a head or an answer that the kernel makes. */
export const MAX_PRODUCED = MAX_HEAD;

/** Bytes, or undefined when there are more than MAX_PRODUCED: then the proxy decides. */
export type Produced = Uint8Array | undefined;

const CRLF = Buffer.from('\r\n');
const COLON = 0x3a;
const CLOSE = 0x5d;
/** What stands for random digits. */
const RANDOM = '0123456789abcdef';

function blobBytes(image: DataView, at: number, length: number): Uint8Array {
  return new Uint8Array(image.buffer, image.byteOffset + at, length);
}

/** A Host value without its port: up to the last ':' that does not stand inside brackets. */
function hostName(host: Uint8Array): Uint8Array {
  const colon = host.lastIndexOf(COLON);
  return colon < 0 || host.lastIndexOf(CLOSE) > colon ? host : host.subarray(0, colon);
}

/** What a piece takes of a header. */
const partOf = (value: Uint8Array = new Uint8Array(), from: number, length: number): Uint8Array =>
  length === 0 ? value : value.subarray(from, from + length);

/** In `traceparent`: the last digit of the flags. */
const PARENT_SAMPLED = 54;

/** What bpf/trace.h decides about a request. @param uuid the id that is made where there is none */
export function tracedOf(image: DataView, action: number, head: Head, uuid: string): Head['traced'] {
  const trace = get(image, action, ActionSpec, 'trace');
  if (trace === 0) return undefined;
  const field = (name: string) => get(image, trace, TraceSpec, name);
  const text = (slot: number) => {
    const value = headerValue(head, slot);
    return value && Buffer.from(value).toString('latin1');
  };
  const brought = text(SLOT.X_REQUEST_ID);
  const found = brought ?? (field('ids') === 0 ? '' : `${uuid.slice(0, 14)}4${uuid.slice(15)}`);
  const id = found === '' ? '' : decidedId(found, { random: field('random'), overall: field('overall') });
  const traced = isTraced(id);
  const context = field('tracer') === TRACER.NONE ? undefined : text(field('slot'));
  if (context === undefined) return { id, sampled: traced };
  if (field('tracer') === TRACER.ZIPKIN) return { id, sampled: context === '1' };
  return { id, sampled: traced && context.charAt(PARENT_SAMPLED) === '1' };
}

/**
 * Concatenates the pieces of a template.
 * @param captures spans of the groups 1.. in the head's bytes.
 */
export function expand(
  image: DataView,
  template: number,
  head: Head,
  captures: readonly (Span | undefined)[],
): Uint8Array {
  const n = get(image, template, TemplateSpec, 'n');
  return expandPieces(image, template, head, captures, 0, n);
}

/** The pieces `from` to `to` (exclusive) of a template. */
function expandPieces(
  image: DataView,
  template: number,
  head: Head,
  captures: readonly (Span | undefined)[],
  from: number,
  to: number,
): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let i = from; i < to; i++) {
    const at = template + TemplateSpec.size + i * PieceSpec.size;
    const off = get(image, at, PieceSpec, 'off');
    const host = headerValue(head, SLOT.HOST)!;
    switch (get(image, at, PieceSpec, 'kind')) {
      case PIECE.LITERAL:
        parts.push(blobBytes(image, off, get(image, at, PieceSpec, 'len')));
        break;
      case PIECE.PATH_FROM:
        parts.push(slice(head, head.path).subarray(off));
        break;
      case PIECE.QUERY:
        if (head.query) parts.push(slice(head, { from: head.query.from - 1, to: head.query.to }));
        break;
      case PIECE.HOST:
        parts.push(host);
        break;
      case PIECE.HOST_NAME:
        parts.push(hostName(host));
        break;
      case PIECE.HEADER:
        parts.push(partOf(headerValue(head, get(image, at, PieceSpec, 'arg')), off, get(image, at, PieceSpec, 'len')));
        break;
      case PIECE.SOURCE_IP:
        parts.push(Buffer.from((head.source ?? []).join('.')));
        break;
      case PIECE.RANDOM:
        parts.push(Buffer.from(RANDOM));
        break;
      case PIECE.REQUEST_ID:
        parts.push(Buffer.from(head.traced?.id ?? ''));
        break;
      case PIECE.SAMPLED:
        parts.push(Buffer.from(head.traced?.sampled ? '1' : '0'));
        break;
      case PIECE.BUCKET: {
        const bucket = head.bucket ?? 0;
        parts.push(Uint8Array.of(bucket & 0xff, bucket >> 8));
        break;
      }
      case PIECE.FIGURE: {
        const bucket = off === 0 ? (head.bucket ?? 0) : off - 1;
        parts.push(Buffer.from(String(head.figure?.(bucket, get(image, at, PieceSpec, 'arg')) ?? 0)));
        break;
      }
      case PIECE.CAPTURE: {
        const span = captures[get(image, at, PieceSpec, 'arg') - 1];
        if (span) parts.push(slice(head, span));
      }
    }
  }
  return Buffer.concat(parts);
}

const REGISTERS = 8;

/**
 * Runs a capturing automaton over a part of the head, by default the path. Returns the spans of groups 1 to 4, or
 * undefined when it does not match.
 */
export function capture(
  image: DataView,
  start: number,
  classes: number,
  head: Head,
  over: Span = head.path,
): (Span | undefined)[] | undefined {
  const registers = new Array<number>(REGISTERS).fill(-1);
  const store = (mask: number, position: number) => {
    for (let r = 0; r < REGISTERS; r++) if (mask & (1 << r)) registers[r] = position;
  };
  let row = start;
  for (let i = over.from; i < over.to; i++) {
    const cell = image.getUint32(row + 4 * image.getUint8(classes + head.bytes[i]!), true);
    store(cell >>> 24, i);
    row = cell & 0xffffff;
  }
  const accept = image.getUint32(row, true);
  if ((accept & 1) === 0) return undefined;
  store(accept >>> 8, over.to);
  return [0, 2, 4, 6].map((r) => {
    const [from, to] = [registers[r]!, registers[r + 1]!];
    return from >= 0 && to >= from ? { from, to } : undefined;
  });
}

/** The path with every match replaced, and the last piece; undefined when there are too many matches. */
function replaceAll(image: DataView, action: number, template: number, head: Head): Produced {
  const start = get(image, action, ActionSpec, 'capture');
  const classes = get(image, action, ActionSpec, 'capture_classes');
  const lead = get(image, template, TemplateSpec, 'repeat') - 1;
  const n = get(image, template, TemplateSpec, 'n');
  const parts: Uint8Array[] = [];
  let at = head.path.from;
  for (let matches = 0; ; matches++) {
    const captures = capture(image, start, classes, head, { from: at, to: head.path.to });
    if (!captures) break;
    if (matches === MAX_MATCHES) return undefined;
    const whole = captures[0]!;
    parts.push(slice(head, { from: at, to: whole.from - lead }));
    parts.push(expandPieces(image, template, head, captures, 0, n - 1));
    at = whole.to;
  }
  parts.push(slice(head, { from: at, to: head.path.to }), expandPieces(image, template, head, [], n - 1, n));
  return Buffer.concat(parts);
}

/** The target that a forward action sends. */
function targetOf(image: DataView, action: number, head: Head): Produced {
  const template = get(image, action, ActionSpec, 'target');
  if (template === 0) return slice(head, head.target);
  if (get(image, template, TemplateSpec, 'repeat') !== 0) return replaceAll(image, action, template, head);
  const automaton = get(image, action, ActionSpec, 'capture');
  const classes = get(image, action, ActionSpec, 'capture_classes');
  const captures = automaton === 0 ? [] : capture(image, automaton, classes, head);
  return captures ? expand(image, template, head, captures) : slice(head, head.target);
}

/** Whether a template has the client's address. */
function needsSource(image: DataView, template: number): boolean {
  const n = get(image, template, TemplateSpec, 'n');
  for (let i = 0; i < n; i++)
    if (get(image, template + TemplateSpec.size + i * PieceSpec.size, PieceSpec, 'kind') === PIECE.SOURCE_IP)
      return true;
  return false;
}

/** The request head that a forward action sends. */
export function buildHead(
  image: DataView,
  action: number,
  head: Head,
  uuid: string,
  tokenLines: Uint8Array = new Uint8Array(),
): Produced {
  const received = slice(head, head.target);
  const target = targetOf(image, action, head);
  if (!target) return undefined;
  const parts: Uint8Array[] = [slice(head, head.method), Buffer.from(' '), target, Buffer.from(' HTTP/1.1\r\n')];
  const method = Buffer.from(slice(head, head.method)).toString('latin1');
  const remove = getBig(image, action, ActionSpec, 'remove');
  let present = 0n;
  for (const line of head.lines) {
    present |= 1n << BigInt(line.slot);
    if (((remove >> BigInt(line.slot)) & 1n) === 0n) parts.push(slice(head, line));
  }
  const adds = get(image, action, ActionSpec, 'adds');
  const n = get(image, action, ActionSpec, 'n_adds');
  for (let i = 0; i < n; i++) {
    const at = adds + i * AddSpec.size;
    const there = ((present >> BigInt(get(image, at, AddSpec, 'slot'))) & 1n) !== 0n;
    const off = get(image, at, AddSpec, 'off');
    const made = get(image, at, AddSpec, 'variable') !== 0;
    if (made && head.source?.length !== 4 && needsSource(image, off)) return undefined;
    const line = made ? expand(image, off, head, []) : blobBytes(image, off, get(image, at, AddSpec, 'len'));
    switch (get(image, at, AddSpec, 'when')) {
      case ADD.ALWAYS:
        parts.push(line);
        break;
      case ADD.IF_ABSENT:
        if (!there) parts.push(line);
        break;
      case ADD.IF_PRESENT:
        if (there) parts.push(line);
        break;
      case ADD.REQUEST_ID:
        if (off !== 0) parts.push(Buffer.from(`x-request-id: ${head.traced?.id ?? ''}\r\n`));
        else if (!there) parts.push(Buffer.from(`x-request-id: ${uuid.slice(0, 14)}4${uuid.slice(15)}\r\n`));
        break;
      case ADD.TOKEN_LINES:
        parts.push(tokenLines);
        break;
      case ADD.ORIGINAL_TARGET:
        parts.push(line, received, CRLF);
        break;
      case ADD.EMPTY_LENGTH:
        // POST, PUT, PATCH and OPTIONS
        if (/^[PO]/.test(method) && ((present >> BigInt(SLOT.CONTENT_LENGTH)) & 1n) === 0n) parts.push(line);
    }
  }
  parts.push(CRLF);
  const whole = Buffer.concat(parts);
  return whole.length > MAX_PRODUCED ? undefined : whole;
}
