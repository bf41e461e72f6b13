/** A plain Envoy beside Sidestep: the baseline of measurements and the oracle of tests. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { JsonObject } from '../policy/resources.js';
import { envoyPath } from './paths.js';
import { freePort } from './ports.js';
import { type Lab, type LabProcess, runCommand, sleep } from './processes.js';

export interface EnvoyHandle {
  readonly process: LabProcess;
  readonly adminPort: number;
}

/**
 * Starts Envoy with `bootstrap` (proto JSON; its `admin` is replaced by a free loopback port) and waits until it serves.
 * @param concurrency worker threads
 * @param prefix a command that runs its arguments somewhere else, as `nsenter` does; where that is a network namespace,
 * its loopback is asked through a command there
 * @throws Error with Envoy's own words if it refuses the configuration, or after 60 s
 */
export async function startEnvoy(
  lab: Lab,
  name: string,
  bootstrap: JsonObject,
  concurrency = 1,
  prefix: readonly string[] = [],
): Promise<EnvoyHandle> {
  const adminPort = await freePort();
  const file = join(lab.dir, `${name}.envoy.json`);
  const config = {
    ...bootstrap,
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: adminPort } } },
  };
  await writeFile(file, JSON.stringify(config));
  const process = lab.start(name, [
    ...prefix,
    envoyPath(),
    ...['-c', file, '--use-dynamic-base-id', '--concurrency', String(concurrency)],
    ...['--log-level', 'warning', '--drain-time-s', '1', '--parent-shutdown-time-s', '2'],
  ]);
  const end = Date.now() + 60_000;
  const url = `http://127.0.0.1:${adminPort}/ready`;
  const curl = [...prefix, 'curl', '-sf', '-o', '/dev/null', url];
  const ready = async () => (prefix.length > 0 ? (await runCommand(curl)).code === 0 : isReady(url));
  while (!(await ready())) {
    if (process.exit) throw new Error(`Envoy ${name} ended: ${process.output.slice(-2000)}`);
    if (Date.now() > end) throw new Error(`Envoy ${name} is not ready after 60 s: ${process.output.slice(-2000)}`);
    await sleep(30);
  }
  return { process, adminPort };
}

async function isReady(url: string): Promise<boolean> {
  try {
    const answer = await fetch(url);
    await answer.text();
    return answer.status === 200;
  } catch {
    return false;
  }
}
