/**
 * Real policies against a real Envoy: `npx tsx test/wild/wild.ts [--seed N] [--requests N] [--each] PATH...`.
 *
 * Every file below each PATH is one set of policies (without `--each`, a PATH is one). Each is translated and compiled as
 * `run` does, and requests made of its own words are decided by the interpreter, the kernel's programs and an Envoy that
 * has the same resources. Where policies name principals, each of some is who the client is, besides nobody; where
 * they count for clients of a namespace or with labels, they are tried for some of these as well.
 * Prints what differed; exit code 1 if anything did.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type Identity, parseIdentity } from '../../src/policy/istio/identities.js';
import { filesBelow } from './files.js';
import { withTrial } from './trial.js';
import { emptyTally, type Tally, tryPolicies } from './world.js';

const MOST_IDENTITIES = 2;
const MOST_OTHERS = 3;

/** Clients whom the policies of a file name. */
function identitiesIn(file: string): Identity[] {
  const text = filesBelow(file)
    .map((f) => readFileSync(f, 'utf8'))
    .join('\n');
  const names = new Set(text.match(/[a-z0-9.-]+\/ns\/[a-z0-9-]+\/sa\/[a-z0-9-]+/g));
  const found = [...names].map((name) => parseIdentity(name)).filter((i) => i !== undefined);
  return found.slice(0, MOST_IDENTITIES);
}

/** Tries every set of policies; see the head of this file. Cleans up after itself. */
export async function tryAll(
  sets: readonly string[],
  options: { readonly seed: number; readonly requests: number; readonly onSet?: (file: string, tally: Tally) => void },
): Promise<Tally> {
  const tally = emptyTally();
  await withTrial(options, async (around) => {
    for (const file of sets) {
      const others = await tryPolicies(file, around, tally);
      for (const identity of identitiesIn(file)) await tryPolicies(file, around, tally, { identity });
      for (const workload of others.slice(0, MOST_OTHERS)) await tryPolicies(file, around, tally, { workload });
      options.onSet?.(file, tally);
    }
  });
  return tally;
}

if (process.argv[1]?.endsWith('wild.ts')) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seed: { type: 'string', default: '1' },
      requests: { type: 'string', default: '60' },
      each: { type: 'boolean', default: false },
    },
  });
  const sets = values.each ? positionals.flatMap(filesBelow) : positionals;
  let shown = 0;
  const tally = await tryAll(sets, {
    ...{ seed: Number(values.seed), requests: Number(values.requests) },
    onSet: (_, t) => {
      for (const d of t.differences.slice(shown)) console.log(`${d.file}\n  ${d.request}\n  ${d.why}`);
      shown = t.differences.length;
    },
  });
  for (const line of tally.refused) console.log(`refused: ${line}`);
  const { tried, refused, pairs, forward, reply, proxy, rules, met, differences } = tally;
  console.log(
    `${tried} sets of policies (${refused.length} that Envoy refused), ${pairs} requests: ${forward} forwarded, ` +
      `${reply} answered, ${proxy} left to Envoy; ${met} of ${rules} routes decided one; ${differences.length} differences`,
  );
  process.exit(differences.length === 0 ? 0 : 1);
}
