/** One running instance: the data plane, the proxy behind it, and the policy in force. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import type { Http2Server } from 'node:http2';
import { join } from 'node:path';
import { createCgroups, currentCgroup, type InstanceCgroups, joinCgroup, removeCgroups } from '../kernel/cgroups.js';
import { listeningSocketOf } from '../kernel/foreign-sockets.js';
import { instanceFolder, processStartTime } from '../kernel/instance.js';
import { namespaceId } from '../kernel/netns.js';
import { bpfObjectPath } from '../kernel/object-path.js';
import { closeFd } from '../kernel/syscalls.js';
import type { ListenerPlan } from '../plan/ir.js';
import { type Diagnostic, formatDiagnostic } from '../policy/diagnostics.js';
import { tcpAddress } from '../policy/envoy/walk.js';
import type { Identity } from '../policy/istio/identities.js';
import { type LoadOptions, loadFiles } from '../policy/load.js';
import {
  type EnvoyProxy,
  ejectableAssignment,
  ejectableName,
  inboundPath,
  inboundProblem,
  startProxy,
  stopStaleProxy,
  WITHOUT_BREAKERS,
  withBreakers,
  withConsults,
  withInboundListeners,
  withOutliers,
  withoutLimits,
  withReplayRoutes,
} from '../proxy/index.js';
import { type Address, addressBytes, isLocal, isWildcard } from './address.js';
import { Breakers } from './breakers.js';
import { chooseIntake } from './choose-intake.js';
import { Consultant } from './consult.js';
import { serveConsults } from './consult-server.js';
import { holdName, serveControl } from './control-server.js';
import { DataPlane } from './data-plane.js';
import { Discovery } from './discovery.js';
import { endHolder, type Holder, leftHolder, startHolder } from './holder.js';
import { writeHosts } from './hosts-file.js';
import { Listeners } from './listeners.js';
import { Namespaces } from './namespaces.js';
import { LOST, Outliers, TIMED_OUT } from './outliers.js';
import { errorsOf, type Generation, makeGeneration, tokenGeneration } from './policy.js';
import { RequestLog } from './request-log.js';
import { statusOf } from './status.js';
import { TokenBuckets } from './token-buckets.js';
import { TokenCache } from './token-cache.js';
import { Traffic } from './traffic.js';
import { serveReports, type TryReport } from './try-reports.js';
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
  /** the workload that the clients are, as policies tell them apart */
  readonly workload?: LoadOptions['workload'];
  /** answers decided in the kernel get `server`, `date` and `x-envoy-upstream-service-time` as from Envoy */
  readonly envoyHeaders: boolean;
  /** ports of workloads that a listener of the policies stands before */
  readonly inbound: readonly InboundOption[];
  /**
   * what the files' policies ask of servers on this host is asked where connections arrive, too, and who keeps that while
   * the agent is away
   */
  readonly atServers?: 'proxy' | 'refuse';
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
  #breakers!: Breakers;
  #listeners!: Listeners;
  #namespaces: Namespaces | undefined;
  /** the proxy waits on behalf of clients in other network namespaces */
  #elsewhere = false;
  #discovery!: Discovery;
  #outliers!: Outliers;
  #reports: Http2Server | undefined;
  #proxy: EnvoyProxy | undefined;
  #generation!: Generation;
  #servers: Server[] = [];
  #consults: Http2Server | undefined;
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
    const { intake, why } = await chooseIntake(options.intake, this.#takesInbound);
    if (!intake) throw new StartError(why ?? '', 'unavailable');
    if (why !== undefined) options.log(why);
    this.#plane = new DataPlane(bpfObjectPath(), options.envoyHeaders, intake);
    const plane = this.#plane;
    this.#tokens = new TokenCache(plane.tokens, () => plane.now());
    this.#outliers = new Outliers({
      words: new Int32Array(plane.map('detectors').mmap().buffer),
      enabled: options.proxy === 'own' || options.proxy === 'none',
      endpointId: (address, port) => this.#traffic.pool.endpointId(address, port),
      setHosts: (...change) => plane.setHosts(...change),
      tell: (cluster, ejected) => this.#tellProxy(cluster, ejected),
      now: () => performance.now(),
      random: Math.random,
    });
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
    this.#breakers = new Breakers({
      mapping: plane.map('breakers').mmap(),
      enter: (breaker) => plane.enter(breaker),
      leave: (breaker) => plane.leave(breaker),
      uncount: (slot) => plane.uncount(slot),
      countOn: (slot, breaker) => plane.countOn(slot, breaker),
      slotOf: (end) => this.#traffic.pool.byLocalEnd(end),
    });
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
      this.#outliers,
      (event, end) => this.#breakers.exchange(event, end),
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
    if (this.#takesInbound) {
      const held = this.#plane.steering.attachInbound(this.#groups);
      this.#holder = startHolder(this.#folder, held);
      lasting.push(...held);
    }
    const generation = this.#make(1, resources);
    this.#generation = generation;
    this.#consultant.prepare(generation.limits.values());
    this.#outliers.prepare(generation.compiled);
    if (options.proxy === 'own') {
      mkdirSync(this.#proxyFolder, { recursive: true, mode: 0o700 });
      this.#consults = await serveConsults(this.#consultPath, (request) =>
        request.cluster === ''
          ? this.#consultant.ask(request)
          : this.#breakers.ask(request.cluster, request.end, request.quiet),
      );
      this.#reports = await serveReports(this.#reportsPath, (tried) => this.#reported(tried));
      this.#proxy = await startProxy({
        dir: this.#proxyFolder,
        resources: this.#forProxy(generation),
        inheritFds: lasting,
      });
    }
    await this.#listeners.open(generation.intercepts);
    writeHosts(this.#hostsFile, resources.hosts);
    await this.#serve();
    await this.#discovery.prepare(generation.compiled);
    this.#enforce(generation);
    if (left) endHolder(this.#folder, left); // it kept the ports closed until now
    await this.#namespaces.adoptLeft((file) => this.join(file));
    this.#writeState();
    this.#unwatch = watchFiles(options.files, () => void this.reload());
    this.#ready = true;
  }

  get #loadOptions(): LoadOptions {
    const { name: instance, identity, workload, atServers } = this.options;
    return {
      ...{ instance, atServers: atServers !== undefined },
      ...(identity ? { identity } : {}),
      ...(workload ? { workload } : {}),
    };
  }

  /** The files' resources, with the workloads' ports among what is intercepted. */
  async #load(): Promise<Generation['resources']> {
    const { files, inbound } = this.options;
    const resources = await loadFiles([...files], this.#loadOptions);
    if (errorsOf(resources.diagnostics).length > 0) return resources;
    this.#placeServers(resources);
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

  /** Of the listeners before servers, those stay whose server is on this host. */
  #placeServers(resources: Generation['resources']): void {
    const { atServers } = this.options;
    if (!atServers) return;
    const elsewhere = new Set<string>();
    for (const [index, intercept] of resources.intercepts.entries()) {
      const { inbound, address, listener } = intercept;
      if (inbound !== 'workload') continue;
      const problem = isLocal(address) ? this.#inboundProblem(listener, resources) : undefined;
      if (problem !== undefined) {
        const message = `connections to ${address} cannot be judged: ${problem}`;
        resources.diagnostics.push({ severity: 'error', code: 'inbound', message });
      }
      if (isLocal(address)) resources.intercepts[index] = { ...intercept, away: atServers };
      else elsewhere.add(listener);
    }
    const keep = <T>(list: T[], name: (item: T) => string): void => {
      list.splice(0, list.length, ...list.filter((item) => !elsewhere.has(name(item))));
    };
    keep(resources.intercepts, (intercept) => intercept.listener);
    keep(resources.listeners, (listener) => String(listener.name));
    keep(resources.clusters, (cluster) => String(cluster.name));
  }

  /** Ports of workloads are taken. */
  get #takesInbound(): boolean {
    return this.options.inbound.length > 0 || this.options.atServers !== undefined;
  }

  get #hostsFile(): string {
    return join(this.#folder, 'hosts');
  }

  #make(number: number, resources: Parameters<typeof makeGeneration>[1]): Generation {
    return makeGeneration(number, resources, {
      listenerIndex: this.#listenerIndex,
      programNumber: (program) => this.#traffic.programs.number(program),
      // somebody else's proxy has buckets of its own
      breakerIndex: (breaker) =>
        this.options.proxy === 'own' && !this.#elsewhere ? this.#breakers.place(breaker) : undefined,
      bucketIndex: (bucket) => (typeof this.options.proxy === 'string' ? this.#buckets.place(bucket) : undefined),
      endpointId: (address, port, proxy) => this.#traffic.pool.endpointId(address, port, proxy),
      proxyAddress: (listener) => this.#proxyAddress(listener),
      inboundPath: (listener, of) => this.#inboundPath(listener, of),
      elsewherePath: (listener, of) => this.#elsewherePath(listener, of),
    });
  }

  /** What the proxy is given. */
  #forProxy(generation: Generation): Generation['resources'] {
    const { resources, limits, breakers } = generation;
    const path = this.#consultPath;
    const settings = {
      ...(limits.size > 0 ? withoutLimits(resources) : {}),
      ...(breakers.size > 0 ? WITHOUT_BREAKERS : {}),
    };
    return withInboundListeners(
      withOutliers(
        withReplayRoutes(withBreakers(withConsults(resources, limits, path), breakers, path), settings),
        this.#outliers.toEject,
        this.#reportsPath,
      ),
      [...new Set([...generation.inbound.keys(), ...(this.#elsewhere ? generation.elsewhere.keys() : [])])],
      this.#proxyFolder,
    );
  }

  get #reportsPath(): string {
    return join(this.#proxyFolder, 'tries.sock');
  }

  /** A try of the proxy's: its status counts, and its failure, too, if that came later. */
  #reported({ cluster, address, port, status, lost, timedOut }: TryReport): void {
    if (status > 0) this.#outliers.report(cluster, address, port, status);
    if (timedOut) this.#outliers.report(cluster, address, port, TIMED_OUT);
    else if (lost) this.#outliers.report(cluster, address, port, LOST);
  }

  #tellProxy(cluster: string, ejected: ReadonlySet<string>): void {
    const assignment = ejectableAssignment(this.#generation.resources, cluster, ejected);
    if (!assignment) return;
    void this.#proxy
      ?.changeEndpoints(ejectableName(cluster), assignment)
      .catch((error: Error) => this.options.log(`the proxy cannot be told what is ejected: ${error.message}`));
  }

  get #proxyFolder(): string {
    return join(this.#folder, 'proxy');
  }

  /** Where the proxy asks the agent. */
  get #consultPath(): string {
    return join(this.#proxyFolder, 'consult.sock');
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

  #elsewherePath(name: string, resources: Generation['resources']): string | undefined {
    if (this.options.proxy !== 'own' || this.#inboundProblem(name, resources) !== undefined) return undefined;
    return inboundPath(this.#proxyFolder, name);
  }

  #proxyAddress(listener: ListenerPlan): { address: string; port: number } | undefined {
    const { proxy } = this.options;
    if (proxy === 'none') return undefined;
    if (proxy === 'own') return listener.proxyAddress;
    return { address: proxy.address, port: proxy.port || listener.proxyAddress.port };
  }

  /** Puts a generation in force for every request from now on. */
  #enforce(generation: Generation): void {
    this.#log.use(generation, this.#listenerIndex);
    const started = performance.now();
    this.#plane.install(generation.compiled.image);
    this.#swapMs = performance.now() - started;
    this.#tokens.use(tokenGeneration(generation, this.#listenerIndex));
    this.#buckets.enforced();
    this.#consultant.enforced();
    this.#breakers.enforced();
    const fixed = generation.plan.clusters.flatMap(({ endpoints }) => endpoints);
    const ids = fixed.map(({ address, port }) => this.#traffic.pool.endpointId(address, port));
    this.#discovery.enforce(generation.compiled, new Set(ids));
    this.#plane.clearRuleHits(generation.compiled.rules.length);
    this.#generation = generation;
    this.#outliers.enforce();
    this.#listeners.steer(generation.intercepts, (name) => this.#listenerIndex.get(name) ?? 0);
    this.#fallBack(generation);
    this.#enforceElsewhere(generation);
    this.#keepInbound(generation);
  }

  #enforceElsewhere(generation: Generation): void {
    this.#namespaces?.enforce({
      intercepts: generation.resources.intercepts,
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

  async #join(file: string, path: string | undefined): Promise<void> {
    if (namespaceId(file) === namespaceId('/proc/self/ns/net')) return;
    if (!this.#elsewhere) {
      this.#elsewhere = true;
      const { number, resources, breakers } = this.#generation;
      // the agent cannot tell which exchange of such clients the proxy asks about: then the proxy counts alone
      const next = breakers.size > 0 ? this.#make(number + 1, resources) : this.#generation;
      const refused = (await this.#proxy?.update(this.#forProxy(next))) ?? [];
      if (refused.length > 0) {
        this.#elsewhere = false;
        throw new Error(`the proxy cannot serve other network namespaces: ${refused.map((d) => d.message).join('; ')}`);
      }
      if (next === this.#generation) this.#enforceElsewhere(next);
      else {
        this.#consultant.prepare(next.limits.values());
        await this.#discovery.prepare(next.compiled);
        this.#enforce(next);
        this.#traffic.pool.retireProxies();
      }
      const { elsewhere } = this.#generation;
      const names = new Set(resources.intercepts.filter((i) => !i.inbound).map((i) => i.listener));
      const left = this.options.proxy === 'none' ? [] : [...names].filter((name) => !elsewhere.has(name));
      if (left.length > 0)
        this.options.log(
          `not served in other network namespaces, because the proxy would judge otherwise there: ${left.join(', ')}`,
        );
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
        this.#plane.steering.keepInbound({ address, port }, fd);
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
      if (!kept.has(`${old.address} ${old.port}`)) this.#plane.steering.unsteer('fallbacks', old);
    for (const { from, to, index } of wanted) {
      // A proxy on an address of the other family cannot be reached from this one.
      if (from.address.includes(':') !== to.address.includes(':')) continue;
      this.#plane.steering.steer('fallbacks', from, to, isLocal(from.address) && from.address === to.address, index);
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
    this.#outliers.prepare(next.compiled);
    await this.#listeners.open(next.intercepts);
    this.#consultant.prepare(next.limits.values());
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
    this.#namespaces?.closeAll();
    await this.#traffic?.drain(drainMs);
    this.#log?.close();
    await this.#proxy?.stop(Math.min(drainMs, 1000));
    this.#reports?.close();
    this.#outliers?.stop();
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

function same(a: Generation['resources'], b: Generation['resources']): boolean {
  const text = (r: Generation['resources']): string =>
    JSON.stringify([r.listeners, r.routeConfigs, r.clusters, r.endpoints, r.bootstrap, r.intercepts, r.hosts]);
  return errorsOf(a.diagnostics).length === 0 && text(a) === text(b);
}
