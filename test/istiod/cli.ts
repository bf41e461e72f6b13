/** Compares Sidestep's translation of Istio's documents with istiod's: see script/compare-istiod. */
import { parseArgs } from 'node:util';
import { compareSet, emptyTally } from './compare.js';
import { readObjects } from './documents.js';
import { Generator } from './generator.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    program: { type: 'string', default: '' },
    seed: { type: 'string', default: '1' },
    requests: { type: 'string', default: '40' },
  },
});
const generator = new Generator(values.program);
const tally = emptyTally();
const options = { seed: Number(values.seed), requests: Number(values.requests) };
try {
  for (const set of positionals) {
    try {
      await compareSet(set, readObjects(set), (d, p, s) => generator.ask(d, p, s), options, tally);
    } catch (error) {
      tally.failed.push({ set, why: (error as Error).stack?.slice(0, 600) ?? String(error) });
    }
  }
} finally {
  generator.close();
}
for (const d of tally.differences)
  console.log(`${d.set}\n ${d.what}: ${d.where}\n  ours:   ${d.ours}\n  istiod: ${d.theirs}`);
for (const r of tally.refused) console.log(`${r.set}: refused by ${r.by}: ${r.document}: ${r.why}`);
for (const f of tally.failed) console.log(`FAILED ${f.set}: ${f.why}`);
const { differences, refused, failed, ...counts } = tally;
console.log({ ...counts, differences: differences.length, refused: refused.length, failed: failed.length });
