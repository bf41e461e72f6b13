/** Tokens that were verified, as the programs look them up. */
import { type Layout, struct } from './struct.js';

/** Verified tokens that are remembered (a power of two), places that one of them may have, and bytes of a header value. */
export const MAX_TOKENS = 4096;
export const TOKEN_WAYS = 4;
export const MAX_TOKEN = 2048;

/**
 * A verified token: the value of a request's header, and what holds for it. Written by the agent in its mapping of the
 * map, read by the programs: `serial` is odd while it changes, and what was read counts only if it is the same after.
 */
export const TokenSpec = struct('token', 'A verified token.', [
  ['serial', 'u32', 'even: whole'],
  ['generation', 'u32', 'of the image whose questions the facts answer; 0: empty'],
  ['listener', 'u32', 'index'],
  ['place', 'u32', 'which of the listener’s places for tokens'],
  ['hash', 'u64', 'of the value'],
  ['until', 'u64', 'bpf_ktime_get_boot_ns from which on it is not known any more'],
  ['used', 'u64', 'bpf_ktime_get_boot_ns of the last use; written by the programs'],
  ['facts', 'u64[2]', 'TOKEN_WORDS words'],
  ['length', 'u32', 'bytes of the value'],
  ['n_lines', 'u32', 'bytes of `lines`'],
  ['bytes', 'u8[2048]', 'the value; zeros behind it'],
  ['lines', 'u8[1024]', 'MAX_TOKEN_LINES bytes: header lines that come with the token'],
]);

export const TOKENS_LAYOUT: Layout = {
  constants: { MAX_TOKENS, TOKEN_WAYS, MAX_TOKEN },
  enums: {},
  structs: [TokenSpec],
};
