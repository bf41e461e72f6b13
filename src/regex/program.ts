/** The programs that re2js compiles patterns to; its version is pinned because they are not part of its interface. */
import { RE2JS } from 're2js';
import type { ByteRange } from './utf8.js';

export const OP = {
  ALT: 1,
  ALT_MATCH: 2,
  CAPTURE: 3,
  EMPTY_WIDTH: 4,
  FAIL: 5,
  MATCH: 6,
  NOP: 7,
  RUNE: 8,
  RUNE1: 9,
  ANY: 10,
  ANY_NOT_NL: 11,
} as const;
const FOLD_CASE = 1;
/** Beyond this no code point has a simple case folding (the last is U+1E943). */
const LAST_FOLDING = 0x1e943;

/** Empty-width flags as RE2 programs have them. */
export const EMPTY = { LINE_BEGIN: 1, LINE_END: 2, TEXT_BEGIN: 4, TEXT_END: 8, WORD: 16, NO_WORD: 32 } as const;

export interface Instruction {
  readonly op: number;
  readonly out: number;
  readonly arg: number;
  readonly runes: Int32Array;
  matchRune(rune: number): boolean;
}

export interface Program {
  readonly start: number;
  readonly numLb?: number;
  numInst(): number;
  getInst(index: number): Instruction;
}

/** A pattern's program and its number of capturing groups. @throws re2js's own error on bad syntax */
export function compileProgram(pattern: string): { program: Program; groups: number } {
  const compiled = RE2JS.compile(pattern);
  const inner = compiled.re2() as unknown as { prog: Program };
  return { program: inner.prog, groups: compiled.groupCount() };
}

let cased: number[] | undefined;

/** Code points that have another case: all that can fold to each other are among them. */
function casedRunes(): number[] {
  if (!cased) {
    cased = [];
    for (let rune = 0; rune <= LAST_FOLDING; rune++) {
      if (rune >= 0xd800 && rune <= 0xdfff) continue;
      const text = String.fromCodePoint(rune);
      if (text.toLowerCase() !== text || text.toUpperCase() !== text) cased.push(rune);
    }
  }
  return cased;
}

const foldings = new Map<number, ByteRange[]>();

/** The code points that differ from that of `instruction` by case only. */
function foldingsOf(instruction: Instruction): ByteRange[] {
  const rune = instruction.runes[0]!;
  let found = foldings.get(rune);
  if (!found) {
    found = casedRunes()
      .filter((other) => instruction.matchRune(other))
      .map((other): ByteRange => [other, other]);
    if (found.length === 0) found.push([rune, rune]);
    foldings.set(rune, found);
  }
  return found;
}

/** The code points that an instruction of kind RUNE, RUNE1, ANY or ANY_NOT_NL takes, ascending. */
export function runeRanges(instruction: Instruction): ByteRange[] {
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
