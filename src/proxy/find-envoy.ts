import { execFile } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The proxy cannot be found, started or reached. The message is for the user. */
export class ProxyError extends Error {
  override readonly name = 'ProxyError';
}

/** Oldest Envoy whose configuration API is close enough to the one that is compiled in (1.40). */
const OLDEST = [1, 34] as const;

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/**
 * Path of the Envoy binary: environment variable SIDESTEP_ENVOY, else `.cache/envoy/bin/envoy` in the checkout, else
 * `envoy` on the PATH. Throws ProxyError when there is none.
 */
export function findEnvoy(env: NodeJS.ProcessEnv = process.env): string {
  const chosen = env.SIDESTEP_ENVOY;
  if (chosen) {
    if (executable(chosen)) return chosen;
    throw new ProxyError(`SIDESTEP_ENVOY is ${chosen}, which is no executable file`);
  }
  // from src/proxy, or from dist/src/proxy once compiled
  const near = ['../..', '../../..'].map((up) =>
    join(fileURLToPath(new URL(up, import.meta.url)), '.cache/envoy/bin/envoy'),
  );
  const onPath = (env.PATH ?? '').split(delimiter).map((folder) => join(folder || '.', 'envoy'));
  const found = [...near, ...onPath].find(executable);
  if (found) return found;
  throw new ProxyError('no Envoy found: run script/bootstrap, put envoy on the PATH, or set SIDESTEP_ENVOY');
}

/** Version of an Envoy binary, e.g. `1.40.0`. Rejects with ProxyError when it does not run or is too old. */
export function envoyVersion(path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(path, ['--version'], { timeout: 20_000 }, (error, stdout) => {
      const match = /\/(\d+)\.(\d+)\.(\d+)/.exec(stdout);
      if (error || !match) {
        reject(new ProxyError(`${path} --version does not answer as Envoy does${error ? `: ${error.message}` : ''}`));
        return;
      }
      const [major, minor] = [Number(match[1]), Number(match[2])];
      if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) {
        reject(new ProxyError(`${path} is Envoy ${match[0].slice(1)}; ${OLDEST.join('.')} or newer is needed`));
        return;
      }
      resolve(match[0].slice(1));
    });
  });
}
