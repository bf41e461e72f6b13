/** The map of verified tokens as the agent writes it (bpf/token.h reads it). */
import { MAX_TOKEN_LINES } from '../layout/image.js';
import { get, getBig, set } from '../layout/struct.js';
import { MAX_TOKEN, MAX_TOKENS, TOKEN_WAYS, TokenSpec } from '../layout/tokens.js';

const PRIME = 0x9e3779b97f4a7c15n;
const U64 = (value: bigint): bigint => BigInt.asUintN(64, value);
const BYTES_AT = TokenSpec.at.bytes!.offset;
const LINES_AT = TokenSpec.at.lines!.offset;
const SERIAL_AT = TokenSpec.at.serial!.offset;

/** What a token is found by. */
export interface TokenKey {
  /** number of the image whose questions were answered */
  readonly generation: number;
  /** index of the listener */
  readonly listener: number;
  /** which of the listener's places */
  readonly place: number;
  /** what is there, 1 to MAX_TOKEN bytes */
  readonly value: Uint8Array;
}

/** What is remembered of a token. */
export interface TokenAnswers {
  /** TOKEN_WORDS words */
  readonly facts: readonly bigint[];
  /** header lines that it brings, at most MAX_TOKEN_LINES bytes */
  readonly lines: Uint8Array;
}

/** The hash of a value, as token_hash_step in bpf/token.h makes it. */
export function tokenHash(seed: bigint, value: Uint8Array): bigint {
  const padded = Buffer.alloc(Math.ceil(value.length / 8) * 8);
  padded.set(value);
  let hash = U64(seed ^ BigInt(value.length));
  for (let at = 0; at < padded.length; at += 8) {
    hash = U64((hash ^ padded.readBigUInt64LE(at)) * PRIME);
    hash ^= hash >> 29n;
  }
  return hash;
}

export class TokenStore {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;

  /** @param view the mapped map: MAX_TOKENS structures. @param seed as the programs have it */
  constructor(
    private readonly view: DataView,
    private readonly seed: bigint,
  ) {
    this.#words = new Int32Array(view.buffer, view.byteOffset, view.byteLength / 4);
    this.#bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  }

  /**
   * Remembers a token.
   * @param until on the clock of bpf_ktime_get_boot_ns; @param now on the same
   * @returns false when the value or the lines are too long
   */
  put(key: TokenKey, { facts, lines }: TokenAnswers, until: bigint, now: bigint): boolean {
    const { value } = key;
    if (value.length === 0 || value.length > MAX_TOKEN || lines.length > MAX_TOKEN_LINES) return false;
    const hash = tokenHash(this.seed, value);
    const base = this.#place(key, hash, now) * TokenSpec.size;
    const serialAt = (base + SERIAL_AT) / 4;
    // Odd while it changes: programs on other CPUs take nothing from it. Atomics keep the order of the writes.
    Atomics.add(this.#words, serialAt, 1);
    const write = (name: string, v: number | bigint, index = 0) => set(this.view, base, TokenSpec, name, v, index);
    write('generation', key.generation);
    write('listener', key.listener);
    write('place', key.place);
    write('hash', hash);
    write('until', until);
    write('used', now);
    facts.forEach((word, i) => {
      write('facts', word, i);
    });
    write('length', value.length);
    this.#bytes.fill(0, base + BYTES_AT, base + BYTES_AT + MAX_TOKEN);
    this.#bytes.set(value, base + BYTES_AT);
    write('n_lines', lines.length);
    this.#bytes.set(lines, base + LINES_AT);
    Atomics.add(this.#words, serialAt, 1);
    return true;
  }

  /** Where a token goes: its own place, else one that is free or out of date, else the one unused for longest. */
  #place(key: TokenKey, hash: bigint, now: bigint): number {
    let best = 0;
    let bestAge = -1n;
    for (let way = 0; way < TOKEN_WAYS; way++) {
      const index = Number((hash + BigInt(way)) & BigInt(MAX_TOKENS - 1));
      const base = index * TokenSpec.size;
      if (this.#is(base, key, hash)) return index;
      const generation = get(this.view, base, TokenSpec, 'generation');
      const stale = generation !== key.generation || getBig(this.view, base, TokenSpec, 'until') <= now;
      const age = stale ? U64(-1n) : U64(now - getBig(this.view, base, TokenSpec, 'used'));
      if (age > bestAge) [best, bestAge] = [index, age];
    }
    return best;
  }

  #is(base: number, { generation, listener, place, value }: TokenKey, hash: bigint): boolean {
    const number = (name: string) => get(this.view, base, TokenSpec, name);
    return (
      getBig(this.view, base, TokenSpec, 'hash') === hash &&
      number('generation') === generation &&
      number('listener') === listener &&
      number('place') === place &&
      number('length') === value.length &&
      Buffer.compare(this.#bytes.subarray(base + BYTES_AT, base + BYTES_AT + value.length), value) === 0
    );
  }
}
