/**
 * Generated policies and requests, decided by the reference interpreter, by the kernel's programs and by a real Envoy.
 * SIDESTEP_PAIRS (default 1500) says how many pairs, SIDESTEP_SEED which; a failure prints the smallest policy and
 * request that were found. Without root the kernel is left out, visibly.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { JsonObject } from '../../src/policy/resources.js';
import { withRareFields } from '../differential/rare-fields.js';
import { oddRequest, ordinaryRequest, type Request } from '../differential/requests.js';
import { type ListenerConfig, listenerConfig } from '../differential/route-config.js';
import { findEnvoy } from '../plan/envoy-oracle.js';
import { Kernel } from './kernel.js';
import { World } from './world.js';

const PAIRS = Number(process.env.SIDESTEP_PAIRS ?? 1500);
const SEED = Number(process.env.SIDESTEP_SEED ?? 21);
/** Pairs for each generated listener. */
const REQUESTS = 120;
const LISTENERS_AT_ONCE = 10;
const BATCH = 40;
const MOST_ATTEMPTS = 40;

const needsRoot = process.getuid?.() !== 0;
const skip = findEnvoy() === undefined ? 'no Envoy was found' : false;

interface Tally {
  pairs: number;
  forward: number;
  reply: number;
  proxy: number;
}

const request = (config: ListenerConfig): fc.Arbitrary<Request> =>
  fc.oneof({ weight: 6, arbitrary: ordinaryRequest(config) }, { weight: 1, arbitrary: oddRequest(config) });

/** Why Envoy does not do what the image says; undefined: it does, or the image leaves the request to it. */
async function disagreement(world: World, listener: number, r: Request): Promise<string | undefined> {
  try {
    const own = world.decide(listener, r);
    if (!own) return undefined;
    const [theirs] = await world.ask(listener, [r]);
    assert.deepEqual(own, theirs);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Smaller policies: without one virtual host or route, or without one part of a route. */
function* smaller(config: ListenerConfig): Generator<ListenerConfig> {
  const { virtual_hosts: hosts, ...rest } = config.hcm.route_config as JsonObject & { virtual_hosts: JsonObject[] };
  const make = (virtual_hosts: JsonObject[]): ListenerConfig => ({
    ...config,
    hcm: { ...config.hcm, route_config: { ...rest, virtual_hosts } },
  });
  if (config.filters.length > 0) yield { ...config, filters: [] };
  if (hosts.length > 1) for (const [i] of hosts.entries()) yield make(hosts.filter((_, k) => k !== i));
  for (const [i, host] of hosts.entries()) {
    const routes = host.routes as JsonObject[];
    const change = (to: JsonObject[]) => make(hosts.map((h, k) => (k === i ? { ...h, routes: to } : h)));
    if (routes.length > 1) for (const [j] of routes.entries()) yield change(routes.filter((_, k) => k !== j));
    for (const [j, route] of routes.entries())
      for (const key of Object.keys(route)) {
        if (['match', 'route', 'redirect', 'direct_response'].includes(key)) continue;
        const { [key]: _, ...less } = route;
        yield change(routes.map((r, k) => (k === j ? less : r)));
      }
  }
}

/** The smallest request and policy that still disagree. */
async function shrink(
  config: ListenerConfig,
  first: Request,
  kernel: Kernel | undefined,
): Promise<{ config: ListenerConfig; request: Request; why: string }> {
  let best = { config, request: first, why: '' };
  const world = await World.open([config], kernel);
  try {
    best.why = (await disagreement(world, 0, first)) ?? '(did not differ when it was sent again)';
    const { headers } = first;
    const candidates = [
      ...headers.map((_, i): Request => ({ ...first, headers: headers.filter((__, k) => k !== i) })),
      { ...first, target: first.target.replace(/\?.*/, '') },
    ];
    // one after the other, as long as it still differs
    for (const candidate of candidates) {
      const kept = best.request.headers.filter((h) => candidate.headers.includes(h));
      const next = {
        ...best.request,
        headers: kept,
        ...(candidate.target !== first.target && { target: candidate.target }),
      };
      const why = await disagreement(world, 0, next);
      if (why) best = { ...best, request: next, why };
    }
  } finally {
    await world.close();
  }
  let attempts = 0;
  for (let found = true; found && attempts < MOST_ATTEMPTS; ) {
    found = false;
    for (const candidate of smaller(best.config)) {
      if (++attempts > MOST_ATTEMPTS) break;
      const small = await World.open([candidate], kernel).catch(() => undefined);
      if (!small) continue;
      const why = await disagreement(small, 0, best.request).finally(() => small.close());
      if (!why) continue;
      best = { ...best, config: candidate, why };
      found = true;
      break;
    }
  }
  return best;
}

async function checkListener(world: World, listener: number, seed: number, tally: Tally): Promise<Request | undefined> {
  const requests = fc.sample(request(world.configs[listener]!), { seed, numRuns: REQUESTS });
  for (let from = 0; from < requests.length; from += BATCH) {
    const batch = requests.slice(from, from + BATCH);
    const decided: { r: Request; own: NonNullable<ReturnType<World['decide']>> }[] = [];
    for (const r of batch) {
      tally.pairs++;
      let own: ReturnType<World['decide']>;
      try {
        own = world.decide(listener, r);
      } catch {
        return r;
      }
      tally[own?.kind ?? 'proxy']++;
      if (own) decided.push({ r, own });
    }
    const theirs = await world.ask(
      listener,
      decided.map(({ r }) => r),
    );
    for (const [i, { r, own }] of decided.entries()) {
      try {
        assert.deepEqual(own, theirs[i]);
      } catch {
        return r;
      }
    }
  }
  return undefined;
}

test('the interpreter, the kernel and Envoy agree', { skip, timeout: 3_600_000 }, async (t) => {
  const kernel = needsRoot ? undefined : new Kernel();
  if (!kernel) t.diagnostic('not root: the kernel is left out');
  const tally: Tally = { pairs: 0, forward: 0, reply: 0, proxy: 0 };
  try {
    for (let round = 0; tally.pairs < PAIRS; round++) {
      const configs = Array.from({ length: LISTENERS_AT_ONCE }, (_, i) => {
        const seed = SEED + round * LISTENERS_AT_ONCE + i;
        // ports that RBAC rules name are those of the configuration, which nobody listens on here
        const plain = listenerConfig(`listener-${i}`, 10_000 + i, false);
        return fc.sample(i % 2 ? withRareFields(plain) : plain, { seed, numRuns: 8 })[7]!;
      });
      const world = await World.open(configs, kernel);
      let bad: { listener: number; request: Request } | undefined;
      try {
        for (let i = 0; i < configs.length && !bad && tally.pairs < PAIRS; i++) {
          const found = await checkListener(world, i, SEED + round * LISTENERS_AT_ONCE + i, tally);
          if (found) bad = { listener: i, request: found };
        }
      } finally {
        await world.close();
      }
      if (!bad) continue;
      const least = await shrink(configs[bad.listener]!, bad.request, kernel);
      const { hcm, filters } = least.config;
      assert.fail(
        `seed ${SEED}, after ${tally.pairs} pairs: ${least.why}\nrequest: ${JSON.stringify(least.request)}\n` +
          `policy: ${JSON.stringify({ hcm, filters }, null, 1)}`,
      );
    }
    if (kernel) assert.ok(kernel.recalled() > tally.pairs / 4, 'what is remembered must have decided, too');
  } finally {
    kernel?.close();
  }
  const { pairs, forward, reply, proxy } = tally;
  t.diagnostic(`seed ${SEED}: ${pairs} pairs, ${forward} forwarded, ${reply} answered, ${proxy} left to Envoy`);
  assert.ok(forward > 0.3 * pairs && reply > 0.1 * pairs, 'too few were decided');
});
