/** docs/istiod.md: how far Sidestep's translation of Istio's documents agrees with istiod's. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../src/lab/paths.js';
import { KNOWN } from './known.js';
import type { Tally } from './tally.js';

/** The istiod that is compared with, as generator/go.mod has it. */
const ISTIOD = '1.31 (snapshot of 27 August 2026, eed52ebb66ad)';

/** A tally in figures. */
export function counts(tally: Tally): Record<string, number> {
  const { differences, refused, failed, ...rest } = tally;
  const known = differences.filter((d) => d.known).length;
  return { ...rest, known, differences: differences.length - known, refused: refused.length, failed: failed.length };
}

const LABELS: readonly [keyof Tally, string][] = [
  ['sets', 'sets of documents'],
  ['documents', 'documents'],
  ['apiRoutes', 'HTTPRoutes and GRPCRoutes'],
  ['virtualServices', 'VirtualServices that make routes, by client'],
  ['routes', 'routes of services'],
  ['same', 'of these the same as written'],
  ['clusters', 'clusters'],
  ['requests', 'requests'],
  ['ours', 'decided by a route of a policy here'],
  ['theirs', 'decided by a route of a policy of istiod’s'],
  ['left', 'left to the proxy before its routes are looked at'],
  ['computed', 'computed to the end on both sides'],
  ['denied', 'of these refused by an AuthorizationPolicy'],
  ['servers', 'ports of servers with AuthorizationPolicies or RequestAuthentications'],
  ['providers', 'providers of tokens there'],
  ['inbound', 'requests there, by token'],
  ['judged', 'of these judged on both sides'],
  ['peers', 'ports of servers with a mode of mutual TLS'],
  ['decidedPeers', 'of these STRICT or DISABLE'],
];

function table(columns: readonly { name: string; tally: Tally }[]): string {
  const head = `| | ${columns.map((c) => c.name).join(' | ')} |\n| --- | ${columns.map(() => '---:').join(' | ')} |`;
  const number = (n: number) => n.toLocaleString('en-US');
  const rows = LABELS.map(
    ([key, label]) => `| ${label} | ${columns.map(({ tally }) => number(tally[key] as number)).join(' | ')} |`,
  );
  const last: [string, (tally: Tally) => number][] = [
    ['**differences that are not meant**', (t) => t.differences.filter((d) => !d.known).length],
    ['differences that are meant (below)', (t) => t.differences.filter((d) => d.known).length],
    ['sets that could not be compared', (t) => t.failed.length],
  ];
  for (const [label, of] of last)
    rows.push(`| ${label} | ${columns.map(({ tally }) => number(of(tally))).join(' | ')} |`);
  return [head, ...rows].join('\n');
}

function knownList(tallies: readonly Tally[]): string {
  const all = tallies.flatMap((t) => t.differences);
  return KNOWN.map(({ code, why }) => `- **${code}** (${all.filter((d) => d.known === code).length}): ${why}`).join(
    '\n',
  );
}

/** One line for each reason for which istiod's webhook refuses what Sidestep translates. */
function refusals(tallies: readonly Tally[]): string {
  const lines = new Set<string>();
  for (const { by, document, why } of tallies.flatMap((t) => t.refused)) {
    if (by !== 'istiod') continue;
    const kind = document.split(' ')[0];
    const first = why.split('\n').find((line) => line.trim() !== '' && !/errors? occurred/.test(line)) ?? why;
    lines.add(`- ${kind}: ${first.trim().replace(/^\* /, '').slice(0, 200)}`);
  }
  return [...lines].sort().join('\n');
}

/** Differences that nobody has explained, one line each. */
function open(tallies: readonly Tally[]): string {
  const all = tallies.flatMap((t) => t.differences).filter((d) => !d.known);
  if (all.length === 0) return 'None.';
  const kinds = new Map<string, number>();
  for (const { what } of all) kinds.set(what, (kinds.get(what) ?? 0) + 1);
  return [...kinds].map(([what, n]) => `- ${what}: ${n}`).join('\n');
}

/** Writes the page. */
export function writeReport(golden: Tally, given: Tally | undefined): void {
  const columns = [
    { name: 'golden inputs', tally: golden },
    ...(given ? [{ name: 'public repositories', tally: given }] : []),
  ];
  const tallies = columns.map((c) => c.tally);
  const page = `# Compared with istiod

Written by \`script/compare-istiod --write PATH...\`; do not edit.

istiod's own code (${ISTIOD}), run from the same documents, is what \`src/policy/istio\` and \`src/policy/gateway-api\` are compared with: its
registries, its conversion of Kubernetes objects and of the Gateway API's, and its generators, for the sidecar of a client in each of up to three namespaces, for the sidecars of the
servers, and for gateways. Both sides get exactly the same documents, completed by what a cluster would have (services that policies
speak of, endpoints, pods).

What is compared is what it means:

- For each listener, requests are made of the words of both sides' configurations. Each goes through the plan's evaluator over
  our resources and over istiod's, read by our front end for Envoy's configuration; the actions of the routes that win must be equal
  in normal form (clusters and weights, rewrites, edits of headers, redirects, direct responses, timeouts, retries, mirrors, hash policies,
  faults, CORS), whether or not the kernel can carry them out.
- What the plan computes whole must be equal, too: the request as forwarded, or the answer. On istiod's side a request goes through
  the sidecar of every server behind its cluster, where AuthorizationPolicies are enforced; on ours they are enforced on the way. It is asked
  for a client without an identity and for up to three whom the policies name.
- Clusters are equal in normal form: load balancing, connection pools, outlier detection, protocol options, TLS, endpoints.
- Before servers (\`run --inbound policies\`), what is asked of tokens must be equal: providers in their order, where tokens are looked for, what
  is forwarded, the requirement. Requests without a token, and with up to four that policies name the issuers, subjects and claims of (taken to
  be good), must come through, or be refused, on both sides: so the order of AuthorizationPolicies' actions, selectors, the root namespace,
  paths, ports and claims are compared.
- Of each port of each server, the mode of mutual TLS that PeerAuthentications give it is equal: whether istiod's filter chains take plain text, TLS, or both.
- The same VirtualServices take part. (A comparison of nothing with nothing would agree, too.)

${table(columns)}

## Differences that are meant

${knownList(tallies)}
- A route of the Gateway API in which something is not known (a filter, a filter of a backend) is left out by istiod as a whole, as is one of two
  routes of different kinds with one name; here only the rules concerned answer 500. Such routes are left out of the comparison (below).
- \`group: core\` is taken for the core group, which istiod ignores. All GatewayClasses are taken for Istio's.
- Keys behind a \`jwksUri\` are not compared: istiod fetches them itself and writes them into its configuration, which takes a network; without
  one it writes keys that nobody has. Here the proxy and the agent fetch them. Compared is that both fetch, and all else that is asked of such tokens.
- EnvoyFilter, WasmPlugin, Telemetry and ProxyConfig are left out on both sides: what they are about is the proxy's here.
- Gateways' listeners add no \`x-forwarded-for\` here ([KNOWN_ISSUES.md](../KNOWN_ISSUES.md)), so \`use_remote_address\` is left out.
- Statistics, access logs, tracing, metadata exchange and the choice of ALPN are left out on istiod's side.

## Differences that are not

${open(tallies)}

## What istiod, its webhook, or the API server refuse

These VirtualServices and policies would not come into a cluster with Istio's webhook. Sidestep translates them as an istiod does that gets
them nevertheless, and they were compared so; routes of the Gateway API that istiod leaves out were not:

${refusals(tallies) || 'None.'}

## Doing it again

\`script/compare-istiod [--seed N] [--requests N] [--results FOLDER] [--write] PATH...\` needs Go ${'1.26'} or later; the first build takes some minutes. Every PATH is a set of
documents (variants of one object in a folder are compared one after the other). With \`--results\` a run that was stopped goes on where it was. \`--write\` also stores istiod's answers for the golden
inputs (test/istiod/fixtures), which the unit tests compare without Go.
`;
  writeFileSync(join(packageRoot(), 'docs/istiod.md'), page);
}
