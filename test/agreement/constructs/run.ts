/** Tries a generated construct: see generated.ts for what is generated, and test/wild/world.ts for how it is compared. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Draw } from '../../wild/damage.js';
import { type Difference, emptyTally, type Tally, type Trial, tryPolicies } from '../../wild/world.js';
import { type Construct, requestsFor } from './construct.js';

export interface Outcome extends Tally {
  /** a difference with the policies it was found in */
  readonly found: readonly (Difference & { readonly text: string })[];
}

/**
 * Generates sets of policies, one after the other, until so many pairs were tried.
 * @param most pairs, and sets
 */
export async function tryConstruct(
  name: string,
  { make }: Construct,
  trial: Omit<Trial, 'requestsFor' | 'counted'>,
  most: { readonly pairs: number; readonly sets: number },
): Promise<Outcome> {
  const tally = emptyTally();
  const found: (Difference & { text: string })[] = [];
  for (let set = 0; set < most.sets && tally.pairs < most.pairs && found.length === 0; set++) {
    const draw = new Draw(trial.seed + set);
    const generated = await make(draw);
    const text = generated.documents.map((d) => JSON.stringify(d)).join('\n---\n');
    const file = join(trial.lab.dir, `${name}-${trial.seed + set}.yaml`);
    await writeFile(file, text);
    const refused = tally.refused.length;
    await tryPolicies(
      file,
      {
        ...trial,
        seed: trial.seed + set,
        ...(generated.counted && { counted: true }),
        requestsFor: (hints, seed, n) => requestsFor(generated, draw, hints, seed, n),
      },
      tally,
      {},
      (why) => tally.refused.push(`${file}: ${why}`),
    );
    if (tally.refused.length > refused) found.push({ file, request: '', why: tally.refused.at(-1)!, text });
    for (const difference of tally.differences) found.push({ ...difference, text });
  }
  return { ...tally, found };
}
