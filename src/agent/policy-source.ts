/**
 * Where the agent's generations come from: a thread reads and compiles, the agent gives the numbers that must mean the same
 * in all generations.
 */
import { randomBytes } from 'node:crypto';
import type { Diagnostic } from '../policy/diagnostics.js';
import { MAX_FILE_BYTES } from '../policy/load.js';
import type { ChainTarget } from '../proxy/index.js';
import type { InstanceOptions, InstancePaths } from './instance-options.js';
import { secretFiles } from './mesh-certificates.js';
import type { AgentParts } from './parts.js';
import type { Generation, Numbers, PolicyTask } from './policy.js';
import { type PlannedPolicy, type ReadPolicy, readPolicy } from './policy-thread.js';

/** What gives numbers. */
export type Numbering = Pick<AgentParts, 'traffic' | 'buckets' | 'breakers' | 'streams'>;

export class PolicySource {
  /** an index for each listener name, the same in all generations */
  readonly listeners = new Map<string, number>();
  /** the proxy waits on behalf of clients in other network namespaces */
  elsewhere = false;
  /** where relayed connections are waited for; undefined: nowhere */
  chains: ChainTarget | undefined;
  /** what `-` among the files stands for, once it was read */
  #stdin: Uint8Array | undefined;
  /** see `relayName` */
  readonly relaySecret = randomBytes(16).toString('hex');
  readonly #stopped = new AbortController();

  constructor(
    private readonly options: InstanceOptions,
    private readonly paths: InstancePaths,
  ) {}

  /**
   * Reads the files.
   * @param before the policy in force, if there is one: one that says the same is not made
   */
  async read(number: number, before?: Pick<Generation, 'digest' | 'sources'>): Promise<ReadPolicy> {
    if (this.options.files.includes('-')) this.#stdin ??= await readInput();
    return await this.#start(number, before && { inForce: before.digest, before: before.sources });
  }

  /** Takes what the files said when `generation` was made. */
  readAgain(number: number, generation: Pick<Generation, 'sources'>): Promise<ReadPolicy> {
    return this.#start(number, { sources: generation.sources });
  }

  #start(number: number, more: Pick<PolicyTask, 'inForce' | 'before' | 'sources'> = {}): Promise<ReadPolicy> {
    const { files, name: instance, identity, workload, proxy, inbound, atServers, http2 } = this.options;
    const task: PolicyTask = {
      files,
      ...(this.#stdin === undefined ? {} : { stdin: this.#stdin }),
      instance,
      ...(identity ? { identity } : {}),
      ...(workload ? { workload } : {}),
      proxy,
      proxyFolder: this.paths.proxy,
      consultPath: this.paths.consults,
      reportsPath: this.paths.reports,
      ...(this.chains ? { chains: this.chains } : {}),
      relaySecret: this.relaySecret,
      ...(this.options.certificates === undefined ? {} : { secrets: secretFiles(this.paths.proxy) }),
      elsewhere: this.elsewhere,
      http2,
      inbound,
      ...(atServers === undefined ? {} : { atServers }),
      number,
      ...more,
    };
    return readPolicy(task, { signal: this.#stopped.signal });
  }

  /** Gives a policy the numbers that it needs, and compiles it. @returns a diagnostic if that fails */
  make(policy: PlannedPolicy, parts: Numbering): Promise<Generation | Diagnostic> {
    for (const note of policy.notes) this.options.log(note);
    return policy.make(this.#numbers(policy, parts));
  }

  #numbers({ wanted }: PlannedPolicy, { traffic, buckets, breakers, streams }: Numbering): Numbers {
    for (const name of wanted.listeners) if (!this.listeners.has(name)) this.listeners.set(name, this.listeners.size);
    const idOf = ({ address, port, proxy, relay }: (typeof wanted.endpoints)[number]): number => {
      try {
        return proxy ? traffic.pool.proxyId(address, port) : traffic.pool.endpointId(address, port, relay);
      } catch {
        return -1; // no more room
      }
    };
    return {
      listeners: this.listeners,
      endpoints: wanted.endpoints.map(idOf),
      programs: wanted.programs.map((program) => traffic.programs.number(program)),
      buckets: wanted.buckets.map((bucket) => buckets.place(bucket) ?? -1),
      breakers: wanted.breakers.map((breaker) => breakers.place(breaker) ?? -1),
      ...(streams ? { streams: wanted.streams.map((server) => streams.endpointId(server)) } : {}),
    };
  }

  /** Ends what is being read or compiled, which fails then, and everything that is asked for later. */
  stop(): void {
    this.#stopped.abort();
  }
}

/** Standard input, as far as it may be a policy: more is too much, whatever follows. */
async function readInput(): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of process.stdin) {
    chunks.push(Buffer.from(chunk));
    size += chunk.length;
    if (size > MAX_FILE_BYTES) break;
  }
  return Buffer.concat(chunks);
}
