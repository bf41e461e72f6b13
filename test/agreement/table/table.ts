/**
 * The table of constructs in docs/agreement.md: what the plan reads of Envoy's configuration, file by file, which generator
 * makes it, or which tests have it. `npx tsx test/agreement/table/table.ts` writes it.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { packageRoot } from '../../../src/lab/paths.js';
import { loadFiles } from '../../../src/policy/load.js';
import { withRareFields } from '../../differential/rare-fields.js';
import { listenerConfig } from '../../differential/route-config.js';
import { Draw } from '../../wild/damage.js';
import { CONSTRUCTS } from '../constructs/generated.js';
import { streamPolicies } from '../constructs/streams.js';
import { planWords } from './words.js';

const DOCUMENT = join(packageRoot(), 'docs/agreement.md');
const [BEGIN, END] = ['<!-- constructs: begin -->\n', '<!-- constructs: end -->'];
const SEEDS = 40;
/** Tests that compare with a real Envoy come first. */
const FOLDERS = [
  'e2e',
  'differential',
  'inbound',
  'netns',
  'states',
  'plan',
  'compile',
  'policy',
  'agent',
  'golden',
  'istiod',
];
const MOST_TESTS = 1;

const OWN = 'a word of the plan’s own';
const PROXY = 'leaves what has it to the proxy';
const ASIDE = 'changes nothing of what is decided; not tried';
/** Words that no generator makes, and no test has. */
const OTHERWISE: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    [
      ...['virtual_host', 'no_route', 'local_rate_limited', 'request_id', 'allow_failed', 'any_element', 'ring_hash'],
      'StatusCode',
    ].map((word) => [word, OWN]),
  ),
  ...Object.fromEntries(
    [
      ...[
        'cluster_specifier_plugin',
        'inline_cluster_specifier_plugin',
        'scoped_routes',
        'filter_action',
        'host_rewrite',
      ],
      ...[
        'key_log',
        'custom_tls_certificate_selector',
        'direct_source_prefix_ranges',
        'formatter_type_on_envoy_headers',
      ],
      ...['weighted_priority_health', 'cluster_manager', 'local_cluster_name', 'access_log_flush_interval'],
    ].map((word) => [word, PROXY]),
  ),
  ...Object.fromEntries(
    [
      ...[
        'transport_socket_connect_timeout',
        'reuse_port',
        'cluster_specifier_plugins',
        'shadow_matcher',
        'max_cache_size',
      ],
      ...['jwt_cache_config', 'async_fetch', 'health_check_config', 'endpoint_stale_after', 'dns_resolvers'],
      ...['typed_json_format', 'dns_resolution_config', 'enforce_rsa_key_usage', 'allow_renegotiation'],
    ].map((word) => [word, ASIDE]),
  ),
};

/** Every key and type in a value. */
function collect(value: unknown, into: Set<string>): void {
  if (value === null || typeof value !== 'object') return;
  for (const [key, inner] of Object.entries(value)) {
    if (!Array.isArray(value)) into.add(key);
    if (key === '@type') into.add(String(inner).split('.').at(-1)!);
    collect(inner, into);
  }
}

/** The words that generators make, by construct: in what Istio's documents are translated to, too. */
async function generatedWords(): Promise<Map<string, Set<string>>> {
  const found = new Map<string, Set<string>>();
  const folder = mkdtempSync(join(tmpdir(), 'sidestep-table-'));
  try {
    for (const [name, { make }] of Object.entries(CONSTRUCTS)) {
      const words = new Set<string>();
      for (let seed = 0; seed < SEEDS; seed++) {
        const { documents } = await make(new Draw(seed));
        const file = join(folder, 'policies.yaml');
        writeFileSync(file, documents.map((d) => JSON.stringify(d)).join('\n---\n'));
        const { listeners, clusters, routeConfigs, endpoints } = await loadFiles([file], { assumeEndpoints: true });
        collect([listeners, clusters, routeConfigs, endpoints, documents], words);
        for (const { kind } of documents) if (typeof kind === 'string') words.add(kind);
      }
      found.set(name, words);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const streams = new Set<string>();
  const plain = new Set<string>();
  for (let seed = 0; seed < SEEDS; seed++) collect(streamPolicies(new Draw(seed)), streams);
  for (const config of fc.sample(withRareFields(listenerConfig('l', 1, true)), { seed: 1, numRuns: 4 * SEEDS }))
    collect([config.hcm, config.filters], plain);
  return found.set('streams', streams).set('agreement', plain);
}

let tests: [name: string, text: string][] | undefined;
/** Tests, and what they are made of, in which a word stands. */
function testsWith(word: string): string[] {
  tests ??= FOLDERS.flatMap((folder) => {
    const at = join(packageRoot(), 'test', folder);
    return readdirSync(at, { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(ts|yaml|json)$/.test(name))
      .sort()
      .map((name): [string, string] => [`${folder}/${name}`, readFileSync(join(at, name), 'utf8')]);
  });
  const stands = new RegExp(`\\b${word}\\b`);
  return tests.filter(([, text]) => stands.test(text)).map(([name]) => name);
}

/** The rows: of each file of the plan, its words. */
async function table(): Promise<string> {
  const generated = await generatedWords();
  const rows: string[] = [];
  for (const [file, words] of planWords()) {
    const makers = new Map(words.map((w) => [w, [...generated].filter(([, has]) => has.has(w)).map(([name]) => name)]));
    const made = words.filter((w) => makers.get(w)!.length > 0);
    const names = [...generated.keys()].filter((name) => made.some((w) => makers.get(w)!.includes(name)));
    const others = words.filter((w) => makers.get(w)!.length === 0);
    const shown = others.map(
      (w) => `\`${w}\` ${testsWith(w).slice(0, MOST_TESTS).join(', ') || (OTHERWISE[w] ?? 'nowhere')}`,
    );
    const few = names.length > 6 ? `${names.slice(0, 6).join(', ')} and ${names.length - 6} more` : names.join(', ');
    rows.push(`| \`${file}\` | ${made.map((w) => `\`${w}\``).join(' ')} | ${few} | ${shown.join('; ')} |`);
  }
  const head = '| file of the plan | generated | by | not generated, but in |\n| --- | --- | --- | --- |\n';
  return `${head}${rows.join('\n')}\n`;
}

/** What the document has between the marks. */
export function written(): string {
  const text = readFileSync(DOCUMENT, 'utf8');
  const start = text.indexOf(BEGIN) + BEGIN.length;
  return text.slice(start, text.indexOf(END));
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const text = readFileSync(DOCUMENT, 'utf8');
  writeFileSync(DOCUMENT, text.replace(written(), () => '').replace(BEGIN, BEGIN + (await table())));
}
