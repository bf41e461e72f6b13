/** What has a stream tried again, by the block of an answer's head. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeBlock, encodeBlock, type Field } from '../../src/agent/h2/block.js';
import type { RetryRule } from '../../src/agent/h2/kept.js';
import { retriesHead, retriesReset } from '../../src/agent/h2/retry-rule.js';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

test('blocks are decoded as RFC 7541 has them', () => {
  // appendix C.4.1, and its name and value without Huffman's code (C.3.1), without their effect on a dynamic table
  const fields: Field[] = [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':path', '/'],
    [':authority', 'www.example.com'],
  ];
  assert.deepEqual(decodeBlock(hex('8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff')), fields);
  assert.deepEqual(decodeBlock(hex('20 8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d')), fields);
  const own: Field[] = [
    ['grpc-status', '14'],
    ['x-long', 'v'.repeat(250)],
  ];
  assert.deepEqual(decodeBlock(encodeBlock(own)), own);
  for (const [what, bad] of [
    ['an entry of a dynamic table', 'be'],
    ['index 0', '80'],
    ['a name that is cut off', '000b6772'],
    ['a name without a value', '000161'],
    ['padding that is none', '0001 6181 00'],
    ['a change of the table behind a field', '8820'],
  ] as const)
    assert.equal(decodeBlock(hex(bad)), undefined, what);
});

const rule = (more: Partial<RetryRule>): RetryRule => ({
  ...{ retries: () => false, streams: 0, resets: false, left: 1, backoffMs: 25, choice: 0 },
  ...more,
});

test('heads that are tried again', () => {
  const unavailable = rule({ streams: (1 << 14) | 1 });
  const head = (...more: Field[]): Buffer => encodeBlock([[':status', '200'], ...more]);
  for (const [again, of, block] of [
    [true, unavailable, head(['grpc-status', '14'])],
    [true, unavailable, head(['x', 'y'], ['grpc-status', ' 14'])],
    [false, unavailable, head(['grpc-status', '0'])],
    [false, unavailable, head(['grpc-status', '1'])],
    [false, unavailable, head(['grpc-status', '46'])],
    [false, unavailable, head(['grpc-status', '14'], ['grpc-status', '14'])],
    [false, unavailable, head(['grpc-status', '14'], ['x-envoy-ratelimited', 'true'])],
    [
      false,
      unavailable,
      encodeBlock([
        [':status', '103'],
        ['grpc-status', '14'],
      ]),
    ],
    [false, unavailable, hex('be')],
    [true, rule({ retries: (status) => status === 503 }), encodeBlock([[':status', '503']])],
  ] as const)
    assert.equal(retriesHead(of, block), again, block.toString('latin1'));
});

test('resets that are tried again', () => {
  assert.deepEqual(
    [rule({}), rule({ streams: 1 }), rule({ resets: true })].map((of) => [true, false].map((r) => retriesReset(of, r))),
    [
      [false, false],
      [true, false],
      [true, true],
    ],
  );
});
