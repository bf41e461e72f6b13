/** The programs that re2js compiles patterns to; its version is pinned because they are not part of its interface. */
import { RE2JS } from 're2js';

/** First and last byte, both included. */
export type ByteRange = readonly [low: number, high: number];

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

/** A pattern, or an input, as the proxy's library sees it: each byte of its UTF-8 form is one character. */
export function byteText(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

/** A pattern's program and its number of capturing groups. @throws re2js's own error on bad syntax */
export function compileProgram(pattern: string): { program: Program; groups: number } {
  const compiled = RE2JS.compile(byteText(pattern));
  const inner = compiled.re2() as unknown as { prog: Program };
  return { program: inner.prog, groups: compiled.groupCount() };
}

/** The characters that differ from that of `instruction` by case only; in Latin-1, RE2 folds ASCII letters only. */
function foldingsOf(instruction: Instruction): ByteRange[] {
  const rune = instruction.runes[0]!;
  const letters = rune < 0x80 ? [rune & ~0x20, rune | 0x20] : [rune];
  return letters.filter((other) => instruction.matchRune(other)).map((other): ByteRange => [other, other]);
}

/**
 * The bytes that an instruction of kind RUNE, RUNE1, ANY or ANY_NOT_NL takes, ascending. Envoy's regular expressions are
 * matched in Latin-1 (seen with Envoy 1.40: `.` takes one byte of a character in UTF-8, and `\pL` takes 0xe9).
 */
export function byteRanges(instruction: Instruction): ByteRange[] {
  return runeRanges(instruction).flatMap(([low, high]): ByteRange[] =>
    low > 0xff ? [] : [[low, Math.min(high, 0xff)]],
  );
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
