/** The plan's reference evaluator: what happens to one request, and why. Slow and plain on purpose. */

import { describeCondition } from './describe.js';
import { formProblems } from './form.js';
import type {
  AnswerEdit,
  Condition,
  ForwardAction,
  ListenerPlan,
  Piece,
  Plan,
  Predicate,
  RbacCheck,
  ReplyAction,
  RoutePlan,
  TokenBucket,
  VirtualHostPlan,
} from './ir.js';
import { asciiLower, compileRegex, matchesValue } from './matchers.js';

export interface PlanRequest {
  /** name of the listener; the first one if it is not given */
  readonly listener?: string;
  readonly method: string;
  /** as in the request line */
  readonly target: string;
  /** in order; names in any case; Host among them */
  readonly headers: readonly (readonly [string, string])[];
  /** IPv4 or IPv6 literal of the client */
  readonly sourceIp?: string;
  /** numbers of the facts that hold for its token, if it is known */
  readonly tokenFacts?: ReadonlySet<number>;
  /** headers that come with it */
  readonly tokenHeaders?: readonly (readonly [string, string])[];
  /** unsigned, 32 bits: what steps with a chance draw; undefined: none of them strikes */
  readonly random?: number;
  /** keys of the token buckets without a token */
  readonly empty?: ReadonlySet<string>;
  /** HTTP version; 1.1 if it is not given */
  readonly version?: string;
  /** bytes of the body; by default what Content-Length says */
  readonly bodyLength?: number;
  /** the client begins with a ClientHello: its server name (lower case), and its protocols in order */
  readonly hello?: { readonly name?: string; readonly protocols: readonly string[] };
}

export interface Considered {
  readonly route: RoutePlan;
  readonly outcome: 'matched' | 'not matched' | 'cannot be computed';
  /** the first part of the condition that does not hold */
  readonly failed?: string;
}

export type Result =
  | {
      readonly kind: 'forward';
      readonly action: ForwardAction;
      readonly target: string;
      /** lower case names; `x-request-id: <uuid>` stands for a random one */
      readonly headers: readonly (readonly [string, string])[];
      /** edits of the answer, in order */
      readonly answer: readonly (Omit<AnswerEdit, 'value'> & { readonly value: string })[];
    }
  | {
      readonly kind: 'reply';
      readonly status: number;
      readonly headers: readonly (readonly [string, string])[];
      readonly body: string;
    };

export interface Trace {
  readonly listener: string;
  readonly verdict: 'kernel' | 'proxy';
  /** in words */
  readonly why: string;
  readonly virtualHost?: string;
  readonly considered: readonly Considered[];
  readonly winner?: RoutePlan;
  /** for the kernel: what it does */
  readonly result?: Result;
}

/** A request taken apart, as predicates see it. */
export class View {
  readonly path: string;
  readonly query: string | undefined;
  readonly host: string;
  readonly headers = new Map<string, string[]>();

  constructor(readonly request: PlanRequest) {
    const mark = request.target.indexOf('?');
    this.path = mark < 0 ? request.target : request.target.slice(0, mark);
    this.query = mark < 0 ? undefined : request.target.slice(mark + 1);
    for (const [name, value] of request.headers) {
      const key = name.toLowerCase();
      this.headers.set(key, [...(this.headers.get(key) ?? []), value.trim()]);
    }
    this.host = this.headers.get('host')?.[0] ?? '';
  }

  /** The field's value; undefined if it is not there. */
  value({ field }: Predicate): string | undefined {
    switch (field.kind) {
      case 'method':
        return this.request.method;
      case 'host':
        return this.host;
      case 'path':
        return this.path;
      case 'target':
        return this.request.target;
      case 'source_ip':
        return this.request.sourceIp ?? '127.0.0.1';
      case 'header':
        return this.headers.get(field.name)?.[0];
      case 'token':
        return this.request.tokenFacts?.has(field.fact) ? '' : undefined;
      case 'query':
        for (const part of (this.query ?? '').split('&')) {
          const eq = part.indexOf('=');
          if ((eq < 0 ? part : part.slice(0, eq)) === field.name && part !== '')
            return eq < 0 ? '' : part.slice(eq + 1);
        }
        return undefined;
    }
  }

  holds(c: Condition): boolean {
    switch (c.op) {
      case 'const':
        return c.value;
      case 'not':
        return !this.holds(c.of);
      case 'and':
        return c.of.every((p) => this.holds(p));
      case 'or':
        return c.of.some((p) => this.holds(p));
      case 'test': {
        const value = this.value(c.predicate);
        return value !== undefined && matchesValue(c.predicate.matcher, value);
      }
    }
  }

  /** The part of a condition that makes it false, in words. */
  failed(c: Condition): string {
    if (c.op === 'and') return this.failed(c.of.find((p) => !this.holds(p)) ?? c);
    return describeCondition(c);
  }
}

function headersIn(c: Condition, into: Set<string>): void {
  if (c.op === 'test' && c.predicate.field.kind === 'header') into.add(c.predicate.field.name);
  if (c.op === 'not') headersIn(c.of, into);
  if (c.op === 'and' || c.op === 'or') for (const p of c.of) headersIn(p, into);
}

function valuesIn(pieces: readonly Piece[], into: Set<string>): void {
  for (const p of pieces) if (p.kind === 'header') into.add(p.name);
}

function piecesIn(reply: ReplyAction, into: Set<string>): void {
  for (const { value } of reply.headers) valuesIn(value, into);
}

function checksIn(checks: readonly RbacCheck[], into: Set<string>): void {
  for (const { condition, reply } of checks) {
    headersIn(condition, into);
    if (reply?.kind === 'reply') piecesIn(reply, into);
  }
}

function answerEdits(action: ForwardAction): readonly AnswerEdit[] {
  return [...(action.answer?.route ?? []), ...(action.answer?.filters ?? [])];
}

/** Methods that are decided here; Envoy refuses methods that it does not know, and tunnels CONNECT. */
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE']);

/** What the proxy would change: dot segments, backslashes, characters to escape, escapes of what needs none; half escapes. */
const NOT_NORMAL =
  /["<>\\^`{|}]|\/\.\.?(?:[/;]|$)|%(?![0-9a-f]{2})|%(?:00|2[de]|3[0-9]|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9ae])/i;

/** Why the form of a request sends it to the proxy whatever the rules say; undefined: it does not. */
export function oddity(listener: ListenerPlan, view: View): string | undefined {
  const { method, target } = view.request;
  if (!METHODS.has(method)) return `the method ${method}`;
  if (!target.startsWith('/')) return 'the target is not a path';
  if (/[^!-~]|#/.test(target)) return 'the target has a fragment or bytes outside ASCII';
  if ((view.headers.get('host') ?? []).length !== 1) return 'not exactly one Host header';
  for (const name of view.headers.keys()) {
    if (name.startsWith('x-envoy-')) return `the header ${name} instructs the proxy`;
    if (name === 'upgrade' || name === 'expect' || name === 'proxy-connection') return `the header ${name}`;
  }
  const proto = view.headers.get('x-forwarded-proto') ?? ['http'];
  if (proto.length > 1 || !/^https?$/.test(proto[0]!)) return 'an odd x-forwarded-proto';
  if (view.headers.has('transfer-encoding') && view.headers.has('content-length')) return 'two framings';
  const tokens = (view.headers.get('connection') ?? [])
    .join(',')
    .split(',')
    .map((t) => asciiLower(t.trim()));
  if (tokens.some((t) => t !== '' && t !== 'close' && t !== 'keep-alive')) return 'Connection names headers';
  const { paths } = listener;
  if (paths.normalize && NOT_NORMAL.test(view.path)) return 'the path may need normalising';
  if (paths.mergeSlashes && view.path.includes('//')) return 'the path has double slashes';
  if (paths.escapedSlashes && /%2f|%5c|%(?![0-9a-f]{2})/i.test(view.path)) return 'the path has escaped slashes';
  return formProblems(view.request)[0];
}

/** The host without its port (the part after the last colon that is not inside brackets). */
export function hostName(host: string): string {
  const colon = host.lastIndexOf(':');
  return colon < 0 || host.lastIndexOf(']') > colon ? host : host.slice(0, colon);
}

/** Envoy's choice of a virtual host: exact, then the longest `*suffix`, then the longest `prefix*`, then `*`. */
export function findVirtualHost(listener: ListenerPlan, rawHost: string): VirtualHostPlan | undefined {
  const { stripPort } = listener;
  let host = rawHost;
  if (stripPort === 'any' || (typeof stripPort === 'number' && rawHost.endsWith(`:${stripPort}`)))
    host = hostName(rawHost);
  host = asciiLower(host);
  const entries = listener.virtualHosts.flatMap((v) => v.domains.map((d) => ({ v, d })));
  const exact = entries.find((e) => e.d === host && !e.d.includes('*'));
  if (exact) return exact.v;
  const longest = (fits: (d: string) => boolean) =>
    entries
      .filter((e) => e.d !== '*' && e.d.length - 1 < host.length && fits(e.d))
      .sort((a, b) => b.d.length - a.d.length)[0];
  const suffix = longest((d) => d.startsWith('*') && host.endsWith(d.slice(1)));
  const prefix = longest((d) => !d.startsWith('*') && d.endsWith('*') && host.startsWith(d.slice(0, -1)));
  return (suffix ?? prefix ?? entries.find((e) => e.d === '*'))?.v;
}

/** RE2::GlobalReplace with Envoy's substitution (\0..\9, \\). */
export function globalReplace(input: string, pattern: string, substitution: string): string {
  const matcher = compileRegex(pattern).matcher(input);
  let out = '';
  let last = 0;
  let lastEnd = -1;
  while (matcher.find()) {
    const [start, end] = [matcher.start(), matcher.end()];
    if (start === end && start === lastEnd) continue;
    out += input.slice(last, start);
    out += substitution.replace(/\\(\d|\\)/g, (_, g: string) => (g === '\\' ? '\\' : (matcher.group(Number(g)) ?? '')));
    last = end;
    lastEnd = end;
  }
  return out + input.slice(last);
}

function piece(view: View, p: Piece): string {
  switch (p.kind) {
    case 'literal':
      return p.value;
    case 'path':
      return view.path.slice(p.from);
    case 'header': {
      const value = view.headers.get(p.name)?.[0] ?? '';
      return p.length === undefined ? value : value.substr(p.from ?? 0, p.length);
    }
    case 'query':
      return view.query === undefined ? '' : `?${view.query}`;
    case 'host':
      return view.host;
    case 'host_name':
      return hostName(view.host);
    case 'source_ip':
      return view.request.sourceIp ?? '';
    case 'figure':
      return `<${p.of}>`;
    case 'random':
      return '<random>';
    case 'request_id':
      return view.headers.get('x-request-id')?.[0] ?? '<uuid>';
    case 'sampled':
    case 'uuid':
    case 'endpoint':
      return `<${p.kind}>`;
    case 'base64':
      return '';
    case 'capture':
      throw new RangeError('captures stand in targets only');
  }
}

function expand(view: View, pieces: readonly Piece[]): string {
  return pieces.map((p) => piece(view, p)).join('');
}

const HOP = new Set(['connection', 'keep-alive', 'proxy-connection', 'upgrade']);

function forward(listener: ListenerPlan, view: View, action: ForwardAction): Result {
  let headers: [string, string][] = [];
  for (const [name, value] of view.request.headers) {
    const key = name.toLowerCase();
    if (HOP.has(key) || (key === 'te' && value.trim() !== 'trailers')) continue;
    headers.push([key, key === 'host' ? (action.host ?? value.trim()) : value.trim()]);
  }
  const present = (name: string) => headers.some(([n]) => n === name);
  if (!present('x-forwarded-proto') && listener.forwardedProto !== '')
    headers.push(['x-forwarded-proto', listener.forwardedProto]);
  if (listener.generateRequestId && !present('x-request-id')) headers.push(['x-request-id', '<uuid>']);
  for (const edit of action.edits) {
    const there = present(edit.name);
    if (edit.op === 'remove' || edit.op === 'overwrite' || (edit.op === 'overwrite_if_present' && there)) {
      headers = headers.filter(([n]) => n !== edit.name);
    }
    if (edit.op === 'renew') {
      const by = view.headers.has(edit.by ?? edit.name);
      const renewed = by ? edit.value : edit.absent;
      headers = headers.filter(([n]) => n !== edit.name);
      if (renewed) headers.push([edit.name, expand(view, renewed)]);
      continue;
    }
    if (
      edit.op === 'remove' ||
      (edit.op === 'add_if_absent' && there) ||
      (edit.op === 'overwrite_if_present' && !there)
    )
      continue;
    const value = typeof edit.value === 'string' ? edit.value : expand(view, edit.value);
    const at = edit.op === 'join' ? headers.findIndex(([n]) => n === edit.name) : -1;
    if (at >= 0) headers[at] = [edit.name, `${headers[at]![1]},${value}`];
    else headers.push([edit.name, value]);
  }
  if (action.tokenHeaders) for (const [name, value] of view.request.tokenHeaders ?? []) headers.push([name, value]);
  let target = view.request.target;
  if (action.target?.kind === 'pieces') target = expand(view, action.target.pieces);
  else if (action.target) {
    const path = globalReplace(view.path, action.target.pattern, action.target.substitution);
    target = path + (view.query === undefined ? '' : `?${view.query}`);
  }
  if (action.originalPath) headers.push(['x-envoy-original-path', view.request.target]);
  const answer = answerEdits(action).map((edit) => ({ ...edit, value: expand(view, edit.value) }));
  return { kind: 'forward', action, target, headers, answer };
}

function reply(view: View, action: ReplyAction): Result {
  const headers = action.headers.map(({ name, value }) => [name, expand(view, value)] as const);
  return { kind: 'reply', status: action.status, headers, body: action.body };
}

/** What the plan says about a request. Throws if there is no listener of that name. */
export function evaluate(plan: Plan, request: PlanRequest): Trace {
  const listener =
    request.listener === undefined ? plan.listeners[0] : plan.listeners.find((l) => l.name === request.listener);
  if (!listener) throw new RangeError(`no listener ${request.listener ?? ''}`);
  const view = new View(request);
  const considered: Considered[] = [];
  const base = { listener: listener.name, considered };
  const proxy = (why: string, more: Partial<Trace> = {}): Trace => ({ ...base, ...more, verdict: 'proxy', why });
  if (!listener.offloaded)
    return proxy(`the listener is left to the proxy: ${listener.reasons.map((r) => r.message).join('; ')}`);
  const odd = oddity(listener, view);
  if (odd !== undefined) return proxy(`requests of this form go to the proxy: ${odd}`);

  const vhost = findVirtualHost(listener, view.host);
  const named = vhost ? { virtualHost: vhost.name } : {};
  const looked = new Set<string>();
  checksIn(listener.rbac, looked);
  for (const r of vhost?.routes ?? []) {
    if (r.match) headersIn(r.match, looked);
    checksIn(r.rbac ?? [], looked);
    const { action } = r;
    if (action.kind === 'reply') piecesIn(action, looked);
    if (action.kind === 'forward') for (const e of answerEdits(action)) valuesIn(e.value, looked);
  }
  const repeated = [...looked].find((name) => (view.headers.get(name)?.length ?? 0) > 1);
  if (repeated !== undefined) return proxy(`the header ${repeated}, which a rule looks at, is repeated`, named);

  let winner: RoutePlan | undefined;
  for (const route of vhost?.routes ?? []) {
    if (route.match === undefined) {
      considered.push({ route, outcome: 'cannot be computed' });
      return proxy(`whether ${route.name} matches is known to the proxy only`, { ...named, winner: route });
    }
    if (view.holds(route.match)) {
      considered.push({ route, outcome: 'matched' });
      winner = route;
      break;
    }
    considered.push({ route, outcome: 'not matched', failed: view.failed(route.match) });
  }
  const found = { ...named, ...(winner ? { winner } : {}) };
  if (winner?.action.kind === 'proxy') return proxy(winner.reasons.map((r) => r.message).join('; '), found);
  let perhaps = '';
  let stop: RbacCheck | undefined;
  // a lot is drawn last, when nothing can lead to the proxy any more
  let struck: RbacCheck | undefined;
  for (const check of winner?.rbac ?? listener.rbac) {
    if (view.holds(check.condition) === (check.action === 'allow')) continue;
    const { chance, bucket, reply: answer } = check;
    if (bucket) {
      if (request.empty?.has(bucket.key)) struck ??= check;
      else perhaps += `; a rate limit (${bucketText(bucket)}) stops those that find no token`;
      continue;
    }
    if (chance) {
      const { numerator, denominator } = chance;
      if (request.random !== undefined && request.random % denominator < numerator) struck ??= check;
      else if (answer?.kind === 'proxy') perhaps += `; the proxy delays ${numerator} of ${denominator} such requests`;
      else perhaps += `; a filter stops ${numerator} of ${denominator} such requests`;
      continue;
    }
    if (answer?.kind === 'proxy')
      return proxy(answer.why ?? 'a filter that the proxy runs looks at such requests', found);
    stop = check;
    break;
  }
  const stopped = struck ?? stop;
  if (stopped?.reply?.kind === 'proxy') return proxy(stopped.reply.why ?? '', found);
  if (stopped) {
    const answer = stopped.reply?.kind === 'reply' ? stopped.reply : undefined;
    const rbac = stopped.action === 'allow' ? 'no ALLOW policy matches' : 'a DENY policy matches';
    const why = answer && answer.body !== DENIED.body ? `a filter answers with ${answer.status}` : `RBAC: ${rbac}`;
    return { ...base, ...found, verdict: 'kernel', why, result: answer ? reply(view, answer) : DENIED };
  }
  if (!winner) {
    const why = vhost && vhost.name !== '' ? 'no route matches' : 'no virtual host matches';
    const result = listener.notFound ? reply(view, listener.notFound) : NOT_FOUND;
    return { ...base, ...found, verdict: 'kernel', why, result };
  }
  const { action } = winner;
  const result = action.kind === 'forward' ? forward(listener, view, action) : reply(view, action);
  return { ...base, ...found, verdict: 'kernel', why: `the route ${winner.name} matches${perhaps}`, result };
}

/** A bucket in words. */
function bucketText({ maxTokens, tokensPerFill, fillMs }: TokenBucket): string {
  return `${maxTokens} at once, ${tokensPerFill} every ${fillMs} ms`;
}

const DENIED = {
  kind: 'reply',
  status: 403,
  headers: [['content-type', 'text/plain']],
  body: 'RBAC: access denied',
} as const satisfies Result;
const NOT_FOUND: Result = { kind: 'reply', status: 404, headers: [], body: '' };
