/** Damaged policies get diagnostics with a place, never an exception or a hang: see endure.ts, which tries more of them. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { check } from '../../src/report/check.js';
import { endureAll } from './endure.js';
import { filesBelow } from './files.js';

const SEED = Number(process.env.SIDESTEP_SEED ?? 7);
const TEXTS = Number(process.env.SIDESTEP_DAMAGED ?? 40);

test('damaged policies are dealt with', { timeout: 300_000 }, async (t) => {
  const sets = ['examples', 'test/golden/istio', 'test/golden/gateway-api', 'test/golden/plan'];
  const files = sets.flatMap(filesBelow).filter((file) => !file.includes('.out.'));
  const { tried, failures } = await endureAll(files, { seed: SEED, texts: TEXTS });
  t.diagnostic(`seed ${SEED}: ${tried} damaged policies`);
  assert.deepEqual(failures, []);
});

test('long names and many hosts cost no more than they are', { timeout: 120_000 }, async () => {
  const spec = 'apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\nspec:\n';
  const long = 'a/'.repeat(2500);
  const hosts = Array.from({ length: 400 }, (_, i) => `h${i}.example.com`).join();
  for (const text of [
    `${spec}  hosts: ["${long}"]\n  http: [{route: [{destination: {host: "${long}"}}]}]\n`,
    `${spec}  hosts: [${hosts}]\n  http: [{route: [{destination: {host: h}}]}]\n`,
  ]) {
    // of the processor; they took 64 and 10 seconds once
    const begun = process.cpuUsage();
    const { output } = await check(['-'], { stdin: Readable.from([text]) });
    assert.equal(output.kernel, 1);
    const seconds = process.cpuUsage(begun).user / 1e6;
    assert.ok(seconds < 5, `${seconds} s`);
  }
});
