/** The generation in force: what becomes of the agent's parts, and of connections, when another one comes. */
import { listeningSocketOf } from '../kernel/foreign-sockets.js';
import { closeFd } from '../kernel/syscalls.js';
import type { EnvoyProxy } from '../proxy/index.js';
import { type Address, addressBytes, isLocal, isWildcard } from './address.js';
import type { Namespaces } from './namespaces.js';
import type { AgentParts } from './parts.js';
import { type Generation, tokenGeneration } from './policy.js';

export interface InForceContext {
  readonly parts: AgentParts;
  readonly namespaces: Namespaces;
  readonly proxy: () => EnvoyProxy | undefined;
  /** whether there is a proxy of any kind */
  readonly proxied: boolean;
  /** an index for each listener name */
  readonly listeners: ReadonlyMap<string, number>;
  /** whether other network namespaces are served */
  readonly elsewhere: () => boolean;
  readonly log: (message: string) => void;
}

export class InForce {
  #generation: Generation | undefined;
  #fallbacks: Address[] = [];
  /** how long the last change of the image took, in milliseconds */
  swapMs = 0;

  constructor(private readonly context: InForceContext) {}

  /** @throws Error when there is none yet */
  get generation(): Generation {
    if (!this.#generation) throw new Error('no policy is in force yet');
    return this.#generation;
  }

  /** The first generation is about to come into force. */
  begin(generation: Generation): void {
    this.#generation = generation;
  }

  readonly #indexOf = (listener: string): number => this.context.listeners.get(listener) ?? 0;

  /** Puts a generation in force for every request from now on. */
  async enforce(generation: Generation): Promise<void> {
    const { parts, listeners } = this.context;
    await parts.streams?.prepare(generation.streams);
    // who stays would be asked for a chain that is gone
    parts.traffic.keepChains(generation.chains);
    parts.log.use(generation, listeners);
    if (generation.mirrors) parts.mirrors.begin();
    const started = performance.now();
    await parts.plane.install(generation.compiled.image);
    // at once: what is found out is written into the image in force
    parts.discovery.enforce(generation.compiled, generation.endpoints, generation.bounds);
    await parts.streams?.use(generation.streams);
    this.swapMs = performance.now() - started;
    parts.tokens.use(tokenGeneration(generation, listeners));
    parts.buckets.enforced();
    parts.consultant.enforced();
    parts.breakers.enforced();
    parts.traffic.setIdleTimes(generation.idle);
    parts.relays.renew();
    parts.plane.hits.clear(generation.ruleCount);
    this.#generation = generation;
    parts.outliers.enforce();
    parts.chains.enforce(generation.chains);
    parts.listeners.steer(generation.intercepts, this.#indexOf);
    this.#fallBack(generation);
    this.enforceElsewhere();
    this.#keepInbound(generation);
  }

  /** Puts the generation in force for clients in other network namespaces. */
  enforceElsewhere(): void {
    const { generation } = this;
    const { namespaces, elsewhere, proxied } = this.context;
    namespaces.enforce({
      intercepts: generation.wanted,
      served: (listener) => elsewhere() && (!proxied || generation.elsewhere.has(listener)),
      indexOf: this.#indexOf,
      proxyOf: (listener) => generation.proxies.get(listener),
    });
  }

  /** The proxy's own listeners take connections to workloads' ports while the agent is away. */
  #keepInbound(generation: Generation): void {
    const { proxy, parts, log } = this.context;
    const { pid } = proxy() ?? {};
    if (pid === undefined) return;
    for (const { address, port, own, away, listener } of generation.intercepts) {
      if (!own || away !== 'proxy') continue;
      try {
        const fd = listeningSocketOf(pid, addressBytes(own.address), own.port);
        if (fd === undefined) throw new Error(`the proxy does not listen at ${own.address}:${own.port}`);
        parts.plane.steering.keepInbound({ address, port }, fd);
        closeFd(fd);
      } catch (error) {
        log(
          `listener ${listener}: while the agent is away, connections to ${address}:${port} are refused (${(error as Error).message})`,
        );
      }
    }
  }

  /** Addresses that nobody listens on lead to the proxy's listeners when the agent does not take them. */
  #fallBack(generation: Generation): void {
    const { steering } = this.context.parts.plane;
    const wanted = generation.wanted.flatMap((intercept) => {
      // a workload's port is kept where connections arrive; and agent and proxy must reach it
      if (intercept.inbound === 'workload') return [];
      const to = generation.proxies.get(intercept.listener);
      if (!to || isWildcard(intercept.address) || (to.address === intercept.address && to.port === intercept.port))
        return [];
      const from = { address: intercept.address, port: intercept.port };
      return [{ from, to, index: this.#indexOf(intercept.listener) }];
    });
    const kept = new Set(wanted.map(({ from }) => `${from.address} ${from.port}`));
    for (const old of this.#fallbacks) if (!kept.has(`${old.address} ${old.port}`)) steering.unsteer('fallbacks', old);
    for (const { from, to, index } of wanted) {
      // A proxy on an address of the other family cannot be reached from this one.
      if (from.address.includes(':') !== to.address.includes(':')) continue;
      steering.steer('fallbacks', from, to, isLocal(from.address) && from.address === to.address, index);
    }
    this.#fallbacks = wanted.map(({ from }) => from);
  }
}
