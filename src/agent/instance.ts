/** One running instance: the data plane, the proxy behind it, and the policy in force. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { createCgroups, currentCgroup, type InstanceCgroups, joinCgroup, removeCgroups } from '../kernel/cgroups.js';
import { listeningSocketOf } from '../kernel/foreign-sockets.js';
import { instanceFolder, processStartTime } from '../kernel/instance.js';
import { bpfObjectPath } from '../kernel/object-path.js';
import { closeFd } from '../kernel/syscalls.js';
import type { ListenerPlan } from '../plan/ir.js';
import { type Diagnostic, formatDiagnostic } from '../policy/diagnostics.js';
import { tcpAddress } from '../policy/envoy/walk.js';
import type { Identity } from '../policy/istio/identities.js';
import { type LoadOptions, loadFiles } from '../policy/load.js';
import {
  type EnvoyProxy,
  inboundPath,
  inboundProblem,
  startProxy,
  stopStaleProxy,
  withInboundListeners,
  withReplayRoutes,
} from '../proxy/index.js';
import { type Address, addressBytes, isLocal, isWildcard } from './address.js';
import { chooseIntake } from './choose-intake.js';
import { holdName, serveControl } from './control-server.js';
import { DataPlane } from './data-plane.js';
import { Discovery } from './discovery.js';
import { endHolder, type Holder, leftHolder, startHolder } from './holder.js';
import { writeHosts } from './hosts-file.js';
import { Listeners } from './listeners.js';
import { errorsOf, type Generation, makeGeneration, tokenGeneration } from './policy.js';
import { statusOf } from './status.js';
import { TokenCache } from './token-cache.js';
import { Traffic } from './traffic.js';
import { watchFiles } from './watcher.js';

/** `run --inbound LISTENER=ADDRESS:PORT[/refuse]`. */
export interface InboundOption extends Address {
  readonly listener: string;
  readonly away: 'proxy' | 'refuse';
}

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
  #tokens!: TokenCache;
  #listeners!: Listeners;
  #discovery!: Discovery;
  #proxy: EnvoyProxy | undefined;
  #generation!: Generation;
  #servers: Server[] = [];
  #release: (() => void) | undefined;
  #unwatch: (() => void) | undefined;
  #reloading: Promise<void> = Promise.resolve();
  #fallbacks: { address: string; port: number }[] = [];
  #admin = '';
  #swapMs = 0;
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
    const resources = await this.#load();
    for (const d of resources.diagnostics) options.log(formatDiagnostic(d));
    const errors = errorsOf(resources.diagnostics).length;
    if (errors > 0)
      throw new StartError(`${errors} error${errors > 1 ? 's' : ''} in the policies; nothing was loaded`, 'input');
    mkdirSync(this.#folder, { recursive: true, mode: 0o755 });
    const stale = await stopStaleProxy(this.#proxyFolder);
    if (stale !== undefined) options.log(`cleaned up after an earlier run: stopped its proxy (process ${stale})`);
    const { intake, why } = await chooseIntake(options.intake, options.inbound.length > 0);
    if (!intake) throw new StartError(why ?? '', 'unavailable');
    if (why !== undefined) options.log(why);
    this.#plane = new DataPlane(bpfObjectPath(), options.envoyHeaders, intake);
    const plane = this.#plane;
    this.#tokens = new TokenCache(plane.tokens, () => plane.now());
    this.#traffic = new Traffic(
      plane,
      (listener) => {
        const path = this.#generation.inbound.get(listener);
        return path === undefined ? this.#generation.proxies.get(listener) : { path };
      },
      (listener) => this.#listenerIndex.get(listener) ?? 0,
      (listener, head) => this.#tokens.offer(listener, head),
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
    const lasting = this.#plane.attach(this.#groups);
    const left = leftHolder(this.#folder);
    if (options.inbound.length > 0) {
      const held = this.#plane.attachInbound(this.#groups);
      this.#holder = startHolder(this.#folder, held);
      lasting.push(...held);
    }
    const generation = this.#make(1, resources);
    this.#generation = generation;
    if (options.proxy === 'own')
      this.#proxy = await startProxy({
        dir: this.#proxyFolder,
        resources: this.#forProxy(generation),
        inheritFds: lasting,
      });
    await this.#listeners.open(generation.intercepts);
    writeHosts(this.#hostsFile, resources.hosts);
    await this.#serve();
    await this.#discovery.prepare(generation.compiled);
    this.#enforce(generation);
    if (left) endHolder(this.#folder, left); // it kept the ports closed until now
    this.#writeState();
    this.#unwatch = watchFiles(options.files, () => void this.reload());
    this.#ready = true;
  }

  get #loadOptions(): LoadOptions {
    const { name: instance, identity } = this.options;
    return { instance, ...(identity ? { identity } : {}) };
  }

  /** The files' resources, with the workloads' ports among what is intercepted. */
  async #load(): Promise<Generation['resources']> {
    const { files, inbound } = this.options;
    const resources = await loadFiles([...files], this.#loadOptions);
    if (errorsOf(resources.diagnostics).length > 0) return resources;
    for (const { listener, away, address, port } of inbound) {
      const own = tcpAddress(resources.listeners.find((l) => l.name === listener)?.address);
      const problem = !own
        ? `there is no listener ${listener} with a TCP address`
        : isWildcard(own.address)
          ? `listener ${listener} has no address of its own that its rules could see as the destination`
          : isWildcard(address) || !isLocal(address)
            ? `${address} is not an address of this host`
            : this.#inboundProblem(listener, resources);
      if (problem === undefined)
        resources.intercepts.push({ address, port, listener, inbound: 'workload', own: own!, away });
      else resources.diagnostics.push({ severity: 'error', code: 'inbound', message: `--inbound: ${problem}` });
    }
    return resources;
  }

  get #hostsFile(): string {
    return join(this.#folder, 'hosts');
  }

  #make(number: number, resources: Parameters<typeof makeGeneration>[1]): Generation {
    return makeGeneration(number, resources, {
      listenerIndex: this.#listenerIndex,
      programNumber: (program) => this.#traffic.programs.number(program),
      endpointId: (address, port, proxy) => this.#traffic.pool.endpointId(address, port, proxy),
      proxyAddress: (listener) => this.#proxyAddress(listener),
      inboundPath: (listener, of) => this.#inboundPath(listener, of),
    });
  }

  /** What the proxy is given. */
  #forProxy(generation: Generation): Generation['resources'] {
    return withInboundListeners(
      withReplayRoutes(generation.resources),
      [...generation.inbound.keys()],
      this.#proxyFolder,
    );
  }

  get #proxyFolder(): string {
    return join(this.#folder, 'proxy');
  }

  /** Why connections from outside the mesh cannot be given to the proxy as they are. */
  #inboundProblem(name: string, resources: Generation['resources']): string | undefined {
    if (this.options.proxy === 'none') return undefined; // then there is nobody who could see them differently
    if (this.options.proxy !== 'own')
      return 'only an Envoy that this instance has started can be told who the client is';
    const listener = resources.listeners.find((l) => l.name === name);
    return listener && inboundProblem(listener, resources);
  }

  #inboundPath(name: string, resources: Generation['resources']): string | undefined {
    if (this.options.proxy === 'none') return undefined;
    const problem = this.#inboundProblem(name, resources);
    if (problem === undefined) return inboundPath(this.#proxyFolder, name);
    this.options.log(`listener ${name}: connections from outside the mesh are left to the proxy (${problem})`);
    return undefined;
  }

  #proxyAddress(listener: ListenerPlan): { address: string; port: number } | undefined {
    const { proxy } = this.options;
    if (proxy === 'none') return undefined;
    if (proxy === 'own') return listener.proxyAddress;
    return { address: proxy.address, port: proxy.port || listener.proxyAddress.port };
  }

  /** Puts a generation in force for every request from now on. */
  #enforce(generation: Generation): void {
    const started = performance.now();
    this.#plane.install(generation.compiled.image);
    this.#swapMs = performance.now() - started;
    this.#tokens.use(tokenGeneration(generation, this.#listenerIndex));
    const fixed = generation.plan.clusters.flatMap(({ endpoints }) => endpoints);
    const ids = fixed.map(({ address, port }) => this.#traffic.pool.endpointId(address, port));
    this.#discovery.enforce(generation.compiled, new Set(ids));
    this.#plane.clearRuleHits(generation.compiled.rules.length);
    this.#generation = generation;
    this.#listeners.steer(generation.intercepts, (name) => this.#listenerIndex.get(name) ?? 0);
    this.#fallBack(generation);
    this.#keepInbound(generation);
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
    const wanted = generation.resources.intercepts.flatMap((intercept) => {
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
      .then(() => this.#reload())
      .catch((error: Error) => this.options.log(`reload failed: ${error.message}`));
    return this.#reloading;
  }

  async #reload(): Promise<void> {
    if (!this.#ready) return;
    const { log } = this.options;
    const resources = await this.#load();
    if (same(resources, this.#generation.resources)) return;
    for (const d of resources.diagnostics) log(formatDiagnostic(d));
    const keep = (problems: readonly Diagnostic[]): void =>
      log(`generation ${this.#generation.number} stays in force: ${problems.length} error(s) in the new policies`);
    const errors = errorsOf(resources.diagnostics);
    if (errors.length > 0) {
      keep(errors);
      return;
    }
    const next = this.#make(this.#generation.number + 1, resources);
    await this.#listeners.open(next.intercepts);
    const refused = (await this.#proxy?.update(this.#forProxy(next))) ?? [];
    if (refused.length > 0) {
      for (const d of refused) log(formatDiagnostic(d));
      keep(refused);
      return;
    }
    await this.#discovery.prepare(next.compiled);
    this.#enforce(next);
    this.#traffic.pool.retireProxies();
    writeHosts(this.#hostsFile, resources.hosts);
    log(`generation ${next.number} is in force`);
  }

  async #serve(): Promise<void> {
    const handlers = {
      status: () => this.status(),
      ready: () => this.#ready,
      config: () => ({
        listeners: this.#generation.resources.listeners,
        clusters: this.#generation.resources.clusters,
      }),
    };
    this.#servers.push(await serveControl(handlers, { path: join(this.#folder, 'control.sock') }));
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
      tokens: this.#tokens.counts,
      generation: this.#generation,
      startedAt: this.#started,
      swapMs: this.#swapMs,
      admin: this.#admin,
      proxyPid: this.#proxy?.pid,
    });
  }

  /** Drains, detaches and removes everything. */
  async stop(drainMs = DRAIN_MS): Promise<void> {
    this.#ready = false;
    this.#unwatch?.();
    await this.#reloading;
    this.#discovery?.stop();
    this.#listeners?.closeAll();
    await this.#traffic?.drain(drainMs);
    await this.#proxy?.stop(Math.min(drainMs, 1000));
    this.#plane?.close();
    if (this.#holder) endHolder(this.#folder, this.#holder);
    if (this.#groups) {
      if (this.#home) joinCgroup(this.#home);
      removeCgroups(this.options.name);
    }
    for (const server of this.#servers) server.close();
    if (this.#release) rmSync(this.#folder, { recursive: true, force: true });
    this.#release?.();
  }
}

function same(a: Generation['resources'], b: Generation['resources']): boolean {
  const text = (r: Generation['resources']): string =>
    JSON.stringify([r.listeners, r.routeConfigs, r.clusters, r.endpoints, r.bootstrap, r.intercepts, r.hosts]);
  return errorsOf(a.diagnostics).length === 0 && text(a) === text(b);
}
