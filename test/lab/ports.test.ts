/** Labs of several processes at once never get the same port, though nobody may listen on it yet. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LabProcess } from '../../src/lab/processes.js';

const PRINT = `
import { freePort } from '${new URL('../../src/lab/ports.js', import.meta.url)}';
const ports = await Promise.all(Array.from({ length: 700 }, () => freePort()));
console.log('ports ' + JSON.stringify(ports));
setInterval(() => undefined, 1000);
`;

test('ports of processes that run at the same time', { timeout: 60_000 }, async () => {
  const argv = [process.execPath, '--import', 'tsx', '--input-type=module', '-e', PRINT];
  const labs = [1, 2, 3].map((n) => new LabProcess(`lab ${n}`, argv));
  try {
    const outputs = await Promise.all(labs.map((lab) => lab.waitFor(/^ports (.*)$/m, 50_000)));
    const ports = outputs.flatMap(([, list]) => JSON.parse(list!) as number[]);
    assert.equal(ports.length, 3 * 700);
    assert.equal(new Set(ports).size, ports.length);
    assert.ok(ports.every((port) => port < 32_768)); // the first ephemeral one
  } finally {
    await Promise.all(labs.map((lab) => lab.stop()));
  }
});
