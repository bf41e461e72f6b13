/**
 * Compares Sidestep's translation of Istio's documents with istiod's: `script/compare-istiod`.
 *
 *     cli.ts --program GENERATOR [--seed N] [--requests N] [--results FOLDER] [--write] PATH...
 *
 * A file is a set of documents; in a folder, all files are one. Prints every difference; exit code 1 if one is not known, or a
 * set could not be compared. `--results` keeps what was compared, so that the next run goes on from there. `--write` stores what istiod makes of the golden inputs, and writes docs/istiod.md.
 */
import { parseArgs } from 'node:util';
import { compareSet } from './compare.js';
import { meshesOf, readObjects } from './documents.js';
import { goldenInputs, store } from './fixtures.js';
import { Generator } from './generator.js';
import { counts, writeReport } from './report.js';
import { addTally, Results } from './results.js';
import { emptyTally } from './tally.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    program: { type: 'string', default: '' },
    seed: { type: 'string', default: '1' },
    requests: { type: 'string', default: '40' },
    write: { type: 'boolean', default: false },
    results: { type: 'string' },
    known: { type: 'boolean', default: false },
  },
});
const generator = new Generator(values.program);
const options = { seed: Number(values.seed), requests: Number(values.requests) };
const results = new Results(values.results, options);
const golden = emptyTally();
const given = emptyTally();

async function compare(set: string, tally: typeof golden): Promise<void> {
  const meshes = meshesOf(readObjects(set));
  for (const [index, mesh] of meshes.entries()) {
    const name = meshes.length > 1 ? `${set} (${index + 1})` : set;
    const found = await results.of(name, mesh, async (one) => {
      try {
        await compareSet(name, mesh, (d, p, s) => generator.ask(d, p, s), options, one);
      } catch (error) {
        one.failed.push({ set: name, why: (error as Error).stack?.slice(0, 600) ?? String(error) });
      }
    });
    addTally(tally, found);
  }
}

try {
  for (const set of goldenInputs()) {
    if (values.write) await store(set, (d, p, s) => generator.ask(d, p, s));
    await compare(set, golden);
  }
  for (const set of positionals) await compare(set, given);
} finally {
  generator.close();
}
for (const tally of [golden, given]) {
  for (const d of tally.differences)
    if (values.known || !d.known)
      console.log(`${d.set}\n ${d.what}: ${d.where}\n  ours:   ${d.ours}\n  istiod: ${d.theirs}`);
  for (const r of tally.refused) console.log(`${r.set}: refused by ${r.by}: ${r.document}: ${r.why}`);
  for (const f of tally.failed) console.log(`FAILED ${f.set}: ${f.why}`);
}
console.log('golden inputs:', counts(golden));
if (positionals.length > 0) console.log('given:', counts(given));
if (values.write) writeReport(golden, positionals.length > 0 ? given : undefined);
const bad = [golden, given].some((t) => t.failed.length > 0 || t.differences.some((d) => !d.known));
process.exitCode = bad ? 1 : 0;
