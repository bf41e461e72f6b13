/** RE2 syntax to a nondeterministic automaton over bytes. */
import { RE2JS } from 're2js';
import { type ByteRange, utf8Sequences } from './utf8.js';

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

/** Empty-width flags as RE2 programs have them. */
export const EMPTY = { LINE_BEGIN: 1, LINE_END: 2, TEXT_BEGIN: 4, TEXT_END: 8, WORD: 16, NO_WORD: 32 } as const;

// Opcodes of re2js's compiled programs; its version is pinned because they are not part of its interface.
const OP = { ALT: 1, ALT_MATCH: 2, CAPTURE: 3, EMPTY_WIDTH: 4, FAIL: 5, MATCH: 6, NOP: 7, ANY: 10, ANY_NOT_NL: 11 };
const OP_RUNE = 8;
const OP_RUNE1 = 9;
const FOLD_CASE = 1;
/** Beyond this no code point has a simple case folding (the last is U+1E943). */
const LAST_FOLDING = 0x1e943;

interface Instruction {
  readonly op: number;
  readonly out: number;
  readonly arg: number;
  readonly runes: Int32Array;
  matchRune(rune: number): boolean;
}

interface Program {
  readonly start: number;
  readonly numLb?: number;
  numInst(): number;
  getInst(index: number): Instruction;
}

const foldings = new Map<number, ByteRange[]>();

/** The code points that differ from that of `instruction` by case only. */
function foldingsOf(instruction: Instruction): ByteRange[] {
  const rune = instruction.runes[0]!;
  let found = foldings.get(rune);
  if (!found) {
    found = [];
    for (let other = 0; other <= LAST_FOLDING; other++) if (instruction.matchRune(other)) found.push([other, other]);
    if (found.length === 0) found.push([rune, rune]);
    foldings.set(rune, found);
  }
  return found;
}

function runeRanges(instruction: Instruction): ByteRange[] {
  if (instruction.op === OP.ANY) return [[0, 0x10ffff]];
  if (instruction.op === OP.ANY_NOT_NL)
    return [
      [0, 9],
      [11, 0x10ffff],
    ];
  const { runes } = instruction;
  if (runes.length === 1) {
    const rune = runes[0]!;
    return instruction.arg & FOLD_CASE ? foldingsOf(instruction) : [[rune, rune]];
  }
  const ranges: ByteRange[] = [];
  for (let i = 0; i < runes.length; i += 2) ranges.push([runes[i]!, runes[i + 1]!]);
  return ranges;
}

/** True for constructs whose meaning depends on the version of Unicode that an engine was built with, or on the engine. */
function engineDependent(pattern: string): boolean {
  for (let i = 0; i < pattern.length - 1; i++) {
    if (pattern[i] !== '\\') continue;
    i++;
    if ('pPC'.includes(pattern[i]!)) return true;
  }
  return /\(\?<?[=!]/.test(pattern);
}

/**
 * Compiles a pattern in RE2 syntax (https://github.com/google/re2/wiki/Syntax).
 * @returns the automaton, or undefined when the pattern is invalid or uses `\p`, `\P` or `\C`, which cannot be promised to
 * mean the same here and in the proxy.
 */
export function compileRegex(pattern: string): Nfa | undefined {
  if (engineDependent(pattern)) return undefined;
  let program: Program;
  let groups: number;
  try {
    const compiled = RE2JS.compile(pattern);
    const inner = compiled.re2() as unknown as { prog: Program };
    program = inner.prog;
    groups = compiled.groupCount();
  } catch {
    return undefined;
  }
  if (program.numLb) return undefined;
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
    else if (op === OP.ANY || op === OP.ANY_NOT_NL || op === OP_RUNE || op === OP_RUNE1) {
      const to = new Set<number>();
      for (const [low, high] of runeRanges(instruction))
        for (const sequence of utf8Sequences(low, high))
          to.add(sequence.reduceRight((after, r) => byteState(r, after), out));
      states[i] = { kind: 'alt', to: [...to] };
    } else if (op !== OP.FAIL) return undefined;
  }
  return { states, start: program.start, groups };
}
