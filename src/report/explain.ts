/** What happens to one request, step by step: the trace that `explain` prints. */

import { parseAddress } from '../compile/address.js';
import { useHostSets, writeHostSets } from '../compile/clusters.js';
import { compileImage } from '../compile/image.js';
import { interpret } from '../compile/interpret.js';
import { MAX_REPLAY } from '../layout/exchanges.js';
import { describeCondition, describeField, describeForwarding, describePredicate } from '../plan/describe.js';
import { evaluate, type Trace } from '../plan/evaluate.js';
import { formProblems, headText } from '../plan/form.js';
import { routeFor } from '../plan/hellos.js';
import type {
  Condition,
  ConnectionRoute,
  ForwardAction,
  HeaderEdit,
  HelloPlan,
  ListenerPlan,
  Piece,
  Plan,
  Reason,
  RoutePlan,
} from '../plan/ir.js';
import { FOR_HOST } from '../plan/named-by-request.js';
import { oddity } from '../plan/oddity.js';
import { policiesOf } from '../plan/rbac-policies.js';
import { type PlanRequest, View } from '../plan/request-view.js';
import type { Position } from '../policy/diagnostics.js';

/** A part of a condition that does not hold. */
export interface Failure {
  /** what is looked at, e.g. `path` or `header x-user`; `any of` and `not` for what is combined */
  readonly field: string;
  /** in words */
  readonly expected: string;
  /** what the request has; null: it has no such thing, or several fields are involved */
  readonly actual: string | null;
}

interface Place {
  /** '' if it is not known */
  readonly file: string;
  readonly line: number;
}

export interface ConsideredRule extends Place {
  readonly name: string;
  readonly outcome: 'matched' | 'not matched' | 'cannot be computed';
  /** every part that does not hold */
  readonly failed: readonly Failure[];
}

export interface AccessCheck {
  readonly action: 'allow' | 'deny';
  readonly outcome: 'passed' | 'denied';
  /** in the order of the filter; all are evaluated */
  readonly policies: readonly (Place & {
    readonly name: string;
    readonly outcome: 'matched' | 'not matched';
    readonly failed: readonly Failure[];
  })[];
}

export interface Candidate {
  readonly cluster: string;
  readonly weight: number;
  /** percent of the requests of this rule */
  readonly share: number;
  readonly lb: string;
  readonly endpoints: readonly { readonly address: string; readonly port: number; readonly weight: number }[];
}

export type ExplainedResult =
  /** the listener is about connections: where they lead, whatever is requested */
  | { readonly kind: 'connect'; readonly clusters: readonly Candidate[] }
  | {
      readonly kind: 'forward';
      readonly target: string;
      readonly headers: readonly (readonly [string, string])[];
      readonly edits: readonly string[];
      readonly clusters: readonly Candidate[];
      /** 0: none */
      readonly timeoutMs: number;
      /** tries after a 503 or a failed connection, made by the proxy */
      readonly retries: number;
      readonly settings: readonly { readonly name: string; readonly text: string }[];
    }
  | {
      readonly kind: 'reply';
      readonly status: number;
      readonly headers: readonly (readonly [string, string])[];
      readonly body: string;
    };

/** `explain --json`. */
export interface Explanation {
  readonly request: {
    readonly method: string;
    readonly target: string;
    readonly version: string;
    readonly headers: readonly (readonly [string, string])[];
    readonly from: string;
    readonly bodyLength: number;
  };
  readonly listener: string;
  /** '' if none matches */
  readonly virtualHost: string;
  readonly verdict: 'kernel' | 'proxy';
  readonly why: string;
  /** for the proxy: what in the files or the request is to blame */
  readonly reasons: readonly (Place & { readonly code: string; readonly message: string; readonly field: string })[];
  /** properties of the request for which the proxy decides whatever the rules say */
  readonly form: readonly string[];
  readonly considered: readonly ConsideredRule[];
  /** null: no rule matches, or which one does is not known */
  readonly winner: (Place & { readonly name: string }) | null;
  readonly access: readonly AccessCheck[];
  /** null for the proxy */
  readonly result: ExplainedResult | null;
}

function place(position: Position | undefined): Place {
  return { file: position?.file ?? '', line: position?.line ?? 0 };
}

/** Every part of a condition that does not hold; empty if it holds. */
function failures(view: View, condition: Condition): Failure[] {
  if (view.holds(condition)) return [];
  switch (condition.op) {
    case 'and':
      return condition.of.flatMap((part) => failures(view, part));
    case 'test': {
      const field = describeField(condition.predicate.field);
      const expected = describePredicate(condition.predicate).slice(field.length + 1);
      return [{ field, expected, actual: view.value(condition.predicate) ?? null }];
    }
    case 'or':
      return [{ field: 'any of', expected: describeCondition(condition), actual: null }];
    case 'not': {
      const of = condition.of;
      if (of.op !== 'test') return [{ field: 'not', expected: describeCondition(of), actual: null }];
      const field = describeField(of.predicate.field);
      const expected = `not: ${describePredicate(of.predicate).slice(field.length + 1)}`;
      return [{ field, expected, actual: view.value(of.predicate) ?? null }];
    }
    default:
      return [{ field: 'nothing', expected: 'the rule never matches', actual: null }];
  }
}

/** The id of the route that a variant belongs to. */
function ruleOf(id: string): string {
  return id.replace(/(\/\d+)\.\d+$/, '$1');
}

function consideredRules(trace: Trace, view: View): ConsideredRule[] {
  // guards that did not strike say nothing about the user's rules, nor do all variants of a route but the last
  const shown = trace.considered.filter(({ route, outcome }, i) => {
    const next = trace.considered[i + 1]?.route;
    return outcome !== 'not matched' || !(route.guard || (next && ruleOf(next.id) === ruleOf(route.id)));
  });
  return shown.map(({ route, outcome }) => ({
    name: route.name,
    outcome,
    failed: route.match ? failures(view, route.match) : [],
    ...place(route.position),
  }));
}

function accessChecks(listener: ListenerPlan, winner: RoutePlan | undefined, view: View): AccessCheck[] {
  // what is drawn decides nothing here
  const checks = (winner?.rbac ?? listener.rbac).filter(({ chance, bucket }) => !chance && !bucket);
  return checks.map((check): AccessCheck => {
    const passed = view.holds(check.condition) === (check.action === 'allow');
    const policies = policiesOf(check).map(({ name, condition, position }) => ({
      name,
      outcome: view.holds(condition) ? ('matched' as const) : ('not matched' as const),
      failed: failures(view, condition),
      ...place(position),
    }));
    return { action: check.action, outcome: passed ? 'passed' : 'denied', policies };
  });
}

/** A piece of a computed header value. */
function pieceText(piece: Piece): string {
  if (piece.kind === 'literal') return piece.value;
  return piece.kind === 'source_ip' ? '<client address>' : `<${piece.kind}>`;
}

function editText(edit: HeaderEdit): string {
  if (edit.op === 'remove') return `remove ${edit.name}`;
  const value = typeof edit.value === 'string' ? edit.value : edit.value.map(pieceText).join('');
  switch (edit.op) {
    case 'append':
      return `append ${edit.name}: ${value}`;
    case 'join':
      return `add to ${edit.name}: ${value}`;
    case 'overwrite':
    case 'renew':
      return `set ${edit.name}: ${value}`;
    case 'sampled':
      return `set ${edit.name}: ${value} (if the request is sampled)`;
    case 'add_if_absent':
      return `add ${edit.name}: ${value} (if there is none)`;
    case 'overwrite_if_present':
      return `set ${edit.name}: ${value} (if there is one)`;
  }
}

function edits(action: ForwardAction, request: PlanRequest, target: string): string[] {
  const list: string[] = [];
  if (target !== request.target) list.push(`path: ${request.target} becomes ${target}`);
  if (action.host !== undefined) list.push(`host: becomes ${action.host}`);
  return [...list, ...action.edits.map(editText)];
}

function candidates(plan: Plan, action: Pick<ForwardAction, 'clusters'>): Candidate[] {
  const total = action.clusters.reduce((sum, c) => sum + c.weight, 0);
  return action.clusters.map(({ cluster, weight }) => {
    const found = plan.clusters.find((c) => c.name === cluster);
    return {
      cluster: cluster.split(FOR_HOST)[0]!,
      weight,
      share: Number(((100 * weight) / total).toFixed(1)),
      lb: found?.lb ?? '',
      endpoints: (found?.endpoints ?? []).map(({ address, port, weight: w }) => ({ address, port, weight: w })),
    };
  });
}

interface ImageVerdict {
  readonly kernel: boolean;
  readonly why: string;
  readonly reasons: readonly Reason[];
}

/** What the policy image, which is what the kernel runs, does with the request. */
function askImage(plan: Plan, trace: Trace, request: PlanRequest): ImageVerdict {
  const compiled = compileImage(plan, { generation: 1, endpointId: () => 0, proxyEndpointId: () => 0 });
  // which endpoints the proxy will find is not known here, but that there are any is what is asked about
  for (const cluster of compiled.followed.values()) {
    const { endpoints, followed } = cluster.plan;
    const hosts = followed.names ? [{ address: '', port: 0, weight: 1 }] : endpoints;
    const states = hosts.map((_, i) => followed.hosts[i] ?? { health: 'healthy' as const, priority: 0, locality: 0 });
    const found = hosts.map((host) => ({ ...host, id: 0 }));
    useHostSets(compiled.image, cluster, writeHostSets(compiled.image, cluster, 0, found, states));
  }
  const index = plan.listeners.findIndex((l) => l.name === trace.listener);
  const decision = interpret(compiled.image, index, Buffer.from(headText(request), 'latin1'), {
    sourceIp: parseAddress(request.sourceIp ?? '127.0.0.1') ?? new Uint8Array(4),
    random: 0,
    uuid: '00000000-0000-4000-8000-000000000000',
  });
  if (decision.action !== 'proxy') return { kernel: true, why: '', reasons: [] };
  const refused = trace.winner ? compiled.verdicts.get(trace.winner.id) : undefined;
  if (refused) return { kernel: false, why: refused.map((r) => r.message).join('; '), reasons: refused };
  if (decision.result !== 'decided') {
    const what = request.target.startsWith('//')
      ? 'the target begins with two slashes'
      : 'Host, Referer or another part of the head is not in its plain form';
    return { kernel: false, why: `requests of this form go to the proxy: ${what}`, reasons: [] };
  }
  const why =
    trace.result?.kind === 'reply'
      ? 'answers to requests with a body, and to HEAD without a body to describe, are given by the proxy'
      : trace.result?.kind === 'forward' && trace.result.action.hash?.some((source) => source.generated)
        ? 'the cookie that decides about the endpoint is missing, and the proxy makes it up'
        : 'the rules that come into question do not fit into the policy image, or the request grows too long';
  return { kernel: false, why, reasons: [] };
}

function bodyOf(request: PlanRequest): number {
  const length = request.headers.find(([n]) => n.toLowerCase() === 'content-length')?.[1] ?? '0';
  return request.bodyLength ?? (Number(length) || 0);
}

function asked(request: PlanRequest): Explanation['request'] {
  return {
    method: request.method,
    target: request.target,
    version: request.version ?? '1.1',
    headers: request.headers,
    from: request.sourceIp ?? '127.0.0.1',
    bodyLength: bodyOf(request),
  };
}

/** Where a listener leads that is about connections. */
function explainConnection(
  plan: Plan,
  { name, offloaded, reasons }: ListenerPlan,
  route: ConnectionRoute,
  request: PlanRequest,
): Explanation {
  return {
    request: asked(request),
    listener: name,
    virtualHost: '',
    verdict: offloaded ? 'kernel' : 'proxy',
    why: offloaded
      ? 'the endpoint is chosen when the connection is opened, whatever is sent'
      : 'the connection is left to the proxy, whatever is sent',
    reasons: reasons.map((r) => ({ code: r.code, message: r.message, field: r.field, ...place(r.position) })),
    form: [],
    considered: [],
    winner: { name: route.id, ...place(route.position) },
    access: [],
    result: offloaded ? { kind: 'connect', clusters: candidates(plan, route) } : null,
  };
}

/** Where a listener leads whose connections are routed by their first message. */
function explainHello(plan: Plan, about: ListenerPlan, hellos: HelloPlan, request: PlanRequest): Explanation {
  const index = about.offloaded ? routeFor(hellos, request.hello) : undefined;
  const route = index === undefined ? undefined : hellos.routes[index]!;
  const base = explainConnection(plan, { ...about, offloaded: route !== undefined }, route ?? NO_ROUTE, request);
  const what = request.hello ? 'the ClientHello' : 'what the client sends first, which is not TLS';
  if (route) return { ...base, why: `the endpoint is chosen by ${what}` };
  return { ...base, winner: null, why: `no filter chain for ${what} is the kernel’s: the proxy decides` };
}

const NO_ROUTE: ConnectionRoute = { id: '', clusters: [] };

/** Explains a request to a listener of a plan. Throws if there is no listener of that name. */
export function explain(plan: Plan, request: PlanRequest): Explanation {
  const about = plan.listeners.find((l) => l.name === request.listener);
  if (about?.connections) return explainConnection(plan, about, about.connections, request);
  if (about?.hellos) return explainHello(plan, about, about.hellos, request);
  const trace = evaluate(plan, request);
  const listener = plan.listeners.find((l) => l.name === trace.listener)!;
  const view = new View(request);
  let { verdict, why } = trace;
  let reasons: readonly Reason[] = verdict === 'proxy' ? (trace.winner?.reasons ?? []) : [];
  if (!listener.offloaded) reasons = listener.reasons;
  const odd = oddity(listener, view);
  const form = listener.offloaded && odd !== undefined ? [...new Set([odd, ...formProblems(request)])] : [];
  if (form.length > 0) why = `requests of this form go to the proxy: ${form.join(', ')}`;
  if (verdict === 'kernel') {
    const image = askImage(plan, trace, request);
    const result = trace.result;
    const retried = result?.kind === 'forward' && result.action.retry !== undefined;
    if (!image.kernel) {
      verdict = 'proxy';
      ({ why, reasons } = image);
    } else if (retried && headText(request).length + bodyOf(request) > MAX_REPLAY) {
      verdict = 'proxy';
      why = `a request that may be tried again must fit into ${MAX_REPLAY} bytes`;
    }
  }
  const { result } = trace;
  const kernel = verdict === 'kernel';
  return {
    request: asked(request),
    listener: trace.listener,
    virtualHost: trace.virtualHost ?? '',
    verdict,
    why,
    reasons: reasons.map((r) => ({ code: r.code, message: r.message, field: r.field, ...place(r.position) })),
    form,
    considered: consideredRules(trace, view),
    winner: trace.winner?.match ? { name: trace.winner.name, ...place(trace.winner.position) } : null,
    access: trace.considered.length > 0 || trace.result ? accessChecks(listener, trace.winner, view) : [],
    result:
      !kernel || !result
        ? null
        : result.kind === 'reply'
          ? result
          : {
              kind: 'forward',
              target: result.target,
              headers: result.headers,
              edits: [...edits(result.action, request, result.target), ...result.answer.map(answerEdit)],
              clusters: candidates(plan, result.action),
              timeoutMs: result.action.timeoutMs,
              retries: result.action.retry?.retries ?? 0,
              settings: describeForwarding(result.action).map(([name, text]) => ({ name, text })),
            },
  };
}

/** e.g. `answer: overwrite x-a: 1`. */
function answerEdit({
  op,
  name,
  value,
}: {
  readonly op: string;
  readonly name: string;
  readonly value: string;
}): string {
  if (op === 'list') return `answer: ${name}: ${value}, if it could have been compressed`;
  return `answer: ${op.replaceAll('_', ' ')} ${name}${op === 'remove' ? '' : `: ${value}`}`;
}
