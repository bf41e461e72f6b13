/** `npx tsx test/agreement/table/runs.ts FILE`: adds the pairs that tests have recorded in FILE to the table in docs/agreement.md. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../../src/lab/paths.js';

const DOCUMENT = join(packageRoot(), 'docs/agreement.md');
const ROW = /^\| `(\w+)`(.*?) \| ([\d,]+) \| ([\d,]+) \|$/;

const lines = readFileSync(process.argv[2]!, 'utf8').trim().split('\n');
const runs = new Map<string, { pairs: number; decided: number }>();
for (const line of lines) {
  const { construct, pairs, decided } = JSON.parse(line) as { construct: string; pairs: number; decided: number };
  const before = runs.get(construct) ?? { pairs: 0, decided: 0 };
  runs.set(construct, { pairs: before.pairs + pairs, decided: before.decided + decided });
}
const number = (text: string): number => Number(text.replaceAll(',', ''));
const shown = (n: number): string => n.toLocaleString('en');
const rows = readFileSync(DOCUMENT, 'utf8').split('\n');
const written = rows.map((row) => {
  const [, name, about, pairs, decided] = ROW.exec(row) ?? [];
  const run = name === undefined ? undefined : runs.get(name);
  if (!run) return row;
  runs.delete(name!);
  return `| \`${name}\`${about} | ${shown(number(pairs!) + run.pairs)} | ${shown(number(decided!) + run.decided)} |`;
});
if (runs.size > 0) throw new Error(`no row for ${[...runs.keys()].join()}`);
writeFileSync(DOCUMENT, written.join('\n'));
