/**
 * Writes the generated files: bpf/layout.gen.h and bpf/hpack.gen.h from src/layout, and the documentation of reasons, warnings and JSON formats.
 * `--check` fails when a file would change.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { ACTIONS_LAYOUT } from '../src/layout/actions.js';
import { CLUSTERS_LAYOUT } from '../src/layout/clusters.js';
import { CONTROL_LAYOUT } from '../src/layout/control.js';
import { COUNTS_LAYOUT } from '../src/layout/counts.js';
import { DECISIONS_LAYOUT } from '../src/layout/decisions.js';
import { EXCHANGES_LAYOUT } from '../src/layout/exchanges.js';
import { hpackHeader } from '../src/layout/hpack.js';
import { IMAGE_LAYOUT } from '../src/layout/image.js';
import { LOG_RECORDS_LAYOUT } from '../src/layout/log-records.js';
import { STEERING_LAYOUT } from '../src/layout/steering.js';
import { STREAMS_LAYOUT } from '../src/layout/streams.js';
import { type Layout, toC } from '../src/layout/struct.js';
import { TOKENS_LAYOUT } from '../src/layout/tokens.js';
import { lintMarkdown } from '../src/lint/codes.js';
import { reasonsMarkdown } from '../src/plan/reasons.js';
import { reasonPages } from '../src/report/pages.js';
import { checkSchema, explainSchema, jsonSchema } from '../src/report/schema.js';

/** The image first, then what changes while traffic flows. */
const LAYOUTS: readonly Layout[] = [
  ...[IMAGE_LAYOUT, ACTIONS_LAYOUT, CLUSTERS_LAYOUT],
  ...[
    EXCHANGES_LAYOUT,
    CONTROL_LAYOUT,
    STEERING_LAYOUT,
    COUNTS_LAYOUT,
    DECISIONS_LAYOUT,
    TOKENS_LAYOUT,
    LOG_RECORDS_LAYOUT,
  ],
  STREAMS_LAYOUT,
];

function header(): string {
  const out = [
    '/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */',
    '/* Generated from src/layout by `npm run generate`. Do not edit. */',
    '#pragma once',
    '',
  ];
  const constants = LAYOUTS.flatMap((layout) => Object.entries(layout.constants));
  for (const [i, [name, value]] of constants.entries()) {
    if (constants.findIndex(([other]) => other === name) !== i) throw new Error(`${name} is defined twice`);
    out.push(`#define ${name} ${value}`);
  }
  for (const [prefix, values] of LAYOUTS.flatMap((layout) => Object.entries(layout.enums))) {
    out.push('');
    for (const [name, value] of Object.entries(values)) out.push(`#define ${prefix}_${name} ${value}`);
  }
  out.push('', ...LAYOUTS.flatMap((layout) => layout.structs).map(toC));
  return out.join('\n');
}

/** The generated files by their path in the repository. */
async function generated(): Promise<Map<string, string>> {
  const files = new Map([
    ['bpf/layout.gen.h', header()],
    ['bpf/hpack.gen.h', hpackHeader()],
    ['docs/reasons.md', reasonsMarkdown()],
    ['docs/lint.md', lintMarkdown()],
    ['docs/check-report.schema.json', jsonSchema(checkSchema)],
    ['docs/explanation.schema.json', jsonSchema(explainSchema)],
  ]);
  for (const [name, text] of await reasonPages()) files.set(`docs/reasons/${name}`, text);
  return files;
}

function read(path: URL): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

const check = process.argv.includes('--check');
const root = new URL('..', import.meta.url);
const files = await generated();
const wrong = [...files].filter(([path, text]) => read(new URL(path, root)) !== text).map(([path]) => path);
mkdirSync(new URL('docs/reasons', root), { recursive: true });
const gone = readdirSync(new URL('docs/reasons', root))
  .map((name) => `docs/reasons/${name}`)
  .filter((path) => !files.has(path));
if (check) {
  for (const path of [...wrong, ...gone])
    console.error(`${path} is not what the sources say: run \`npm run generate\` and commit the result`);
  if (wrong.length + gone.length > 0) process.exit(1);
} else {
  for (const path of wrong) writeFileSync(new URL(path, root), files.get(path)!);
  for (const path of gone) rmSync(new URL(path, root));
}
