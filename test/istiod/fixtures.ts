/** What istiod makes of the golden inputs, stored, so that tests compare without it. */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { packageRoot } from '../../src/lab/paths.js';
import { asObject, asObjects, asString, filterChains } from '../../src/policy/envoy/walk.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { type Ask, compareSet } from './compare.js';
import { meshesOf, readObjects } from './documents.js';
import { type AskedProxy, type Generated, isServer, type ProxyResources } from './generator.js';
import { emptyTally } from './tally.js';
import { essential, normalTcpProxy } from './theirs.js';

const INPUTS = ['istio', 'gateway-api'];
const FIXTURES = join(packageRoot(), 'test/istiod/fixtures');

/** The golden inputs, which are sets of documents each. */
export const goldenInputs = (): string[] =>
  INPUTS.flatMap((folder) =>
    readdirSync(join(packageRoot(), 'test/golden', folder))
      .filter((name) => name.endsWith('.in.yaml'))
      .sort()
      .map((name) => join('test/golden', folder, name)),
  );

const fixtureOf = (set: string): string =>
  join(FIXTURES, dirname(set).endsWith('gateway-api') ? 'gateway-api' : '', `${basename(set, '.in.yaml')}.istiod.json`);

/** An answer with a hash of what it answers. */
interface Stored {
  readonly asked: string;
  readonly answer: Generated;
}

const hashOf = (documents: readonly JsonObject[], proxies: readonly AskedProxy[], strict: boolean): string =>
  createHash('sha256').update(JSON.stringify({ documents, proxies, strict })).digest('hex');

/** A listener with what is read of it. */
function smallListener(listener: JsonObject): JsonObject {
  const chains = filterChains(listener).flatMap((chain): JsonObject[] => {
    const filters = asObjects(chain.filters).flatMap((filter): JsonObject[] => {
      const config = asObject(filter.typed_config);
      const type = asString(config?.['@type']);
      if (type.endsWith('.HttpConnectionManager')) return [{ typed_config: essential(config!) }];
      const passing = /PassthroughCluster|BlackHole/.test(asString(config?.cluster));
      return type.endsWith('.TcpProxy') && listener.name !== 'virtualInbound' && !passing
        ? [{ typed_config: { '@type': type, ...normalTcpProxy(config!) } }]
        : [];
    });
    return filters.length > 0 ? [{ filter_chain_match: chain.filter_chain_match ?? {}, filters }] : [];
  });
  return { name: listener.name ?? '', filter_chains: chains };
}

/** An answer without what the comparison does not read: of servers' sidecars most, and all that decides nothing. */
function small(answer: Generated): Generated {
  const proxies = Object.entries(answer.proxies ?? {}).map(([name, all]): [string, ProxyResources] => {
    const server = isServer(name);
    const inbound = (resource: JsonObject) => asString(resource.name).startsWith('inbound|');
    const listeners = all.listeners
      .filter((l) => (l.name === 'virtualInbound') === server && l.name !== 'virtualOutbound')
      .map(smallListener);
    if (server) return [name, { listeners, routes: [], clusters: all.clusters.filter(inbound), endpoints: [] }];
    return [name, { ...all, listeners, clusters: all.clusters.filter((c) => !inbound(c)) }];
  });
  const text = JSON.stringify({ ...answer, proxies: Object.fromEntries(proxies) });
  return JSON.parse(text, (key, value: unknown) => {
    const kept = key === 'transport_socket_matches' && /proxy_protocol/.test(JSON.stringify(value));
    if (DECIDES_NOTHING.has(key) && !kept) return undefined;
    // istiod makes these in no order
    return UNORDERED.has(key) && Array.isArray(value) ? sorted(value) : value;
  }) as Generated;
}

/** Of clusters and endpoints: who they are for observers. (Routes say by theirs which VirtualService made them.) */
const DECIDES_NOTHING = new Set(['transport_socket_matches', 'alt_stat_name', 'locality', 'eds_cluster_config']);

const UNORDERED = new Set(['listeners', 'routes', 'clusters', 'endpoints', 'virtual_hosts', 'lb_endpoints']);

/** Objects with names by these, routes of one host and others as they are. */
function sorted(list: unknown[]): unknown[] {
  const key = (o: unknown) => {
    const object = asObject(o as never);
    const name = asString(object?.name) || asString(object?.cluster_name);
    // what has a match is a route, and those are in order
    return object?.match !== undefined || object?.weight !== undefined ? undefined : name || JSON.stringify(o);
  };
  if (list.some((o) => key(o) === undefined)) return list;
  return [...list].sort((a, b) => (key(a)! < key(b)! ? -1 : key(a)! > key(b)! ? 1 : 0));
}

/** Asks istiod what the comparison of a set asks, and stores the answers. */
export async function store(set: string, ask: Ask): Promise<void> {
  const stored: Stored[] = [];
  const noted: Ask = async (documents, proxies, strict) => {
    const answer = small(await ask(documents, proxies, strict));
    stored.push({ asked: hashOf(documents, proxies, strict), answer });
    return answer;
  };
  for (const mesh of meshesOf(readObjects(set)))
    await compareSet(set, mesh, noted, { seed: 1, requests: 0 }, emptyTally());
  mkdirSync(dirname(fixtureOf(set)), { recursive: true });
  writeFileSync(fixtureOf(set), `${JSON.stringify(stored)}\n`);
}

/** An istiod that answers from what was stored; it throws when asked something else. */
export function stored(set: string): Ask {
  const known = JSON.parse(readFileSync(fixtureOf(set), 'utf8')) as Stored[];
  return async (documents, proxies, strict) => {
    const asked = hashOf(documents, proxies, strict);
    const found = known.find((s) => s.asked === asked);
    if (!found) throw new Error(`${set} asks something new: run script/compare-istiod --write`);
    return found.answer;
  };
}
