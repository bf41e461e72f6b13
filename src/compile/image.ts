/** A plan to the image that the programs in the kernel (and `interpret.ts`) read. */
import { MAX_ANSWER_EDITS } from '../layout/actions.js';
import { MAX_BREAKERS, MAX_BUCKETS } from '../layout/counts.js';
import { IMAGE_MAGIC, IMAGE_SIZE, ImageHeader } from '../layout/image.js';
import type { Plan, Reason, RoutePlan } from '../plan/ir.js';
import type { BucketIndex } from './actions.js';
import { answerSlots, type ProgramNumber, programsOf, storeProgram } from './answer-edits.js';
import { Blob, ImageFull } from './blob.js';
import { type BreakerIndex, Clusters, type FollowedCluster } from './clusters.js';
import { storeConnections } from './connections.js';
import { storeHellos } from './hellos.js';
import { compileListener, type ListenerResult } from './listener.js';
import { framingScanner, responseScanner } from './scanner.js';

export interface CompileOptions {
  /** number of this policy generation, from 1 */
  readonly generation: number;
  /** the id of an upstream endpoint */
  readonly endpointId: (address: string, port: number, relay?: string) => number;
  /** the id of the endpoint that is the proxy behind a listener (by name) */
  readonly proxyEndpointId: (listener: string) => number;
  /** numbers of edits of answers, which the agent knows them by; default: numbers of this image only */
  readonly programNumber?: ProgramNumber;
  /** indexes of token buckets; default: indexes of this image only */
  readonly bucketIndex?: BucketIndex;
  /** the proxy delays the requests for which a delay was drawn; default: it does */
  readonly delays?: boolean;
  /** whether the kernel remembers where hosts and paths lead; default: at listeners with many routes */
  readonly remembers?: boolean;
  /** indexes of breakers' counters; default: indexes of this image only */
  readonly breakerIndex?: BreakerIndex;
  /** most bytes of the image; default IMAGE_SIZE */
  readonly limit?: number;
}

export interface CompileStats {
  readonly bytes: number;
  readonly listeners: number;
  readonly virtualHosts: number;
  readonly routes: number;
  /** states of all path automata */
  readonly pathStates: number;
  /** automata over other fields */
  readonly jobs: number;
}

export interface CompiledImage {
  readonly image: Uint8Array;
  /** id of the route by the index that the image counts it under */
  readonly rules: readonly string[];
  /** what had to be left to the proxy here, by route id, beyond what the plan says */
  readonly verdicts: ReadonlyMap<string, readonly Reason[]>;
  readonly stats: CompileStats;
  /** clusters whose endpoints the agent writes into the image as they are found out, by name */
  readonly followed: ReadonlyMap<string, FollowedCluster>;
}

/** A rule that is counted. */
type Ruled = Pick<RoutePlan, 'id' | 'position'>;

/** Numbers programs from 1 on. */
export function numbering(): ProgramNumber {
  const numbers = new Map<string, number>();
  return (program) => {
    const key = JSON.stringify(program);
    const number = numbers.get(key) ?? numbers.size + 1;
    numbers.set(key, number);
    return number;
  };
}

/** Numbers keys from 0 on. */
function indexing(most: number): (key: string) => number | undefined {
  const indexes = new Map<string, number>();
  return (key) => {
    const index = indexes.get(key) ?? indexes.size;
    indexes.set(key, index);
    return index < most ? index : undefined;
  };
}

function bucketsByKey(): BucketIndex {
  const index = indexing(MAX_BUCKETS);
  return ({ key }) => index(key);
}

function breakersByName(): BreakerIndex {
  const index = indexing(MAX_BREAKERS);
  return ({ cluster }) => index(cluster);
}

/**
 * Compiles a plan. Pure and deterministic: equal plans give equal bytes.
 *
 * Whatever exceeds a budget is left to the proxy, never decided differently: a route whose action does not fit keeps its
 * match; one whose match does not fit stops the evaluation; a listener whose base does not fit has no entry.
 */
export function compileImage(plan: Plan, options: CompileOptions): CompiledImage {
  const blob = new Blob(options.limit ?? IMAGE_SIZE);
  const verdicts = new Map<string, Reason[]>();
  const rules: string[] = [];
  const ruleOf = new Map<string, number>();
  const routes: Ruled[] = plan.listeners.flatMap((l) => [
    ...l.virtualHosts.flatMap((v) => v.routes),
    ...(l.connections ? [l.connections] : []),
    ...(l.hellos?.routes ?? []),
  ]);
  for (const route of routes) {
    if (ruleOf.has(route.id)) continue;
    ruleOf.set(route.id, rules.length);
    rules.push(route.id);
  }
  const report = (route: Ruled, code: string, message: string) => {
    const reason: Reason = { code, message, field: 'route', ...(route.position && { position: route.position }) };
    const list = verdicts.get(route.id) ?? [];
    if (!list.some((other) => other.code === code && other.message === message)) list.push(reason);
    verdicts.set(route.id, list);
  };
  const plans = new Map(plan.clusters.map((cluster, counter) => [cluster.name, { plan: cluster, counter }]));
  const clusters = new Clusters(blob, plans, options.endpointId, options.breakerIndex ?? breakersByName());
  const programNumber = options.programNumber ?? numbering();
  const bucketIndex = options.bucketIndex ?? bucketsByKey();
  const programs = programsOf(plan);
  const slots = answerSlots(programs);
  const response = blob.actionRows(responseScanner(slots));
  const framing = blob.actionRows(framingScanner());
  const edits: number[] = [0];
  for (const program of programs) {
    const number = programNumber(program);
    if (number > MAX_ANSWER_EDITS) continue;
    while (edits.length <= number) edits.push(0);
    edits[number] = storeProgram(blob, program, slots);
  }
  const total = { virtualHosts: 0, routes: 0, pathStates: 0, jobs: 0 };
  const offsets = plan.listeners.map((listener): number => {
    if (!listener.offloaded || listener.connections || listener.hellos) return 0;
    const mark = blob.used;
    let result: ListenerResult | string;
    try {
      result = compileListener(listener, {
        blob,
        clusters,
        programNumber,
        bucketIndex,
        delays: options.delays ?? true,
        remembers: options.remembers,
        proxyEndpoint: options.proxyEndpointId(listener.name) + 1,
        rule: (route) => ruleOf.get(route.id)!,
        report,
      });
    } catch (error) {
      if (!(error instanceof ImageFull)) throw error;
      result = 'the policy image is full';
    }
    if (typeof result === 'string') {
      blob.rollback(mark);
      clusters.rollback(mark);
      for (const host of listener.virtualHosts) for (const route of host.routes) report(route, 'budget', result);
      return 0;
    }
    total.virtualHosts += listener.virtualHosts.length;
    total.routes += result.routes;
    total.pathStates += result.pathStates;
    total.jobs += result.jobs;
    return result.offset;
  });
  const connections = plan.listeners.map(({ offloaded, connections: route }): number => {
    if (!offloaded || !route) return 0;
    const mark = blob.used;
    try {
      const stored = storeConnections(blob, clusters, route, ruleOf.get(route.id)!);
      if (typeof stored === 'number') return stored;
      report(route, stored.code, stored.message);
    } catch (error) {
      if (!(error instanceof ImageFull)) throw error;
      blob.rollback(mark);
      clusters.rollback(mark);
      report(route, 'budget', 'the policy image is full');
    }
    return 0;
  });
  const hellos = plan.listeners.map(({ offloaded, hellos: of }): number => {
    if (!offloaded || !of) return 0;
    const mark = blob.used;
    try {
      return storeHellos(
        blob,
        clusters,
        of,
        (route) => ruleOf.get(route.id)!,
        (route, { code, message }) => report(route, code, message),
      );
    } catch (error) {
      if (!(error instanceof ImageFull)) throw error;
      blob.rollback(mark);
      clusters.rollback(mark);
      for (const route of of.routes) report(route, 'budget', 'the policy image is full');
    }
    return 0;
  });
  blob.write(0, ImageHeader, {
    magic: IMAGE_MAGIC,
    generation: options.generation,
    n_listeners: offsets.length,
    listeners: offsets.length === 0 ? 0 : blob.words(offsets),
    response_scan: response.start,
    response_classes: response.classes,
    framing_scan: framing.start,
    framing_classes: framing.classes,
    connections: connections.some((at) => at !== 0) ? blob.words(connections) : 0,
    hellos: hellos.some((at) => at !== 0) ? blob.words(hellos) : 0,
    n_answer_edits: edits.length - 1,
    answer_edits: blob.words(edits),
  });
  blob.write(0, ImageHeader, { size: blob.used });
  const stats = { bytes: blob.used, listeners: offsets.filter((offset) => offset !== 0).length, ...total };
  return { image: blob.finish(), rules, verdicts, stats, followed: clusters.followed() };
}
