/** Smaller policies and requests that still show a difference. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Assumptions } from '../../../src/plan/build.js';
import type { Json, JsonObject } from '../../../src/policy/resources.js';
import type { Request } from '../../differential/requests.js';
import { emptyTally, type Trial, tryPolicies } from '../../wild/world.js';

/** A request for the listener of this name, and the policies that it was asked of. */
export interface Case {
  readonly documents: readonly JsonObject[];
  readonly listener: string;
  /** all that came before it, where buckets count; the last one differs */
  readonly requests: readonly Request[];
  readonly why: string;
}

const MOST_ATTEMPTS = 120;
/** Without these, documents mean nothing. */
const KEPT = new Set(['kind', 'apiVersion', 'metadata', '@type', 'name', 'address', 'stat_prefix', 'http_filters']);

/** Every document with one part less, large parts first. @param failed parts that must stay */
function* smaller(documents: readonly JsonObject[], failed: Set<string>): Generator<JsonObject[]> {
  const parts: { path: (string | number)[]; text: string }[] = [];
  const walk = (value: Json, path: (string | number)[]) => {
    if (value === null || typeof value !== 'object') return;
    for (const [key, inner] of Object.entries(value)) {
      const own = [...path, Array.isArray(value) ? Number(key) : key];
      if (!KEPT.has(key)) parts.push({ path: own, text: JSON.stringify([key, inner]) });
      walk(inner as Json, own);
    }
  };
  walk(documents as unknown as Json, []);
  for (const { path, text } of parts.sort((a, b) => b.text.length - a.text.length)) {
    if (failed.has(text)) continue;
    failed.add(text);
    const copy = structuredClone(documents) as JsonObject[];
    let holder: Json = copy as unknown as Json;
    for (const key of path.slice(0, -1)) holder = (holder as Record<string | number, Json>)[key]!;
    const last = path.at(-1)!;
    if (Array.isArray(holder)) holder.splice(Number(last), 1);
    else delete (holder as JsonObject)[last];
    yield copy;
  }
}

/** The smallest case that was found; what it takes is bounded. */
export async function shrink(first: Case, trial: Omit<Trial, 'requestsFor'>, assumed: Assumptions): Promise<Case> {
  let best = first;
  const whyOf = async (documents: readonly JsonObject[], requests: readonly Request[]) => {
    const file = join(trial.lab.dir, 'smaller.yaml');
    await writeFile(file, documents.map((d) => JSON.stringify(d)).join('\n---\n'));
    const tally = emptyTally();
    const only = (_: unknown, __: unknown, ___: unknown, name: string) => (name === first.listener ? requests : []);
    await tryPolicies(file, { ...trial, requestsFor: only, assumed }, tally);
    return tally.differences[0]?.why;
  };
  let attempts = 0;
  const take = async (documents: readonly JsonObject[], requests: readonly Request[]) => {
    if (++attempts > MOST_ATTEMPTS) return false;
    const why = await whyOf(documents, requests).catch(() => undefined);
    if (why !== undefined) best = { ...best, documents, requests, why };
    return why !== undefined;
  };
  const alone = best.requests.slice(-1);
  if (best.requests.length > 1) await take(best.documents, alone);
  const failed = new Set<string>();
  for (let found = true; found && attempts < MOST_ATTEMPTS; ) {
    found = false;
    for (const documents of smaller(best.documents, failed)) {
      if (attempts >= MOST_ATTEMPTS) break;
      found = await take(documents, best.requests);
      if (found) break;
    }
  }
  const request = best.requests.at(-1)!;
  for (const header of request.headers) {
    const own = best.requests.at(-1)!;
    const less = { ...own, headers: own.headers.filter((h) => h !== header) };
    await take(best.documents, [...best.requests.slice(0, -1), less]);
  }
  return best;
}
