/**
 * Real policies against a real Envoy: `npx tsx test/wild/wild.ts [--seed N] [--requests N] [--each] PATH...`.
 *
 * Every file below each PATH is one set of policies (without `--each`, a PATH is one). Each is translated and compiled as
 * `run` does, and requests made of its own words are decided by the interpreter, the kernel's programs and an Envoy that
 * has the same resources. Where policies name principals, each of some is who the client is, besides nobody.
 * Prints what differed; exit code 1 if anything did.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Driver } from '../../src/lab/driver.js';
import { nodeScript, packageRoot } from '../../src/lab/paths.js';
import { freePorts } from '../../src/lab/ports.js';
import { Lab } from '../../src/lab/processes.js';
import { type Identity, parseIdentity } from '../../src/policy/istio/identities.js';
import { Kernel } from '../agreement/kernel.js';
import { filesBelow } from './files.js';
import { emptyTally, type Surroundings, type Tally, tryPolicies } from './world.js';

const ECHOES = 60;
const MOST_IDENTITIES = 2;

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
  const lab = await Lab.open('wild');
  const kernel = process.getuid?.() === 0 ? new Kernel() : undefined;
  const tally = emptyTally();
  try {
    const ports = await freePorts(ECHOES);
    const names = ports.map((_, i) => `u${i}`);
    const server = join(packageRoot(), 'test/differential/echo-server.ts');
    const echo = lab.start('echo servers', [...nodeScript(server), ...names.map((n, i) => `${n}=${ports[i]}`)]);
    await echo.waitFor(/listening/);
    const raw = lab.start('client', nodeScript(join(packageRoot(), 'src/lab/raw-client.ts')), { stdin: true });
    await raw.waitFor(/raw-client/);
    const around: Surroundings = {
      ...{ lab, client: new Driver(raw), echoes: { names, ports } },
      ...{ seed: options.seed, requests: options.requests },
      ...(kernel && { kernel }),
    };
    for (const file of sets) {
      await tryPolicies(file, around, tally);
      for (const identity of identitiesIn(file)) await tryPolicies(file, around, tally, identity);
      options.onSet?.(file, tally);
    }
  } finally {
    kernel?.close();
    await lab.close();
  }
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
