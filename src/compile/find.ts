/**
 * Automata that find the value of a cookie or of a query parameter: capturing automata (see src/layout/image.ts) whose
 * registers 0 and 1 are where it begins and ends. They follow Envoy's parsers, which decode nothing.
 */
import type { Scanner } from './scanner.js';

const SPACE = 0x20;
const EQUALS = 0x3d;

/** Masks of the registers, and the accepting value that sets the second one where the input ends. */
const BEGIN = 1;
const END = 2;
const FOUND = 1;

/**
 * @param separator what stands between two pairs. @param spaces blanks before a name do not belong to it.
 *
 * States: 0 before a name, 1..n so many bytes of it seen, n+1 in another pair, n+2 at the value's begin, n+3 in the
 * value, n+4 behind it.
 */
function find(name: string, separator: number, spaces: boolean, bare: boolean): Scanner {
  const wanted = Buffer.from(name, 'latin1');
  const n = wanted.length;
  const [other, begin, inside, behind] = [n + 1, n + 2, n + 3, n + 4];
  const states = n + 5;
  const next = new Int32Array(states * 256);
  const action = new Uint8Array(states * 256);
  const accept = new Int32Array(states);
  for (let s = 0; s < states; s++)
    for (let byte = 0; byte < 256; byte++) {
      const at = s * 256 + byte;
      let to = other;
      if (s === behind) to = behind;
      else if (s === begin || s === inside) {
        to = byte === separator ? behind : inside;
        if (s === begin) action[at]! |= BEGIN;
        if (to === behind) action[at]! |= END;
      } else if (byte === separator) {
        to = bare && s === n ? behind : 0;
        if (to === behind) action[at] = BEGIN | END;
      } else if (s === 0 && spaces && byte === SPACE) to = 0;
      else if (s === n && byte === EQUALS) to = begin;
      else if (s < n && byte === wanted[s] && byte !== EQUALS) to = s + 1;
      next[at] = to;
    }
  // the end of the input ends the value, too
  accept[begin] = FOUND | ((BEGIN | END) << 8);
  accept[inside] = FOUND | (END << 8);
  accept[behind] = FOUND;
  if (bare) accept[n] = FOUND | ((BEGIN | END) << 8);
  return { classes: Uint8Array.from({ length: 256 }, (_, b) => b), width: 256, start: 0, next, action, accept };
}

/** Classes of bytes that the automaton treats alike, merged. */
function compact(table: Scanner): Scanner {
  const states = table.accept.length;
  const columns = new Map<string, number>();
  const representatives: number[] = [];
  const classes = Uint8Array.from({ length: 256 }, (_, byte) => {
    const column = Array.from({ length: states }, (_, s) => {
      const at = s * table.width + byte;
      return `${table.next[at]}:${table.action[at]}`;
    }).join();
    let found = columns.get(column);
    if (found === undefined) {
      found = columns.size;
      columns.set(column, found);
      representatives.push(byte);
    }
    return found;
  });
  const width = representatives.length;
  const next = new Int32Array(states * width);
  const action = new Uint8Array(states * width);
  for (let s = 0; s < states; s++)
    representatives.forEach((byte, c) => {
      next[s * width + c] = table.next[s * table.width + byte]!;
      action[s * width + c] = table.action[s * table.width + byte]!;
    });
  return { ...table, classes, width, next, action };
}

/** The value that a finder finds in `text` (latin1); undefined: none. */
export function findValue(finder: Scanner, text: string): string | undefined {
  const registers = [0, 0];
  const store = (mask: number, at: number) => {
    if (mask & BEGIN) registers[0] = at;
    if (mask & END) registers[1] = at;
  };
  let state = finder.start;
  for (let i = 0; i < text.length; i++) {
    const at = state * finder.width + finder.classes[text.charCodeAt(i) & 0xff]!;
    store(finder.action[at]!, i);
    state = finder.next[at]!;
  }
  const accept = finder.accept[state]!;
  if ((accept & FOUND) === 0) return undefined;
  store(accept >> 8, text.length);
  return text.slice(registers[0], registers[1]);
}

/** Finds the first cookie `name` in the value of a Cookie header. */
export function cookieFinder(name: string): Scanner {
  return compact(find(name, 0x3b, true, false));
}

/** Finds the first parameter `name` in a query; one without '=' has the empty value. */
export function queryFinder(name: string): Scanner {
  return compact(find(name, 0x26, false, true));
}
