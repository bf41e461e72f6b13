/** Policies about connections in a mesh, and Envoy alone with the same resources beside it. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startEnvoy } from '../../src/lab/envoy.js';
import type { Lab } from '../../src/lab/processes.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import { buildPlan } from '../../src/plan/build.js';
import { report } from '../../src/plan/report.js';
import { loadFiles } from '../../src/policy/load.js';
import { Client } from './connection-world.js';
import { moved } from './istio-world.js';

export interface Beside {
  readonly sidestep: SidestepHandle;
  readonly inside: Client;
  readonly outside: Client;
  /** ports of Envoy alone, by listener */
  readonly places: Map<string, number>;
  /** by kind, name and rule: the codes of the reasons, or the verdict */
  readonly verdicts: Map<string, string>;
}

/** @param client the script of the clients */
export async function startBeside(lab: Lab, text: string, client = 'connection-client.py'): Promise<Beside> {
  const file = join(lab.dir, 'mesh.yaml');
  await writeFile(file, text);
  const resources = await loadFiles([file], {});
  const errors = resources.diagnostics.filter((d) => d.severity === 'error');
  assert.deepEqual(errors, []);
  const { results } = report(resources, buildPlan(resources));
  const { bootstrap, at } = await moved(resources);
  await startEnvoy(lab, 'alone', bootstrap);
  const sidestep = await startSidestep(lab, [file]);
  return {
    sidestep,
    outside: await Client.start(lab, undefined, [], client),
    inside: await Client.start(lab, sidestep, [], client),
    places: at,
    verdicts: new Map(
      results.map((r) => [`${r.kind} ${r.name} ${r.rule}`, r.reasons.map(({ code }) => code).join() || r.verdict]),
    ),
  };
}
