import { execFile } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Diagnostic } from '../policy/diagnostics.js';

let counter = 0;

/**
 * Asks Envoy itself (`--mode validate`) whether it takes a bootstrap (see `buildStaticBootstrap`). `dir` holds the file that it reads, which is
 * removed afterwards. Returns no diagnostics when it does, else what it says.
 */
export async function validateWithEnvoy(
  envoyPath: string,
  bootstrap: string | Uint8Array,
  dir: string,
): Promise<Diagnostic[]> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const file = join(dir, `validate-${process.pid}-${counter++}.json`);
  await writeFile(file, bootstrap);
  try {
    const args = ['--mode', 'validate', '-c', file, '--disable-hot-restart', '-l', 'error', '--log-format', '%l %v'];
    const { failed, output } = await run(envoyPath, args);
    if (!failed) return [];
    return [{ severity: 'error', code: 'refused-by-envoy', message: `Envoy refuses it: ${explain(output, file)}` }];
  } finally {
    await rm(file, { force: true });
  }
}

function run(path: string, args: readonly string[]): Promise<{ failed: boolean; output: string }> {
  return new Promise((resolve) => {
    execFile(path, args, { timeout: 60_000, maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
      const output = `${stderr}\n${stdout}`;
      resolve({ failed: error !== null, output: output.trim() === '' && error ? error.message : output });
    });
  });
}

/** The sentence of Envoy's output that says what is wrong, without the file's name and its contents. */
function explain(output: string, file: string): string {
  const lines = output.split('\n').map((line) => line.trim());
  const line =
    lines.find((l) => l.includes('error initializing config')) ?? lines.find((l) => l !== '') ?? 'no reason given';
  const text = line
    .replace(/^(critical|error) /, '')
    .replace(/^error initializing config(uration)? '[^']*': /, '')
    .replaceAll(file, 'the configuration');
  return text.length > 600 ? `${text.slice(0, 600)}…` : text;
}
