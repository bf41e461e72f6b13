/** Makes one generation in a thread of its own, so that the agent's event loop goes on meanwhile; then the thread ends. */
import { parentPort, workerData } from 'node:worker_threads';
import { buffersOf } from '../proxy/index.js';
import type { Generation, Numbers, PolicyTask } from './policy.js';
import { errorsOf } from './policy.js';
import { compilePolicy, planPolicy } from './policy-build.js';
import { digestOf, loadPolicy } from './policy-load.js';
import type { PolicyMessage } from './policy-thread.js';

const port = parentPort!;
const send = (message: PolicyMessage, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);

/** The memory of a generation that is handed over without copying. */
function buffers({ compiled, streams, ruleNames, config, sources, logged, prepared }: Generation): ArrayBuffer[] {
  const views = [
    compiled.image,
    ...(streams ? [streams.image, streams.ruleNames] : []),
    ruleNames,
    config,
    sources,
    ...[...logged, ...(streams?.logged ?? [])].flatMap((l) => [l.routes, l.offsets]),
  ];
  const all = [...views.map((view) => view.buffer as ArrayBuffer), ...(prepared ? buffersOf(prepared) : [])];
  return [...new Set(all)];
}

async function work(task: PolicyTask): Promise<void> {
  const loaded = await loadPolicy(task);
  const { diagnostics } = loaded.resources;
  if (errorsOf(diagnostics).length > 0) {
    send({ kind: 'invalid', diagnostics });
    return;
  }
  const digest = digestOf(loaded.resources);
  if (digest === task.inForce) {
    send({ kind: 'same' });
    return;
  }
  const planned = planPolicy(task, loaded, digest);
  const numbers = new Promise<Numbers>((resolve) => port.once('message', resolve));
  send({ kind: 'planned', digest, diagnostics, notes: planned.notes, wanted: planned.wanted });
  const generation = compilePolicy(planned, await numbers);
  send({ kind: 'made', generation }, buffers(generation));
}

await work(workerData as PolicyTask);
