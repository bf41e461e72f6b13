/** Results of comparisons, stored as they come, so that a long run can be done in pieces; they count as long as nothing they depend on changes. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../src/lab/paths.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { emptyTally, type Tally } from './tally.js';

/** What a result depends on, besides its documents. */
const SOURCES = ['src/layout', 'src/plan', 'src/policy', 'test/istiod', 'test/wild'];
/** Not what only shows results. */
const IS_SOURCE = /\.(ts|go|json)$/;

function sources(): string {
  const hash = createHash('sha256');
  for (const folder of SOURCES)
    for (const name of (readdirSync(join(packageRoot(), folder), { recursive: true }) as string[]).sort())
      if (IS_SOURCE.test(name) && !/fixtures\/|^report|\.test\./.test(name))
        hash.update(name).update(readFileSync(join(packageRoot(), folder, name)));
  return hash.digest('hex');
}

/** Adds a tally to another. */
export function addTally(to: Tally, one: Tally): void {
  const sums = to as unknown as Record<string, number | unknown[]>;
  for (const [key, value] of Object.entries(one) as [string, number | unknown[]][]) {
    const sum = sums[key];
    if (Array.isArray(sum)) sum.push(...(value as unknown[]));
    else sums[key] = (sum ?? 0) + (value as number);
  }
}

/** Results in a folder; without one, every comparison is made. */
export class Results {
  readonly #sources = sources();

  constructor(
    readonly folder: string | undefined,
    readonly options: unknown,
  ) {
    if (folder !== undefined) mkdirSync(folder, { recursive: true });
  }

  /** The result for one mesh of a set, which `compare` adds to a tally if it is not there yet. */
  async of(set: string, mesh: readonly JsonObject[], compare: (tally: Tally) => Promise<void>): Promise<Tally> {
    const asked = JSON.stringify([this.#sources, this.options, set, mesh]);
    const file = this.folder && join(this.folder, `${createHash('sha256').update(asked).digest('hex')}.json`);
    if (file && existsSync(file)) return JSON.parse(readFileSync(file, 'utf8')) as Tally;
    const tally = emptyTally();
    await compare(tally);
    if (file) writeFileSync(file, JSON.stringify(tally));
    return tally;
  }
}
