/** What `check` says: every rule of the user's files, where it is enforced, and why. */
import type { Diagnostic } from '../policy/diagnostics.js';
import type { Clients, Resources, SourceRule } from '../policy/resources.js';
import { type Assumptions, buildPlan, type Outcomes, outcomesOf } from './build.js';
import type { Plan, Reason } from './ir.js';
import { dedupe } from './routes.js';

export interface ReportReason {
  readonly code: string;
  readonly message: string;
  readonly field: string;
  /** line in `file`; 0 if unknown */
  readonly line: number;
  /** the rule's file, or another one that is to blame */
  readonly file: string;
  /** it is so for the clients that the policies were read for, and not for these */
  readonly clients?: Clients;
}

/** What rules may wait for, alone or together. */
export type WaitsFor = 'http2' | 'tls' | 'http2+tls';

export interface ReportResult {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly kind: string;
  readonly name: string;
  readonly rule: string;
  readonly verdict: 'kernel' | 'proxy' | 'invalid';
  /** the proxy has it for this alone: in a kernel that spoke it, the rule would be the kernel's */
  readonly waitsFor?: WaitsFor;
  readonly reasons: readonly ReportReason[];
}

export interface ReportError {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly code: string;
  readonly field: string;
  readonly message: string;
  readonly hint?: string;
}

/** The contract of `check --json`. */
export interface CheckReport {
  readonly rules: number;
  readonly kernel: number;
  readonly proxy: number;
  /** rules in files with errors */
  readonly invalid: number;
  /** of those left to the proxy, rules that would be in the kernel but for HTTP/2 */
  readonly http2: number;
  /** those that would be in the kernel but for TLS */
  readonly tls: number;
  /** those that would be in the kernel but for both */
  readonly http2AndTls: number;
  readonly documents: number;
  readonly errors: readonly ReportError[];
  readonly warnings: readonly ReportError[];
  readonly results: readonly ReportResult[];
}

/** What a later pass leaves to the proxy, by route id. */
export type Refused = ReadonlyMap<string, readonly Reason[]>;

/** For each object inside the resources, the object that holds it. */
function parents(resources: Resources): Map<object, object> {
  const found = new Map<object, object>();
  const walk = (value: unknown, holder: object | undefined): void => {
    if (typeof value !== 'object' || value === null || found.has(value)) return;
    if (holder) found.set(value, holder);
    for (const child of Object.values(value)) walk(child, value);
  };
  for (const tree of [resources.listeners, resources.routeConfigs, resources.clusters, resources.endpoints]) {
    for (const root of tree) walk(root, undefined);
  }
  return found;
}

function reasonsOf(
  rule: SourceRule,
  outcomes: Outcomes,
  holders: Map<object, object>,
  refused: Refused,
  { http2 = false, tls = false }: Assumptions,
): ReportReason[] {
  const reasons: Reason[] = [];
  for (const object of rule.objects) {
    let at: object | undefined = object;
    while (at !== undefined && !outcomes.reasons.has(at)) at = holders.get(at);
    if (at === undefined) continue;
    reasons.push(...outcomes.reasons.get(at)!);
    for (const id of outcomes.routeIds.get(at) ?? []) reasons.push(...(refused.get(id) ?? []));
  }
  const own = rule.unsupported
    .filter(({ code }) => !(http2 && code === 'grpc') && !(tls && code === 'mesh-tls'))
    .map(({ code, message, field, line, clients }) => ({
      ...{ code, message, field, line, ...(clients ? { clients } : {}) },
      file: rule.position.file,
    }));
  const found = dedupe(reasons).map((r) => ({
    code: r.code,
    message: r.message,
    field: r.field,
    line: r.position?.line ?? rule.position.line,
    file: r.position?.file ?? rule.position.file,
  }));
  return [...own, ...found];
}

/**
 * The verdict on every rule of the files. A plan that `buildPlan` did not make is made anew from the resources.
 * @param refused reasons, by route id, of what the plan offloads and the compiler has no room for
 * @param lints more warnings than the translation has
 * @param assumed what the plan was made with
 */
export function report(
  resources: Resources,
  plan: Plan,
  refused: Refused = new Map(),
  lints: readonly Diagnostic[] = [],
  assumed: Assumptions = {},
): CheckReport {
  const outcomes = outcomesOf(plan) ?? outcomesOf(buildPlan(resources, assumed))!;
  const holders = parents(resources);
  const findings = (severity: 'error' | 'warning'): ReportError[] =>
    [...resources.diagnostics, ...lints]
      .filter((d) => d.severity === severity)
      .map((d) => ({
        file: d.position?.file ?? '',
        line: d.position?.line ?? 0,
        column: d.position?.column ?? 0,
        code: d.code,
        field: d.field ?? '',
        message: d.message,
        ...(d.hint === undefined ? {} : { hint: d.hint }),
      }));
  const errors = findings('error');
  const broken = new Set(errors.map((e) => e.file));
  const results = resources.rules.map((rule): ReportResult => {
    const { file, line, column } = rule.position;
    const { kind, name } = rule;
    const head = { file, line, column, kind, name, rule: rule.rule };
    if (broken.has(file)) return { ...head, verdict: 'invalid', reasons: [] };
    const reasons = reasonsOf(rule, outcomes, holders, refused, assumed);
    return { ...head, verdict: reasons.length === 0 ? 'kernel' : 'proxy', reasons };
  });
  const count = (verdict: ReportResult['verdict']) => results.filter((r) => r.verdict === verdict).length;
  return {
    rules: results.length,
    kernel: count('kernel'),
    proxy: count('proxy'),
    invalid: count('invalid'),
    http2: 0,
    tls: 0,
    http2AndTls: 0,
    documents: resources.documents,
    errors,
    warnings: findings('warning'),
    results,
  };
}
