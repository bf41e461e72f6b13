/** Changes of the policy while the agent runs: reloads, and what clients in other network namespaces make necessary. */
import { namespaceId } from '../kernel/netns.js';
import { type Diagnostic, formatDiagnostic } from '../policy/diagnostics.js';
import type { EnvoyProxy } from '../proxy/index.js';
import { writeHosts } from './hosts-file.js';
import type { InForce } from './in-force.js';
import type { InstanceOptions, InstancePaths } from './instance-options.js';
import { LoopWatch } from './loop-watch.js';
import type { Namespaces } from './namespaces.js';
import { type AgentParts, prepareParts, withEjected } from './parts.js';
import { errorsOf } from './policy.js';
import type { PolicySource } from './policy-source.js';
import type { PlannedPolicy } from './policy-thread.js';

export interface ChangeContext {
  readonly options: InstanceOptions;
  readonly paths: InstancePaths;
  readonly parts: AgentParts;
  readonly source: PolicySource;
  readonly force: InForce;
  readonly namespaces: Namespaces;
  readonly proxy: () => EnvoyProxy | undefined;
}

export class PolicyChanges {
  /** for how long the agent could do nothing else during the last reload, in milliseconds */
  stallMs = 0;
  #open = false;
  /** what changes the policy, one after the other */
  #changing: Promise<unknown> = Promise.resolve();
  /** a reload that has not begun yet */
  #next: Promise<void> | undefined;

  constructor(private readonly context: ChangeContext) {}

  /** From now on there are reloads. */
  begin(): void {
    this.#open = true;
  }

  /** No change begins any more. @returns when the one that is under way is over */
  async stop(): Promise<void> {
    this.#open = false;
    await this.#changing;
  }

  /** Whatever changes the policy waits for what does so already. */
  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const done = this.#changing.then(change);
    this.#changing = done.catch(() => undefined);
    return done;
  }

  /**
   * Reads the files again and switches to what they say; keeps the old policy when anything is wrong with the new. Calls
   * while one waits for its turn are that one: it reads what the files say then.
   */
  reload(): Promise<void> {
    this.#next ??= this.#inTurn(() => {
      this.#next = undefined;
      return this.#timed();
    }).catch((error: Error) => this.context.options.log(`reload failed: ${error.message}`));
    return this.#next;
  }

  /** Reloads, and notes for how long nothing else could happen meanwhile. */
  async #timed(): Promise<void> {
    if (!this.#open) return;
    const loop = new LoopWatch();
    try {
      await this.#reload();
    } finally {
      this.stallMs = loop.end();
    }
  }

  async #reload(): Promise<void> {
    const { source, force, options } = this.context;
    const { log } = options;
    const { number } = force.generation;
    const keep = (problems: readonly Diagnostic[]): void => {
      if (!this.#open) return; // it was ended
      for (const d of problems) log(formatDiagnostic(d));
      log(`generation ${number} stays in force: ${errorsOf(problems).length} error(s) in the new policies`);
    };
    const policy = await source.read(number + 1, force.generation);
    if (policy.kind === 'same') return;
    if (policy.kind === 'invalid') {
      keep(policy.diagnostics);
      return;
    }
    for (const d of policy.diagnostics) log(formatDiagnostic(d));
    const refused = await this.#change(policy);
    if (refused.length > 0) keep(refused);
    else log(`generation ${number + 1} is in force`);
  }

  /** Compiles a policy and puts it in force. @returns why not; then nothing has changed */
  async #change(policy: PlannedPolicy): Promise<readonly Diagnostic[]> {
    const { parts, source, force, paths, proxy } = this.context;
    const next = await source.make(policy, parts);
    if (!('number' in next)) return [next];
    const prepared = prepareParts(parts, next);
    await parts.listeners.open(next.intercepts);
    const refused = (prepared && (await proxy()?.update(prepared))) ?? [];
    if (refused.length > 0) return refused;
    await parts.discovery.prepare(next.compiled);
    await force.enforce(next);
    parts.traffic.pool.retireProxies();
    writeHosts(paths.hosts, next.hosts);
    return [];
  }

  /**
   * Serves the network namespace of a file.
   * @param path a file that is there as long as the namespace is used, if there is one
   * @throws Error with a sentence for whoever asked
   */
  join(file: string, path?: string): Promise<void> {
    return this.#inTurn(() => this.#join(file, path));
  }

  async #join(file: string, path: string | undefined): Promise<void> {
    if (namespaceId(file) === namespaceId('/proc/self/ns/net')) return;
    const { source, namespaces } = this.context;
    if (!source.elsewhere) {
      source.elsewhere = true;
      try {
        await this.#serveElsewhere();
      } catch (error) {
        source.elsewhere = false;
        throw new Error(`the proxy cannot serve other network namespaces: ${(error as Error).message}`);
      }
      this.#tellLeft();
    }
    await namespaces.add(file, path);
  }

  /** Has the proxy wait on behalf of clients elsewhere, under the policy in force. @throws Error when it cannot */
  async #serveElsewhere(): Promise<void> {
    const { source, force, parts } = this.context;
    const { generation } = force;
    const proxy = this.context.proxy();
    if (proxy) {
      // the agent cannot tell which exchange of such clients the proxy asks about: then the proxy counts alone
      const counts = generation.breakers.size > 0;
      const policy = await source.readAgain(generation.number + (counts ? 1 : 0), generation);
      if (policy.kind !== 'planned') throw problems(policy.kind === 'invalid' ? errorsOf(policy.diagnostics) : []);
      if (counts) {
        const refused = await this.#change(policy);
        if (refused.length > 0) throw problems(refused);
        return;
      }
      const again = await source.make(policy, parts);
      if (!('number' in again)) throw problems([again]);
      const refused = again.prepared ? await proxy.update(withEjected(parts, again, again.prepared)) : [];
      if (refused.length > 0) throw problems(refused);
    }
    force.enforceElsewhere();
  }

  /** Says which listeners are not served elsewhere. */
  #tellLeft(): void {
    const { options, force } = this.context;
    const { wanted, elsewhere } = force.generation;
    const names = new Set(wanted.filter((i) => !i.inbound && !i.direct).map((i) => i.listener));
    const left = options.proxy === 'none' ? [] : [...names].filter((name) => !elsewhere.has(name));
    if (left.length > 0)
      options.log(
        `not served in other network namespaces, because the proxy would judge otherwise there: ${left.join(', ')}`,
      );
  }
}

function problems(diagnostics: readonly Diagnostic[]): Error {
  return new Error(diagnostics.map(({ message }) => message).join('; '));
}
