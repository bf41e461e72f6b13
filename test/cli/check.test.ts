/** The commands that only read files, as a user runs them. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { CheckReport } from '../../src/plan/report.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { clusterOf, hostOf, listenerOf, TYPE, to } from '../plan/resources.js';

const PROGRAM = path.resolve('bin/sidestep.mjs');

interface Run {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function sidestep(args: readonly string[], input = ''): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [PROGRAM, ...args]);
    let out = '';
    let err = '';
    child.stdout.on('data', (d) => {
      out += d;
    });
    child.stderr.on('data', (d) => {
      err += d;
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code: code ?? -1, out, err }));
    child.stdin.end(input);
  });
}

const LISTENER = listenerOf(
  [
    hostOf(
      [
        { ...to('a', '/api/', {}, { prefix_rewrite: '/', timeout: '2s' }), name: 'api' },
        { ...to('a', '/watched', {}, { max_stream_duration: { max_stream_duration: '10s' } }), name: 'watched' },
        { match: { prefix: '/old' }, redirect: { https_redirect: true } },
      ],
      { domains: ['shop.example'] },
    ),
  ],
  {
    filters: [
      {
        name: 'rbac',
        typed_config: {
          '@type': TYPE.rbac,
          rules: {
            action: 'DENY',
            policies: {
              admin: { permissions: [{ url_path: { path: { prefix: '/api/admin' } } }], principals: [{ any: true }] },
            },
          },
        },
      },
    ],
  },
);

function bootstrap(listener: JsonObject = LISTENER): string {
  return JSON.stringify({ static_resources: { listeners: [listener], clusters: [clusterOf('a', [9001])] } }, null, 2);
}

describe('commands that read files', { concurrency: 2 }, () => {
  let dir: string;
  let good: string;
  let bad: string;
  before(() => {
    dir = mkdtempSync(path.join(tmpdir(), 'sidestep-check-'));
    good = path.join(dir, 'good.json');
    bad = path.join(dir, 'bad.json');
    writeFileSync(good, bootstrap());
    writeFileSync(bad, bootstrap().replace('"prefix_rewrite"', '"prefix_rewrit"'));
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  it('check --json keeps its contract', async () => {
    const { code, out } = await sidestep(['check', '--json', good]);
    assert.equal(code, 0);
    const result = JSON.parse(out) as CheckReport;
    assert.deepEqual([result.rules, result.kernel, result.proxy, result.documents, result.errors], [4, 3, 1, 1, []]);
    const watched = result.results.find((r) => r.rule === 'watched')!;
    assert.deepEqual(
      [watched.file, watched.kind, watched.verdict, watched.reasons[0]!.code],
      [good, 'Route', 'proxy', 'timeout'],
    );
    const line =
      bootstrap()
        .split('\n')
        .findIndex((l) => l.includes('"max_stream_duration"')) + 1;
    assert.equal(watched.reasons[0]!.line, line);
  });

  it('check for people names every rule with its line', async () => {
    const { code, out } = await sidestep(['check', good]);
    assert.equal(code, 0);
    assert.match(out, /^\S+good\.json {2}3 of 4 rules in the kernel$/m);
    assert.match(out, /^ {2}kernel +\d+ {2}Route all api$/m);
    assert.match(out, /^ {2}proxy +\d+ {2}Route all watched$/m);
    assert.match(out, /^4 rules in 1 document: 3 in the kernel \(75\.0%\), 1 through the proxy \(25\.0%\)$/m);
    assert.match(out, /^ +1 {2}timeout +A timeout that the fast path does not have$/m);
  });

  it('check --html writes one page; a place that cannot be written is wrong usage', async () => {
    const page = path.join(dir, 'report.html');
    const { code } = await sidestep(['check', good, '--html', page]);
    assert.equal(code, 0);
    const html = readFileSync(page, 'utf8');
    assert.match(html, /^<!doctype html>/);
    assert.match(html, /75\.0% of the rules are enforced in the kernel/);
    const missing = await sidestep(['check', good, '--html', path.join(dir, 'no', 'such', 'folder.html')]);
    assert.equal(missing.code, 2);
    assert.match(missing.err, /cannot be written/);
  });

  it('check warns, with a code, and the verdicts and the exit code stay', async () => {
    const shadowed = bootstrap().replace('"prefix": "/watched"', '"prefix": "/api/watched"');
    const { code, err } = await sidestep(['check', '-'], shadowed);
    assert.equal(code, 0);
    assert.match(err, /^<stdin>:\d+:\d+: warning: match: never reached: api .*\[unreachable-route\]$/m);
  });

  it('reasons: all, one, and one that there is not', async () => {
    assert.match((await sidestep(['reasons'])).out, /^timeout +A timeout that the fast path does not have$/m);
    const { code, out } = await sidestep(['reasons', 'timeout']);
    assert.equal(code, 0);
    assert.match(out, /^## Before$/m);
    assert.equal((await sidestep(['reasons', 'nothing'])).code, 2);
  });

  it('check --require', async () => {
    assert.equal((await sidestep(['check', '--require', '75%', good])).code, 0);
    const missed = await sidestep(['check', '--require', '76%', good]);
    assert.equal(missed.code, 1);
    assert.match(missed.err, /75\.0% of the rules are offloaded, 76% are required/);
  });

  it('check of invalid input: file, line, column and field; exit code 1', async () => {
    const { code, out, err } = await sidestep(['check', bad]);
    assert.equal(code, 1);
    const line =
      bootstrap()
        .split('\n')
        .findIndex((l) => l.includes('"prefix_rewrite"')) + 1;
    assert.match(err, new RegExp(`bad\\.json:${line}:\\d+: error: .*prefix_rewrit`));
    assert.match(out, /nothing would be loaded/);
    const json = JSON.parse((await sidestep(['check', '--json', bad])).out) as CheckReport;
    assert.equal(json.errors[0]!.line, line);
    assert.equal(json.kernel + json.proxy, 0);
  });

  it('check reads standard input', async () => {
    const { code, out } = await sidestep(['check', '--json', '-'], bootstrap());
    assert.equal(code, 0);
    assert.equal((JSON.parse(out) as CheckReport).rules, 4);
  });

  it('wrong usage: exit code 2 and one clear line', async () => {
    for (const args of [
      ['check'],
      ['nothing'],
      ['check', '--require', 'all', good],
      ['explain', good],
      ['explain', good, '--request', 'GET nowhere'],
    ]) {
      const { code, err } = await sidestep(args);
      assert.equal(code, 2, args.join(' '));
      assert.match(err, /^error: /);
      assert.doesNotMatch(err, /\n {4}at /);
    }
  });

  it('--help tells the exit codes', async () => {
    for (const args of [['--help'], ['check', '--help']]) {
      const { code, out } = await sidestep(args);
      assert.equal(code, 0);
      assert.match(out, /Exit codes:/);
    }
  });

  it('explain: a forwarded, a denied, a proxied and an unknown request', async () => {
    const explain = async (...args: string[]) =>
      JSON.parse((await sidestep(['explain', good, '--json', '--request', ...args])).out);
    const forwarded = await explain('GET http://shop.example/api/x?y=1', '-H', 'X-User: a');
    assert.deepEqual([forwarded.verdict, forwarded.winner.name, forwarded.result.target], ['kernel', 'api', '/x?y=1']);
    assert.ok(forwarded.result.headers.some(([n, v]: [string, string]) => n === 'x-user' && v === 'a'));
    assert.equal((await explain('GET http://shop.example/api/admin')).result.status, 403);
    assert.equal((await explain('GET http://shop.example/watched')).verdict, 'proxy');
    assert.equal((await explain('GET http://other.example/')).result.status, 404);
    assert.equal((await explain('GET http://shop.example/old/x')).result.headers[0][1], 'https://shop.example/old/x');
  });

  it('explain knows the forms that go to the proxy', async () => {
    const verdict = async (...args: string[]) =>
      JSON.parse((await sidestep(['explain', good, '--json', '-X', 'POST http://shop.example/api/x', ...args])).out)
        .verdict;
    assert.equal(await verdict('--body-length', '10'), 'kernel');
    for (const args of [
      ['-H', 'Connection: close'],
      ['-H', 'Transfer-Encoding: chunked'],
      ['--http', '1.0'],
      ['--body-length', '2000000'],
    ])
      assert.equal(await verdict(...args), 'proxy', args.join(' '));
    assert.equal((await sidestep(['explain', good, '-X', 'GET http://x/', '--http', '3'])).code, 2);
  });

  it('explain for people', async () => {
    const { code, out } = await sidestep(['explain', good, '--request', 'GET http://shop.example/old']);
    assert.equal(code, 0);
    assert.match(out, /^ +api: not matched .*good\.json:\d+$/m);
    assert.match(out, /needs: path has prefix "\/api\/"; it is "\/old"/);
    assert.match(out, /=> all\[2\]: matched/);
    assert.match(out, /location: https:\/\/shop\.example\/old/);
  });

  it('translate prints the resources', async () => {
    const { code, out } = await sidestep(['translate', good]);
    assert.equal(code, 0);
    const { listeners, clusters } = JSON.parse(out);
    assert.equal(listeners[0].name, 'listener');
    assert.equal(clusters[0].name, 'a');
    assert.equal((await sidestep(['translate', bad])).code, 1);
  });
});
