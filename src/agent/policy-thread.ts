/** The agent's end of the thread that makes generations. Whatever happens there, the agent goes on. */
import { type ResourceLimits, Worker } from 'node:worker_threads';
import type { Diagnostic } from '../policy/diagnostics.js';
import type { Generation, Numbers, NumbersWanted, PolicyTask } from './policy.js';

/** What the thread says, in order: one of the first three; after `planned`, and numbers for it, `made`. */
export type PolicyMessage =
  | { readonly kind: 'invalid'; readonly diagnostics: readonly Diagnostic[] }
  | { readonly kind: 'same' }
  | {
      readonly kind: 'planned';
      readonly digest: string;
      readonly diagnostics: readonly Diagnostic[];
      readonly notes: readonly string[];
      readonly wanted: NumbersWanted;
    }
  | { readonly kind: 'made'; readonly generation: Generation };

/** A policy that has no errors; exactly one of the two must be called. */
export interface PlannedPolicy {
  readonly kind: 'planned';
  readonly digest: string;
  readonly diagnostics: readonly Diagnostic[];
  /** what to tell the user */
  readonly notes: readonly string[];
  readonly wanted: NumbersWanted;
  /** Compiles it. @returns a diagnostic if the thread fails */
  make(numbers: Numbers): Promise<Generation | Diagnostic>;
  drop(): void;
}

export type ReadPolicy = Exclude<PolicyMessage, { kind: 'made' } | { kind: 'planned' }> | PlannedPolicy;

const WORKER = new URL('./policy-worker.js', import.meta.url);

const failed = (why: string): Diagnostic => ({
  severity: 'error',
  code: 'policy-thread',
  message: `the policies could not be compiled: ${why}`,
});

/** How a task is done. */
export interface ThreadOptions {
  /** of the thread's memory */
  readonly limits?: ResourceLimits;
  /** ends the thread, which is then as any that fails */
  readonly signal?: AbortSignal;
}

/** Reads the files of a task, in a thread that ends with it. */
export async function readPolicy(task: PolicyTask, { limits, signal }: ThreadOptions = {}): Promise<ReadPolicy> {
  if (signal?.aborted) return { kind: 'invalid', diagnostics: [failed('the agent stops')] };
  const worker = new Worker(WORKER, { workerData: task, ...(limits ? { resourceLimits: limits } : {}) });
  const end = () => void worker.terminate();
  signal?.addEventListener('abort', end);
  const queue: (PolicyMessage | Diagnostic)[] = [];
  let waiting: ((message: PolicyMessage | Diagnostic) => void) | undefined;
  const arrived = (message: PolicyMessage | Diagnostic) => {
    if (waiting) waiting(message);
    else queue.push(message);
    waiting = undefined;
  };
  const next = () =>
    new Promise<PolicyMessage | Diagnostic>((resolve) => {
      const first = queue.shift();
      if (first) resolve(first);
      else waiting = resolve;
    });
  worker.on('message', (message: PolicyMessage) => arrived(message));
  worker.on('messageerror', (error) => arrived(failed(error.message)));
  worker.on('error', (error) => arrived(failed(error.message)));
  worker.on('exit', (code) => {
    signal?.removeEventListener('abort', end);
    arrived(failed(signal?.aborted ? 'the agent stops' : `the thread ended with ${code}`));
  });
  return next().then((message): ReadPolicy => {
    if (!('kind' in message)) return { kind: 'invalid', diagnostics: [message] };
    if (message.kind === 'made') return { kind: 'invalid', diagnostics: [failed('out of turn')] };
    if (message.kind !== 'planned') return message;
    return {
      ...message,
      async make(numbers) {
        worker.postMessage(numbers);
        const made = await next();
        if (!('kind' in made)) return made;
        return made.kind === 'made' ? made.generation : failed('out of turn');
      },
      drop() {
        void worker.terminate();
      },
    };
  });
}
