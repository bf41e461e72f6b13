/** The map of tokens: two tokens never share an entry, whatever is put where. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type TokenKey, TokenStore, tokenHash } from '../../src/agent/token-store.js';
import { get, getBig } from '../../src/layout/struct.js';
import { MAX_TOKEN, MAX_TOKENS, TOKEN_WAYS, TokenSpec } from '../../src/layout/tokens.js';

const SEED = 0x1234_5678_9abc_def0n;

function emptyMap(): DataView {
  return new DataView(new ArrayBuffer(MAX_TOKENS * TokenSpec.size));
}

/** What bpf/token.h finds: the facts of the entry whose every byte is the value's, or undefined. */
function lookUp(view: DataView, key: TokenKey, now: bigint): readonly bigint[] | undefined {
  const hash = tokenHash(SEED, key.value);
  for (let way = 0; way < TOKEN_WAYS; way++) {
    const base = Number((hash + BigInt(way)) & BigInt(MAX_TOKENS - 1)) * TokenSpec.size;
    const number = (name: string) => get(view, base, TokenSpec, name);
    if (number('serial') % 2 !== 0 || getBig(view, base, TokenSpec, 'hash') !== hash) continue;
    if (number('generation') !== key.generation || number('listener') !== key.listener) continue;
    if (number('place') !== key.place || number('length') !== key.value.length) continue;
    if (getBig(view, base, TokenSpec, 'until') <= now) continue;
    const at = base + TokenSpec.at.bytes!.offset;
    if (key.value.some((byte, i) => view.getUint8(at + i) !== byte)) continue;
    return [0, 1].map((i) => getBig(view, base, TokenSpec, 'facts', i));
  }
  return undefined;
}

/** Values that are alike: few letters, lengths around the words that they are hashed in, one byte changed. */
const value = fc
  .tuple(fc.constantFrom(1, 7, 8, 9, 15, 16, 17, 63, 64, 2047, 2048), fc.nat(2047), fc.nat(255))
  .map(([length, at, byte]) => {
    const bytes = new Uint8Array(length).fill(0x41);
    bytes[at % length] = byte;
    return bytes;
  });
const key: fc.Arbitrary<TokenKey> = fc.record({
  generation: fc.integer({ min: 1, max: 2 }),
  listener: fc.nat(1),
  place: fc.nat(1),
  value,
});
const text = (k: TokenKey) => `${k.generation} ${k.listener} ${k.place} ${Buffer.from(k.value).toString('hex')}`;

test('what is found for a token is what was put for exactly this token', () => {
  fc.assert(
    fc.property(fc.array(key, { minLength: 1, maxLength: 30 }), (keys) => {
      const view = emptyMap();
      const store = new TokenStore(view, SEED);
      const put = new Map<string, readonly bigint[]>();
      for (const [i, k] of keys.entries()) {
        const facts = [BigInt(i + 1), BigInt(i + 1) << 40n];
        assert.ok(store.put(k, { facts, lines: Buffer.from(`x: ${i}`) }, 1000n, BigInt(i)));
        put.set(text(k), facts);
        assert.deepEqual(lookUp(view, k, 999n), facts);
        assert.equal(lookUp(view, k, 1000n), undefined, 'not at its end');
      }
      for (const k of keys) {
        const found = lookUp(view, k, 500n);
        // forgotten it may be, mistaken for another it may not
        if (found) assert.deepEqual(found, put.get(text(k)));
        for (const other of [
          { ...k, value: k.value.map((b, i) => (i === k.value.length - 1 ? b ^ 1 : b)) },
          { ...k, generation: k.generation + 2 },
          { ...k, listener: k.listener + 2 },
          { ...k, place: k.place + 2 },
        ]) {
          if (!put.has(text(other))) assert.equal(lookUp(view, other, 500n), undefined);
        }
      }
    }),
    { numRuns: 150 },
  );
});

test('tokens that are forced into the same places push out the one that was not used for longest', () => {
  const view = emptyMap();
  const store = new TokenStore(view, SEED);
  const found: TokenKey[] = [];
  const wanted = tokenHash(SEED, Buffer.from('0')) & BigInt(MAX_TOKENS - 1);
  for (let i = 0; found.length < TOKEN_WAYS + 1; i++) {
    const bytes = Buffer.from(String(i));
    if ((tokenHash(SEED, bytes) & BigInt(MAX_TOKENS - 1)) === wanted)
      found.push({ generation: 1, listener: 0, place: 0, value: bytes });
  }
  for (const [i, k] of found.entries())
    store.put(k, { facts: [BigInt(i), 0n], lines: new Uint8Array() }, 10_000n, BigInt(i + 1));
  assert.equal(lookUp(view, found[0]!, 100n), undefined);
  for (const [i, k] of found.entries()) if (i > 0) assert.deepEqual(lookUp(view, k, 100n), [BigInt(i), 0n]);
});

test('values that are too long, or empty, are not kept', () => {
  const view = emptyMap();
  const store = new TokenStore(view, SEED);
  for (const length of [0, MAX_TOKEN + 1]) {
    const k = { generation: 1, listener: 0, place: 0, value: new Uint8Array(length).fill(65) };
    assert.equal(store.put(k, { facts: [1n, 0n], lines: new Uint8Array() }, 10n, 1n), false);
    assert.equal(lookUp(view, k, 2n), undefined);
  }
});
