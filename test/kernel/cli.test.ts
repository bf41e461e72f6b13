import assert from 'node:assert/strict';
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { createCgroups, removeCgroups } from '../../src/kernel/cgroups.js';
import { instanceFolder, processStartTime } from '../../src/kernel/instance.js';
import { needsRoot } from './compile-bpf.js';

const CLI = ['--import', 'tsx', new URL('cli.ts', import.meta.url).pathname];
const WITHOUT_CAPABILITIES = ['--bounding-set=-all', '--inh-caps=-all', process.execPath];

const run = (...args: string[]): SpawnSyncReturns<string> =>
  spawnSync(process.execPath, [...CLI, ...args], { encoding: 'utf8' });
const runPowerless = (...args: string[]): SpawnSyncReturns<string> =>
  spawnSync('setpriv', [...WITHOUT_CAPABILITIES, ...CLI, ...args], { encoding: 'utf8' });

describe('sidestep exec', { skip: needsRoot }, () => {
  const name = `test-exec-${process.pid}`;
  const folder = instanceFolder(name);
  const hostsFile = join(folder, 'hosts');
  const writeState = (pid: number, startTime: number): void =>
    writeFileSync(
      join(folder, 'state.json'),
      JSON.stringify({ pid, startTime, name, cgroup: createCgroups(name).root, hostsFile }),
    );
  const inside = (...command: string[]): SpawnSyncReturns<string> => run('exec', '--name', name, '--', ...command);

  before(() => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(hostsFile, '127.0.0.1 reviews.test-mesh\n');
    writeState(process.pid, processStartTime(process.pid)!);
  });
  after(() => {
    rmSync(folder, { recursive: true });
    removeCgroups(name);
  });

  it("runs the command in the instance's cgroup, with its hosts file, and nobody else sees either", () => {
    const outside = readFileSync('/etc/hosts', 'utf8');
    const result = inside('sh', '-c', 'grep ^0:: /proc/self/cgroup; cat /etc/hosts; getent hosts reviews.test-mesh');
    assert.equal(result.stderr, '');
    assert.match(result.stdout, new RegExp(`^0::/sidestep-${name}/apps\n127.0.0.1 reviews.test-mesh\n127.0.0.1 `));
    assert.equal(readFileSync('/etc/hosts', 'utf8'), outside);
  });

  it("returns the command's exit code and dies of its signal", () => {
    assert.equal(inside('sh', '-c', 'exit 7').status, 7);
    assert.equal(inside('sh', '-c', 'kill -TERM $$').signal, 'SIGTERM');
    assert.equal(
      spawnSync('sh', [
        '-c',
        '"$@"; exit $?',
        'sh',
        process.execPath,
        ...CLI,
        'exec',
        '--name',
        name,
        '--',
        'sh',
        '-c',
        'kill -TERM $$',
      ]).status,
      143,
    );
    assert.equal(inside('/no/such/command').status, 127);
    assert.equal(inside('/etc/passwd').status, 126);
  });

  it('gives the command its own arguments, standard input and default signals', () => {
    assert.equal(run('exec', '--name', name, 'printf', '%s-%s', '--name', '-x').stdout, '--name--x');
    const result = spawnSync(process.execPath, [...CLI, 'exec', '--name', name, '--', 'cat'], {
      input: 'in',
      encoding: 'utf8',
    });
    assert.equal(result.stdout, 'in');
    // A command that starts with SIGPIPE ignored would not end when its reader does.
    assert.match(inside('grep', 'SigIgn', '/proc/self/status').stdout, /SigIgn:\s+0+\n/);
  });

  it('says in one sentence why it cannot', () => {
    const oneLine = (r: SpawnSyncReturns<string>, pattern: RegExp): void => {
      assert.match(r.stderr, pattern);
      assert.equal(r.stderr.trim().split('\n').length, 1);
      assert.equal(r.status, 125);
      assert.equal(r.stdout, '');
    };
    oneLine(run('exec', '--name', 'no-such', '--', 'echo', 'ran'), /no instance "no-such" is running; start one/);
    oneLine(run('exec', '--name', '../x', '--', 'echo', 'ran'), /cannot be the name/);
    oneLine(runPowerless('exec', '--name', name, '--', 'echo', 'ran'), /(EPERM|EACCES).*needs root/);
    writeState(process.pid, 1);
    oneLine(inside('echo', 'ran'), /is not running \(its agent, process \d+, is gone\)/);
    writeFileSync(join(folder, 'state.json'), '{');
    oneLine(inside('echo', 'ran'), /state\.json cannot be read/);
    writeState(process.pid, processStartTime(process.pid)!);
  });
});

describe('sidestep doctor', { skip: needsRoot }, () => {
  it('tries what the kernel can do', () => {
    const result = run('doctor', '--json');
    const { ok, checks } = JSON.parse(result.stdout) as {
      ok: boolean;
      checks: { name: string; ok: boolean; detail: string }[];
    };
    assert.equal(
      ok,
      checks.every((c) => c.ok),
    );
    assert.equal(result.status, ok ? 0 : 3);
    for (const name of ['privilege', 'cgroup2', 'cgroup-link', 'test-run', 'sockmap'])
      assert.deepEqual(
        checks.filter((c) => c.name === name && !c.ok),
        [],
      );
  });

  it('without privileges names what is missing, and leaves nothing behind', () => {
    const result = runPowerless('doctor');
    assert.equal(result.status, 3);
    assert.match(result.stdout, /FAIL {2}privilege .*EPERM/);
    assert.match(result.stdout, /run as root, or with CAP_BPF/);
    assert.ok(!result.stdout.includes('    at '));
    assert.equal(result.stderr, '');
  });
});
