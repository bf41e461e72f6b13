/** What everything that belongs to a listener is compiled against, and how its conditions are stored. */
import {
  FIELD,
  JobSpec,
  LITERAL,
  LiteralSpec,
  MAX_LOTS,
  MAX_RBAC,
  MAX_RBAC_LITERALS,
  RBAC,
  RbacEntrySpec,
  RbacListSpec,
  REPLY_DELAYED,
  REPLY_PROXY,
  TOKEN_WORD,
} from '../layout/image.js';
import type { Condition, Field, Predicate, RbacCheck, RoutePlan } from '../plan/ir.js';
import { type ActionContext, type BucketIndex, replyAction } from './actions.js';
import type { Blob } from './blob.js';
import { type Compiled, compileCondition, forEachPredicate } from './condition.js';
import type { Fact, Facts, Job } from './facts.js';
import { isOddName } from './scanner.js';

export interface ListenerInput {
  readonly blob: Blob;
  readonly clusters: ActionContext['clusters'];
  readonly programNumber: ActionContext['programNumber'];
  readonly bucketIndex: BucketIndex;
  readonly delays: boolean;
  /** whether decisions are remembered; undefined: where there are many states */
  readonly remembers: boolean | undefined;
  /** endpoint id plus one */
  readonly proxyEndpoint: number;
  readonly rule: (route: RoutePlan) => number;
  readonly report: (route: RoutePlan, code: string, message: string) => void;
}

/** What is shared by everything that belongs to a listener. */
export interface Scope extends ActionContext {
  readonly rule: ListenerInput['rule'];
  readonly delays: boolean;
  readonly report: ListenerInput['report'];
}

const FIELDS = {
  method: FIELD.METHOD,
  host: FIELD.HOST,
  path: FIELD.PATH,
  query: FIELD.QUERY,
  target: FIELD.TARGET,
  source_ip: FIELD.SOURCE_IP,
  header: FIELD.HEADER,
  // comes with the token: no automaton computes it
  token: FIELD.HEADER,
};

/** The Host header is looked at through its own field, whatever name a predicate gives it. */
function ownField(field: Field): Field {
  return field.kind === 'header' && field.name === 'host' ? { kind: 'host' } : field;
}

/** The predicates of `conditions` that an automaton can be made for. */
export function computable(conditions: Iterable<Condition>, slot: Scope['slot']): Predicate[] {
  const found: Predicate[] = [];
  for (const condition of conditions)
    forEachPredicate(condition, ({ field, matcher }) => {
      const own = ownField(field);
      if (own.kind === 'token') return;
      if (own.kind === 'header' && (isOddName(own.name) || slot(own.name) === undefined)) return;
      found.push({ field: own, matcher });
    });
  return found;
}

/** Where `facts` has the answer to a predicate; a value when it is known for every request that is decided here. */
export function lookUp(facts: Facts): (predicate: Predicate) => Fact | boolean | undefined {
  return ({ field, matcher }) => {
    const own = ownField(field);
    if (own.kind === 'header' && isOddName(own.name)) return false;
    if (own.kind === 'token') return { word: TOKEN_WORD + (own.fact >> 6), bit: own.fact & 63 };
    if (matcher.kind === 'present' && own.kind !== 'header' && own.kind !== 'query') return true;
    return facts.get({ field: own, matcher });
  };
}

/** Stores jobs, returns the offset of the first (0: none). */
export function storeJobs(blob: Blob, jobs: readonly Job[], slot: Scope['slot']): number {
  if (jobs.length === 0) return 0;
  const list = jobs.map(({ field, word, dfa }) => {
    const rows = blob.rows(dfa, (label) => {
      if (label.length === 0) return 0;
      const mask = label.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n);
      return blob.intern(new Uint8Array(BigUint64Array.of(mask).buffer), 8);
    });
    const number = field.kind === 'header' ? slot(field.name)! : 0;
    return { dfa: rows.start, classes: rows.classes, field: FIELDS[field.kind], slot: number, word };
  });
  return blob.structs(JobSpec, list);
}

/** Stores a sum of products, returns its offset. */
export function storeCondition(blob: Blob, products: Exclude<Compiled, boolean>): number {
  const literals = products.flatMap((product, p) =>
    product.map(({ word, mask, want }, i) => {
      const lastOfProduct = i === product.length - 1;
      const lastOfAll = lastOfProduct && p === products.length - 1;
      const last = (lastOfProduct ? LITERAL.PRODUCT_END : 0) | (lastOfAll ? LITERAL.END : 0);
      return { word, flags: last | (want === undefined ? LITERAL.ANY : 0), mask, want: want ?? 0n };
    }),
  );
  return blob.structs(LiteralSpec, literals);
}

/** What `rbac_entry.reply` says; undefined: the reply does not fit. */
function storeReply(scope: Scope, reply: RbacCheck['reply']): number | undefined {
  if (!reply) return 0;
  if (reply.kind === 'proxy' && reply.delayed) return scope.delays ? REPLY_DELAYED : undefined;
  if (reply.kind === 'proxy') return REPLY_PROXY;
  const stored = replyAction(scope, reply);
  return typeof stored === 'number' ? stored : undefined;
}

/**
 * Whether the chances and buckets of a list can be drawn when nothing else can go wrong any more: one chance at most, and
 * where there are several, each with a reply that always fits. A delay comes before all: the proxy draws for the rest.
 */
function drawable(checks: readonly RbacCheck[]): boolean {
  const [first, ...others] = checks.filter((check) => check.chance ?? check.bucket);
  const delays = first?.reply?.kind === 'proxy' && first.reply.delayed;
  const lots = first && !delays ? [first, ...others] : others;
  if (lots.length + (delays ? 1 : 0) > MAX_LOTS || lots.filter((check) => check.chance).length > 1) return false;
  const literal = ({ reply }: RbacCheck) =>
    reply?.kind === 'reply' &&
    reply.headers.every(({ value }) => value.every(({ kind }) => kind === 'literal' || kind === 'figure'));
  return (
    lots.every((check) => check.reply?.kind === 'reply') && (lots.length + (delays ? 1 : 0) < 2 || lots.every(literal))
  );
}

/** Stores RBAC checks. Returns the offset of the list, or undefined when one cannot be computed. */
export function storeRbac(scope: Scope, checks: readonly RbacCheck[], facts: Facts): number | undefined {
  const { blob } = scope;
  if (checks.length > MAX_RBAC || !drawable(checks)) return undefined;
  const entries: Record<string, number>[] = [];
  for (const check of checks) {
    const compiled = compileCondition(check.condition, lookUp(facts), MAX_RBAC_LITERALS);
    if (compiled === undefined) return undefined;
    const reply = storeReply(scope, check.reply);
    const bucket = check.bucket ? scope.bucketIndex(check.bucket) : -1;
    if (reply === undefined || bucket === undefined) return undefined;
    entries.push({
      action: check.action === 'allow' ? RBAC.ALLOW : RBAC.DENY,
      never: compiled === false ? 1 : 0,
      condition: typeof compiled === 'boolean' ? 0 : storeCondition(blob, compiled),
      reply,
      ...check.chance,
      bucket: bucket + 1,
    });
  }
  const head = new Uint8Array(RbacListSpec.size);
  new DataView(head.buffer).setUint32(0, entries.length, true);
  return blob.structs(RbacEntrySpec, entries, head);
}
