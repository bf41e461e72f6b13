/** The files' resources, as an instance is to enforce them. */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { asString, tcpAddress } from '../policy/envoy/walk.js';
import { type LoadOptions, loadFiles } from '../policy/load.js';
import type { Resources } from '../policy/resources.js';
import { inboundProblem } from '../proxy/index.js';
import { isLocal, isWildcard } from './address.js';
import { discover, KEY_SETS, takeKeySets } from './issuers.js';
import { errorsOf, type PolicyTask } from './policy.js';

/** A policy that was read. With an error among its diagnostics it must not be used. */
export interface LoadedPolicy {
  readonly resources: Resources;
  /** what the files said, by the names that positions have */
  readonly texts: ReadonlyMap<string, string>;
}

/** Why connections from outside the mesh cannot be given to the proxy as they are. */
export function problemOf(task: PolicyTask, name: string, resources: Resources): string | undefined {
  if (task.proxy === 'none') return undefined; // then there is nobody who could see them differently
  if (task.proxy !== 'own') return 'only an Envoy that this instance has started can be told who the client is';
  const listener = resources.listeners.find((l) => l.name === name);
  return listener && inboundProblem(listener, resources);
}

/** Reads the files of a task, or takes its `sources`; workloads' ports are among what is intercepted. */
export async function loadPolicy(task: PolicyTask): Promise<LoadedPolicy> {
  const { instance, identity, workload, stdin, atServers, sources, secrets } = task;
  const texts = new Map<string, string>();
  const options: LoadOptions = {
    instance,
    atServers: atServers !== undefined,
    onText: (file, text) => texts.set(file, text),
    ...(identity ? { identity } : {}),
    ...(workload ? { workload } : {}),
    ...(secrets ? { mesh: { ...secrets, own: isLocal } } : {}),
    ...(stdin === undefined ? {} : { stdin: Readable.from([Buffer.from(stdin)]) }),
  };
  const given = sources && textsOf(sources);
  const known = takeKeySets(given ?? (task.before && textsOf(task.before)));
  let resources = await loadFiles([...task.files], { ...options, ...(given ? { texts: given } : {}) });
  const { issuers = [] } = resources;
  if (issuers.length > 0 && errorsOf(resources.diagnostics).length === 0) {
    const { keySets, problems } = given ? { keySets: known, problems: [] } : await discover(resources, known);
    resources = await loadFiles([...task.files], { ...options, texts: new Map(texts), keySets });
    resources.diagnostics.push(...problems);
    texts.set(KEY_SETS, JSON.stringify([...keySets]));
  }
  if (errorsOf(resources.diagnostics).length === 0) {
    placeServers(task, resources);
    placeInbound(task, resources);
  }
  return { resources, texts };
}

function textsOf(sources: Uint8Array): Map<string, string> {
  return new Map(JSON.parse(Buffer.from(sources).toString()) as [string, string][]);
}

function placeInbound(task: PolicyTask, resources: Resources): void {
  for (const { listener, away, address, port } of task.inbound) {
    const own = tcpAddress(resources.listeners.find((l) => l.name === listener)?.address);
    const problem = !own
      ? `there is no listener ${listener} with a TCP address`
      : isWildcard(own.address)
        ? `listener ${listener} has no address of its own that its rules could see as the destination`
        : isWildcard(address) || !isLocal(address)
          ? `${address} is not an address of this host`
          : problemOf(task, listener, resources);
    if (problem === undefined)
      resources.intercepts.push({ address, port, listener, inbound: 'workload', own: own!, away });
    else resources.diagnostics.push({ severity: 'error', code: 'inbound', message: `--inbound: ${problem}` });
  }
}

/** Of the listeners before servers, those stay whose server is on this host. */
function placeServers(task: PolicyTask, resources: Resources): void {
  const { atServers } = task;
  if (!atServers) return;
  const elsewhere = new Set<string>();
  for (const [index, intercept] of resources.intercepts.entries()) {
    const { inbound, address, listener } = intercept;
    if (inbound !== 'workload') continue;
    const problem = isLocal(address) ? problemOf(task, listener, resources) : undefined;
    if (problem !== undefined) {
      const message = `connections to ${address} cannot be judged: ${problem}`;
      resources.diagnostics.push({ severity: 'error', code: 'inbound', message });
    }
    if (isLocal(address)) resources.intercepts[index] = { ...intercept, away: atServers };
    else elsewhere.add(listener);
  }
  const keep = <T>(list: T[], name: (item: T) => string): void => {
    list.splice(0, list.length, ...list.filter((item) => !elsewhere.has(name(item))));
  };
  keep(resources.intercepts, (intercept) => intercept.listener);
  keep(resources.listeners, (listener) => asString(listener.name));
  keep(resources.clusters, (cluster) => asString(cluster.name));
}

/** Equal digests: the resources say the same. */
export function digestOf(r: Resources): string {
  const parts = [r.listeners, r.routeConfigs, r.clusters, r.endpoints, r.bootstrap, r.intercepts, r.hosts];
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}
