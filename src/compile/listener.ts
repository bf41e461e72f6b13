/** One listener of the plan as structures of the image. */
import {
  ListenerSpec,
  LOG,
  MAX_SLOTS,
  MAX_TOKEN_PLACES,
  MAX_WATCHED_SLOTS,
  SLOT,
  TOKEN_PLACE,
  TokenPlaceSpec,
  VirtualHostSpec,
} from '../layout/image.js';
import { logOperators } from '../plan/access-log.js';
import type { Condition, ListenerPlan, PathRules, RbacCheck } from '../plan/ir.js';
import { replyDetails } from '../plan/reply-details.js';
import { headerNames, replyAction } from './actions.js';
import type { Blob } from './blob.js';
import { forEachPredicate } from './condition.js';
import { stateCount } from './dfa.js';
import { ONE_LINE } from './edits.js';
import { Facts } from './facts.js';
import { cookieFinder, queryFinder } from './find.js';
import { hostDfa } from './host.js';
import { compileRoutes } from './routes.js';
import { isOddName, REQUEST_SLOTS, requestScanner, type Scanner } from './scanner.js';
import { computable, type ListenerInput, type Scope, storeJobs, storeRbac } from './scope.js';

export interface ListenerResult {
  readonly offset: number;
  readonly routes: number;
  readonly pathStates: number;
  readonly jobs: number;
}

const HOST_STATES = 250_000;
/** States from which on decisions are remembered, those of some forty routes: what walks through fewer look at stays in the cache. */
const LARGE = 400;

/** Header names that the listener's rules look at or change, those of its own checks first. */
function namesOf(listener: ListenerPlan): Set<string> {
  const names = new Set<string>();
  const collect = (condition: Condition) =>
    forEachPredicate(condition, ({ field }) => {
      if (field.kind === 'header') names.add(field.name);
    });
  const checks = (list: readonly RbacCheck[]) => {
    for (const check of list) {
      collect(check.condition);
      if (check.reply?.kind === 'reply') for (const name of headerNames(check.reply)) names.add(name);
    }
  };
  for (const { kind, name } of listener.tokens?.places ?? [])
    if (kind !== 'param') names.add(kind === 'header' ? name : 'cookie');
  checks(listener.rbac);
  for (const host of listener.virtualHosts)
    for (const route of host.routes) {
      if (route.match) collect(route.match);
      if (route.rbac) checks(route.rbac);
      if (route.action.kind !== 'proxy') for (const name of headerNames(route.action)) names.add(name);
    }
  return names;
}

/** Most listeners of an image need the same scanner, which takes longer to make than all else of a small one. */
const scanners = new WeakMap<Blob, Map<string, Scanner>>();

function scannerOf(blob: Blob, paths: PathRules, slots: ReadonlyMap<string, number>): Scanner {
  const known = scanners.get(blob) ?? new Map<string, Scanner>();
  scanners.set(blob, known);
  const key = JSON.stringify([paths, [...slots]]);
  const scanner = known.get(key) ?? requestScanner(paths, slots);
  known.set(key, scanner);
  return scanner;
}

/** Slots for the names: the fixed ones, then new ones while there are any. */
function giveSlots(names: Iterable<string>): Map<string, number> {
  const slots = new Map(REQUEST_SLOTS);
  let next: number = SLOT.FIRST_FREE;
  for (const name of names) {
    if (slots.has(name) || isOddName(name) || next >= MAX_SLOTS) continue;
    slots.set(name, next++);
  }
  // Repeated lines of these are joined (a repeated Referer is removed) by Envoy: they must be noticed, no more.
  let watched = MAX_SLOTS;
  for (const name of ONE_LINE) if (!slots.has(name) && watched < MAX_WATCHED_SLOTS) slots.set(name, watched++);
  return slots;
}

/** Where tokens are looked up: all places or none, since only one of them may be in a request. */
function tokenPlaces(blob: Blob, listener: ListenerPlan, slot: Scope['slot']): Record<string, number> {
  const places = listener.tokens?.places ?? [];
  const none = { token_places: 0, n_token_places: 0 };
  if (places.length === 0 || places.length > MAX_TOKEN_PLACES) return none;
  const list: Record<string, number>[] = [];
  for (const { kind, name } of places) {
    const own = kind === 'param' ? 0 : slot(kind === 'header' ? name : 'cookie');
    if (own === undefined) return none;
    if (kind === 'header') list.push({ kind: TOKEN_PLACE.HEADER, slot: own });
    else {
      const rows = blob.actionRows(kind === 'param' ? queryFinder(name) : cookieFinder(name));
      const number = kind === 'param' ? TOKEN_PLACE.QUERY : TOKEN_PLACE.COOKIE;
      list.push({ kind: number, slot: own, find: rows.start, find_classes: rows.classes });
    }
  }
  return { token_places: blob.structs(TokenPlaceSpec, list), n_token_places: list.length };
}

/** What the listener's access logs need. The agent must know the client's address: it may be in x-forwarded-for. */
function logBits({ log, trace }: ListenerPlan): number {
  if (!log) return 0;
  const operators = logOperators(log.logs);
  const request = operators.some(({ command }) => command === 'REQ' || command.startsWith('DOWNSTREAM_REMOTE'));
  const answer = operators.some(({ command }) => command === 'RESP');
  const spans = log.logs.length === 0 ? LOG.SPANS : 0;
  return LOG.ON | (request || trace ? LOG.REQUEST : 0) | (answer || trace?.egress ? LOG.ANSWER : 0) | spans;
}

/**
 * Compiles a listener.
 * @returns a text when it cannot be done at all.
 * @throws ImageFull when the image has no room for it
 */
export function compileListener(listener: ListenerPlan, input: ListenerInput): ListenerResult | string {
  const { blob } = input;
  const slots = giveSlots(namesOf(listener));
  const usable = (name: string): number | undefined => {
    const slot = slots.get(name);
    return slot !== undefined && slot < MAX_SLOTS ? slot : undefined;
  };
  const scope: Scope = { ...input, listener, slot: usable, details: replyDetails(listener) };
  const scan = blob.actionRows(scannerOf(blob, listener.paths, slots));

  const conditions = listener.rbac.map((check) => check.condition);
  const facts = new Facts(computable(conditions, scope.slot));
  const rbac = storeRbac(scope, listener.rbac, facts);
  if (rbac === undefined) return "the listener's access control cannot be computed in the kernel";
  const hosts = hostDfa(
    listener.virtualHosts.map((host) => host.domains),
    listener.stripPort,
    HOST_STATES,
  );
  if (!hosts) return 'the automaton over host names has too many states';
  const result = { routes: 0, pathStates: 0, jobs: facts.jobs.length };
  const offsets = listener.virtualHosts.map((host) => {
    const routes = compileRoutes(host, facts, scope);
    result.routes += routes.routes;
    result.pathStates += routes.states;
    result.jobs += routes.jobs.length;
    return blob.structs(VirtualHostSpec, [
      {
        path: routes.path.start,
        path_classes: routes.path.classes,
        jobs: storeJobs(blob, routes.jobs, scope.slot),
        n_jobs: routes.jobs.length,
      },
    ]);
  });
  const hostRows = blob.rows(hosts, (label) => (label.length === 0 ? 0 : offsets[label[0]!]!));
  const notFound = replyAction(
    scope,
    listener.notFound ?? { kind: 'reply', status: 404, headers: [], body: '', origin: 'no_route' },
  );
  if (typeof notFound !== 'number') return notFound.message;
  const denied = replyAction(scope, {
    kind: 'reply',
    status: 403,
    headers: [{ name: 'content-type', value: [{ kind: 'literal', value: 'text/plain' }] }],
    body: 'RBAC: access denied',
    origin: 'rbac',
  });
  const offset = blob.structs(ListenerSpec, [
    {
      scan: scan.start,
      scan_classes: scan.classes,
      host: hostRows.start,
      host_classes: hostRows.classes,
      jobs: storeJobs(blob, facts.jobs, scope.slot),
      n_jobs: facts.jobs.length,
      rbac,
      not_found: notFound,
      denied: denied as number,
      proxy_endpoint: input.proxyEndpoint,
      ...tokenPlaces(blob, listener, usable),
      log: logBits(listener),
      remembers: (input.remembers ?? stateCount(hosts) + result.pathStates > LARGE) ? 1 : 0,
    },
  ]);
  return { offset, ...result };
}
