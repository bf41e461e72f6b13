/** Builds a native program over the data plane's headers, with sanitizers, for a test. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compileImage } from '../../src/compile/image.js';
import { FUZZ_PLAN } from './plan.js';

const ROOT = new URL('../..', import.meta.url).pathname;

/** The image of the fuzzing plan. */
export const FUZZ_IMAGE = compileImage(FUZZ_PLAN, {
  generation: 1,
  endpointId: (_, port) => port - 20000,
  proxyEndpointId: () => 9,
}).image;

/** @param name C file in this folder, without `.c`. @param policy the image that it gets. @returns a function that runs it over the image, bytes to bytes. */
export function buildNative(name: string, policy: Uint8Array = FUZZ_IMAGE): (input: Uint8Array) => Buffer {
  const folder = mkdtempSync(join(tmpdir(), 'sidestep-native-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  const program = join(folder, name);
  const image = join(folder, 'image');
  writeFileSync(image, policy);
  const flags = ['-g', '-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=all', '-Wno-everything'];
  const multiarch = ['/usr/include/x86_64-linux-gnu', '/usr/include/aarch64-linux-gnu'].filter((p) => existsSync(p));
  const includes = [join(ROOT, 'bpf'), ...multiarch].map((p) => `-I${p}`);
  execFileSync('clang', [...flags, ...includes, join(ROOT, 'test/fuzz', `${name}.c`), '-o', program]);
  return (input) => execFileSync(program, [image], { input, maxBuffer: 1 << 30 });
}
