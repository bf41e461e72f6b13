/**
 * The reference interpreter of the image: what the programs in the kernel do with a request head, byte for byte. It reads
 * nothing but the image, so that the C code can be checked against it and `explain` can use it.
 */
import { ACTION, ActionSpec, AnswerVariablesSpec } from '../layout/actions.js';
import { MAX_VARIABLE_BYTES } from '../layout/exchanges.js';
import {
  FACT_WORDS,
  FIELD,
  ImageHeader,
  JobSpec,
  LITERAL,
  ListenerSpec,
  LiteralSpec,
  RBAC,
  RbacEntrySpec,
  RbacListSpec,
  REPLY_DELAYED,
  REPLY_PROXY,
  ROUTE_FLAG,
  RouteSpec,
  SLOT,
  TOKEN_WORD,
  TOKEN_WORDS,
  VirtualHostSpec,
} from '../layout/image.js';
import { get, getBig } from '../layout/struct.js';
import { choose } from './choose.js';
import { type Head, headerValue, isOdd, scan, slice } from './head.js';
import { buildHead, expand, MAX_PRODUCED, type Produced, tracedOf } from './produce.js';
import { match } from './run-automaton.js';

/** What a request brings besides its head. */
export interface Surroundings {
  /** 4 or 16 bytes, network order */
  readonly sourceIp: Uint8Array;
  /** unsigned, 32 bits: chooses among weighted clusters, and is what steps with a chance draw */
  readonly random: number;
  /** for x-request-id, 36 characters */
  readonly uuid: string;
  /** facts about the request's token, if it is known: TOKEN_WORDS words */
  readonly tokenFacts?: readonly bigint[];
  /** header lines that come with it */
  readonly tokenLines?: Uint8Array;
  /** takes a token from a bucket by its index, false: there is none; default: there always is one */
  readonly token?: (bucket: number) => boolean;
  /** a FIGURE of a bucket, by index; default: 0, nobody knows what is in it */
  readonly figure?: Head['figure'];
}

export interface Decision {
  readonly result: 'partial' | 'odd' | 'decided';
  /** for `decided` */
  readonly action: 'proxy' | 'forward' | 'reply';
  /** index of the rule that decided, -1: none, or one whose match is unknown */
  readonly rule: number;
  /** FORWARD: ids of the endpoints that come into question: of the chosen cluster, or the one that the hash leads to */
  readonly endpoints: readonly number[];
  /** FORWARD: LB of the chosen cluster */
  readonly lb: number;
  readonly timeoutMs: number;
  readonly flags: number;
  /** FORWARD: number of the edits of the answer, 0: none, and the variables that they need */
  readonly answer: number;
  readonly variables: readonly Uint8Array[];
  /** FORWARD: the head as it is sent; REPLY: the whole answer */
  readonly output: Uint8Array;
  /** FACT_WORDS words of 64 bits */
  readonly facts: readonly bigint[];
  readonly virtualHost: number;
}

const NOTHING: Decision = {
  result: 'odd',
  action: 'proxy',
  rule: -1,
  endpoints: [],
  lb: 0,
  timeoutMs: 0,
  flags: 0,
  answer: 0,
  variables: [],
  output: new Uint8Array(),
  facts: [],
  virtualHost: 0,
};

/** The bytes that a job looks at; undefined: it does not run. */
function fieldOf(head: Head, field: number, slot: number, sourceIp: Uint8Array): Uint8Array | undefined {
  switch (field) {
    case FIELD.METHOD:
      return slice(head, head.method);
    case FIELD.HOST:
      return headerValue(head, SLOT.HOST);
    case FIELD.PATH:
      return slice(head, head.path);
    case FIELD.QUERY:
      return head.query ? slice(head, head.query) : new Uint8Array();
    case FIELD.TARGET:
      return slice(head, head.target);
    case FIELD.SOURCE_IP:
      return sourceIp;
    default:
      return headerValue(head, slot);
  }
}

function runJobs(image: DataView, jobs: number, n: number, head: Head, sourceIp: Uint8Array, facts: bigint[]): void {
  for (let i = 0; i < n; i++) {
    const at = jobs + i * JobSpec.size;
    const input = fieldOf(head, get(image, at, JobSpec, 'field'), get(image, at, JobSpec, 'slot'), sourceIp);
    if (!input) continue;
    const mask = match(image, get(image, at, JobSpec, 'dfa'), get(image, at, JobSpec, 'classes'), input);
    if (mask !== 0) facts[get(image, at, JobSpec, 'word')]! |= image.getBigUint64(mask, true);
  }
}

/** Whether a sum of products holds; offset 0 is always true. */
function holds(image: DataView, condition: number, facts: readonly bigint[]): boolean {
  if (condition === 0) return true;
  let product = true;
  for (let at = condition; ; at += LiteralSpec.size) {
    const fact = facts[get(image, at, LiteralSpec, 'word')]!;
    const flags = get(image, at, LiteralSpec, 'flags');
    const equal = (fact & getBig(image, at, LiteralSpec, 'mask')) === getBig(image, at, LiteralSpec, 'want');
    if (equal === Boolean(flags & LITERAL.ANY)) product = false;
    if (flags & LITERAL.PRODUCT_END) {
      if (product) return true;
      product = true;
    }
    if (flags & LITERAL.END) return false;
  }
}

/** What becomes of a request on its way through the checks. */
interface Stop {
  /** 0: RBAC's denial, REPLY_PROXY, or an action; undefined: nothing stops it */
  readonly by: number | undefined;
  /** offsets of the checks that are drawn last: chances and buckets */
  readonly lots: readonly number[];
}

function checked(image: DataView, list: number, facts: readonly bigint[]): Stop {
  const lots: number[] = [];
  const n = list === 0 ? 0 : get(image, list, RbacListSpec, 'n');
  for (let i = 0; i < n; i++) {
    const at = list + RbacListSpec.size + i * RbacEntrySpec.size;
    const never = get(image, at, RbacEntrySpec, 'never') !== 0;
    const matched = !never && holds(image, get(image, at, RbacEntrySpec, 'condition'), facts);
    if (matched !== (get(image, at, RbacEntrySpec, 'action') === RBAC.DENY)) continue;
    const field = (name: string) => get(image, at, RbacEntrySpec, name);
    if (field('denominator') === 0 && field('bucket') === 0) return { by: field('reply'), lots };
    lots.push(at);
  }
  return { by: undefined, lots };
}

/** Whether the lot of a check falls on a request: its bucket has no token, or its chance strikes. */
function strikes(image: DataView, lot: number, around: Surroundings): boolean {
  const field = (name: string) => get(image, lot, RbacEntrySpec, name);
  const bucket = field('bucket');
  if (bucket !== 0) return !(around.token?.(bucket - 1) ?? true);
  return around.random % field('denominator') < field('numerator');
}

/**
 * What is drawn in the end: the action of what strikes, undefined when nothing does. 'proxy': the kernel could not carry
 * out all that may come out; only what a bucket refuses at first may still go to the proxy afterwards.
 */
function draw(
  image: DataView,
  lots: readonly number[],
  head: Head,
  around: Surroundings,
): number | 'proxy' | undefined {
  const given = lots.map((lot) => get(image, lot, RbacEntrySpec, 'reply'));
  const answers = given.map((at) => at === REPLY_DELAYED || reply(image, at, head) !== undefined);
  const first = lots[0] !== undefined && get(image, lots[0], RbacEntrySpec, 'bucket') !== 0 ? 1 : 0;
  if (answers.slice(first).includes(false)) return 'proxy';
  const struck = lots.findIndex((lot) => strikes(image, lot, around));
  if (struck < 0) return undefined;
  return answers[struck] && given[struck] !== REPLY_DELAYED ? given[struck] : 'proxy';
}

/**
 * The bytes of an answer, undefined when the proxy gives it: it is too long for the kernel, the request has a body (Envoy
 * closes the connection when it answers before that has come), or HEAD has no length to tell (Envoy announces chunks).
 */
function reply(image: DataView, action: number, head: Head): Produced {
  const start = expand(image, get(image, action, ActionSpec, 'reply_head'), head, []);
  const isHead = Buffer.from(slice(head, head.method)).toString('latin1') === 'HEAD';
  const at = image.byteOffset + get(image, action, ActionSpec, 'reply_body');
  const body = get(image, action, ActionSpec, 'reply_body_len');
  const sent = Number(Buffer.from(headerValue(head, SLOT.CONTENT_LENGTH) ?? []).toString('latin1'));
  if (sent > 0 || (isHead && body === 0)) return undefined;
  const length = isHead ? 0 : body;
  const whole = Buffer.concat([start, new Uint8Array(image.buffer, at, length)]);
  return whole.length > MAX_PRODUCED ? undefined : whole;
}

/**
 * Decides about one request.
 * @param image the compiled image. @param listener index. @param bytes the request as far as it was received; what
 * follows the head is ignored.
 */
export function interpret(image: Uint8Array, listener: number, bytes: Uint8Array, around: Surroundings): Decision {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const at = view.getUint32(get(view, 0, ImageHeader, 'listeners') + 4 * listener, true);
  if (at === 0) return { ...NOTHING, result: 'decided' };
  const scanned = scan(view, get(view, at, ListenerSpec, 'scan'), get(view, at, ListenerSpec, 'scan_classes'), bytes);
  if (typeof scanned === 'string') return { ...NOTHING, result: scanned };
  if (isOdd(scanned)) return NOTHING;
  const received: Head = { ...scanned, source: around.sourceIp, ...(around.figure && { figure: around.figure }) };

  const facts = new Array<bigint>(FACT_WORDS).fill(0n);
  for (let i = 0; i < TOKEN_WORDS; i++) facts[TOKEN_WORD + i] = around.tokenFacts?.[i] ?? 0n;
  const { sourceIp } = around;
  runJobs(view, get(view, at, ListenerSpec, 'jobs'), get(view, at, ListenerSpec, 'n_jobs'), received, sourceIp, facts);
  const hostValue = headerValue(received, SLOT.HOST)!;
  const virtualHost = match(
    view,
    get(view, at, ListenerSpec, 'host'),
    get(view, at, ListenerSpec, 'host_classes'),
    hostValue,
  );
  let action = get(view, at, ListenerSpec, 'not_found');
  let rbac = get(view, at, ListenerSpec, 'rbac');
  let rule = -1;
  if (virtualHost !== 0) {
    const n = get(view, virtualHost, VirtualHostSpec, 'n_jobs');
    runJobs(view, get(view, virtualHost, VirtualHostSpec, 'jobs'), n, received, sourceIp, facts);
    const list = match(
      view,
      get(view, virtualHost, VirtualHostSpec, 'path'),
      get(view, virtualHost, VirtualHostSpec, 'path_classes'),
      slice(received, received.path),
    );
    const candidates = view.getUint32(list, true);
    for (let i = 0; i < candidates; i++) {
      const route = view.getUint32(list + 4 + 4 * i, true);
      const unknown = (get(view, route, RouteSpec, 'flags') & ROUTE_FLAG.UNKNOWN) !== 0;
      if (!unknown && !holds(view, get(view, route, RouteSpec, 'condition'), facts)) continue;
      if (unknown) return { ...NOTHING, result: 'decided', facts, virtualHost };
      rule = get(view, route, RouteSpec, 'rule');
      action = get(view, route, RouteSpec, 'action');
      rbac = get(view, route, RouteSpec, 'rbac') || rbac;
      break;
    }
  }
  const decided = { ...NOTHING, result: 'decided', rule, facts, virtualHost } as const;
  if (action === 0) return decided;
  const { by, lots } = checked(view, rbac, facts);
  const buckets = lots.map((lot) => get(view, lot, RbacEntrySpec, 'bucket')).filter((bucket) => bucket !== 0);
  const head = buckets[0] === undefined ? received : { ...received, bucket: buckets[0] - 1 };
  if (by === REPLY_PROXY) return decided;
  if (by !== undefined) action = by || get(view, at, ListenerSpec, 'denied');
  const drawn = draw(view, lots, head, around);
  if (drawn === 'proxy') return decided;
  if (drawn !== undefined) action = drawn;
  const kind = get(view, action, ActionSpec, 'kind');
  if (kind === ACTION.REPLY) {
    const output = reply(view, action, head);
    return output ? { ...decided, action: 'reply', output } : decided;
  }
  if (kind !== ACTION.FORWARD) return decided;
  const traced = { ...head, traced: tracedOf(view, action, head, around.uuid) };
  const output = buildHead(view, action, traced, around.uuid, around.tokenLines);
  const variables = variablesOf(view, action, traced);
  if (!output || !variables) return decided;
  const choice = choose(view, action, head, around);
  if (!choice) return decided;
  return {
    ...decided,
    action: 'forward',
    ...choice,
    timeoutMs: get(view, action, ActionSpec, 'timeout_ms'),
    flags: get(view, action, ActionSpec, 'flags'),
    answer: get(view, action, ActionSpec, 'answer'),
    variables,
    output,
  };
}

/** The values of the variables that the answer's edits need; undefined: too long to be kept. */
function variablesOf(image: DataView, action: number, head: Head): Uint8Array[] | undefined {
  const at = get(image, action, ActionSpec, 'variables');
  if (at === 0) return [];
  const values = Array.from({ length: get(image, at, AnswerVariablesSpec, 'n') }, (_, i) =>
    expand(image, get(image, at, AnswerVariablesSpec, 'templates', i), head, []),
  );
  return values.reduce((sum, v) => sum + v.length, 0) > MAX_VARIABLE_BYTES ? undefined : values;
}
