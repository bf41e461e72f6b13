/** One running instance: the data plane, the proxy behind it, and the policy in force. */
import { mkdirSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import type { Http2Server } from 'node:http2';
import { createCgroups, currentCgroup, type InstanceCgroups, joinCgroup, removeCgroups } from '../kernel/cgroups.js';
import { instanceFolder } from '../kernel/instance.js';
import { formatDiagnostic } from '../policy/diagnostics.js';
import { type EnvoyProxy, envoyVersion, findEnvoy, startProxy, stopStaleProxy } from '../proxy/index.js';
import { serveAdmin, writeState } from './admin.js';
import { ChainServer } from './chain-server.js';
import { chooseIntake } from './choose-intake.js';
import { serveConsults } from './consult-server.js';
import { holdName } from './control-server.js';
import { endHolder, type Holder, leftHolder, startHolder } from './holder.js';
import { writeHosts } from './hosts-file.js';
import { InForce } from './in-force.js';
import {
  type InstanceOptions,
  type InstancePaths,
  instancePaths,
  StartError,
  takesInbound,
} from './instance-options.js';
import { secretFiles, writeSecrets } from './mesh-certificates.js';
import { Namespaces } from './namespaces.js';
import { type AgentParts, makeParts, prepareParts } from './parts.js';
import { errorsOf, type Generation } from './policy.js';
import { PolicyChanges } from './policy-changes.js';
import { PolicySource } from './policy-source.js';
import { statusOf } from './status.js';
import { serveReports } from './try-reports.js';
import { watchFiles } from './watcher.js';

const DRAIN_MS = 5000;

export class Instance {
  readonly #paths: InstancePaths;
  readonly #source: PolicySource;
  readonly #chains = new ChainServer(
    (arrival) => this.#parts?.traffic.accept(arrival),
    (end) => this.#parts?.plane.steering.arrived(end)?.cookie,
  );
  #groups: InstanceCgroups | undefined;
  #home = '';
  #holder: Holder | undefined;
  #parts: AgentParts | undefined;
  #namespaces: Namespaces | undefined;
  #force: InForce | undefined;
  #proxy: EnvoyProxy | undefined;
  #servers: Server[] = [];
  /** where the proxy asks and reports */
  #grpc: Http2Server[] = [];
  #release: (() => void) | undefined;
  #unwatch: (() => void) | undefined;
  #changes: PolicyChanges | undefined;
  #admin = '';
  #ready = false;
  readonly #started = Date.now();

  constructor(private readonly options: InstanceOptions) {
    this.#paths = instancePaths(instanceFolder(options.name));
    this.#source = new PolicySource(options, this.#paths);
  }

  /** @throws Error when no policy is in force */
  get generation(): Generation {
    if (!this.#force) throw new Error('no policy is in force yet');
    return this.#force.generation;
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
    const paths = this.#paths;
    const { intake, why } = await chooseIntake(options.intake, takesInbound(options));
    if (!intake) throw new StartError(why ?? '', 'unavailable');
    if (why !== undefined) options.log(why);
    // what the proxy hands on is decided at its sockets
    if (options.proxy === 'own' && intake === 'socket' && (await handsOn())) {
      await this.#chains.open();
      this.#source.chains = this.#chains.target;
    }
    const policy = await this.#source.read(1);
    if (policy.kind === 'same') throw new Error('there is no policy in force yet');
    for (const d of policy.diagnostics) options.log(formatDiagnostic(d));
    if (policy.kind === 'invalid') throw invalid(errorsOf(policy.diagnostics).length);
    mkdirSync(paths.folder, { recursive: true, mode: 0o755 });
    if (options.certificates !== undefined) writeSecrets(secretFiles(paths.proxy), options.certificates);
    const stale = await stopStaleProxy(paths.proxy);
    if (stale !== undefined) options.log(`cleaned up after an earlier run: stopped its proxy (process ${stale})`);
    const { parts, groups, namespaces, force, changes } = await this.#load(intake);
    const lasting = parts.plane.attach(groups);
    const left = leftHolder(paths.folder);
    if (takesInbound(options)) {
      const held = parts.plane.steering.attachInbound(groups);
      this.#holder = startHolder(paths.folder, held);
      lasting.push(...held);
    }
    const generation = await this.#source.make(policy, parts);
    if (!('number' in generation)) {
      options.log(formatDiagnostic(generation));
      throw invalid(1);
    }
    force.begin(generation);
    const prepared = prepareParts(parts, generation);
    if (prepared) {
      mkdirSync(paths.proxy, { recursive: true, mode: 0o700 });
      await this.#serveProxy(parts);
      this.#proxy = await startProxy({ prepared, inheritFds: lasting });
    }
    await parts.listeners.open(generation.intercepts);
    writeHosts(paths.hosts, generation.hosts);
    await this.#serve(changes);
    await parts.discovery.prepare(generation.compiled);
    await force.enforce(generation);
    if (left) endHolder(paths.folder, left); // it kept the ports closed until now
    await namespaces.adoptLeft((file) => changes.join(file));
    writeState(options, paths, {
      cgroup: groups.root,
      admin: this.#admin,
      ...(this.#proxy ? { proxy: this.#proxy.pid } : {}),
      ...(this.#holder ? { holder: this.#holder.pid } : {}),
    });
    changes.begin();
    this.#unwatch = watchFiles(options.files, () => void this.reload());
    this.#ready = true;
  }

  /** Loads the programs, and makes what lives as long as the instance. The agent is in its cgroup then. */
  async #load(intake: 'socket' | 'listener') {
    const { options } = this;
    const paths = this.#paths;
    const listeners = this.#source.listeners;
    const parts = await makeParts({
      options,
      paths,
      intake,
      generation: () => this.generation,
      proxy: () => this.#proxy,
      chains: this.#chains,
      relaySecret: this.#source.relaySecret,
      indexOf: (listener) => listeners.get(listener) ?? 0,
    });
    this.#parts = parts;
    this.#home = currentCgroup();
    const groups = createCgroups(options.name);
    this.#groups = groups;
    joinCgroup(groups.agent);
    const namespaces = new Namespaces(parts.plane, groups, (arrival) => parts.traffic.accept(arrival));
    this.#namespaces = namespaces;
    const force = new InForce({
      parts,
      namespaces,
      proxy: () => this.#proxy,
      proxied: options.proxy !== 'none',
      listeners,
      elsewhere: () => this.#source.elsewhere,
      log: options.log,
    });
    this.#force = force;
    const changes = new PolicyChanges({
      options,
      paths,
      parts,
      source: this.#source,
      force,
      namespaces,
      proxy: () => this.#proxy,
    });
    this.#changes = changes;
    return { parts, groups, namespaces, force, changes };
  }

  /** Where the proxy asks for tokens and breakers, and reports its tries. */
  async #serveProxy({ consultant, breakers, outliers, relays }: AgentParts): Promise<void> {
    this.#grpc.push(
      await serveConsults(
        this.#paths.consults,
        (request, gone) => (request.cluster === '' ? consultant.ask(request) : breakers.ask(request, gone)),
        (bucket) => consultant.figures(bucket),
      ),
    );
    this.#grpc.push(
      await serveReports(this.#paths.reports, {
        tried: (report) => outliers.tried(report),
        relayed: (report) => relays.reported(report),
      }),
    );
  }

  async #serve(changes: PolicyChanges): Promise<void> {
    const handlers = {
      status: () => this.status(),
      ready: () => this.#ready,
      config: () => this.generation.config,
    };
    const join = (file: string, path?: string): Promise<void> => changes.join(file, path);
    const { servers, address } = await serveAdmin(handlers, join, this.options, this.#paths);
    this.#servers.push(...servers);
    this.#admin = address;
  }

  /** Reads the files again and switches to what they say; keeps the old policy when anything is wrong with the new. */
  async reload(): Promise<void> {
    await this.#changes?.reload();
  }

  /** What `sidestep status` shows. */
  status(): ReturnType<typeof statusOf> {
    const { plane, traffic, streams, tokens, log, spans, mirrors } = this.#parts!;
    const counted = streams?.counts();
    return statusOf({
      ...(counted ? { streams: counted, streamHits: streams?.hits } : {}),
      name: this.options.name,
      plane,
      traffic,
      namespaces: this.#namespaces?.size ?? 0,
      tokens: tokens.counts,
      log: log.counts,
      spans: spans.counts,
      mirrors: mirrors.counts,
      generation: this.generation,
      startedAt: this.#started,
      swapMs: this.#force!.swapMs,
      stallMs: this.#changes?.stallMs ?? 0,
      admin: this.#admin,
      proxyPid: this.#proxy?.pid,
    });
  }

  /** Drains, detaches and removes everything. A policy that is being made is not waited for. */
  async stop(drainMs = DRAIN_MS): Promise<void> {
    this.#ready = false;
    this.#unwatch?.();
    this.#source.stop();
    await this.#changes?.stop();
    const { discovery, listeners, traffic, hellos, streams, log, spans, mirrors, breakers, outliers, plane } =
      this.#parts ?? {};
    discovery?.stop();
    listeners?.closeAll();
    this.#chains.close();
    this.#namespaces?.closeAll();
    await Promise.all([traffic?.drain(drainMs), hellos?.drain(drainMs), streams?.drain(drainMs)]);
    log?.close();
    await spans?.close();
    await mirrors?.close(Math.min(drainMs, 1000));
    await this.#proxy?.stop(Math.min(drainMs, 1000));
    for (const server of this.#grpc) server.close();
    outliers?.stop();
    breakers?.stop();
    streams?.close();
    plane?.close();
    if (this.#holder) endHolder(this.#paths.folder, this.#holder);
    if (this.#groups) {
      if (this.#home) joinCgroup(this.#home);
      removeCgroups(this.options.name);
    }
    for (const server of this.#servers) server.close();
    if (this.#release) rmSync(this.#paths.folder, { recursive: true, force: true });
    this.#release?.();
  }
}

/** Whether the Envoy that is there can hand connections on when their TLS handshake is over: since 1.37. */
async function handsOn(): Promise<boolean> {
  try {
    const [major = 0, minor = 0] = (await envoyVersion(findEnvoy())).split('.').map(Number);
    return major > 1 || minor >= 37;
  } catch {
    return false; // said when it is started
  }
}

function invalid(errors: number): StartError {
  return new StartError(`${errors} error${errors > 1 ? 's' : ''} in the policies; nothing was loaded`, 'input');
}
