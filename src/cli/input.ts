/** What the commands that read policy files have in common. */
import { formatDiagnostic } from '../policy/diagnostics.js';
import { type LoadOptions, loadFiles } from '../policy/load.js';
import type { Resources } from '../policy/resources.js';

/** Reads the files; diagnostics go to standard error unless `quiet`. `ok` is false if there are errors. */
export async function loadInput(
  files: readonly string[],
  quiet = false,
  options: LoadOptions = {},
): Promise<{ resources: Resources; ok: boolean }> {
  const resources = await loadFiles([...files], options);
  if (!quiet) for (const d of resources.diagnostics) process.stderr.write(`${formatDiagnostic(d)}\n`);
  return { resources, ok: !resources.diagnostics.some((d) => d.severity === 'error') };
}

/** JSON with 64-bit integers as strings, indented. */
export function toJsonText(value: unknown): string {
  return JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? v.toString() : v), 2);
}
