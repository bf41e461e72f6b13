/** What every trial of policies shares: echo servers, a client, the programs in the kernel. */
import { join } from 'node:path';
import { Driver } from '../../src/lab/driver.js';
import { nodeScript, packageRoot } from '../../src/lab/paths.js';
import { freePorts } from '../../src/lab/ports.js';
import { Lab } from '../../src/lab/processes.js';
import { Kernel } from '../agreement/kernel.js';
import type { Trial } from './world.js';

const ECHOES = 60;

/** Does something with all of it running; without root there is no kernel. Cleans up after itself. */
export async function withTrial(
  { seed, requests }: Pick<Trial, 'seed' | 'requests'>,
  body: (trial: Trial) => Promise<void>,
): Promise<void> {
  const lab = await Lab.open('wild');
  const kernel = process.getuid?.() === 0 ? new Kernel() : undefined;
  try {
    const ports = await freePorts(ECHOES);
    const names = ports.map((_, i) => `u${i}`);
    const server = join(packageRoot(), 'test/differential/echo-server.ts');
    const echo = lab.start('echo servers', [...nodeScript(server), ...names.map((n, i) => `${n}=${ports[i]}`)]);
    await echo.waitFor(/listening/);
    const raw = lab.start('client', nodeScript(join(packageRoot(), 'src/lab/raw-client.ts')), { stdin: true });
    await raw.waitFor(/raw-client/);
    const client = new Driver(raw);
    await body({ lab, client, echoes: { names, ports }, seed, requests, ...(kernel && { kernel }) });
  } finally {
    kernel?.close();
    await lab.close();
  }
}
