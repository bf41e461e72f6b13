/** Actions of rules as structures of the image. */

import {
  ACTION,
  ACTION_FLAG,
  ActionSpec,
  ADD,
  AddSpec,
  AnswerVariablesSpec,
  DETAILS_SHIFT,
  MAX_ADDS,
  MAX_CLUSTERS,
  MAX_LITERAL,
  MirrorSpec,
  ORIGIN,
  PIECE,
  RETRY_STREAMS,
  STATUS_WORDS,
  TIMES,
  WeightedClusterSpec,
} from '../layout/actions.js';
import { SLOT } from '../layout/image.js';
import { set } from '../layout/struct.js';
import type {
  AnswerEdits,
  ForwardAction,
  ListenerPlan,
  Piece,
  ReplyAction,
  StreamTimes,
  TargetRewrite,
  TokenBucket,
} from '../plan/ir.js';
import { answerProgram, type ProgramNumber, SHOWN_BUCKET } from './answer-edits.js';
import type { Blob } from './blob.js';
import { captureRewrite } from './capture.js';
import type { Clusters } from './clusters.js';
import { type NetAdd, netEdits } from './edits.js';
import { hashes } from './hash-sources.js';
import { type Refusal, refuse } from './refusals.js';
import { isOddName } from './scanner.js';
import { reasonPhrase } from './status.js';
import { storePieces, type TemplateContext, template } from './templates.js';
import { traceOf } from './traces.js';

/** What actions of one listener are compiled against. */
export interface ActionContext {
  readonly blob: Blob;
  readonly listener: Pick<ListenerPlan, 'generateRequestId' | 'forwardedProto' | 'trace'>;
  /** the slot of a header name, undefined when there was none left */
  readonly slot: (name: string) => number | undefined;
  readonly clusters: Clusters;
  readonly programNumber: ProgramNumber;
  readonly bucketIndex: BucketIndex;
  /** of the listener (`replyDetails`) */
  readonly details: readonly string[];
}

/** The index of a token bucket; undefined: there is no room for it, or the proxy cannot be told about it. */
export type BucketIndex = (bucket: TokenBucket) => number | undefined;

const ORIGINS = {
  route: ORIGIN.ROUTE,
  no_route: ORIGIN.NO_ROUTE,
  rbac: ORIGIN.RBAC,
  fault: ORIGIN.FAULT,
  filter: ORIGIN.FILTER,
} as const;

const originOf = ({ details }: TemplateContext, { origin, details: own = '' }: ReplyAction): number =>
  ORIGINS[origin ?? 'route'] | ((details.indexOf(own) + 1) << DETAILS_SHIFT);

const HOP_BY_HOP = [SLOT.CONNECTION, SLOT.KEEP_ALIVE, SLOT.PROXY_CONNECTION, SLOT.TE, SLOT.UPGRADE];

const bit = (slot: number) => 1n << BigInt(slot);

/** The bitmap of statuses that are retried. */
function statusBits(blob: Blob, statuses: readonly number[]): number {
  const words = new BigUint64Array(STATUS_WORDS);
  for (const status of statuses) words[(status - 200) >> 6]! |= 1n << BigInt((status - 200) & 63);
  return blob.intern(new Uint8Array(words.buffer), 8);
}

function additions(context: ActionContext, adds: readonly NetAdd[]): number | Refusal {
  if (adds.length > MAX_ADDS) return refuse('budget', `more than ${MAX_ADDS} header lines are added`);
  const list: Record<string, number>[] = [];
  for (const add of adds) {
    const bytes = Buffer.from(add.line);
    if (bytes.length > MAX_LITERAL) return refuse('budget', `header ${add.name} is longer than ${MAX_LITERAL} bytes`);
    const decides = add.when === ADD.IF_ABSENT || add.when === ADD.IF_PRESENT || add.when === ADD.REQUEST_ID;
    const slot = decides ? context.slot(add.name) : 0;
    if (slot === undefined) return refuse('budget', `no slot left for header ${add.name}`);
    const made = add.pieces && template(context, add.pieces);
    if (add.pieces && made === undefined) return refuse('budget', `header ${add.name} has too many or too long pieces`);
    const known = add.when === ADD.REQUEST_ID && context.listener.trace ? 1 : 0;
    const off = made ?? (bytes.length === 0 ? known : context.blob.intern(bytes));
    list.push({ when: add.when, slot, off, len: bytes.length, variable: made === undefined ? 0 : 1 });
  }
  return list.length === 0 ? 0 : context.blob.structs(AddSpec, list);
}

interface Target {
  readonly target: number;
  readonly capture: number;
  readonly capture_classes: number;
}

function targetOf(context: ActionContext, rewrite: TargetRewrite | undefined): Target | Refusal {
  if (!rewrite) return { target: 0, capture: 0, capture_classes: 0 };
  if (rewrite.kind === 'pieces') {
    const target = template(context, rewrite.pieces);
    return target === undefined
      ? refuse('budget', 'the new path has too many or too long pieces')
      : { target, capture: 0, capture_classes: 0 };
  }
  const compiled = captureRewrite(rewrite.pattern, rewrite.substitution);
  if (typeof compiled === 'string') return refuse('path-rewrite', compiled);
  const target = template(context, [...compiled.pieces, { kind: 'query' }], compiled.repeat);
  if (target === undefined) return refuse('budget', 'the new path has too many or too long pieces');
  const rows = context.blob.actionRows(compiled.table);
  return { target, capture: rows.start, capture_classes: rows.classes };
}

/** Where ActionSpec.flags hold how many retries are left after the first one, which the replay through the proxy is. */
const RETRIES_LEFT_SHIFT = 4;

const MAX_RETRIES_LEFT = 15;

/** RETRY_STREAMS, and gRPC's statuses. */
function streamBits(retry: ForwardAction['retry']): number {
  const { grpc = [], refused = false } = retry?.streams ?? {};
  return grpc.reduce((bits, status) => bits | (1 << status), refused ? RETRY_STREAMS.REFUSED : 0);
}

function flagsOf({ retry, whole }: ForwardAction): number {
  const flags = whole ? ACTION_FLAG.WHOLE : 0;
  if (!retry) return flags;
  const made = retry.tried ? 0 : 1; // a try that the proxy is told of is one of its own
  const left = Math.min(Math.max(retry.retries - made, 0), MAX_RETRIES_LEFT);
  const resets = retry.resets ? ACTION_FLAG.RETRY_RESETS : 0;
  return flags | ACTION_FLAG.RETRY | resets | (left << RETRIES_LEFT_SHIFT);
}

/** The number of the answer's edits, and what they need of the request. */
function answerOf(
  context: ActionContext,
  edits: AnswerEdits | undefined,
): Refusal | { answer: number; variables: number } {
  if (!edits) return { answer: 0, variables: 0 };
  const made = answerProgram(edits);
  if (!made) return refuse('budget', 'the answer needs too much of the request');
  const answer = context.programNumber(made.program);
  if (made.variables.length === 0) return { answer, variables: 0 };
  const templates = made.variables.map((of) =>
    of === SHOWN_BUCKET ? storePieces(context.blob, [{ kind: PIECE.BUCKET }]) : template(context, of),
  );
  if (templates.includes(undefined)) return refuse('budget', 'the answer needs too much of the request');
  const head = new Uint8Array(AnswerVariablesSpec.size);
  const view = new DataView(head.buffer);
  set(view, 0, AnswerVariablesSpec, 'n', templates.length);
  for (const [i, at] of templates.entries()) set(view, 0, AnswerVariablesSpec, 'templates', at!, i);
  return { answer, variables: context.blob.intern(head, 8) };
}

function mirrorAt(blob: Blob, mirror: ForwardAction['mirror']): number {
  if (!mirror) return 0;
  const bytes = new Uint8Array(MirrorSpec.size);
  const view = new DataView(bytes.buffer);
  const { numerator, denominator } = mirror.chance ?? { numerator: 1, denominator: 1 };
  set(view, 0, MirrorSpec, 'key', BigInt(`0x${mirror.key}`));
  set(view, 0, MirrorSpec, 'numerator', numerator);
  set(view, 0, MirrorSpec, 'denominator', denominator);
  return blob.intern(bytes, 8);
}

/**
 * Stores a forward action: hop-by-hop headers are removed (RFC 9110, section 7.6.1), then the rule's edits.
 * @returns its offset, or why it is left to the proxy.
 */
export function forwardAction(context: ActionContext, action: ForwardAction): number | Refusal {
  const { blob } = context;
  const { generateRequestId, forwardedProto } = context.listener;
  const traced = context.listener.trace !== undefined;
  const net = netEdits(action.edits, { requestId: generateRequestId, forwardedProto, traced });
  if (typeof net === 'string') return refuse('header-edit', net);
  let remove = 0n;
  for (const slot of HOP_BY_HOP) remove |= bit(slot);
  for (const name of net.remove) {
    const slot = context.slot(name);
    if (slot === undefined) return refuse('budget', `no slot left for header ${name}`);
    remove |= bit(slot);
  }
  const adds = [...net.adds];
  if (action.tokenHeaders) adds.push({ when: ADD.TOKEN_LINES, name: '', line: '' });
  if (action.originalPath && action.target && !net.adds.some((add) => add.name === 'x-envoy-original-path'))
    adds.push({ when: ADD.ORIGINAL_TARGET, name: 'x-envoy-original-path', line: 'x-envoy-original-path: ' });
  adds.push({ when: ADD.EMPTY_LENGTH, name: 'content-length', line: 'content-length: 0\r\n' });
  if (action.host !== undefined) {
    remove |= bit(SLOT.HOST);
    adds.push({ when: ADD.ALWAYS, name: 'host', line: `host: ${action.host}\r\n` });
  }
  const addsAt = additions(context, adds);
  if (typeof addsAt !== 'number') return addsAt;

  const choices = action.clusters.filter(({ weight }) => weight > 0);
  if (choices.length === 0 || choices.length > MAX_CLUSTERS)
    return refuse('budget', `${choices.length} clusters to choose from`);
  const weighted: Record<string, number>[] = [];
  for (const choice of choices) {
    const at = context.clusters.store(choice.cluster);
    if (typeof at !== 'number') return at;
    weighted.push({ cluster: at, weight: choice.weight });
  }
  const total = choices.reduce((sum, { weight }) => sum + weight, 0);
  const target = targetOf(context, action.target);
  if ('code' in target) return target;
  const hashesAt = hashes(context, action.hash ?? []);
  if (typeof hashesAt !== 'number') return hashesAt;
  const answer = answerOf(context, action.answer);
  if ('code' in answer) return answer;
  const trace = traceOf(blob, context.listener, context.slot);
  if (trace === undefined) return refuse('budget', 'no slot left for the header of a trace');
  return blob.structs(ActionSpec, [
    {
      kind: ACTION.FORWARD,
      flags: flagsOf(action),
      ...answer,
      n_adds: adds.length,
      timeout_ms: Math.min(action.timeoutMs, 0xffffffff),
      remove,
      ...target,
      adds: addsAt,
      clusters: blob.structs(WeightedClusterSpec, weighted),
      n_clusters: weighted.length,
      total_weight: total,
      retry: action.retry ? statusBits(blob, action.retry.statuses) : 0,
      per_try_ms: Math.min(action.perTryTimeoutMs ?? 0, 0xffffffff),
      idle_ms: Math.min(action.idleTimeoutMs ?? 0, 0xffffffff),
      ...timesOf(action.streamTimes),
      hashes: hashesAt,
      n_hashes: action.hash?.length ?? 0,
      backoff_ms: action.retry?.tried ? 0 : Math.min(action.retry?.backoffMs ?? 0, 0xffffffff),
      mirror: mirrorAt(blob, action.mirror),
      retry_streams: streamBits(action.retry),
      trace,
    },
  ]);
}

function timesOf(times: StreamTimes | undefined): Record<string, number> {
  if (!times) return {};
  const { grpc, grpcMs, durationMs, header, quiet } = times;
  const how =
    (grpc ? TIMES.GRPC : 0) |
    (durationMs === undefined ? 0 : TIMES.DURATION) |
    (header ? TIMES.HEADER : 0) |
    (quiet ? TIMES.QUIET : 0);
  return { times: how, grpc_ms: grpcMs, duration_ms: durationMs ?? 0 };
}

/**
 * Stores an answer of the mesh's own, framed as Envoy frames it: content-length, but none for 204 and 304.
 * @returns its offset, or why it is left to the proxy.
 */
export function replyAction(context: TemplateContext, action: ReplyAction): number | Refusal {
  const { blob } = context;
  const body = Buffer.from(action.body);
  const bodiless = action.status === 204 || action.status === 304;
  if (action.status < 200 || action.status > 599) return refuse('direct-response', `status ${action.status}`);
  if (bodiless && body.length > 0) return refuse('direct-response', `status ${action.status} with a body`);
  const pieces: Piece[] = [
    { kind: 'literal', value: `HTTP/1.1 ${action.status} ${reasonPhrase(action.status)}\r\n` },
    ...action.headers.flatMap(({ name, value }): Piece[] => [
      { kind: 'literal', value: `${name}: ` },
      ...value,
      { kind: 'literal', value: '\r\n' },
    ]),
    { kind: 'literal', value: bodiless ? '\r\n' : `content-length: ${body.length}\r\n\r\n` },
  ];
  if (body.length > MAX_LITERAL) return refuse('budget', `the body is longer than ${MAX_LITERAL} bytes`);
  const head = template(context, pieces);
  if (head === undefined) return refuse('budget', 'the head of the answer has too many or too long pieces');
  const bodyAt = body.length === 0 ? 0 : blob.intern(body);
  return blob.structs(ActionSpec, [
    {
      kind: ACTION.REPLY,
      reply_head: head,
      reply_body: bodyAt,
      reply_body_len: body.length,
      origin: originOf(context, action),
    },
  ]);
}

const inPieces = (pieces: readonly Piece[]): string[] => pieces.flatMap((p) => (p.kind === 'header' ? [p.name] : []));

/** Header names of requests whose lines an action looks at or removes. */
export function headerNames(action: ForwardAction | ReplyAction): string[] {
  if (action.kind === 'reply') return action.headers.flatMap(({ value }) => inPieces(value));
  const hashed = (action.hash ?? []).flatMap(({ of }) =>
    of.kind === 'header' ? [of.name] : of.kind === 'cookie' ? ['cookie'] : [],
  );
  const answer = [...(action.answer?.route ?? []), ...(action.answer?.filters ?? [])];
  const renewed = action.edits.flatMap((e) =>
    e.op === 'renew' ? [e.by ?? e.name, ...inPieces(e.value), ...inPieces(e.absent ?? [])] : [],
  );
  const edited = [...action.edits.map((edit) => edit.name), ...renewed];
  const looked = [...edited, ...hashed].filter((name) => !isOddName(name));
  return [...looked, ...answer.flatMap(({ value }) => inPieces(value))];
}
