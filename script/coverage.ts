/**
 * How much of policies found in the wild is enforced in the kernel: `npx tsx script/coverage.ts FOLDER [--write]`.
 *
 * FOLDER holds `<system>/<repository>/<document>` as files. Every document is judged by itself, and every repository as
 * one mesh, as `sidestep check` does. Prints the tables of docs/coverage.md; `--write` writes them there.
 */
import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CheckReport } from '../src/plan/report.js';
import { refusedByCompiler } from '../src/report/check.js';
import { judge } from '../src/report/clients.js';

interface Tally {
  rules: number;
  kernel: number;
  invalid: number;
}

interface Reasoned {
  rules: number;
  readonly messages: Map<string, number>;
  readonly repositories: Set<string>;
}

interface Survey {
  readonly byKind: Map<string, Tally>;
  readonly reasons: Map<string, Reasoned>;
  readonly errors: Map<string, number>;
  readonly crashes: string[];
  inputs: number;
  rejected: number;
  documents: number;
  /** rules in the kernel whose requests are answered 500 (Gateway API) or 403 (Istio), since nobody here knows what they name */
  unknown: number;
  /** patches and Telemetries in the kernel's account that change nothing of what Istio generates today */
  idle: number;
  /** rules about connections, not requests: all, and those in the kernel */
  connections: number;
  connectionsKernel: number;
  /** rules in the kernel without a backend: it answers their requests */
  nowhere: number;
}

/** Warnings that say so. */
const UNKNOWN_KINDS = new Set(['backend-kind', 'unknown-filter', 'unknown-provider']);

/** The share of rules that are to be in the kernel. */
const GOAL = 0.94;

/** Reasons shown of each survey. */
const TOP = 20;

/** A TCP or TLS route, or a TCP proxy of Envoy's own configuration. */
function isAboutConnections({ kind, rule, verdict }: CheckReport['results'][number]): boolean {
  return verdict !== 'invalid' && (/^(TCPRoute|TLSRoute|TcpProxy)$/.test(kind) || /^(tcp|tls)\[/.test(rule));
}

async function check(path: string): Promise<CheckReport> {
  return judge([path], { assumeEndpoints: true }, refusedByCompiler);
}

function children(folder: string): string[] {
  return readdirSync(folder)
    .sort()
    .map((name) => join(folder, name));
}

function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let found = map.get(key);
  if (found === undefined) {
    found = make();
    map.set(key, found);
  }
  return found;
}

/** A message without the names that are in it. */
function general(message: string): string {
  return message
    .replace(/outbound\|\S+/g, '…')
    .replace(/"[^"]*"/g, '"…"')
    .replace(/\d+/g, 'N')
    .slice(0, 110);
}

function record(survey: Survey, repository: string, result: CheckReport): void {
  survey.inputs++;
  survey.documents += result.documents;
  if (result.errors.length > 0) survey.rejected++;
  for (const error of result.errors) {
    survey.errors.set(error.code, (survey.errors.get(error.code) ?? 0) + 1);
  }
  for (const rule of result.results) {
    const tally = entry(survey.byKind, rule.kind, () => ({ rules: 0, kernel: 0, invalid: 0 }));
    if (rule.verdict === 'invalid') tally.invalid++;
    else tally.rules++;
    if (rule.verdict === 'kernel') tally.kernel++;
    if (isAboutConnections(rule)) {
      survey.connections++;
      if (rule.verdict === 'kernel') survey.connectionsKernel++;
    }
    const own = (field: string) => rule.rule === 'spec' || field.startsWith(`spec.${rule.rule}.`);
    const unknown = result.warnings.some((w) => UNKNOWN_KINDS.has(w.code) && w.file === rule.file && own(w.field));
    if (rule.verdict === 'kernel' && unknown) survey.unknown++;
    const nowhere = result.warnings.some((w) => w.code === 'no-backend' && w.file === rule.file && own(w.field));
    if (rule.verdict === 'kernel' && nowhere) survey.nowhere++;
    const nothing = result.warnings.some((w) => w.code === 'no-effect' && w.file === rule.file);
    if (rule.verdict === 'kernel' && /^(EnvoyFilter|Telemetry)$/.test(rule.kind) && nothing) survey.idle++;
    const seen = new Set<string>();
    for (const { code, message } of rule.reasons) {
      const reason = entry(survey.reasons, code, () => ({ rules: 0, messages: new Map(), repositories: new Set() }));
      if (!seen.has(code)) reason.rules++;
      seen.add(code);
      reason.repositories.add(repository);
      const text = general(message);
      reason.messages.set(text, (reason.messages.get(text) ?? 0) + 1);
    }
  }
}

async function survey(folder: string, whole: boolean): Promise<Survey> {
  const found: Survey = {
    ...{ byKind: new Map(), reasons: new Map(), errors: new Map(), crashes: [] },
    ...{
      inputs: 0,
      rejected: 0,
      documents: 0,
      unknown: 0,
      idle: 0,
      connections: 0,
      connectionsKernel: 0,
      nowhere: 0,
    },
  };
  for (const system of children(folder)) {
    if (!statSync(system).isDirectory()) continue;
    for (const repository of children(system)) {
      // several Envoy bootstraps are never one configuration
      const together = (whole && !system.endsWith('/envoy')) || !statSync(repository).isDirectory();
      for (const path of together ? [repository] : children(repository)) {
        try {
          record(found, repository, await check(path));
        } catch (error) {
          found.crashes.push(`${path}: ${(error as Error).stack}`);
        }
      }
    }
  }
  return found;
}

const percent = (part: number, all: number): string => (all === 0 ? '–' : `${((100 * part) / all).toFixed(1)}%`);

/** What keeps the rest from the kernel. */
function left(found: Survey, kernel: number, rules: number): string[] {
  const most = [...found.reasons].sort(([, a], [, b]) => b.rules - a.rules).slice(0, 8);
  const missing = Math.max(0, Math.ceil(GOAL * rules) - kernel);
  const goal =
    missing === 0 ? `The goal is ${percent(GOAL, 1)}.` : `${missing} rules are missing from ${percent(GOAL, 1)}.`;
  return [
    `${goal} What keeps the other ${rules - kernel}, where a rule can have several reasons:`,
    `${most.map(([code, { rules: n }]) => `\`${code}\` ${n}`).join(', ')}.`,
  ];
}

function tables(found: Survey, what: string): string {
  const kinds = [...found.byKind].sort(([, a], [, b]) => b.rules - a.rules);
  const sum = (pick: (t: Tally) => number): number => kinds.reduce((total, [, t]) => total + pick(t), 0);
  const [rules, kernel] = [sum((t) => t.rules), sum((t) => t.kernel)];
  const reasons = [...found.reasons].sort(([, a], [, b]) => b.rules - a.rules);
  const lines = [
    `${found.inputs} ${what}, ${found.documents} documents that are understood; ${found.rejected} ${what} have errors.`,
    `**${kernel} of ${rules} rules (${percent(kernel, rules)}) are enforced in the kernel.** Of these, ${found.unknown} name backends, filters or authorizers`,
    'that only their own controller, or the mesh configuration, knows: their requests are answered 500, as the Gateway API demands',
    'then, or 403, as Istio does. Without these rules',
    `it would be ${percent(kernel - found.unknown, rules)}. ${found.nowhere} name no backend at all (of GRPCRoutes and HTTPRoutes; the mesh answers UNAVAILABLE, or 500). ${found.idle} are EnvoyFilters and Telemetries that change nothing of what Istio 1.31 generates (they name other`,
    `releases, filters by names of old, or providers that no MeshConfig of theirs defines). ${found.connections} rules are TCP and TLS routes and TCP proxies, which decide about connections and not about requests:`,
    `${found.connectionsKernel} of them are in the kernel; of the rules about requests alone it is ${percent(kernel - found.connectionsKernel, rules - found.connections)}.`,
    '',
    ...left(found, kernel, rules),
    '',
    '| kind | rules | in the kernel | share | in input with errors |',
    '| --- | ---: | ---: | ---: | ---: |',
    ...kinds.map(
      ([kind, t]) => `| ${kind} | ${t.rules} | ${t.kernel} | ${percent(t.kernel, t.rules)} | ${t.invalid} |`,
    ),
    '',
    '| reason | rules | repositories | most often |',
    '| --- | ---: | ---: | --- |',
    ...reasons.slice(0, TOP).map(([code, r]) => {
      const top = [...r.messages].sort(([, a], [, b]) => b - a).slice(0, 3);
      const text = top.map(([message, n]) => `${message.replaceAll('|', '\\|')} (${n})`).join('; ');
      return `| \`${code}\` | ${r.rules} | ${r.repositories.size} | ${text} |`;
    }),
    '',
    `Further reasons: ${
      reasons
        .slice(TOP)
        .map(([code, r]) => `\`${code}\` ${r.rules}`)
        .join(', ') || 'none'
    }.`,
    '',
    `Errors: ${[...found.errors].map(([code, n]) => `\`${code}\` ${n}`).join(', ') || 'none'}.`,
  ];
  return lines.join('\n');
}

const folder = process.argv[2];
if (!folder) {
  console.error('usage: npx tsx script/coverage.ts FOLDER [--write]');
  process.exit(2);
}
const documents = await survey(folder, false);
const repositories = await survey(folder, true);
const crashes = [documents, repositories].flatMap((found) => found.crashes);
for (const crash of crashes) console.error(crash);
const text = `# Policies in the wild

Made by \`npx tsx script/coverage.ts FOLDER --write\` from policies of applications and platforms in public repositories,
one document a file. Rules are judged as by \`sidestep check\`: services that no document describes are taken to exist,
gateways that no document describes to speak plain HTTP, and pods of gateways to have the labels of Istio's charts. Rules for some clients only (workload selectors of Sidecars,
\`sourceLabels\` ...) are judged for these clients, which need an instance of their own (\`run --namespace\`, \`--labels\`).

## Document by document

${tables(documents, 'files')}

## Repository by repository

All files of a repository are one mesh. Books and workshops hold many variants of one document, so here more is in conflict.

${tables(repositories, 'repositories')}
`;
if (process.argv.includes('--write')) writeFileSync(new URL('../docs/coverage.md', import.meta.url), text);
else process.stdout.write(text);
if (crashes.length > 0) process.exit(1);
