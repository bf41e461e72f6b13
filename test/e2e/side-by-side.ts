/** Sidestep and a plain Envoy with the same policy, and a client of each. */
import { writeFile } from 'node:fs/promises';
import { Driver, RAW_CLIENT } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import type { Lab } from '../../src/lab/processes.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { ALONE, MESH } from './world.js';

export interface SideBySide {
  readonly sidestep: SidestepHandle;
  /** a client in the mesh, whose listener is at MESH */
  readonly mesh: Driver;
  /** a client outside, for the plain Envoy at ALONE */
  readonly alone: Driver;
}

/** Starts both, with the bootstrap for the address of each; Sidestep reads it from `file`. */
export async function sideBySide(
  lab: Lab,
  file: string,
  bootstrap: (address: string) => JsonObject,
): Promise<SideBySide> {
  await writeFile(file, JSON.stringify(bootstrap(MESH)));
  const [sidestep, alone] = await Promise.all([
    startSidestep(lab, [file]),
    Driver.of(lab.start('client outside', RAW_CLIENT, { stdin: true })),
    startEnvoy(lab, 'envoy alone', bootstrap(ALONE)),
  ]);
  const mesh = await Driver.of(sidestep.start('client inside', RAW_CLIENT, { stdin: true }));
  return { sidestep, mesh, alone };
}
