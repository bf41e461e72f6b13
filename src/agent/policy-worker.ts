/** Makes one generation in a thread of its own, so that the agent's event loop goes on meanwhile; then the thread ends. */
import { parentPort, workerData } from 'node:worker_threads';
import { buffersOf } from '../proxy/index.js';
import type { Numbers, PolicyTask } from './policy.js';
import { errorsOf } from './policy.js';
import { compilePolicy, digestOf, loadPolicy, planPolicy } from './policy-build.js';
import type { PolicyMessage } from './policy-thread.js';

const port = parentPort!;
const send = (message: PolicyMessage, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);

async function work(task: PolicyTask): Promise<void> {
  const resources = await loadPolicy(task);
  const { diagnostics } = resources;
  if (errorsOf(diagnostics).length > 0) {
    send({ kind: 'invalid', diagnostics });
    return;
  }
  const digest = digestOf(resources);
  if (digest === task.inForce) {
    send({ kind: 'same' });
    return;
  }
  const planned = planPolicy(task, resources, digest);
  const numbers = new Promise<Numbers>((resolve) => port.once('message', resolve));
  send({ kind: 'planned', digest, diagnostics, notes: planned.notes, wanted: planned.wanted });
  const generation = compilePolicy(planned, await numbers);
  const own = [generation.compiled.image, generation.ruleNames, generation.config].map((b) => b.buffer as ArrayBuffer);
  const files = generation.prepared ? buffersOf(generation.prepared) : [];
  send({ kind: 'made', generation }, [...new Set([...own, ...files])]);
}

await work(workerData as PolicyTask);
