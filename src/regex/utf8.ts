/** Code point ranges as sequences of byte ranges (UTF-8, RFC 3629). */

export type ByteRange = readonly [low: number, high: number];

function encode(rune: number): number[] {
  if (rune < 0x80) return [rune];
  if (rune < 0x800) return [0xc0 | (rune >> 6), 0x80 | (rune & 63)];
  if (rune < 0x10000) return [0xe0 | (rune >> 12), 0x80 | ((rune >> 6) & 63), 0x80 | (rune & 63)];
  return [0xf0 | (rune >> 18), 0x80 | ((rune >> 12) & 63), 0x80 | ((rune >> 6) & 63), 0x80 | (rune & 63)];
}

/**
 * The byte sequences that encode the code points `low`..`high`, each a list of byte ranges.
 *
 * A range that reaches from 0x80 or below to the last code point is widened as RE2's compiler does (Add_80_10ffff), so
 * that `.` and negated classes accept overlong and surrogate forms exactly as Envoy's RE2 does.
 */
export function* utf8Sequences(low: number, high: number): Generator<ByteRange[]> {
  if (low > high) return;
  if (low <= 0x80 && high >= 0x10ffff) {
    if (low < 0x80) yield [[low, 0x7f]];
    const tail: ByteRange = [0x80, 0xbf];
    yield [[0xc2, 0xdf], tail];
    yield [[0xe0, 0xef], tail, tail];
    yield [[0xf0, 0xf4], tail, tail, tail];
    return;
  }
  for (const limit of [0x7f, 0x7ff, 0xffff]) {
    if (low <= limit && high > limit) {
      yield* utf8Sequences(low, limit);
      yield* utf8Sequences(limit + 1, high);
      return;
    }
  }
  if (high <= 0x7f) {
    yield [[low, high]];
    return;
  }
  for (let i = 1; i < 4; i++) {
    const mask = (1 << (6 * i)) - 1;
    if ((low & ~mask) === (high & ~mask)) continue;
    if (low & mask) {
      yield* utf8Sequences(low, low | mask);
      yield* utf8Sequences((low | mask) + 1, high);
      return;
    }
    if ((high & mask) !== mask) {
      yield* utf8Sequences(low, (high & ~mask) - 1);
      yield* utf8Sequences(high & ~mask, high);
      return;
    }
  }
  const first = encode(low);
  const last = encode(high);
  yield first.map((byte, i): ByteRange => [byte, last[i]!]);
}
