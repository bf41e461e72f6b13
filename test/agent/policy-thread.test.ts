/** The thread that makes generations: what it finds arrives whole, and what happens to it is said, no more. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Numbers, NumbersWanted, PolicyTask } from '../../src/agent/policy.js';
import { compilePolicy, planPolicy } from '../../src/agent/policy-build.js';
import { loadPolicy } from '../../src/agent/policy-load.js';
import { policyOfSize } from '../../src/bench/policy-size-config.js';

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
