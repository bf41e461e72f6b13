/** Rules that count for some clients only: what is said of each is what becomes of it for the clients it counts for. */

import { type Assumptions, buildPlan } from '../plan/build.js';
import type { Plan } from '../plan/ir.js';
import { type CheckReport, type Refused, type ReportReason, type ReportResult, report } from '../plan/report.js';
import { type LoadOptions, loadForClients } from '../policy/load.js';
import { type Clients, type Resources, sameClients } from '../policy/resources.js';

/** The code of reasons that say: counts for other clients. */
const OTHERS = 'source-match';

/** A rule of one document keeps its place, whoever the clients are. */
const placeOf = ({ file, line, column, kind, name, rule }: ReportResult): string =>
  JSON.stringify([file, line, column, kind, name, rule]);

const same = (a: ReportReason, b: ReportReason): boolean =>
  a.code === b.code && a.field === b.field && a.line === b.line && a.file === b.file;

/** How `run` is told who its clients are. */
function clientOptions({ namespace, labels }: Clients): string {
  const list = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  return `--namespace ${namespace}${list.length > 0 ? ` --labels ${list.join(',')}` : ''}`;
}

/**
 * Judges each rule that counts for other clients for these. Where a rule has parts for several of them, each part is judged
 * for its own, and what is said of any of them counts.
 */
function withOtherClients(
  base: CheckReport,
  others: readonly { readonly clients: Clients; readonly report: CheckReport }[],
): CheckReport {
  const found = others.map(({ clients, report: { results } }) => ({
    clients,
    results: new Map(results.map((result) => [placeOf(result), result])),
  }));
  const warnings = [...base.warnings];
  const results = base.results.map((result): ReportResult => {
    const reasons: ReportReason[] = [];
    const add = (more: readonly ReportReason[]) => {
      for (const reason of more)
        if (reason.code !== OTHERS && !reasons.some((known) => same(known, reason))) reasons.push(reason);
    };
    if (!result.reasons.some((reason) => reason.code === OTHERS)) return result;
    add(result.reasons);
    for (const reason of result.reasons) {
      if (reason.code !== OTHERS) continue;
      const place = placeOf(result);
      const met = found.find(
        ({ clients, results: own }) =>
          reason.clients &&
          sameClients(clients, reason.clients) &&
          own.get(place)?.reasons.every((r) => !same(r, reason)),
      );
      if (!met) {
        reasons.push(reason);
        continue;
      }
      add(met.results.get(place)?.reasons ?? []);
      const { file, line, column } = result;
      const message = `${reason.message}; it is judged for these: run ${clientOptions(met.clients)}`;
      warnings.push({ file, line: reason.line || line, column, code: 'other-clients', field: reason.field, message });
    }
    return { ...result, verdict: reasons.length === 0 ? 'kernel' : 'proxy', reasons };
  });
  const count = (verdict: ReportResult['verdict']) => results.filter((r) => r.verdict === verdict).length;
  return { ...base, results, warnings, kernel: count('kernel'), proxy: count('proxy'), invalid: count('invalid') };
}

/**
 * Loads the files and judges every rule of them, each for clients that it counts for.
 *
 * @param refusedBy what the plan offloads and the compiler has no room for
 * @param lints further warnings about the resources
 */
export async function judge(
  files: readonly string[],
  options: LoadOptions,
  refusedBy: (plan: Plan) => Refused,
  lints: (resources: Resources) => Parameters<typeof report>[3] = () => [],
): Promise<CheckReport> {
  const { resources, others } = await loadForClients(files, options);
  if (resources.diagnostics.some((d) => d.severity === 'error')) return report(resources, buildPlan(resources));
  const judged = (assumed: Assumptions, found: Parameters<typeof report>[3]): CheckReport => {
    const plan = buildPlan(resources, assumed);
    const base = report(resources, plan, refusedBy(plan), found, assumed);
    if (others.length === 0) return base;
    const reports = others.map(({ clients, resources: own }) => {
      const theirs = buildPlan(own, assumed);
      return { clients, report: report(own, theirs, refusedBy(theirs), [], assumed) };
    });
    return withOtherClients(base, reports);
  };
  const base = judged({}, lints(resources));
  if (!base.results.some(({ reasons }) => reasons.some(({ code }) => HTTP2.has(code)))) return base;
  return withWaiting(base, judged({ http2: true }, []));
}

/** Codes of reasons that HTTP/2 may be the cause of. */
const HTTP2 = new Set(['grpc', 'upstream-protocol', 'codec']);

/** Marks the rules that would be the kernel's if it spoke HTTP/2. */
function withWaiting(base: CheckReport, spoken: CheckReport): CheckReport {
  const results = base.results.map((result, i): ReportResult => {
    const waits = result.verdict === 'proxy' && spoken.results[i]?.verdict === 'kernel';
    return waits ? { ...result, waitsFor: 'http2' } : result;
  });
  return { ...base, results, http2: results.filter(({ waitsFor }) => waitsFor).length };
}
