/** What `check` does, without input and output of its own: files -> report, with totals. */
import { compileImage } from '../compile/image.js';
import { lint } from '../lint/index.js';
import type { Plan } from '../plan/ir.js';
import type { CheckReport, Refused } from '../plan/report.js';
import type { LoadOptions } from '../policy/load.js';
import { judge } from './clients.js';
import { fixOf, pageOf, reasonText } from './guides.js';

/** How many rules of a group are enforced where. */
export interface Tally {
  readonly rules: number;
  readonly kernel: number;
  readonly proxy: number;
  readonly invalid: number;
}

/** A reason, and how many rules have it. */
export interface ReasonTotal {
  readonly code: string;
  readonly title: string;
  readonly rules: number;
  /** what would make the rules offloadable; '' if that is not known */
  readonly fix: string;
  /** path of the documentation in the repository and in the package */
  readonly page: string;
}

export interface Totals {
  /** share of the rules that the kernel enforces, in percent; 100 when there are none */
  readonly share: number;
  readonly byKind: readonly (Tally & { readonly kind: string })[];
  readonly byFile: readonly (Tally & { readonly file: string })[];
  readonly byReason: readonly ReasonTotal[];
}

/** `check --json`. */
export interface CheckOutput extends CheckReport {
  readonly totals: Totals;
}

/** What the plan offloads and the compiler has no room for, by route id. */
export function refusedByCompiler(plan: Plan): Refused {
  // no endpoint is contacted: any ids do
  const ids = new Map<string, number>();
  const idOf = (key: string): number => {
    const id = ids.get(key) ?? ids.size;
    ids.set(key, id);
    return id;
  };
  return compileImage(plan, {
    generation: 1,
    endpointId: (...endpoint) => idOf(endpoint.join(' ')),
    proxyEndpointId: (listener) => idOf(listener),
  }).verdicts;
}

/** The share of rules in the kernel, in percent; 100 when there are no rules. */
export function offloaded(result: Pick<CheckReport, 'rules' | 'kernel'>): number {
  return result.rules === 0 ? 100 : (100 * result.kernel) / result.rules;
}

function tallies(results: CheckReport['results'], key: 'kind' | 'file'): (Tally & { readonly group: string })[] {
  const groups = new Map<string, { rules: number; kernel: number; proxy: number; invalid: number }>();
  for (const result of results) {
    const group = groups.get(result[key]) ?? { rules: 0, kernel: 0, proxy: 0, invalid: 0 };
    group.rules++;
    group[result.verdict]++;
    groups.set(result[key], group);
  }
  return [...groups].map(([group, tally]) => ({ group, ...tally }));
}

/** Totals by kind (most rules first), by file (in the order of reading) and by reason (most rules first). */
export function totals(result: CheckReport): Totals {
  const reasons = new Map<string, number>();
  for (const { reasons: list } of result.results) {
    for (const code of new Set(list.map((r) => r.code))) reasons.set(code, (reasons.get(code) ?? 0) + 1);
  }
  return {
    share: Number(offloaded(result).toFixed(2)),
    byKind: tallies(result.results, 'kind')
      .sort((a, b) => b.rules - a.rules || (a.group < b.group ? -1 : 1))
      .map(({ group, ...tally }) => ({ kind: group, ...tally })),
    byFile: tallies(result.results, 'file').map(({ group, ...tally }) => ({ file: group, ...tally })),
    byReason: [...reasons]
      .sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))
      .map(([code, rules]) => ({
        code,
        title: reasonText(code).title,
        rules,
        fix: fixOf(code),
        page: pageOf(code),
      })),
  };
}

/** Texts of files by the names that positions have. */
export type Sources = ReadonlyMap<string, string>;

/**
 * Judges every rule of the files, each for clients that it counts for unless `options.workload` says who the clients are.
 * Services without endpoints are taken to have one. Nothing is thrown for bad input: see
 * `errors` of the output.
 */
export async function check(
  files: readonly string[],
  options: Pick<LoadOptions, 'stdin' | 'workload'> = {},
): Promise<{ output: CheckOutput; sources: Sources }> {
  const sources = new Map<string, string>();
  const load = { ...options, assumeEndpoints: true, onText: (file: string, text: string) => sources.set(file, text) };
  const result = await judge(files, load, refusedByCompiler, lint);
  return { output: { ...result, totals: totals(result) }, sources };
}
