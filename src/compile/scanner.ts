/**
 * Automata that cut request and response heads into their parts (RFC 9112, sections 2 to 5), in one strict form only:
 * what could be read in two ways, or would have to be normalised, is ODD and goes to the proxy.
 */
import { PLAIN_ROW, SCAN, SLOT } from '../layout/image.js';
import type { PathRules } from '../plan/ir.js';

/** A complete automaton with an action on every transition; `accept` is the slot of a header name (see SCAN.NAME_END). */
export interface Scanner {
  readonly classes: Uint8Array;
  readonly width: number;
  readonly start: number;
  readonly next: Int32Array;
  readonly action: Uint8Array;
  readonly accept: Int32Array;
}

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE'];
const PREFIX_ODD = 'x-envoy-';
const [TAB, LF, CR, SP] = [9, 10, 13, 32];

/** Slots that every request scanner knows by name. */
export const REQUEST_SLOTS: ReadonlyMap<string, number> = new Map([
  ['host', SLOT.HOST],
  ['content-length', SLOT.CONTENT_LENGTH],
  ['transfer-encoding', SLOT.TRANSFER_ENCODING],
  ['connection', SLOT.CONNECTION],
  ['keep-alive', SLOT.KEEP_ALIVE],
  ['proxy-connection', SLOT.PROXY_CONNECTION],
  ['te', SLOT.TE],
  ['upgrade', SLOT.UPGRADE],
  ['expect', SLOT.EXPECT],
  ['x-request-id', SLOT.X_REQUEST_ID],
  ['x-forwarded-proto', SLOT.X_FORWARDED_PROTO],
  ['x-forwarded-for', SLOT.X_FORWARDED_FOR],
  ['trailer', SLOT.TRAILER],
]);

const RESPONSE_NAMES = [
  'content-length',
  'transfer-encoding',
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'upgrade',
  'trailer',
];

/** Slots that every response scanner knows by name. */
export const RESPONSE_SLOTS: ReadonlyMap<string, number> = new Map(
  RESPONSE_NAMES.map((name) => [name, REQUEST_SLOTS.get(name)!]),
);

/** True for header names whose presence sends a request to the proxy, so that rules never see them here. */
export function isOddName(name: string): boolean {
  return name.startsWith(PREFIX_ODD);
}

type Bytes = readonly number[];
const range = (low: number, high: number): Bytes => Array.from({ length: high - low + 1 }, (_, i) => low + i);
const chars = (text: string): Bytes => [...Buffer.from(text, 'latin1')];
const DIGITS = chars('0123456789');
const UPPER = range(0x41, 0x5a);
const LOWER = range(0x61, 0x7a);
/** RFC 9110, section 5.6.2. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const TCHAR = [...chars("!#$%&'*+-.^_`|~"), ...DIGITS, ...UPPER, ...LOWER];
const VISIBLE = range(0x21, 0x7e);
/** RFC 9110, section 5.5. */
const BYTES = [...VISIBLE, ...range(0x80, 0xff)];
const HOST_BYTES = [...chars('-._~'), ...DIGITS, ...UPPER, ...LOWER];
const HEX_COLON = [...chars('.:abcdefABCDEF'), ...DIGITS];

/** What the proxy writes as percent escapes (or turns, '\\') when it normalises a path. */
const ESCAPED_BY_PROXY = chars('"<>\\^`{|}');

/** Collects states whose transitions lead to ODD until they are set. */
class Builder {
  readonly odd = 0;
  readonly next: number[][] = [];
  readonly action: number[][] = [];
  readonly accept: number[] = [];

  constructor() {
    this.state();
  }

  state(accept = 0): number {
    const index = this.accept.push(accept) - 1;
    this.next.push(new Array<number>(256).fill(this.odd));
    this.action.push(new Array<number>(256).fill(SCAN.ODD));
    return index;
  }

  on(from: number, bytes: Bytes, to: number, action: number = SCAN.NONE): void {
    for (const byte of bytes) {
      this.next[from]![byte] = to;
      this.action[from]![byte] = action;
    }
  }

  /** A chain of states for `text`, from `from` to `to`. */
  text(from: number, text: string, to: number): void {
    const bytes = chars(text);
    let at = from;
    bytes.forEach((byte, i) => {
      const after = i === bytes.length - 1 ? to : this.state();
      this.on(at, [byte], after);
      at = after;
    });
  }

  build(start: number): Scanner {
    const columns = new Map<string, number>();
    const classes = new Uint8Array(256);
    const representatives: number[] = [];
    for (let byte = 0; byte < 256; byte++) {
      const key = this.next.map((row, s) => `${row[byte]}:${this.action[s]![byte]}`).join();
      let c = columns.get(key);
      if (c === undefined) {
        c = columns.size;
        columns.set(key, c);
        representatives.push(byte);
      }
      classes[byte] = c;
    }
    const pick = (rows: number[][]) => rows.flatMap((row) => representatives.map((byte) => row[byte]!));
    return {
      classes,
      width: representatives.length,
      start,
      next: Int32Array.from(pick(this.next)),
      action: Uint8Array.from(pick(this.action)),
      accept: Int32Array.from(this.accept),
    };
  }
}

/** The value of Host: a name or an IP literal with an optional port; anything else is for the proxy. */
function hostValue(b: Builder, line: number): number {
  const ows = b.state();
  const name = b.state();
  const literal = b.state();
  const port = b.state();
  // At most five digits, so that nobody has to look further back for the colon.
  const portDigits = [b.state(), b.state(), b.state(), b.state(), b.state()];
  const after = b.state();
  const space = b.state();
  const end = b.state();
  b.on(ows, [SP, TAB], ows);
  b.on(ows, HOST_BYTES, name, SCAN.VALUE);
  b.on(ows, chars('['), literal, SCAN.VALUE);
  b.on(name, HOST_BYTES, name);
  b.on(literal, HEX_COLON, literal);
  b.on(literal, chars(']'), after);
  for (const s of [name, after]) b.on(s, chars(':'), port);
  portDigits.forEach((digits, i) => {
    b.on(i === 0 ? port : portDigits[i - 1]!, DIGITS, digits);
  });
  for (const s of [name, after, ...portDigits, space]) {
    b.on(s, [SP, TAB], space);
    b.on(s, [CR], end, SCAN.VALUE_END);
  }
  b.on(end, [LF], line);
  return ows;
}

/**
 * The value of Referer: Envoy removes what it cannot parse as a URL, so only plain forms are decided here: an absolute
 * http URL whose host is a name of letters, digits, inner dots and hyphens, with a short port, or an absolute path.
 */
function refererValue(b: Builder, line: number): number {
  const ows = b.state();
  const host = b.state();
  const hostEnd = b.state();
  const port = b.state();
  const ports = [b.state(), b.state(), b.state(), b.state()];
  const rest = b.state();
  const space = b.state();
  const end = b.state();
  const plain = VISIBLE.filter((byte) => byte !== 0x23);
  const alphanumeric = [...DIGITS, ...UPPER, ...LOWER];
  b.on(ows, [SP, TAB], ows);
  const relative = b.state();
  b.on(ows, chars('/'), relative, SCAN.VALUE);
  b.on(relative, [...HOST_BYTES, ...chars('/')], relative);
  const scheme = b.state();
  const colon = b.state();
  b.text(scheme, 'ttp', colon);
  const secure = b.state();
  b.on(colon, chars('s'), secure);
  const slashes = b.state();
  for (const s of [colon, secure]) b.on(s, chars(':'), slashes);
  b.text(slashes, '//', host);
  b.on(ows, chars('h'), scheme, SCAN.VALUE);
  for (const s of [host, hostEnd]) b.on(s, alphanumeric, hostEnd);
  b.on(hostEnd, chars('.-'), host);
  b.on(hostEnd, chars(':'), port);
  ports.forEach((digits, i) => {
    b.on(i === 0 ? port : ports[i - 1]!, i === 0 ? DIGITS.slice(1) : DIGITS, digits);
  });
  for (const s of [hostEnd, ...ports]) b.on(s, chars('/'), rest);
  b.on(rest, plain, rest);
  for (const s of [hostEnd, ...ports, rest, relative, space]) {
    b.on(s, [SP, TAB], space);
    b.on(s, [CR], end, SCAN.VALUE_END);
  }
  b.on(end, [LF], line);
  return ows;
}

/**
 * Adds the header section. Returns the state at the start of a line.
 * @param names header names with their slots. @param valueBytes what values may consist of besides white space.
 */
function headers(b: Builder, names: ReadonlyMap<string, number>, valueBytes: Bytes, request: boolean): number {
  const line = b.state();
  const last = b.state();
  const done = b.state();
  b.on(line, [CR], last);
  b.on(last, [LF], done, SCAN.HEAD_END);

  const ows = b.state();
  const value = b.state(PLAIN_ROW | 0);
  const end = b.state();
  b.on(ows, [SP, TAB], ows);
  b.on(ows, valueBytes, value, SCAN.VALUE);
  b.on(value, [...valueBytes, SP, TAB], value);
  for (const s of [ows, value]) b.on(s, [CR], end, SCAN.VALUE_END);
  b.on(end, [LF], line);
  // Values that the proxy checks or replaces have forms of their own.
  const special = new Map<string, number>();
  if (request) {
    const filled = b.state();
    b.on(filled, [SP, TAB], filled);
    b.on(filled, valueBytes, value, SCAN.VALUE);
    special.set('host', hostValue(b, line)).set('referer', refererValue(b, line));
    // An empty one would be replaced by a new one.
    special.set('x-request-id', filled);
  }

  // A tree of the known names; everything that leaves it is a name nobody asks for.
  const other = b.state(SLOT.OTHER);
  b.on(other, TCHAR, other);
  b.on(other, chars(':'), ows, SCAN.NAME_END);
  const odd = b.state(SLOT.ODD);
  b.on(odd, TCHAR, odd);
  b.on(odd, chars(':'), ows, SCAN.NAME_END);
  const tree = new Map<string, number>();
  const spell = (letter: string): Bytes => chars(letter + letter.toUpperCase());
  b.on(line, TCHAR, other, SCAN.LINE);
  const insert = (name: string, slot: number | undefined) => {
    let at = line;
    for (let i = 1; i <= name.length; i++) {
      const prefix = name.slice(0, i);
      let child = tree.get(prefix);
      if (child === undefined) {
        child = prefix === PREFIX_ODD && request ? odd : b.state(SLOT.OTHER);
        tree.set(prefix, child);
        if (child !== odd) {
          b.on(child, TCHAR, other);
          b.on(child, chars(':'), ows, SCAN.NAME_END);
        }
        b.on(at, spell(name[i - 1]!), child, i === 1 ? SCAN.LINE : SCAN.NONE);
      }
      if (child === odd) return;
      at = child;
    }
    if (slot === undefined) return;
    b.accept[at] = slot;
    const form = special.get(name);
    if (form !== undefined) b.on(at, chars(':'), form, SCAN.NAME_END);
  };
  if (request) insert(PREFIX_ODD, undefined);
  // a policy may ask for a header that no message can have, such as a template's `{{name}}`
  for (const [name, slot] of names) if (TOKEN.test(name)) insert(name, slot);
  return line;
}

/** What the proxy unescapes when it normalises a path: RFC 3986's unreserved characters (and it refuses %00). */
const UNRESERVED = /[A-Za-z0-9._~-]|\0/;
const HEX = '0123456789abcdef';

/** Percent escapes that the proxy leaves as they are, from any of `states` to `after`; others are ODD, like half ones. */
function escapes(b: Builder, rules: PathRules, states: readonly number[], after: number): void {
  if (!rules.normalize && !rules.escapedSlashes) return;
  const percent = b.state();
  for (const s of states) b.on(s, chars('%'), percent);
  for (const high of HEX) {
    const kept = [...HEX].filter((low) => {
      const character = String.fromCharCode(Number.parseInt(high + low, 16));
      if (rules.escapedSlashes && '/\\'.includes(character)) return false;
      return !(rules.normalize && UNRESERVED.test(character));
    });
    const second = b.state();
    b.on(percent, chars(high + high.toUpperCase()), second);
    for (const low of kept) b.on(second, chars(low + low.toUpperCase()), after);
  }
}

/** Adds the request target. `target` is the state after its first '/', `version` the one after the space that ends it. */
function requestTarget(b: Builder, rules: PathRules, slash: number, version: number): void {
  const segment = b.state();
  const query = b.state();
  const dots = rules.normalize ? [b.state(), b.state()] : [];
  const plain = VISIBLE.filter((byte) => {
    if ('#?/'.includes(String.fromCharCode(byte))) return false;
    if (byte === 0x25) return !rules.normalize && !rules.escapedSlashes;
    return !(rules.normalize && ESCAPED_BY_PROXY.includes(byte));
  });
  for (const s of [slash, segment, ...dots]) {
    b.on(s, plain, segment);
    b.on(s, chars('/'), slash);
    b.on(s, chars('?'), query, SCAN.QUERY);
    b.on(s, [SP], version, SCAN.TARGET_END);
  }
  escapes(b, rules, [slash, segment, ...dots], segment);
  if (rules.mergeSlashes) b.on(slash, chars('/'), b.odd, SCAN.ODD);
  const [dot, dotdot] = dots;
  if (dot !== undefined && dotdot !== undefined) {
    b.on(slash, chars('.'), dot);
    b.on(dot, chars('.'), dotdot);
    // "/./", "/../" and the same at the end or before a ';' would be resolved by the proxy.
    for (const s of dots) b.on(s, [...chars('/?;'), SP], b.odd, SCAN.ODD);
  }
  b.on(
    query,
    VISIBLE.filter((byte) => byte !== 0x23),
    query,
  );
  b.on(query, [SP], version, SCAN.TARGET_END);
}

/**
 * The scanner for request heads.
 * @param rules which targets are left to the proxy. @param names lower-case header names with their slots.
 */
export function requestScanner(rules: PathRules, names: ReadonlyMap<string, number>): Scanner {
  const b = new Builder();
  const line = headers(b, names, VISIBLE, true);
  const version = versionBefore(b, line);
  const first = b.state();
  const slash = b.state();
  const second = b.state();
  b.on(first, chars('/'), second);
  requestTarget(b, rules, slash, version);
  // A target that starts with "//" can be taken for an authority.
  b.next[second] = [...b.next[slash]!];
  b.action[second] = [...b.action[slash]!];
  b.on(second, chars('/'), b.odd, SCAN.ODD);
  return b.build(methodsBefore(b, first));
}

/**
 * The scanner for requests that another has found odd: it only tells where they end. A path that would have to be normalised,
 * and bytes of values that mean something to the proxy alone, do not put that into doubt.
 */
export function framingScanner(): Scanner {
  const b = new Builder();
  const line = headers(b, REQUEST_SLOTS, BYTES, false);
  const version = versionBefore(b, line);
  const first = b.state();
  const target = b.state();
  b.on(first, chars('/'), target);
  const query = b.state();
  b.on(target, VISIBLE, target);
  b.on(target, chars('?'), query, SCAN.QUERY);
  b.on(query, VISIBLE, query);
  for (const s of [target, query]) b.on(s, [SP], version, SCAN.TARGET_END);
  return b.build(methodsBefore(b, first));
}

/** The state before the version of a request line. */
function versionBefore(b: Builder, line: number): number {
  const version = b.state();
  const cr = b.state();
  const lf = b.state();
  b.text(version, 'HTTP/1.1', cr);
  b.on(cr, [CR], lf);
  b.on(lf, [LF], line);
  return version;
}

/** The state before a method that the proxy knows; `target` is the one behind the space. */
function methodsBefore(b: Builder, target: number): number {
  const start = b.state();
  const tree = new Map<string, number>();
  for (const method of METHODS) {
    let at = start;
    for (let i = 1; i <= method.length; i++) {
      let child = tree.get(method.slice(0, i));
      if (child === undefined) {
        child = b.state();
        tree.set(method.slice(0, i), child);
        b.on(at, chars(method[i - 1]!), child);
      }
      at = child;
    }
    b.on(at, [SP], target, SCAN.METHOD_END);
  }
  return start;
}

/**
 * The scanner for response heads: `HTTP/1.0` or `HTTP/1.1`, three digits (bytes 9 to 11), an optional reason.
 * @param names lower-case header names with their slots, those of RESPONSE_SLOTS among them.
 */
export function responseScanner(names: ReadonlyMap<string, number> = RESPONSE_SLOTS): Scanner {
  const b = new Builder();
  const line = headers(b, names, BYTES, false);
  const start = b.state();
  const minor = b.state();
  const space = b.state();
  const hundreds = b.state();
  const tens = b.state();
  const ones = b.state();
  const status = b.state();
  const reason = b.state();
  const lf = b.state();
  b.text(start, 'HTTP/1.', minor);
  b.on(minor, chars('01'), space);
  b.on(space, [SP], hundreds);
  b.on(hundreds, chars('12345'), tens);
  b.on(tens, DIGITS, ones);
  b.on(ones, DIGITS, status);
  b.on(status, [SP], reason);
  b.on(reason, [...BYTES, SP, TAB], reason);
  for (const s of [status, reason]) b.on(s, [CR], lf);
  b.on(lf, [LF], line);
  return b.build(start);
}
