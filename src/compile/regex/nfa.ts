/** RE2 syntax to a nondeterministic automaton over bytes. */
import { type ByteRange, byteRanges, OP } from '../../regex/program.js';
import { parseRegex } from '../../regex/syntax.js';

export { EMPTY } from '../../regex/program.js';

/** One state. `alt` lists successors in order of preference; `assert` needs all of its empty-width flags. */
export type NfaState =
  | { readonly kind: 'alt'; readonly to: readonly number[] }
  | { readonly kind: 'capture'; readonly register: number; readonly to: number }
  | { readonly kind: 'assert'; readonly flags: number; readonly to: number }
  | { readonly kind: 'byte'; readonly low: number; readonly high: number; readonly to: number }
  | { readonly kind: 'match' };

export interface Nfa {
  readonly states: readonly NfaState[];
  readonly start: number;
  /** capturing groups, not counting the whole match */
  readonly groups: number;
}

/**
 * Compiles a pattern in RE2 syntax (https://github.com/google/re2/wiki/Syntax).
 * @returns the automaton, or undefined when the pattern is invalid or one for the proxy only.
 */
export function compileRegex(pattern: string): Nfa | undefined {
  const parsed = parseRegex(pattern);
  if (parsed.kind !== 'valid') return undefined;
  const { program, groups } = parsed;
  const states: NfaState[] = [];
  for (let i = 0; i < program.numInst(); i++) states.push({ kind: 'alt', to: [] });
  const shared = new Map<string, number>();
  const byteState = (range: ByteRange, to: number): number => {
    const key = `${range[0]},${range[1]},${to}`;
    let index = shared.get(key);
    if (index === undefined) {
      index = states.length;
      states.push({ kind: 'byte', low: range[0], high: range[1], to });
      shared.set(key, index);
    }
    return index;
  };
  for (let i = 0; i < program.numInst(); i++) {
    const instruction = program.getInst(i);
    const { op, out, arg } = instruction;
    if (op === OP.ALT || op === OP.ALT_MATCH) states[i] = { kind: 'alt', to: [out, arg] };
    else if (op === OP.NOP) states[i] = { kind: 'alt', to: [out] };
    else if (op === OP.CAPTURE) states[i] = { kind: 'capture', register: arg, to: out };
    else if (op === OP.EMPTY_WIDTH) states[i] = { kind: 'assert', flags: arg, to: out };
    else if (op === OP.MATCH) states[i] = { kind: 'match' };
    else if (op === OP.ANY || op === OP.ANY_NOT_NL || op === OP.RUNE || op === OP.RUNE1) {
      states[i] = { kind: 'alt', to: byteRanges(instruction).map((range) => byteState(range, out)) };
    } else if (op !== OP.FAIL) return undefined;
  }
  return { states, start: program.start, groups };
}
