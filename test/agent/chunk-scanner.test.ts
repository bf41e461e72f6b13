/** Chunked bodies that the kernel began to read and the agent goes on with. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChunkScanner } from '../../src/agent/http-framing.js';

const SIZE = 1n << 32n; // a digit was seen

/** what the kernel has read of `3 CR LF abc CR LF 0 CR LF CR LF`; its state and count there */
const STANDS: readonly [read: string, state: number, left: bigint][] = [
  ['', 0, 0n],
  ['3', 0, SIZE | 3n],
  ['3\r', 1, SIZE | 3n],
  ['3\r\n', 2, 3n],
  ['3\r\na', 2, 2n],
  ['3\r\nabc', 3, 0n],
  ['3\r\nabc\r', 3, 1n],
  ['3\r\nabc\r\n', 0, 0n],
  ['3\r\nabc\r\n0', 0, SIZE],
  ['3\r\nabc\r\n0\r', 1, SIZE],
  ['3\r\nabc\r\n0\r\n', 4, 2n],
  ['3\r\nabc\r\n0\r\n\r', 4, 1n],
];

test('wherever the kernel stands, the rest is read to its end and not further', () => {
  const whole = '3\r\nabc\r\n0\r\n\r\n';
  for (const [read, state, left] of STANDS) {
    const scanner = ChunkScanner.at(state, left);
    const rest = Buffer.from(`${whole.slice(read.length)}HTTP/1.1`);
    assert.equal(scanner.feed(rest), whole.length - read.length, JSON.stringify(read));
    assert.ok(scanner.done, JSON.stringify(read));
  }
});

test('what is passed on as it came has the form of the grammar', () => {
  for (const rest of [
    '3\nabc\r\n0\r\n\r\n',
    '3\r\nabc\n0\r\n\r\n',
    '3\r\nabcd\r\n0\r\n\r\n',
    '3\r\nabc\r\n0\r\nx\r\n\r\n',
  ]) {
    const scanner = ChunkScanner.at(0, 0n);
    scanner.feed(Buffer.from(rest));
    assert.ok(scanner.bad, JSON.stringify(rest));
  }
});
