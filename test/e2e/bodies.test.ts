/** Large bodies both ways with curl, and readers that take their time. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { SidestepHandle } from '../../src/lab/sidestep.js';
import { digits, type OddEcho } from './odd-server.js';
import { MESH, skip, World } from './world.js';

const MEGABYTE = 1_000_000;
const sha1 = (b: Buffer): string => createHash('sha1').update(b).digest('hex');

describe('large bodies', { skip, timeout: 300_000 }, () => {
  let world: World;
  let sidestep: SidestepHandle;
  let url: string;

  before(async () => {
    world = await World.open('bodies');
    await world.writePolicy();
    sidestep = await world.startSidestep();
    url = `http://${MESH}:${world.port}`;
  });
  after(() => world?.close());

  for (const megabytes of [1, 50]) {
    test(`${megabytes} MB to the client`, async () => {
      const file = join(world.lab.dir, 'down');
      const r = await sidestep.run(['curl', '-sS', '-m', '60', '-o', file, `${url}/bytes/${megabytes * MEGABYTE}`]);
      assert.equal(r.code, 0, r.stderr);
      assert.equal(sha1(await readFile(file)), sha1(digits(megabytes * MEGABYTE)));
    });

    for (const chunked of [false, true]) {
      test(`${megabytes} MB to the server${chunked ? ', chunked' : ''}`, async () => {
        const file = join(world.lab.dir, 'up');
        const body = digits(megabytes * MEGABYTE);
        await writeFile(file, body);
        const header = chunked ? ['-H', 'Transfer-Encoding: chunked'] : [];
        const r = await sidestep.run(['curl', '-sS', '-m', '60', '-T', file, '-X', 'POST', ...header, `${url}/echo`]);
        assert.equal(r.code, 0, r.stderr);
        const echo = JSON.parse(r.stdout) as OddEcho;
        assert.equal(echo.length, body.length);
        assert.equal(echo.sha1, sha1(body));
      });
    }
  }

  test('10 MB in chunks to the client', async () => {
    const file = join(world.lab.dir, 'chunks');
    const r = await sidestep.run(['curl', '-sS', '-m', '60', '-o', file, `${url}/chunks/10000/1000`]);
    assert.equal(r.code, 0, r.stderr);
    assert.equal(sha1(await readFile(file)), sha1(digits(10_000_000)));
  });

  test('a slow reader gets everything, others are not held up by it', async () => {
    const file = join(world.lab.dir, 'slow');
    const slow = sidestep.run(['curl', '-sS', '-m', '60', '--limit-rate', '3M', '-o', file, `${url}/bytes/12000000`]);
    const load = await world.load(sidestep, 4);
    const r = await slow;
    const report = await load.finish();
    assert.equal(r.code, 0, r.stderr);
    assert.equal(sha1(await readFile(file)), sha1(digits(12_000_000)));
    assert.deepEqual(report.failures, []);
    assert.ok(report.longestGapMs < 1000, `${report.longestGapMs} ms without an answer`);
  });
});
