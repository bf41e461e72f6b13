/** h2spec, which sends what RFC 9113 and RFC 7541 forbid: whatever Envoy's clients get right by it, the kernel's do, too. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../../src/lab/paths.js';
import { H2World } from './h2-world.js';
import { skip as without } from './world.js';

const PLACES = [process.env.SIDESTEP_H2SPEC ?? '', join(packageRoot(), '.cache/h2spec/h2spec')];
const H2SPEC = PLACES.find((path) => path !== '' && existsSync(path));
const skip = without || (H2SPEC ? false : 'no h2spec was found (script/bootstrap installs it where there is Go)');

/** A part of it: the whole takes most of a minute. */
const SECTIONS = ['hpack', 'http2/8.1.2'];

/** Trailers go to the server as they are, which resets the stream; a table of 0 is asked for, and the proxy allows more. */
const KNOWN = /contains a pseudo-header field as trailers|table size update larger than the value of SETTINGS_HEADER/;

/** The cases, each with what went wrong; '': nothing. */
async function run(port: number, folder: string): Promise<Map<string, string>> {
  const report = join(folder, `${port}.xml`);
  const argv = ['-h', '127.0.0.1', '-p', String(port), '-o', '5', '-j', report, ...SECTIONS];
  await once(spawn(H2SPEC!, argv, { stdio: 'ignore' }), 'exit');
  const found = new Map<string, string>();
  const cases = /<testcase package="([^"]*)" classname="([^"]*)"[^>]*?(?:\/>|>([\s\S]*?)<\/testcase>)/g;
  for (const [, section, name, wrong = ''] of (await readFile(report, 'utf8')).matchAll(cases))
    found.set(`${section} ${name}`, /<(?:failure|error)/.test(wrong) ? wrong.replace(/<[^>]*>|\s+/g, ' ').trim() : '');
  return found;
}

test('h2spec finds nothing where it finds nothing with Envoy', { skip, timeout: 60_000 }, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'sidestep-h2spec-'));
  const world = await H2World.open([{ match: { prefix: '/' }, route: { cluster: 'one', timeout: '0s' } }], {}, {}, {
    script: (stream) => {
      stream.resume();
      stream.on('end', () => {
        if (stream.destroyed) return;
        stream.respond({ 'content-type': 'text/plain' });
        stream.end('hello');
      });
      return true;
    },
  }); // biome-ignore format: short
  try {
    const { own, envoy } = world.ports;
    const [ours, envoys] = await Promise.all([run(own, folder), run(envoy, folder)]);
    assert.ok(ours.size > 20, `only ${ours.size} cases`);
    const wrong = [...ours].filter(([name, what]) => what !== '' && envoys.get(name) === '' && !KNOWN.test(name));
    assert.equal(wrong.map((one) => one.join(': ')).join('\n'), '');
    assert.ok(world.decided() > 0, 'the kernel decided nothing');
  } finally {
    await world.close();
    await rm(folder, { recursive: true, force: true });
  }
});
