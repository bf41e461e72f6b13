import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runAside } from '../kernel/spawn.js';
import type { Diagnostic } from '../policy/diagnostics.js';

const TIMEOUT_MS = 60_000;
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
    const { code, signal } = await runAside(envoyPath, args, `${file}.out`, TIMEOUT_MS);
    if (code === 0) return [];
    const output = await readFile(`${file}.out`, 'utf8');
    const said = output.trim() === '' ? `it ended with ${signal ? `signal ${signal}` : code}` : explain(output, file);
    return [{ severity: 'error', code: 'refused-by-envoy', message: `Envoy refuses it: ${said}` }];
  } finally {
    await rm(file, { force: true });
    await rm(`${file}.out`, { force: true });
  }
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
