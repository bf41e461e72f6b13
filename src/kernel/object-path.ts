/** Where the compiled BPF objects of this package lie. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * Path of sidestep.bpf.o: in `dist/` of the package, whether this module runs from `src/` (tsx) or from `dist/`.
 * The file may not exist (a checkout that was not built).
 */
export function bpfObjectPath(): string {
  return objectPath('sidestep.bpf.o');
}

/** The same of h2.bpf.o. */
export function h2ObjectPath(): string {
  return objectPath('h2.bpf.o');
}

function objectPath(name: string): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json')) && dirname(folder) !== folder) folder = dirname(folder);
  return join(folder, 'dist', name);
}
