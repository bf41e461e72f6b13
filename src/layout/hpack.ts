/**
 * The constant tables of HPACK (RFC 7541): static table and Huffman code, and what the BPF programs decode with, which is
 * made of them (bpf/hpack.gen.h).
 */

/** The static table (appendix A): entry i has the index i + 1. */
export const STATIC_TABLE: readonly (readonly [name: string, value: string])[] = [
  ...(
    ':authority|:method GET|:method POST|:path /|:path /index.html|:scheme http|:scheme https|:status 200|:status 204|' +
    ':status 206|:status 304|:status 400|:status 404|:status 500|accept-charset|accept-encoding gzip, deflate|' +
    'accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|' +
    'content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type|' +
    'cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|' +
    'last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|' +
    'server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate'
  ).split('|'),
].map((entry) => {
  const space = entry.indexOf(' ');
  return space < 0 ? ([entry, ''] as const) : ([entry.slice(0, space), entry.slice(space + 1)] as const);
});

/** End of string, the symbol behind all bytes. */
const EOS = 256;

/** Bits of each symbol's code (appendix B), EOS last. The code is canonical, so the lengths say all. */
const CODE_LENGTHS: readonly number[] = [
  ...[13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28],
  ...[28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28],
  ...[6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6],
  ...[5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10],
  ...[13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7],
  ...[7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6],
  ...[15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5],
  ...[6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28],
  ...[20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23],
  ...[24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24],
  ...[22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23],
  ...[21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23],
  ...[26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25],
  ...[19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27],
  ...[20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23],
  ...[26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26],
  30,
];

/** Each symbol's code, in the low `bits` bits. */
export const HUFFMAN_CODES: readonly { readonly code: number; readonly bits: number }[] = (() => {
  const codes: { code: number; bits: number }[] = [];
  const symbols = CODE_LENGTHS.map((bits, symbol) => ({ bits, symbol })).sort(
    (a, b) => a.bits - b.bits || a.symbol - b.symbol,
  );
  let next = 0;
  let before = 0;
  for (const { bits, symbol } of symbols) {
    next *= 2 ** (bits - before);
    before = bits;
    codes[symbol] = { code: next++, bits };
  }
  return codes;
})();

/** What a cell of the decoder says beside the next state (bits 0 to 7) and the symbol (bits 8 to 15). */
export const HUFFMAN = { EMIT: 1 << 16, FAIL: 1 << 17, END: 1 << 18, ODD: 1 << 19 };

/**
 * The decoder: four bits lead from one state to the next, `table[state * 16 + bits]`, with at most one symbol, since the
 * shortest code has five. States are the inner nodes of the code's tree, of which there are 256.
 */
export function huffmanDecoder(): Uint32Array {
  interface Node {
    readonly depth: number;
    readonly ones: boolean;
    readonly next: (Node | number | undefined)[];
    state: number;
  }
  const states: Node[] = [];
  const make = (depth: number, ones: boolean): Node => {
    const node: Node = { depth, ones, next: [undefined, undefined], state: states.length };
    states.push(node);
    return node;
  };
  const root = make(0, true);
  for (const [symbol, { code, bits }] of HUFFMAN_CODES.entries()) {
    let node = root;
    for (let i = bits - 1; i >= 0; i--) {
      const bit = Math.floor(code / 2 ** i) % 2;
      if (i === 0) node.next[bit] = symbol;
      else {
        node.next[bit] ??= make(node.depth + 1, node.ones && bit === 1);
        node = node.next[bit] as Node;
      }
    }
  }
  if (states.length !== 256) throw new Error(`the code has ${states.length} inner nodes`);
  const table = new Uint32Array(256 * 16);
  for (const from of states)
    for (let four = 0; four < 16; four++) {
      let node = from;
      let cell = 0;
      for (let i = 3; i >= 0; i--) {
        const next = node.next[(four >> i) & 1]!;
        if (typeof next !== 'number') node = next;
        else {
          if (next === EOS) cell |= HUFFMAN.FAIL;
          else {
            cell |= HUFFMAN.EMIT | (next << 8);
            if (next < 0x20 || next > 0x7e) cell |= HUFFMAN.ODD;
          }
          node = root;
        }
      }
      // padding is less than a byte of the beginning of EOS, which is all ones (section 5.2)
      if (node.ones && node.depth < 8) cell |= HUFFMAN.END;
      table[from.state * 16 + four] = cell | node.state;
    }
  return table;
}

const NAME_SIZE = 32;
const VALUE_SIZE = 16;

/** The text of bpf/hpack.gen.h. */
export function hpackHeader(): string {
  const bytes = (text: string) => `"${text}"`;
  const entries = STATIC_TABLE.map(([n, v]) => `  {${n.length}, ${v.length}, ${bytes(n)}, ${bytes(v)}},`);
  const table = [...huffmanDecoder()];
  const rows = Array.from({ length: table.length / 12 + 1 }, (_, i) => table.slice(i * 12, i * 12 + 12))
    .filter((row) => row.length > 0)
    .map((row) => `  ${row.join(', ')},`);
  return [
    '/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */',
    '/* Generated from src/layout/hpack.ts by `npm run generate`. Do not edit. */',
    '#pragma once',
    '',
    ...Object.entries(HUFFMAN).map(([name, value]) => `#define HUFFMAN_${name} ${value}`),
    `#define N_STATIC ${STATIC_TABLE.length}`,
    '',
    '/* RFC 7541, appendix A; index 0 stands for nothing. */',
    'struct static_field {',
    '  __u32 name_len, value_len;',
    `  char name[${NAME_SIZE}], value[${VALUE_SIZE}];`,
    '};',
    'static const struct static_field static_fields[64] = {',
    '  {0, 0, "", ""},',
    ...entries,
    '};',
    '',
    '/* By state and four bits: the next state, a symbol, and what it means. */',
    'static const __u32 huffman_cells[4096] = {',
    ...rows,
    '};',
    '',
  ].join('\n');
}
