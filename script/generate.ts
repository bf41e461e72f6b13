/** Writes the generated files: bpf/layout.gen.h from src/layout. `--check` fails when a file would change. */
import { readFileSync, writeFileSync } from 'node:fs';
import { IMAGE_CONSTANTS, IMAGE_ENUMS, IMAGE_STRUCTS } from '../src/layout/image.js';
import { RUNTIME_CONSTANTS, RUNTIME_ENUMS, RUNTIME_STRUCTS } from '../src/layout/runtime.js';
import { toC } from '../src/layout/struct.js';

function header(): string {
  const out = [
    '/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */',
    '/* Generated from src/layout by `npm run generate`. Do not edit. */',
    '#pragma once',
    '',
  ];
  for (const [name, value] of Object.entries({ ...IMAGE_CONSTANTS, ...RUNTIME_CONSTANTS })) {
    out.push(`#define ${name} ${value}`);
  }
  for (const [prefix, values] of Object.entries({ ...IMAGE_ENUMS, ...RUNTIME_ENUMS })) {
    out.push('');
    for (const [name, value] of Object.entries(values)) out.push(`#define ${prefix}_${name} ${value}`);
  }
  out.push('', ...[...IMAGE_STRUCTS, ...RUNTIME_STRUCTS].map(toC));
  return out.join('\n');
}

const check = process.argv.includes('--check');
const path = new URL('../bpf/layout.gen.h', import.meta.url);
const text = header();
let old = '';
try {
  old = readFileSync(path, 'utf8');
} catch {
  // first generation
}
if (old !== text) {
  if (check) {
    console.error('bpf/layout.gen.h is not what src/layout says: run `npm run generate` and commit the result');
    process.exit(1);
  }
  writeFileSync(path, text);
}
