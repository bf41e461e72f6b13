/** Subset construction with RE2's empty-width assertions, over bytes. */
import { type Dfa, Explorer, Labels, minimise } from '../dfa.js';
import { EMPTY, type Nfa } from './nfa.js';

/** What stands before the current position. */
export const CONTEXT = { START: 1, WORD: 2, NEWLINE: 4 } as const;
const NEWLINE = 10;

function isWord(byte: number): boolean {
  return (byte >= 48 && byte <= 57) || (byte >= 65 && byte <= 90) || byte === 95 || (byte >= 97 && byte <= 122);
}

/**
 * The empty-width flags that hold between what `context` describes and the next byte (-1: the end).
 * @param context a sum of CONTEXT values.
 */
export function flagsBetween(context: number, byte: number): number {
  let flags = 0;
  if (context & CONTEXT.START) flags |= EMPTY.TEXT_BEGIN | EMPTY.LINE_BEGIN;
  if (context & CONTEXT.NEWLINE) flags |= EMPTY.LINE_BEGIN;
  if (byte < 0) flags |= EMPTY.TEXT_END | EMPTY.LINE_END;
  if (byte === NEWLINE) flags |= EMPTY.LINE_END;
  const boundary = ((context & CONTEXT.WORD) !== 0) !== (byte >= 0 && isWord(byte));
  return flags | (boundary ? EMPTY.WORD : EMPTY.NO_WORD);
}

/** The context after `byte`. */
export function contextAfter(byte: number): number {
  return (isWord(byte) ? CONTEXT.WORD : 0) | (byte === NEWLINE ? CONTEXT.NEWLINE : 0);
}

/** Byte classes that tell apart everything that the automaton tests. */
export function byteClasses(nfa: Nfa): { classes: Uint8Array; representatives: number[] } {
  const cut = new Uint8Array(257);
  let words = false;
  let lines = false;
  for (const state of nfa.states) {
    if (state.kind === 'byte') {
      cut[state.low] = 1;
      cut[state.high + 1] = 1;
    } else if (state.kind === 'assert') {
      if (state.flags & (EMPTY.WORD | EMPTY.NO_WORD)) words = true;
      if (state.flags & (EMPTY.LINE_BEGIN | EMPTY.LINE_END)) lines = true;
    }
  }
  for (let byte = 0; byte < 256; byte++) {
    if (words && isWord(byte) !== (byte > 0 && isWord(byte - 1))) cut[byte] = 1;
    if (lines && (byte === NEWLINE || byte === NEWLINE + 1)) cut[byte] = 1;
  }
  const classes = new Uint8Array(256);
  const representatives: number[] = [];
  for (let byte = 0; byte < 256; byte++) {
    if (byte === 0 || cut[byte]) representatives.push(byte);
    classes[byte] = representatives.length - 1;
  }
  return { classes, representatives };
}

const NOTHING: readonly number[] = [];

/**
 * The minimal automaton that accepts (with label [0]) exactly the inputs that `nfa` matches as a whole.
 * @param budget most states before minimisation; @returns undefined when there would be more.
 */
export function determinize(nfa: Nfa, budget: number): Dfa | undefined {
  const { states } = nfa;
  const { classes, representatives } = byteClasses(nfa);
  const mark = new Int32Array(states.length);
  let generation = 0;
  /** Follows empty moves; `flags` < 0 stops at assertions and keeps them. */
  const closure = (from: readonly number[], flags: number): number[] => {
    generation++;
    const stack = [...from];
    const out: number[] = [];
    for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
      if (mark[top] === generation) continue;
      mark[top] = generation;
      const state = states[top]!;
      if (state.kind === 'alt') stack.push(...state.to);
      else if (state.kind === 'capture') stack.push(state.to);
      else if (state.kind === 'assert' && flags >= 0) {
        if ((state.flags & ~flags) === 0) stack.push(state.to);
      } else out.push(top);
    }
    return out.sort((a, b) => a - b);
  };
  const found = new Explorer<readonly [readonly number[], number]>();
  let nowhere = -1;
  const known = new Map<number, number>();
  const id = (set: readonly number[], context: number): number => {
    if (set === NOTHING && nowhere >= 0) return nowhere;
    // One state after another: the usual case.
    const single = set.length === 1 ? set[0]! * 8 + context : -1;
    const before = single < 0 ? undefined : known.get(single);
    if (before !== undefined) return before;
    const made = newId(set, context);
    if (single >= 0) known.set(single, made);
    if (set === NOTHING) nowhere = made;
    return made;
  };
  const newId = (set: readonly number[], context: number): number => {
    const core = closure(set, -1);
    // Without assertions the context makes no difference, and must not split states.
    const used = core.some((s) => states[s]!.kind === 'assert') ? context : 0;
    return found.id(`${used}:${core.join()}`, () => [core, used]);
  };
  id([nfa.start], CONTEXT.START);
  const next: number[] = [];
  const accept: number[] = [];
  const labels = new Labels();
  for (let i = 0; i < found.states.length; i++) {
    if (i >= budget) return undefined;
    const [core, context] = found.states[i]!;
    if (core.every((s) => states[s]!.kind !== 'assert')) {
      // Without assertions only the bytes that are tested lead anywhere.
      const lists: (number[] | undefined)[] = new Array(representatives.length);
      for (const s of core) {
        const state = states[s]!;
        if (state.kind !== 'byte') continue;
        const last = classes[state.high]!;
        for (let c = classes[state.low]!; c <= last; c++) {
          const list = lists[c];
          if (!list) lists[c] = [state.to];
          else if (!list.includes(state.to)) list.push(state.to);
        }
      }
      representatives.forEach((byte, c) => {
        next.push(id(lists[c] ?? NOTHING, contextAfter(byte)));
      });
      accept.push(labels.intern(core.some((s) => states[s]!.kind === 'match') ? [0] : []));
      continue;
    }
    for (const byte of representatives) {
      const to: number[] = [];
      for (const s of closure(core, flagsBetween(context, byte))) {
        const state = states[s]!;
        if (state.kind === 'byte' && byte >= state.low && byte <= state.high) to.push(state.to);
      }
      next.push(id(to, contextAfter(byte)));
    }
    const end = closure(core, flagsBetween(context, -1));
    accept.push(labels.intern(end.some((s) => states[s]!.kind === 'match') ? [0] : []));
  }
  return minimise({
    classes,
    width: representatives.length,
    start: 0,
    next: Int32Array.from(next),
    accept: Int32Array.from(accept),
    labels: labels.list,
  });
}
