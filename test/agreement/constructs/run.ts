/** Tries a generated construct: see generated.ts for what is generated, and test/wild/world.ts for how it is compared. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Assumptions } from '../../../src/plan/build.js';
import type { Request } from '../../differential/requests.js';
import { Draw } from '../../wild/damage.js';
import { type Difference, emptyTally, type Tally, type Trial, tryPolicies } from '../../wild/world.js';
import { type Construct, type Generated, requestsFor } from './construct.js';
import { shrink } from './shrink.js';

export interface Outcome extends Tally {
  /** a difference with the policies it was found in */
  readonly found: readonly (Difference & { readonly text: string })[];
}

/** The proxy is Sidestep's own, which sends copies of requests and spans. */
export const assumedFor = ({ assumed }: Generated): Assumptions => ({ relays: true, ...assumed });

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
    const requests = new Map<string, readonly Request[]>();
    await tryPolicies(
      file,
      {
        ...trial,
        seed: trial.seed + set,
        ...(generated.counted && { counted: true }),
        assumed: assumedFor(generated),
        requestsFor: (hints, seed, n, listener) => {
          const made = requestsFor(generated, draw, hints, seed, n);
          requests.set(listener, made);
          return made;
        },
      },
      tally,
      {},
      (why) => tally.refused.push(`${file}: ${why}`),
    );
    if (tally.refused.length > refused) found.push({ file, request: '', why: tally.refused.at(-1)!, text });
    const [difference] = tally.differences;
    if (!difference) continue;
    const asked = requests.get(difference.listener ?? '')?.slice(0, (difference.at ?? 0) + 1);
    if (difference.listener === undefined || !asked) {
      found.push({ ...difference, text });
      continue;
    }
    const own = { ...trial, ...(generated.counted && { counted: true }) };
    const first = {
      documents: generated.documents,
      listener: difference.listener,
      requests: asked,
      why: difference.why,
    };
    const least = await shrink(first, own, assumedFor(generated));
    const text2 = least.documents.map((d) => JSON.stringify(d)).join('\n---\n');
    found.push({ ...difference, request: JSON.stringify(least.requests), why: least.why, text: text2 });
  }
  return { ...tally, found };
}
