/**
 * Regex rewrites (RE2::GlobalReplace over the path) as an automaton that notes where groups begin and end.
 *
 * A pattern that is anchored at the start matches at most once. Any other is looked for again behind each match, by the
 * same automaton, which then also notes where the match begins and ends; such a pattern must not look at what stands
 * around it and must not match the empty string. The path is read from left to right with one register for each end of a
 * group, so the threads of a backtracking matcher that are alive together must agree on every register that they may still
 * need; where they do not, the rewrite is left to the proxy.
 */
import type { Piece } from '../plan/ir.js';
import { Explorer } from './dfa.js';
import { byteClasses, CONTEXT, contextAfter, flagsBetween } from './regex/determinize.js';
import { compileRegex, EMPTY, type Nfa, type NfaState } from './regex/nfa.js';
import type { Scanner } from './scanner.js';

/** A rewrite that the kernel can do exactly. */
export interface CaptureRewrite {
  /** action: mask of registers; accept: as image.ts says */
  readonly table: Scanner;
  /** without the query; for `repeat`, what takes the place of each match */
  readonly pieces: readonly Piece[];
  /**
   * undefined: one match at most, and the pieces are the whole path. Else every match is replaced: group 1 of the automaton
   * begins that many bytes behind the match's first one and ends with it
   */
  readonly repeat?: number;
}

const MAX_GROUPS = 4;
const MAX_STATES = 2000;
const MAX_UNIVERSAL = 300;
/** Group number of what follows the match. */
const REST = -1;

/** Bytes that the scanner lets into a path. */
function inPath(byte: number): boolean {
  return byte >= 0x21 && byte <= 0x7e && byte !== 0x3f && byte !== 0x23;
}

/** Substitution in RE2's form: `\0` to `\9` and `\\`. Returns undefined when it is not well formed. */
function parseSubstitution(text: string): (string | number)[] | undefined {
  const parts: (string | number)[] = [];
  for (let i = 0; i < text.length; i++) {
    let part: string | number = text[i]!;
    if (part === '\\') {
      const next = text[++i];
      if (next === undefined || !/[0-9\\]/.test(next)) return undefined;
      part = next === '\\' ? next : Number(next);
    }
    parts.push(part);
  }
  return parts;
}

/**
 * The pattern, then any bytes; groups that are not in `slots` are not noted.
 * @param end a register for the end of the match.
 */
function withRest(nfa: Nfa, slots: ReadonlyMap<number, number>, end?: number): Nfa {
  const states: NfaState[] = [];
  const add = (state: NfaState) => states.push(state) - 1;
  const capture = (group: number, end: 0 | 1, to: number): NfaState => {
    const slot = slots.get(group);
    return slot === undefined ? { kind: 'alt', to: [to] } : { kind: 'capture', register: 2 * slot + end, to };
  };
  for (const state of nfa.states) {
    if (state.kind === 'capture') add(capture(state.register >> 1, (state.register & 1) as 0 | 1, state.to));
    else add(state);
  }
  const accept = add({ kind: 'match' });
  const restEnd = add(capture(REST, 1, accept));
  const loop = add({ kind: 'alt', to: [] });
  states[loop] = { kind: 'alt', to: [add({ kind: 'byte', low: 0, high: 255, to: loop }), restEnd] };
  const restStart = add(capture(REST, 0, loop));
  const wholeEnd: NfaState =
    end === undefined ? capture(0, 1, restStart) : { kind: 'capture', register: end, to: restStart };
  nfa.states.forEach((state, i) => {
    if (state.kind === 'match') states[i] = wholeEnd;
  });
  return { states, start: add(capture(0, 0, nfa.start)), groups: nfa.groups };
}

/** The bytes that every match begins with, as far as one state after the other says, and the last of these states. */
function literalPrefix(nfa: Nfa): { text: number[]; last: number } {
  const before = new Int32Array(nfa.states.length);
  for (const state of nfa.states) {
    const next = state.kind === 'alt' ? state.to : state.kind === 'match' ? [] : [state.to];
    for (const to of next) before[to]!++;
  }
  const text: number[] = [];
  let last = -1;
  let at = nfa.start;
  for (let state = nfa.states[at]!; ; state = nfa.states[at]!) {
    // States that are reached in another way, too, are in a loop.
    if (before[at]! > (at === nfa.start ? 0 : 1)) break;
    if (state.kind === 'alt' && state.to.length === 1) at = state.to[0]!;
    else if (state.kind === 'byte' && state.low === state.high) {
      text.push(state.low);
      last = at;
      at = state.to;
    } else break;
  }
  return { text, last };
}

/**
 * Any bytes, as few as possible, then the pattern, then any bytes. Group 0 begins behind the literal that all matches begin
 * with (`last`: its last state), because only there it is certain that there is one.
 */
function withLead(nfa: Nfa, slots: ReadonlyMap<number, number>, last: number): Nfa {
  const inner = withRest(nfa, new Map([...slots].filter(([group]) => group !== 0)), 2 * slots.get(0)! + 1);
  const states = [...inner.states];
  const add = (state: NfaState) => states.push(state) - 1;
  const begin = 2 * slots.get(0)!;
  let { start } = inner;
  if (last < 0) start = add({ kind: 'capture', register: begin, to: start });
  else {
    const state = states[last]! as NfaState & { kind: 'byte' };
    states[last] = { ...state, to: add({ kind: 'capture', register: begin, to: state.to }) };
  }
  const lead = add({ kind: 'alt', to: [] });
  states[lead] = { kind: 'alt', to: [start, add({ kind: 'byte', low: 0, high: 255, to: lead })] };
  return { ...inner, states, start: lead };
}

/** True when no match can begin anywhere but at the start of the text. */
function anchored(nfa: Nfa): boolean {
  const seen = new Set<number>();
  const stack = [nfa.start];
  for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
    if (seen.has(top)) continue;
    seen.add(top);
    const state = nfa.states[top]!;
    if (state.kind === 'byte' || state.kind === 'match') return false;
    if (state.kind === 'alt') stack.push(...state.to);
    else if (state.kind === 'capture' || !(state.flags & EMPTY.TEXT_BEGIN)) stack.push(state.to);
  }
  return true;
}

/** Per state: mask of the registers without which an end can be reached; -1: no end can be reached. */
function liveRegisters(nfa: Nfa): Int32Array {
  const n = nfa.states.length;
  const reach = (blocked: number): Uint8Array => {
    const ok = new Uint8Array(n);
    for (let changed = true; changed; ) {
      changed = false;
      nfa.states.forEach((state, i) => {
        if (ok[i]) return;
        const next = state.kind === 'alt' ? state.to : state.kind === 'match' ? [] : [state.to];
        const stopped = state.kind === 'capture' && state.register === blocked;
        if (state.kind === 'match' || (!stopped && next.some((to) => ok[to]))) {
          ok[i] = 1;
          changed = true;
        }
      });
    }
    return ok;
  };
  const any = reach(-1);
  const live = Int32Array.from(any, (ok) => (ok ? 0 : -1));
  for (let register = 0; register < 2 * MAX_GROUPS; register++) {
    const ok = reach(register);
    for (let i = 0; i < n; i++) if (any[i] && ok[i]) live[i]! |= 1 << register;
  }
  return live;
}

/** Whether group `group` takes part in every match and holds at least one byte then. */
function neverEmpty(nfa: Nfa, group: number): boolean {
  /** Whether `goal` can be reached from `from` by moves that `allowed` lets through. */
  const reaches = (from: number, goal: (state: NfaState) => boolean, allowed: (state: NfaState) => boolean) => {
    const seen = new Set<number>();
    const stack = [from];
    for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
      if (seen.has(top)) continue;
      seen.add(top);
      const state = nfa.states[top]!;
      if (goal(state)) return true;
      if (!allowed(state) || state.kind === 'match') continue;
      stack.push(...(state.kind === 'alt' ? state.to : [state.to]));
    }
    return false;
  };
  if (group === 0)
    return !reaches(
      nfa.start,
      (s) => s.kind === 'match',
      (s) => s.kind !== 'byte',
    );
  const opens = (s: NfaState) => s.kind === 'capture' && s.register === 2 * group;
  const closes = (s: NfaState) => s.kind === 'capture' && s.register === 2 * group + 1;
  if (
    reaches(
      nfa.start,
      (s) => s.kind === 'match',
      (s) => !opens(s),
    )
  )
    return false;
  return nfa.states.every((state, i) => !opens(state) || !reaches(i, closes, (s) => s.kind !== 'byte'));
}

/** A thread of the matcher: where it stands, the registers whose value it has lost, those that it sets now. */
interface Thread {
  readonly at: number;
  readonly lost: number;
  readonly sets: number;
}

interface Configuration {
  readonly threads: readonly Thread[];
  readonly context: number;
}

class Conflict extends Error {}

/** Explores the configurations that a path can lead to. @throws Conflict */
class Builder {
  readonly #nfa: Nfa;
  readonly #live: Int32Array;
  readonly #universal = new Map<string, boolean>();

  constructor(nfa: Nfa) {
    this.#nfa = nfa;
    this.#live = liveRegisters(nfa);
  }

  /** Follows empty moves in order of preference; the first thread to reach a state has it. */
  #closure(threads: readonly Thread[], flags: number): Thread[] {
    const seen = new Set<number>();
    const out: Thread[] = [];
    const visit = (at: number, lost: number, sets: number): void => {
      if (seen.has(at)) return;
      seen.add(at);
      const state = this.#nfa.states[at]!;
      if (state.kind === 'alt') for (const to of state.to) visit(to, lost, sets);
      else if (state.kind === 'capture') visit(state.to, lost & ~(1 << state.register), sets | (1 << state.register));
      else if (state.kind === 'assert') {
        if ((state.flags & ~flags) === 0) visit(state.to, lost, sets);
      } else out.push({ at, lost, sets });
    };
    for (const thread of threads) visit(thread.at, thread.lost, 0);
    return out;
  }

  /** Whether every continuation from state `at` matches. */
  #matchesAll(at: number, context: number, representatives: readonly number[]): boolean {
    const key = `${at},${context}`;
    const known = this.#universal.get(key);
    if (known !== undefined) return known;
    const found = new Explorer<Configuration>();
    const id = (threads: readonly Thread[], c: number) =>
      found.id(`${c}:${threads.map((t) => t.at).sort((a, b) => a - b)}`, () => ({ threads, context: c }));
    id([{ at, lost: 0, sets: 0 }], context);
    let all = true;
    for (let i = 0; i < found.states.length && all; i++) {
      const { threads, context: c } = found.states[i]!;
      const end = this.#closure(threads, flagsBetween(c, -1));
      all = i < MAX_UNIVERSAL && end.some((t) => this.#nfa.states[t.at]!.kind === 'match');
      for (const byte of representatives) {
        const next = this.#closure(threads, flagsBetween(c, byte)).flatMap((t) => this.#consume(t, byte));
        id(
          next.map((to) => ({ at: to, lost: 0, sets: 0 })),
          contextAfter(byte),
        );
      }
    }
    this.#universal.set(key, all);
    return all;
  }

  #consume(thread: Thread, byte: number): number[] {
    const state = this.#nfa.states[thread.at]!;
    return state.kind === 'byte' && byte >= state.low && byte <= state.high ? [state.to] : [];
  }

  #step(from: Configuration, byte: number, representatives: readonly number[]): [Configuration, number] {
    const context = contextAfter(byte);
    const moved: Thread[] = [];
    for (const thread of this.#closure(from.threads, flagsBetween(from.context, byte))) {
      const [to] = this.#consume(thread, byte);
      if (to === undefined || this.#live[to]! < 0 || moved.some((other) => other.at === to)) continue;
      moved.push({ ...thread, at: to });
      // Threads behind one that matches whatever comes can never win.
      if (this.#matchesAll(to, context, representatives)) break;
    }
    const writes = moved.reduce((mask, { sets }) => mask | sets, 0);
    const threads = moved.map(({ at, lost, sets }): Thread => {
      const gone = (lost | (writes & ~sets)) & this.#live[at]!;
      if (gone) throw new Conflict();
      return { at, lost: 0, sets: 0 };
    });
    return [{ threads, context }, writes];
  }

  build(): Scanner {
    const { classes: byClass } = byteClasses(this.#nfa);
    // Bytes that cannot stand in a path share one class, which leads nowhere.
    const numbers = new Explorer<number>();
    const classes = Uint8Array.from({ length: 256 }, (_, byte) =>
      numbers.id(inPath(byte) ? byClass[byte]! : -1, () => byte),
    );
    const bytes = numbers.states;
    const inside = bytes.filter(inPath);
    const found = new Explorer<Configuration>();
    const id = (c: Configuration) => found.id(`${c.context}:${c.threads.map((t) => t.at)}`, () => c);
    const start = id({ threads: [{ at: this.#nfa.start, lost: 0, sets: 0 }], context: CONTEXT.START });
    const next: number[] = [];
    const action: number[] = [];
    const accept: number[] = [];
    for (let i = 0; i < found.states.length; i++) {
      if (i >= MAX_STATES) throw new Conflict();
      const from = found.states[i]!;
      for (const byte of bytes) {
        const [to, writes] = inPath(byte) ? this.#step(from, byte, inside) : [{ threads: [], context: 0 }, 0];
        next.push(id(to));
        action.push(writes);
      }
      const end = this.#closure(from.threads, flagsBetween(from.context, -1));
      const winner = end.find((t) => this.#nfa.states[t.at]!.kind === 'match');
      accept.push(winner ? 1 | (winner.sets << 8) : 0);
    }
    return {
      classes,
      width: bytes.length,
      start,
      next: Int32Array.from(next),
      action: Uint8Array.from(action),
      accept: Int32Array.from(accept),
    };
  }
}

/**
 * Compiles a regex rewrite.
 * @param pattern RE2 syntax. @param substitution RE2 rewrite string (`\0` to `\9`, `\\`).
 * @returns what to run and the new target's pieces, or a text that says why it is left to the proxy.
 */
export function captureRewrite(pattern: string, substitution: string): CaptureRewrite | string {
  const nfa = compileRegex(pattern);
  if (!nfa) return `regex ${pattern} is not supported`;
  const parts = parseSubstitution(substitution);
  if (!parts) return `substitution ${substitution} is not well formed`;
  const once = anchored(nfa);
  if (!once && nfa.states.some((state) => state.kind === 'assert' && state.flags !== EMPTY.TEXT_END))
    return `regex ${pattern} may match more than once and looks at what stands around a match`;
  if (!once && !neverEmpty(nfa, 0)) return `regex ${pattern} may match the empty string anywhere`;
  const slots = new Map<number, number>(once ? [] : [[0, 0]]);
  const slotOf = (group: number): number => {
    const slot = slots.get(group) ?? slots.size;
    slots.set(group, slot);
    return slot;
  };
  const pieces: Piece[] = [];
  const prefix = once ? { text: [], last: -1 } : literalPrefix(nfa);
  const literal = Buffer.from(prefix.text).toString('latin1');
  for (const part of parts) {
    if (typeof part === 'string') pieces.push({ kind: 'literal', value: part });
    else if (part === 0 && literal !== '') {
      pieces.push({ kind: 'literal', value: literal }, { kind: 'capture', group: 1 });
    } else if (part > nfa.groups) return `substitution ${substitution} refers to a group that the regex does not have`;
    else pieces.push({ kind: 'capture', group: slotOf(part) + 1 });
  }
  // Envoy does not rewrite at all when the new path would be empty.
  if (!parts.some((part) => typeof part === 'string' || neverEmpty(nfa, part)))
    return `the rewrite of ${pattern} to ${substitution} may give an empty path`;
  if (once) pieces.push({ kind: 'capture', group: slotOf(REST) + 1 });
  if (slots.size > MAX_GROUPS) return 'the substitution uses too many groups';
  try {
    if (once) return { table: new Builder(withRest(nfa, slots)).build(), pieces };
    const table = new Builder(withLead(nfa, slots, prefix.last)).build();
    return { table, pieces, repeat: prefix.text.length };
  } catch (error) {
    if (error instanceof Conflict) return `where the groups of regex ${pattern} end cannot be known while it is read`;
    throw error;
  }
}
