/** Rules that count for some clients only: what is said of each is what becomes of it for the clients it counts for. */

import { type Assumptions, buildPlan } from '../plan/build.js';
import type { Plan } from '../plan/ir.js';
import {
  type CheckReport,
  type Refused,
  type ReportReason,
  type ReportResult,
  report,
  type WaitsFor,
} from '../plan/report.js';
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
  return counted({ ...base, warnings }, results);
}

/** The report with these results in the place of its own. */
function counted(base: CheckReport, results: readonly ReportResult[]): CheckReport {
  const count = (verdict: ReportResult['verdict']) => results.filter((r) => r.verdict === verdict).length;
  return { ...base, results, kernel: count('kernel'), proxy: count('proxy'), invalid: count('invalid') };
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
  const judged = (awaited: Assumptions, found: Parameters<typeof report>[3]): CheckReport => {
    // what the variables say hardly matters: the proxy's will be those of the agent
    const assumed = { ...awaited, environment: process.env, relays: true };
    const plan = buildPlan(resources, assumed);
    const base = report(resources, plan, refusedBy(plan), found, assumed);
    if (others.length === 0) return base;
    const reports = others.map(({ clients, resources: own }) => {
      const theirs = buildPlan(own, assumed);
      return { clients, report: report(own, theirs, refusedBy(theirs), [], assumed) };
    });
    return withOtherClients(base, reports);
  };
  const spokenToo = (awaited: Assumptions, found: Parameters<typeof report>[3]): CheckReport => {
    const plain = judged(awaited, found);
    return plain.results.some(speaksHttp2) ? withStreams(plain, judged({ ...awaited, ...STREAMS }, []).results) : plain;
  };
  const wrong = resources.diagnostics.some((d) => d.severity === 'error');
  const base = spokenToo({}, wrong ? [] : lints(resources));
  const awaited = WAYS.filter(([, , codes]) => {
    // nothing but these, and something of each
    const waits = (found: readonly string[]) =>
      found.every((code) => codes.some((set) => set.has(code))) &&
      codes.every((set) => found.some((code) => set.has(code)));
    return base.results.some(({ reasons }) => waits(reasons.map(({ code }) => code)));
  });
  const spoken = awaited.map(([waitsFor, assumed]) => ({ waitsFor, results: spokenToo(assumed, []).results }));
  return withWaiting(base, spoken);
}

/** Codes of reasons that HTTP/2 may be the cause of, and TLS. */
const HTTP2: ReadonlySet<string> = new Set(['grpc', 'upstream-protocol', 'codec']);
const TLS: ReadonlySet<string> = new Set(['tls', 'mesh-tls']);

/** What the programs of HTTP/2 decide, where the agent accepts a client's connection. */
const STREAMS: Assumptions = { http2: true, streams: true, atListener: true };

const speaksHttp2 = ({ reasons }: ReportResult): boolean => reasons.some(({ code }) => HTTP2.has(code));

/** A rule whose requests, or whose endpoints, speak HTTP/2 is what becomes of it there. */
function withStreams(base: CheckReport, streams: readonly ReportResult[]): CheckReport {
  const results = base.results.map((result, i): ReportResult => {
    const theirs = streams[i];
    if (result.verdict !== 'proxy' || !speaksHttp2(result) || !theirs) return result;
    return { ...result, verdict: theirs.verdict, reasons: theirs.reasons };
  });
  return counted(base, results);
}

/** What rules may wait for, and the codes of the reasons that such rules have. */
const WAYS: readonly (readonly [WaitsFor, Assumptions, readonly ReadonlySet<string>[]])[] = [
  ['http2', { http2: true }, [HTTP2]],
  ['tls', { tls: true }, [TLS]],
  ['http2+tls', { http2: true, tls: true }, [HTTP2, TLS]],
];

/** Marks the rules that would be the kernel's if it spoke what it does not. */
function withWaiting(
  base: CheckReport,
  spoken: readonly { readonly waitsFor: WaitsFor; readonly results: readonly ReportResult[] }[],
): CheckReport {
  const results = base.results.map((result, i): ReportResult => {
    const way = spoken.find((s) => s.results[i]?.verdict === 'kernel');
    return result.verdict === 'proxy' && way ? { ...result, waitsFor: way.waitsFor } : result;
  });
  const count = (way: WaitsFor) => results.filter(({ waitsFor }) => waitsFor === way).length;
  return { ...base, results, http2: count('http2'), tls: count('tls'), http2AndTls: count('http2+tls') };
}

/** How many of the proxy's rules wait for what, in words; empty where none does. */
export function waiting(
  report: Pick<CheckReport, 'http2' | 'tls' | 'http2AndTls'>,
): readonly (readonly [number, string])[] {
  const { http2, tls, http2AndTls } = report;
  const all = [
    [http2, 'HTTP/2'],
    [tls, 'TLS'],
    [http2AndTls, 'HTTP/2 and TLS together'],
  ] as const;
  return all.filter(([n]) => n > 0);
}
