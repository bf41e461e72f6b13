/**
 * What servers of the clients test need from package registries, made once in .cache: Python packages, Maven artifacts,
 * crates. Each answers with what to start, or with why it cannot be had.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onPath, packageRoot } from '../../src/lab/paths.js';
import { runCommand } from '../../src/lab/processes.js';

const PROGRAMS = join(dirname(fileURLToPath(import.meta.url)), 'programs');

/** A command line, or why there is none. */
export type Made = { readonly argv: readonly string[] } | { readonly missing: string };

const PYTHON = ['uvicorn==0.54.0', 'gunicorn==27.0.1'];

/**
 * Runs what fetches and builds, once for each `key`; a failure is remembered for this run only.
 * @returns why it failed, or undefined
 */
async function once(name: string, key: string, argv: readonly (readonly string[])[]): Promise<string | undefined> {
  const folder = join(packageRoot(), '.cache/servers');
  const stamp = join(folder, `${name}.stamp`);
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === key) return undefined;
  mkdirSync(folder, { recursive: true });
  for (const command of argv) {
    const r = await runCommand(command, { timeoutMs: 240_000 });
    if (r.code === 0) continue;
    const words = `${r.stderr}${r.stdout}`.trim().split('\n');
    return `${name}: ${command[0]!.split('/').at(-1)} failed, or its registry does not answer: ${words.at(-1) ?? r.signal}`;
  }
  writeFileSync(stamp, key);
  return undefined;
}

/** uvicorn and gunicorn. */
export async function pythonServer(which: 'uvicorn' | 'gunicorn', address: string, port: number): Promise<Made> {
  const venv = join(packageRoot(), '.cache/servers/python');
  const why = await once('python', PYTHON.join(), [
    ['python3', '-m', 'venv', '--clear', venv],
    [join(venv, 'bin/python'), '-m', 'pip', 'install', '-q', '--no-input', ...PYTHON],
  ]);
  if (why) return { missing: why };
  const python = join(venv, 'bin/python');
  if (which === 'uvicorn') {
    const options = ['--app-dir', PROGRAMS, '--host', address, '--port', String(port), '--log-level', 'warning'];
    return { argv: [python, '-m', 'uvicorn', ...options, '--timeout-keep-alive', '60', 'asgi_app:asgi'] };
  }
  const threads = ['--worker-class', 'gthread', '--threads', '32', '--keep-alive', '60', '--log-level', 'warning'];
  return {
    argv: [python, '-m', 'gunicorn', '--chdir', PROGRAMS, '--bind', `${address}:${port}`, ...threads, 'asgi_app:wsgi'],
  };
}

/** Netty, started from its source. */
export async function nettyServer(address: string, port: number): Promise<Made> {
  if (!onPath('java')) return { missing: 'netty: java is not installed' };
  if (!onPath('mvn')) return { missing: 'netty: mvn is not installed' };
  const jars = join(packageRoot(), '.cache/servers/netty');
  const pom = join(PROGRAMS, 'netty-server/pom.xml');
  const why = await once('netty', readFileSync(pom, 'utf8'), [
    ['mvn', '-q', '-B', '-f', pom, 'dependency:copy-dependencies', `-DoutputDirectory=${jars}`],
  ]);
  if (why) return { missing: why };
  const source = join(PROGRAMS, 'netty-server/NettyServer.java');
  return { argv: ['java', '-cp', `${jars}/*`, source, address, String(port)] };
}

/** hyper, built with cargo. */
export async function hyperServer(address: string, port: number): Promise<Made> {
  const cargo = onPath('cargo') ?? [join(homedir(), '.cargo/bin/cargo')].find((p) => existsSync(p));
  if (!cargo) return { missing: 'hyper: cargo is not installed' };
  const target = join(packageRoot(), '.cache/servers/hyper');
  const folder = join(PROGRAMS, 'hyper-server');
  const key = ['Cargo.lock', 'Cargo.toml', 'src/main.rs'].map((f) => readFileSync(join(folder, f), 'utf8')).join('');
  const why = await once('hyper', key, [
    [
      cargo,
      'build',
      '-q',
      '--release',
      '--locked',
      '--target-dir',
      target,
      '--manifest-path',
      join(folder, 'Cargo.toml'),
    ],
  ]);
  return why ? { missing: why } : { argv: [join(target, 'release/hyper-server'), address, String(port)] };
}
