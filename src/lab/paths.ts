import { existsSync, statSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder with this package's package.json. */
export function packageRoot(): string {
  let dir = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(dir, 'package.json'))) {
    const parent = dirname(dir);
    if (parent === dir) throw new Error('package.json of sidestep not found');
    dir = parent;
  }
  return dir;
}

/** The first executable called `name` on PATH, or undefined. */
export function onPath(name: string): string | undefined {
  for (const dir of (process.env.PATH ?? '').split(delimiter)) {
    if (dir && existsSync(join(dir, name))) return join(dir, name);
  }
  return undefined;
}

/**
 * The Envoy to use: SIDESTEP_ENVOY, else `.cache/envoy/bin/envoy` in the checkout, else PATH.
 * @throws Error with what to do if there is none
 */
export function envoyPath(): string {
  const configured = process.env.SIDESTEP_ENVOY;
  if (configured) return configured;
  const cached = join(packageRoot(), '.cache/envoy/bin/envoy');
  if (existsSync(cached)) return cached;
  const found = onPath('envoy');
  if (found) return found;
  throw new Error('Envoy not found: run script/bootstrap, or set SIDESTEP_ENVOY to its path');
}

/** The built form of a file of `src/`, if it is there and not older. */
function builtForm(file: string): string | undefined {
  const root = packageRoot();
  const source = join(root, 'src/');
  if (!file.startsWith(source)) return undefined;
  const built = join(root, 'dist', `${file.slice(source.length, -'.ts'.length)}.js`);
  return existsSync(built) && statSync(built).mtimeMs >= statSync(file).mtimeMs ? built : undefined;
}

/**
 * Command line that runs a TypeScript file of this checkout (or its compiled form) with Node. What is built runs as such: tsx takes
 * a fifth of a second more, for each of the many clients of a test.
 */
export function nodeScript(file: string): string[] {
  const built = file.endsWith('.ts') ? builtForm(file) : file;
  return built ? [process.execPath, built] : [process.execPath, '--import', import.meta.resolve('tsx'), file];
}
