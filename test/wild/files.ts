import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** The policies below a path, in order. */
export function filesBelow(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path)
    .sort()
    .flatMap((name) => filesBelow(join(path, name)))
    .filter((file) => /\.(ya?ml|json)$/.test(file));
}
