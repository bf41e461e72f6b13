/** The thread that makes generations: what it finds arrives whole, and what happens to it is said, no more. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { loggedRoute } from '../../src/agent/logged-routes.js';
import type { Generation, Numbers, NumbersWanted, PolicyTask } from '../../src/agent/policy.js';
import { compilePolicy, planPolicy } from '../../src/agent/policy-build.js';
import { loadPolicy } from '../../src/agent/policy-load.js';
import { policyOfSize } from '../../src/bench/policy-size-config.js';
import { FILTER_TYPE, plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import { ejectableName } from '../../src/proxy/index.js';

// as it is packaged: a thread runs what was built
const built = new URL('../../dist/agent/policy-thread.js', import.meta.url).href;
const { readPolicy } = (await import(built)) as typeof import('../../src/agent/policy-thread.js');

const dir = mkdtempSync(join(tmpdir(), 'sidestep-thread-'));
after(() => rmSync(dir, { recursive: true, force: true }));

function task(text: string, more: Partial<PolicyTask> = {}): PolicyTask {
  const file = join(dir, 'policy.yaml');
  writeFileSync(file, text);
  return {
    files: [file],
    instance: 'x',
    proxy: 'own',
    proxyFolder: join(dir, 'proxy'),
    inbound: [],
    consultPath: join(dir, 'c'),
    relaySecret: '',
    reportsPath: join(dir, 'r'),
    elsewhere: false,
    number: 7,
    ...more,
  };
}
const numbersFor = (wanted: NumbersWanted): Numbers => ({
  listeners: new Map(wanted.listeners.map((name, i) => [name, i])),
  endpoints: wanted.endpoints.map((_, i) => i),
  programs: wanted.programs.map((_, i) => i + 1),
  buckets: wanted.buckets.map((_, i) => i),
  breakers: wanted.breakers.map((_, i) => i),
});
const small = JSON.stringify(policyOfSize(20, '127.0.0.1', 8080, 8081));

test('a generation from the thread is the one that is made here', async () => {
  const own = task(small);
  const read = await readPolicy(own);
  assert.equal(read.kind, 'planned');
  if (read.kind !== 'planned') return;
  const made = await read.make(numbersFor(read.wanted));
  const planned = planPolicy(own, await loadPolicy(own));
  const here = compilePolicy(planned, numbersFor(planned.wanted));
  assert.ok('number' in made);
  assert.deepEqual({ ...made, compileMs: 0 }, { ...here, compileMs: 0 });
  assert.equal(made.ruleCount, (JSON.parse(Buffer.from(made.ruleNames).toString()) as string[]).length);
  assert.deepEqual(await readPolicy({ ...own, inForce: made.digest }), { kind: 'same' });
});

test('diagnostics come whole', async () => {
  const text = `static_resources:
  listeners:
  - name: a
    adress: {}
  clusters: 7
`;
  const read = await readPolicy(task(text));
  const { diagnostics } = (await loadPolicy(task(text))).resources;
  assert.equal(read.kind, 'invalid');
  assert.ok(read.kind === 'invalid' && diagnostics.length >= 2 && diagnostics.every((d) => d.position));
  assert.deepEqual(read.kind === 'invalid' && read.diagnostics, diagnostics);
});

test('standard input is read once, by the agent', async () => {
  const read = await readPolicy(task('', { files: ['-'], stdin: Buffer.from(small) }));
  assert.equal(read.kind, 'planned');
  if (read.kind === 'planned') read.drop();
});

test('a thread that fails is a diagnostic', async () => {
  // while it reads
  const large = JSON.stringify(policyOfSize(10_000, '127.0.0.1', 8080, 8081));
  const starved = await readPolicy(task(large), {
    limits: { maxOldGenerationSizeMb: 24, maxYoungGenerationSizeMb: 4 },
  });
  assert.equal(starved.kind, 'invalid');
  assert.match(starved.kind === 'invalid' ? starved.diagnostics[0]!.message : '', /could not be compiled: .*memory/);
  // while it compiles: numbers that are none
  const read = await readPolicy(task(small));
  assert.equal(read.kind, 'planned');
  if (read.kind !== 'planned') return;
  const made = await read.make(undefined as unknown as Numbers);
  assert.ok(!('number' in made));
  assert.equal(made.code, 'policy-thread');
});

/** A policy in which the agent has a share: a breaker, outliers and a limit; with access logs, no breaker is shared. */
function shared(logs: boolean): string {
  const limit = {
    '@type': `${FILTER_TYPE}.http.local_ratelimit.v3.LocalRateLimit`,
    stat_prefix: 'x',
    token_bucket: { max_tokens: 2, tokens_per_fill: 2, fill_interval: '60s' },
    filter_enabled: { default_value: { numerator: 100 } },
    filter_enforced: { default_value: { numerator: 100 } },
  };
  const log = {
    name: 'log',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog',
      path: '/dev/null',
    },
  };
  const routes = ['a', 'b'].map((name) => ({ match: { prefix: `/${name}` }, route: { cluster: name } }));
  const manager = logs ? { access_log: [log] } : {};
  return JSON.stringify(
    plainBootstrap(
      [
        {
          name: 'limited',
          address: '127.0.0.1',
          port: 8080,
          routes,
          filters: [{ name: 'limit', typed_config: limit }],
        },
        { name: 'plain', address: '127.0.0.1', port: 8090, routes, manager },
      ],
      [
        { name: 'a', ports: [8081, 8082], more: { circuit_breakers: { thresholds: [{ max_requests: 5 }] } } },
        {
          name: 'b',
          ports: [8083, 8084],
          more: { outlier_detection: { consecutive_5xx: 3, max_ejection_percent: 100 } },
        },
      ],
    ),
  );
}

async function make(own: PolicyTask): Promise<Generation> {
  const read = await readPolicy(own);
  if (read.kind !== 'planned') throw new Error(JSON.stringify(read));
  const made = await read.make(numbersFor(read.wanted));
  if (!('number' in made)) throw new Error(JSON.stringify(made));
  return made;
}

test('what kernel and proxy share goes with a generation', async () => {
  const made = await make(task(shared(false)));
  assert.deepEqual([...made.breakers], ['a']);
  assert.deepEqual([...made.ejectable.keys()], ['b']);
  assert.equal(made.limits.length, 1);
  assert.deepEqual(made.logged, []);
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();
  assert.match(text(made.prepared!.listeners.content), /asks the agent/);
  assert.match(text(made.prepared!.clusters.content), /sidestep-tries/);
  assert.ok(made.prepared!.endpoints.some(({ service }) => service === ejectableName('b')));
  // the same numbers whatever the policy says: with logs, the proxy counts alone
  const logged = await make(task(shared(true)));
  assert.equal(logged.breakers.size, 0);
  const [table] = logged.logged;
  assert.equal(table!.listener.name, 'plain');
  const rules = JSON.parse(text(logged.ruleNames)) as string[];
  const found = rules.map((_, i) => loggedRoute(table!, i));
  const clusters = found.map((route) => route?.action.kind === 'forward' && route.action.clusters[0]!.cluster);
  assert.deepEqual(clusters.filter((c) => c).sort(), ['a', 'b']);
  assert.equal(loggedRoute(table!, rules.length), undefined);
  // and for clients elsewhere, too
  assert.equal((await make(task(shared(false), { elsewhere: true }))).breakers.size, 0);
});

test('a generation is made anew from what the files said then', async () => {
  const own = task(small);
  const made = await make(own);
  writeFileSync(own.files[0]!, 'a: [');
  assert.equal((await readPolicy(own)).kind, 'invalid');
  rmSync(own.files[0]!);
  const again = await make({ ...own, sources: made.sources });
  assert.equal(again.digest, made.digest);
  assert.deepEqual({ ...again, compileMs: 0 }, { ...made, compileMs: 0 });
});

test('a thread that is not wanted any more ends, and says so', async () => {
  const large = JSON.stringify(policyOfSize(10_000, '127.0.0.1', 8080, 8081));
  const stop = new AbortController();
  const reading = readPolicy(task(large), { signal: stop.signal });
  setTimeout(() => stop.abort(), 20);
  const read = await reading;
  assert.match(read.kind === 'invalid' ? read.diagnostics[0]!.message : '', /the agent stops/);
  const planned = await readPolicy(task(small), { signal: new AbortController().signal });
  assert.equal(planned.kind, 'planned');
  if (planned.kind === 'planned') planned.drop();
  const made = planned.kind === 'planned' && (await planned.make(numbersFor(planned.wanted)));
  assert.ok(made && 'code' in made && made.code === 'policy-thread', 'a thread that is gone gives no generation');
  assert.equal((await readPolicy(task(small), { signal: stop.signal })).kind, 'invalid');
});
