/** One running instance: the data plane, the proxy behind it, and the policy in force. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import type { Http2Server } from 'node:http2';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { createCgroups, currentCgroup, type InstanceCgroups, joinCgroup, removeCgroups } from '../kernel/cgroups.js';
import { listeningSocketOf } from '../kernel/foreign-sockets.js';
import { instanceFolder, processStartTime } from '../kernel/instance.js';
import { namespaceId } from '../kernel/netns.js';
import { bpfObjectPath } from '../kernel/object-path.js';
import { closeFd } from '../kernel/syscalls.js';
import { type Diagnostic, formatDiagnostic } from '../policy/diagnostics.js';
import type { Identity } from '../policy/istio/identities.js';
import { type EnvoyProxy, startProxy, stopStaleProxy } from '../proxy/index.js';
import { addressBytes, isLocal, isWildcard } from './address.js';
import { chooseIntake } from './choose-intake.js';
import { Consultant } from './consult.js';
import { serveConsults } from './consult-server.js';
import { holdName, serveControl } from './control-server.js';
import { DataPlane } from './data-plane.js';
import { Discovery } from './discovery.js';
import { endHolder, type Holder, leftHolder, startHolder } from './holder.js';
import { writeHosts } from './hosts-file.js';
import { Listeners } from './listeners.js';
import { LoopWatch } from './loop-watch.js';
import { Namespaces } from './namespaces.js';
import { errorsOf, type Generation, type InboundOption, tokenGeneration } from './policy.js';
import { type PlannedPolicy, type ReadPolicy, readPolicy } from './policy-thread.js';
import { RequestLog } from './request-log.js';
import { statusOf } from './status.js';
import { TokenBuckets } from './token-buckets.js';
import { TokenCache } from './token-cache.js';
import { Traffic } from './traffic.js';
import { watchFiles } from './watcher.js';

export interface InstanceOptions {
  readonly name: string;
  readonly files: readonly string[];
  /** 'own': start an Envoy; 'none': there is no proxy; else its address, port 0 meaning the listener's own */
  readonly proxy: 'own' | 'none' | { address: string; port: number };
  readonly admin: { host: string; port: number };
  /** who clients are where no document knows their address */
  readonly identity?: Identity;
  /** answers decided in the kernel get `server`, `date` and `x-envoy-upstream-service-time` as from Envoy */
  readonly envoyHeaders: boolean;
  /** ports of workloads that a listener of the policies stands before */
  readonly inbound: readonly InboundOption[];
  /** where requests are decided: at the applications' sockets, or where the agent accepts their connections */
  readonly intake: 'socket' | 'listener';
  readonly log: (message: string) => void;
}

/** Bad input, or something that stands in the way: the message is for the user. */
export class StartError extends Error {
  override readonly name = 'StartError';
  constructor(
    message: string,
    readonly kind: 'input' | 'unavailable',
  ) {
    super(message);
  }
}

const DRAIN_MS = 5000;

export class Instance {
  readonly #folder: string;
  readonly #listenerIndex = new Map<string, number>();
  #groups: InstanceCgroups | undefined;
  #home = '';
  #holder: Holder | undefined;
  #plane!: DataPlane;
  #traffic!: Traffic;
  #log!: RequestLog;
  #tokens!: TokenCache;
  #buckets!: TokenBuckets;
  #consultant!: Consultant;
  #listeners!: Listeners;
  #namespaces: Namespaces | undefined;
  /** the proxy waits on behalf of clients in other network namespaces */
  #elsewhere = false;
  #discovery!: Discovery;
  #proxy: EnvoyProxy | undefined;
  #generation!: Generation;
  /** what `-` among the files stands for, once it was read */
  #stdin: string | undefined;
  /** the first policy */
  #planned: PlannedPolicy | undefined;
  #servers: Server[] = [];
  #consults: Http2Server | undefined;
  #release: (() => void) | undefined;
  #unwatch: (() => void) | undefined;
  #reloading: Promise<void> = Promise.resolve();
  #fallbacks: { address: string; port: number }[] = [];
  #admin = '';
  #swapMs = 0;
  #stallMs = 0;
  #ready = false;
  readonly #started = Date.now();

  constructor(private readonly options: InstanceOptions) {
    this.#folder = instanceFolder(options.name);
  }

  get generation(): Generation {
    return this.#generation;
  }

  get admin(): string {
    return this.#admin;
  }

  /** Loads, attaches and starts everything. Nothing is left behind when it throws. @throws StartError, KernelError, ProxyError */
  async start(): Promise<void> {
    const held = await holdName(this.options.name);
    if (!held)
      throw new StartError(
        `an instance named "${this.options.name}" is running already; stop it (sidestep off) or use another --name`,
        'unavailable',
      );
    this.#release = held;
    try {
      await this.#bringUp();
    } catch (error) {
      await this.stop(0);
      throw error;
    }
  }

  async #bringUp(): Promise<void> {
    const { options } = this;
    const policy = await this.#read(1);
    if (policy.kind === 'same') throw new Error('there is no policy in force yet');
    for (const d of policy.diagnostics) options.log(formatDiagnostic(d));
    if (policy.kind === 'invalid') throw invalid(errorsOf(policy.diagnostics).length);
    this.#planned = policy;
    mkdirSync(this.#folder, { recursive: true, mode: 0o755 });
    const stale = await stopStaleProxy(this.#proxyFolder);
    if (stale !== undefined) options.log(`cleaned up after an earlier run: stopped its proxy (process ${stale})`);
    const { intake, why } = await chooseIntake(options.intake, options.inbound.length > 0);
    if (!intake) throw new StartError(why ?? '', 'unavailable');
    if (why !== undefined) options.log(why);
    this.#plane = new DataPlane(bpfObjectPath(), options.envoyHeaders, intake);
    const plane = this.#plane;
    this.#tokens = new TokenCache(plane.tokens, () => plane.now());
    this.#log = new RequestLog(
      plane,
      () => this.#traffic.pool,
      (kind) => (options.proxy === 'own' ? join(this.#proxyFolder, 'envoy.log') : `/dev/${kind}`),
    );
    this.#buckets = new TokenBuckets({
      mapping: plane.map('buckets').mmap(),
      draw: (place) => plane.draw(place),
      now: () => process.hrtime.bigint(),
    });
    this.#consultant = new Consultant(this.#buckets);
    this.#traffic = new Traffic(
      plane,
      (listener, elsewhere) => {
        const path = this.#generation[elsewhere ? 'elsewhere' : 'inbound'].get(listener);
        if (path !== undefined) return { path };
        return elsewhere ? undefined : this.#generation.proxies.get(listener);
      },
      (listener) => this.#listenerIndex.get(listener) ?? 0,
      (listener, head) => this.#tokens.offer(listener, head),
      this.#log,
    );
    this.#discovery = new Discovery({
      clusters: (filter) =>
        this.#proxy?.admin
          .call('GET', `/clusters?format=json&filter=${encodeURIComponent(filter)}`)
          .then(({ body }) => body),
      endpointId: (address, port) => this.#traffic.pool.endpointId(address, port),
      setHosts: (cluster, room, hosts, states) => this.#plane.setHosts(cluster, room, hosts, states),
      retire: (endpoint) => this.#traffic.pool.retire(endpoint),
    });
    this.#listeners = new Listeners(this.#plane, (arrival) => this.#traffic.accept(arrival));
    this.#home = currentCgroup();
    this.#groups = createCgroups(options.name);
    joinCgroup(this.#groups.agent);
    this.#namespaces = new Namespaces(plane, this.#groups, (arrival) => this.#traffic.accept(arrival));
    const lasting = this.#plane.attach(this.#groups);
    const left = leftHolder(this.#folder);
    if (options.inbound.length > 0) {
      const held = this.#plane.attachInbound(this.#groups);
      this.#holder = startHolder(this.#folder, held);
      lasting.push(...held);
    }
    const generation = await this.#make(policy);
    if (!('number' in generation)) {
      options.log(formatDiagnostic(generation));
      throw invalid(1);
    }
    this.#generation = generation;
    this.#consultant.prepare(generation.limits);
    if (generation.prepared) {
      mkdirSync(this.#proxyFolder, { recursive: true, mode: 0o700 });
      this.#consults = await serveConsults(this.#consultPath, this.#consultant);
      this.#proxy = await startProxy({ prepared: generation.prepared, inheritFds: lasting });
    }
    await this.#listeners.open(generation.intercepts);
    writeHosts(this.#hostsFile, generation.hosts);
    await this.#serve();
    await this.#discovery.prepare(generation.compiled);
    await this.#enforce(generation);
    if (left) endHolder(this.#folder, left); // it kept the ports closed until now
    await this.#namespaces.adoptLeft((file) => this.join(file));
    this.#writeState();
    this.#unwatch = watchFiles(options.files, () => void this.reload());
    this.#ready = true;
  }

  /** Reads the files. */
  async #read(number: number, inForce?: string): Promise<ReadPolicy> {
    const { files, name: instance, identity, proxy, inbound } = this.options;
    if (files.includes('-')) this.#stdin ??= await text(process.stdin);
    return await readPolicy({
      files,
      ...(this.#stdin === undefined ? {} : { stdin: this.#stdin }),
      instance,
      ...(identity ? { identity } : {}),
      proxy,
      proxyFolder: this.#proxyFolder,
      consultPath: this.#consultPath,
      elsewhere: this.#elsewhere,
      inbound,
      number,
      ...(inForce === undefined ? {} : { inForce }),
    });
  }

  get #hostsFile(): string {
    return join(this.#folder, 'hosts');
  }

  /** Gives a policy the numbers that it needs, and compiles it. */
  #make(policy: PlannedPolicy): Promise<Generation | Diagnostic> {
    for (const note of policy.notes) this.options.log(note);
    const { listeners, endpoints, programs, buckets } = policy.wanted;
    for (const name of listeners)
      if (!this.#listenerIndex.has(name)) this.#listenerIndex.set(name, this.#listenerIndex.size);
    const idOf = ({ address, port, proxy }: (typeof endpoints)[number]): number => {
      try {
        return this.#traffic.pool.endpointId(address, port, proxy);
      } catch {
        return -1; // no more room
      }
    };
    // somebody else's proxy has buckets of its own
    const shared = typeof this.options.proxy === 'string';
    return policy.make({
      listeners: this.#listenerIndex,
      endpoints: endpoints.map(idOf),
      programs: programs.map((program) => this.#traffic.programs.number(program)),
      buckets: buckets.map((bucket) => (shared ? (this.#buckets.place(bucket) ?? -1) : -1)),
    });
  }

  get #proxyFolder(): string {
    return join(this.#folder, 'proxy');
  }

  /** Where the proxy asks the agent. */
  get #consultPath(): string {
    return join(this.#proxyFolder, 'consult.sock');
  }

  /** Puts a generation in force for every request from now on. */
  async #enforce(generation: Generation): Promise<void> {
    this.#log.use(generation, this.#listenerIndex);
    const started = performance.now();
    await this.#plane.install(generation.compiled.image);
    this.#swapMs = performance.now() - started;
    this.#tokens.use(tokenGeneration(generation, this.#listenerIndex));
    this.#buckets.enforced();
    this.#consultant.enforced();
    this.#discovery.enforce(generation.compiled, new Set(generation.endpoints));
    this.#plane.clearRuleHits(generation.ruleCount);
    this.#generation = generation;
    this.#listeners.steer(generation.intercepts, (name) => this.#listenerIndex.get(name) ?? 0);
    this.#fallBack(generation);
    this.#enforceElsewhere(generation);
    this.#keepInbound(generation);
  }

  #enforceElsewhere(generation: Generation): void {
    this.#namespaces?.enforce({
      intercepts: generation.wanted,
      served: (listener) => this.#elsewhere && (this.options.proxy === 'none' || generation.elsewhere.has(listener)),
      indexOf: (listener) => this.#listenerIndex.get(listener) ?? 0,
      proxyOf: (listener) => generation.proxies.get(listener),
    });
  }

  /**
   * Serves the network namespace of a file.
   * @param path a file that is there as long as the namespace is used, if there is one
   * @throws Error with a sentence for whoever asked
   */
  join(file: string, path?: string): Promise<void> {
    const done = this.#reloading.then(() => this.#join(file, path));
    this.#reloading = done.catch(() => undefined);
    return done;
  }

  /** Has the proxy wait on behalf of clients elsewhere, under the policy in force. @returns why it cannot */
  async #waitElsewhere(): Promise<readonly Diagnostic[]> {
    if (!this.#proxy) return [];
    const policy = await this.#read(this.#generation.number);
    if (policy.kind === 'invalid') return errorsOf(policy.diagnostics);
    if (policy.kind === 'same' || policy.digest !== this.#generation.digest) {
      if (policy.kind === 'planned') policy.drop();
      return [{ severity: 'error', code: 'policy-thread', message: 'the policies have just changed; try again' }];
    }
    const made = await this.#make(policy);
    if (!('number' in made)) return [made];
    return (made.prepared && (await this.#proxy.update(made.prepared))) ?? [];
  }

  async #join(file: string, path: string | undefined): Promise<void> {
    if (namespaceId(file) === namespaceId('/proc/self/ns/net')) return;
    if (!this.#elsewhere) {
      this.#elsewhere = true;
      const refused = await this.#waitElsewhere();
      if (refused.length > 0) {
        this.#elsewhere = false;
        throw new Error(`the proxy cannot serve other network namespaces: ${refused.map((d) => d.message).join('; ')}`);
      }
      this.#enforceElsewhere(this.#generation);
    }
    await this.#namespaces?.add(file, path);
  }

  /** The proxy's own listeners take connections to workloads' ports while the agent is away. */
  #keepInbound(generation: Generation): void {
    const { pid } = this.#proxy ?? {};
    if (pid === undefined) return;
    for (const { address, port, own, away, listener } of generation.intercepts) {
      if (!own || away !== 'proxy') continue;
      try {
        const fd = listeningSocketOf(pid, addressBytes(own.address), own.port);
        if (fd === undefined) throw new Error(`the proxy does not listen at ${own.address}:${own.port}`);
        this.#plane.keepInbound({ address, port }, fd);
        closeFd(fd);
      } catch (error) {
        this.options.log(
          `listener ${listener}: while the agent is away, connections to ${address}:${port} are refused (${(error as Error).message})`,
        );
      }
    }
  }

  /** Addresses that nobody listens on lead to the proxy's listeners when the agent does not take them. */
  #fallBack(generation: Generation): void {
    const wanted = generation.wanted.flatMap((intercept) => {
      // a workload's port is kept where connections arrive; and agent and proxy must reach it
      if (intercept.inbound === 'workload') return [];
      const to = generation.proxies.get(intercept.listener);
      if (!to || isWildcard(intercept.address) || (to.address === intercept.address && to.port === intercept.port))
        return [];
      return [
        {
          from: { address: intercept.address, port: intercept.port },
          to,
          index: this.#listenerIndex.get(intercept.listener) ?? 0,
        },
      ];
    });
    const kept = new Set(wanted.map(({ from }) => `${from.address} ${from.port}`));
    for (const old of this.#fallbacks)
      if (!kept.has(`${old.address} ${old.port}`)) this.#plane.unsteer('fallbacks', old);
    for (const { from, to, index } of wanted) {
      // A proxy on an address of the other family cannot be reached from this one.
      if (from.address.includes(':') !== to.address.includes(':')) continue;
      this.#plane.steer('fallbacks', from, to, isLocal(from.address) && from.address === to.address, index);
    }
    this.#fallbacks = wanted.map(({ from }) => from);
  }

  /** Reads the files again and switches to what they say; keeps the old policy when anything is wrong with the new. */
  reload(): Promise<void> {
    this.#reloading = this.#reloading
      .then(() => this.#timed())
      .catch((error: Error) => this.options.log(`reload failed: ${error.message}`));
    return this.#reloading;
  }

  /** Reloads, and notes for how long nothing else could happen meanwhile. */
  async #timed(): Promise<void> {
    if (!this.#ready) return;
    const loop = new LoopWatch();
    try {
      await this.#reload();
    } finally {
      this.#stallMs = loop.end();
    }
  }

  async #reload(): Promise<void> {
    const { log } = this.options;
    const policy = await this.#read(this.#generation.number + 1, this.#generation.digest);
    if (policy.kind === 'same') return;
    for (const d of policy.diagnostics) log(formatDiagnostic(d));
    const keep = (problems: readonly Diagnostic[]): void =>
      log(`generation ${this.#generation.number} stays in force: ${problems.length} error(s) in the new policies`);
    if (policy.kind === 'invalid') {
      keep(errorsOf(policy.diagnostics));
      return;
    }
    const next = await this.#make(policy);
    if (!('number' in next)) {
      log(formatDiagnostic(next));
      keep([next]);
      return;
    }
    await this.#listeners.open(next.intercepts);
    this.#consultant.prepare(next.limits);
    const refused = (next.prepared && (await this.#proxy?.update(next.prepared))) ?? [];
    if (refused.length > 0) {
      for (const d of refused) log(formatDiagnostic(d));
      keep(refused);
      return;
    }
    await this.#discovery.prepare(next.compiled);
    await this.#enforce(next);
    this.#traffic.pool.retireProxies();
    writeHosts(this.#hostsFile, next.hosts);
    log(`generation ${next.number} is in force`);
  }

  async #serve(): Promise<void> {
    const handlers = {
      status: () => this.status(),
      ready: () => this.#ready,
      config: () => this.#generation.config,
    };
    const control = { ...handlers, join: (file: string, path?: string) => this.join(file, path) };
    this.#servers.push(await serveControl(control, { path: join(this.#folder, 'control.sock') }));
    const { host, port } = this.options.admin;
    const server = await serveControl(handlers, { host, port }).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EADDRINUSE') throw error;
      const other = await serveControl(handlers, { host, port: 0 });
      this.options.log(
        `${host}:${port} is taken, the admin address is ${host}:${(other.address() as { port: number }).port}`,
      );
      return other;
    });
    this.#servers.push(server);
    this.#admin = `${host}:${(server.address() as { port: number }).port}`;
  }

  #writeState(): void {
    const state = {
      pid: process.pid,
      startTime: processStartTime(process.pid),
      name: this.options.name,
      cgroup: this.#groups!.root,
      hostsFile: this.#hostsFile,
      admin: this.#admin,
      control: join(this.#folder, 'control.sock'),
      proxy: this.#proxy?.pid,
      holder: this.#holder?.pid,
    };
    writeFileSync(join(this.#folder, 'state.json'), `${JSON.stringify(state, null, 2)}\n`);
  }

  /** What `sidestep status` shows. */
  status(): ReturnType<typeof statusOf> {
    return statusOf({
      name: this.options.name,
      plane: this.#plane,
      traffic: this.#traffic,
      namespaces: this.#namespaces?.size ?? 0,
      tokens: this.#tokens.counts,
      log: this.#log.counts,
      generation: this.#generation,
      startedAt: this.#started,
      swapMs: this.#swapMs,
      stallMs: this.#stallMs,
      admin: this.#admin,
      proxyPid: this.#proxy?.pid,
    });
  }

  /** Drains, detaches and removes everything. */
  async stop(drainMs = DRAIN_MS): Promise<void> {
    this.#ready = false;
    this.#unwatch?.();
    await this.#reloading;
    this.#planned?.drop();
    this.#discovery?.stop();
    this.#listeners?.closeAll();
    this.#namespaces?.closeAll();
    await this.#traffic?.drain(drainMs);
    this.#log?.close();
    await this.#proxy?.stop(Math.min(drainMs, 1000));
    this.#plane?.close();
    if (this.#holder) endHolder(this.#folder, this.#holder);
    if (this.#groups) {
      if (this.#home) joinCgroup(this.#home);
      removeCgroups(this.options.name);
    }
    for (const server of this.#servers) server.close();
    this.#consults?.close();
    if (this.#release) rmSync(this.#folder, { recursive: true, force: true });
    this.#release?.();
  }
}

function invalid(errors: number): StartError {
  return new StartError(`${errors} error${errors > 1 ? 's' : ''} in the policies; nothing was loaded`, 'input');
}
