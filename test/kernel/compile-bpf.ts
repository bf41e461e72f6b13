/** Compiles a test's BPF source with clang into a temporary folder. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../src/lab/paths.js';

/** @param name file in this folder, without `.bpf.c`. @returns path of the object. */
export function compileBpf(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'sidestep-test-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  const out = join(folder, `${name}.bpf.o`);
  const source = new URL(`${name}.bpf.c`, import.meta.url).pathname;
  const multiarch = ['/usr/include/x86_64-linux-gnu', '/usr/include/aarch64-linux-gnu'].filter((p) => existsSync(p));
  const includes = [join(packageRoot(), 'bpf'), ...multiarch].map((p) => `-I${p}`);
  execFileSync('clang', ['-O2', '-g', '-mcpu=v3', '-target', 'bpf', ...includes, '-c', source, '-o', out]);
  return out;
}

/** Tests of the kernel need root; without it they are skipped, visibly. */
export const needsRoot = process.getuid?.() === 0 ? false : 'needs root';
