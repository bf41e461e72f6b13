/** Actions of rules as structures of the image. */
import {
  ACTION,
  ACTION_FLAG,
  ActionSpec,
  ADD,
  AddSpec,
  AnswerVariablesSpec,
  DETAILS_SHIFT,
  HASH,
  HASH_FLAG,
  HashSourceSpec,
  MAX_ADDS,
  MAX_CLUSTERS,
  MAX_LITERAL,
  MAX_PIECES,
  MirrorSpec,
  ORIGIN,
  PIECE,
  PieceSpec,
  RETRY_STREAMS,
  STATUS_WORDS,
  TemplateSpec,
  TIMES,
  WeightedClusterSpec,
} from '../layout/actions.js';
import { SLOT } from '../layout/image.js';
import { set } from '../layout/struct.js';
import type {
  AnswerEdits,
  ForwardAction,
  HashPolicy,
  ListenerPlan,
  Piece,
  ReplyAction,
  StreamTimes,
  TargetRewrite,
  TokenBucket,
} from '../plan/ir.js';
import { answerProgram, FIGURES, type ProgramNumber, SHOWN_BUCKET } from './answer-edits.js';
import type { Blob } from './blob.js';
import { captureRewrite } from './capture.js';
import type { Clusters } from './clusters.js';
import { type NetAdd, netEdits } from './edits.js';
import { cookieFinder, queryFinder } from './find.js';
import { isOddName } from './scanner.js';
import { reasonPhrase } from './status.js';
import { traceOf } from './traces.js';

/** Why an action is left to the proxy. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
}

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

/** What templates are compiled against. */
export type TemplateContext = Pick<ActionContext, 'blob' | 'slot' | 'bucketIndex' | 'details'>;

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

const refuse = (code: string, message: string): Refusal => ({ code, message });
const isRefusal = (x: Refusal | Record<string, number>): x is Refusal => typeof x.code === 'string';
const bit = (slot: number) => 1n << BigInt(slot);

function literalPiece(blob: Blob, text: string) {
  const bytes = Buffer.from(text);
  return { kind: PIECE.LITERAL, off: blob.intern(bytes), len: bytes.length };
}

/**
 * Stores a template; neighbouring literals become one.
 * @param repeat see CaptureRewrite; the last piece then stands behind all repetitions.
 * @returns its offset, or undefined when it has too many pieces or needs headers that have no slot, or buckets that have no place.
 */
function template(
  { blob, slot, bucketIndex }: TemplateContext,
  pieces: readonly Piece[],
  repeat?: number,
): number | undefined {
  const merged: Piece[] = [];
  for (const piece of pieces) {
    const last = merged.at(-1);
    if (piece.kind === 'literal' && piece.value === '') continue;
    if (piece.kind === 'literal' && last?.kind === 'literal')
      merged[merged.length - 1] = { kind: 'literal', value: last.value + piece.value };
    else merged.push(piece);
  }
  if (merged.length > MAX_PIECES) return undefined;
  const total = merged.reduce((sum, p) => sum + (p.kind === 'literal' ? Buffer.byteLength(p.value) : 0), 0);
  if (total > MAX_LITERAL) return undefined;
  if (merged.some((p) => p.kind === 'header' && slot(p.name) === undefined)) return undefined;
  if (merged.some((p) => p.kind === 'figure' && p.bucket && bucketIndex(p.bucket) === undefined)) return undefined;
  const list = merged.map((piece): Record<string, number> => {
    switch (piece.kind) {
      case 'literal':
        return literalPiece(blob, piece.value);
      case 'path':
        return { kind: PIECE.PATH_FROM, off: piece.from };
      case 'query':
        return { kind: PIECE.QUERY };
      case 'host':
        return { kind: PIECE.HOST };
      case 'host_name':
        return { kind: PIECE.HOST_NAME };
      case 'header':
        return { kind: PIECE.HEADER, arg: slot(piece.name)!, off: piece.from ?? 0, len: piece.length ?? 0 };
      case 'source_ip':
        return { kind: PIECE.SOURCE_IP };
      case 'random':
        return { kind: PIECE.RANDOM, arg: piece.again ? 1 : 0 };
      case 'request_id':
        return { kind: PIECE.REQUEST_ID };
      case 'sampled':
        return { kind: PIECE.SAMPLED };
      case 'uuid':
        return { kind: PIECE.UUID };
      case 'endpoint':
        return { kind: PIECE.ENDPOINT };
      case 'base64':
        return { kind: PIECE.BASE64 };
      case 'figure':
        return { kind: PIECE.FIGURE, arg: FIGURES[piece.of], off: piece.bucket ? bucketIndex(piece.bucket)! + 1 : 0 };
      default:
        return { kind: PIECE.CAPTURE, arg: piece.group };
    }
  });
  return storePieces(blob, list, repeat);
}

function storePieces(blob: Blob, list: readonly Record<string, number>[], repeat = -1): number {
  const head = new Uint8Array(TemplateSpec.size);
  new DataView(head.buffer).setUint32(0, list.length, true);
  new DataView(head.buffer).setUint32(4, repeat + 1, true);
  return blob.structs(PieceSpec, list, head);
}

/** Where a hash comes from; the offset of the list, 0: there is none. */
function hashes(context: ActionContext, policies: readonly HashPolicy[]): number | Refusal {
  const list: Record<string, number>[] = [];
  for (const { of, terminal, generated } of policies) {
    const flags = (terminal ? HASH_FLAG.TERMINAL : 0) | (generated ? HASH_FLAG.GENERATED : 0);
    const source = hashSource(context, of);
    if (isRefusal(source)) return source;
    list.push({ ...source, flags });
  }
  return list.length === 0 ? 0 : context.blob.structs(HashSourceSpec, list);
}

function hashSource(context: ActionContext, of: HashPolicy['of']): Record<string, number> | Refusal {
  const { blob } = context;
  switch (of.kind) {
    case 'header':
    case 'cookie': {
      const name = of.kind === 'header' ? of.name : 'cookie';
      const slot = context.slot(name);
      if (slot === undefined) return refuse('budget', `no slot left for header ${name}`);
      if (of.kind === 'header') return { kind: HASH.HEADER, slot };
      const rows = blob.actionRows(cookieFinder(of.name));
      return { kind: HASH.COOKIE, slot, find: rows.start, find_classes: rows.classes };
    }
    case 'query': {
      const rows = blob.actionRows(queryFinder(of.name));
      return { kind: HASH.QUERY, find: rows.start, find_classes: rows.classes };
    }
    case 'host':
      return { kind: HASH.HOST };
    case 'target':
      return { kind: HASH.TARGET };
    case 'method':
      return { kind: HASH.METHOD };
    case 'source_ip':
      return { kind: HASH.SOURCE_IP };
  }
}

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
