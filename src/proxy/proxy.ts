import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Diagnostic } from '../policy/diagnostics.js';
import type { JsonObject } from '../policy/resources.js';
import { Admin } from './admin.js';
import { findEnvoy, ProxyError } from './find-envoy.js';
import { explainLog, fileSize } from './log.js';
import { type PreparedProxy, type WatchedFile, withClustersOf, withEndpoints } from './prepared.js';
import {
  endProcess,
  isRunning,
  type ProxyRecord,
  processStartTime,
  removeRecord,
  stopStaleProxy,
  writeRecord,
} from './process.js';
import { validateWithEnvoy } from './validate.js';
import { replaceFile } from './watched-files.js';

export interface ProxyOptions {
  /** the Envoy binary; found by `findEnvoy` when left out */
  readonly envoyPath?: string;
  /** what it serves; its folder, with its log and its admin socket, is made if it is missing */
  readonly prepared: PreparedProxy;
  /** worker threads; as many as cores when left out */
  readonly concurrency?: number;
  /** file descriptors that stay open in the proxy; the first becomes its descriptor 3 */
  readonly inheritFds?: readonly number[];
  /** Envoy's log level, `warning` by default */
  readonly logLevel?: string;
  /** how long it may take to be ready, 30 s by default */
  readonly readyTimeoutMs?: number;
  /** how long connections of a replaced listener may go on, 60 s by default */
  readonly drainSeconds?: number;
}

const UPDATE_TIMEOUT_MS = 20_000;

/**
 * Starts Envoy with `prepared` and waits until it is live and has taken all of them. It runs in a session of its own
 * and outlives this process unless it is stopped; a proxy that an earlier process left in `dir` is stopped. Rejects with ProxyError, with what Envoy said, when it does not
 * come up; nothing is left running then.
 */
export async function startProxy(options: ProxyOptions): Promise<EnvoyProxy> {
  const envoyPath = options.envoyPath ?? findEnvoy();
  const files = options.prepared;
  const dir = resolve(files.dir);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await stopStaleProxy(dir);
  for (const { path, content } of [...files.endpoints, ...files.routes, files.clusters, files.listeners])
    await replaceFile(path, content);
  const bootstrapPath = join(dir, 'bootstrap.json');
  await replaceFile(bootstrapPath, files.bootstrap);
  const adminFile = join(dir, 'admin.address');
  await rm(adminFile, { force: true });
  await rm(join(dir, 'admin.sock'), { force: true });

  const logPath = join(dir, 'envoy.log');
  const logStart = await fileSize(logPath);
  const log = openSync(logPath, 'a', 0o600);
  // the new process must not share hot restart's memory with an Envoy of somebody else's
  const args = ['-c', bootstrapPath, '--disable-hot-restart', '--admin-address-path', adminFile];
  // clients of a listener that changed are told at their next answer to come again
  args.push('--drain-strategy', 'immediate');
  args.push('-l', options.logLevel ?? 'warning', '--drain-time-s', String(options.drainSeconds ?? 60));
  if (options.concurrency !== undefined) args.push('--concurrency', String(options.concurrency));
  const child = spawn(envoyPath, args, {
    detached: true,
    stdio: ['ignore', log, log, ...(options.inheritFds ?? [])],
  });
  closeSync(log);
  let failed: Error | undefined;
  child.on('error', (error) => {
    failed = error;
  });
  child.unref();
  const startTime = child.pid === undefined ? undefined : processStartTime(child.pid);
  if (child.pid === undefined || startTime === undefined) {
    await sleep(0);
    throw new ProxyError(`Envoy cannot be started: ${failed?.message ?? (await explainLog(logPath, logStart))}`);
  }
  const record: ProxyRecord = { pid: child.pid, startTime };
  await writeRecord(dir, record);
  try {
    const end = Date.now() + (options.readyTimeoutMs ?? 30_000);
    const admin = await waitUntilLive(record, adminFile, end);
    await writeRecord(dir, { ...record, admin: admin.address });
    const proxy = new EnvoyProxy(envoyPath, dir, record, admin, files, logPath);
    await proxy.waitForInitial(end);
    return proxy;
  } catch (error) {
    const said = await explainLog(logPath, logStart);
    await endProcess(record, 2000);
    await removeRecord(dir);
    throw new ProxyError(`Envoy did not start: ${(error as Error).message}: ${said} (log: ${logPath})`);
  }
}

async function waitUntilLive(record: ProxyRecord, adminFile: string, end: number): Promise<Admin> {
  let admin: Admin | undefined;
  for (;;) {
    if (!isRunning(record)) throw new ProxyError('the process ended');
    if (!admin) {
      const address = (await readFile(adminFile, 'utf8').catch(() => '')).trim();
      if (address) admin = new Admin(address);
    }
    if (admin && (await admin.ready())) return admin;
    if (Date.now() > end) throw new ProxyError('it is not ready in time');
    await sleep(20);
  }
}

/** A running Envoy. */
export class EnvoyProxy {
  #files: PreparedProxy;
  #busy: Promise<unknown> = Promise.resolve();

  /** Use `startProxy`. */
  constructor(
    readonly envoyPath: string,
    readonly dir: string,
    private readonly record: ProxyRecord,
    readonly admin: Admin,
    files: PreparedProxy,
    readonly logPath: string,
  ) {
    this.#files = files;
  }

  get pid(): number {
    return this.record.pid;
  }

  /** Whether the process still runs. */
  get running(): boolean {
    return isRunning(this.record);
  }

  /** Waits until the first listeners, clusters and routes were taken; throws when one was refused. */
  async waitForInitial(end: number): Promise<void> {
    const wanted = [this.#files.clusters, this.#files.listeners].map((file) => file.stat);
    for (;;) {
      if (!this.running) throw new ProxyError('the process ended');
      const stats = await this.updateStats();
      for (const [name, value] of stats) {
        if (value > 0 && name.endsWith('.update_rejected')) throw new ProxyError(`it refused ${name}`);
      }
      if (wanted.every((stat) => sum(stats, stat, 'update_success') > 0)) return;
      if (Date.now() > end) throw new ProxyError('it did not take its configuration in time');
      await sleep(20);
    }
  }

  private updateStats(): Promise<Map<string, number>> {
    return this.admin.stats(
      '(\\.update_(success|rejected)$)|(^cluster_manager\\.warming_clusters$)|(^listener_manager\\.total_listeners_warming$)',
    );
  }

  /**
   * Changes what the proxy serves while it runs: clusters first, then routes and listeners, then clusters that are no
   * longer used are taken away. Envoy checks everything beforehand. Returns no errors when all of it is in force; else
   * what was wrong, and the old resources stay in force. Updates wait for each other.
   */
  update(next: PreparedProxy): Promise<Diagnostic[]> {
    const run = this.#busy.then(() => this.apply(next));
    this.#busy = run.catch(() => undefined);
    return run;
  }

  /**
   * Changes one load assignment that the proxy watches (by the name that it is asked for with), without waiting until
   * it is in force: a few milliseconds. Nothing happens when there is none of this name.
   */
  changeEndpoints(service: string, assignment: JsonObject): Promise<void> {
    const run = this.#busy.then(async () => {
      const next = withEndpoints(this.#files, service, assignment);
      const file = next.endpoints.find((known) => known.service === service);
      if (!file) return;
      await replaceFile(file.path, file.content);
      this.#files = next;
    });
    this.#busy = run.catch(() => undefined);
    return run;
  }

  private async apply(next: PreparedProxy): Promise<Diagnostic[]> {
    if (!this.running) return [failure('proxy-gone', 'Envoy is not running any more')];
    const fixed = changedKeys(this.#files.fields, next.fields);
    if (fixed.length > 0) {
      return [failure('needs-restart', `Envoy cannot change ${fixed.join(', ')} while it runs: start again`)];
    }
    const refused = await validateWithEnvoy(this.envoyPath, next.whole, this.dir);
    if (refused.length > 0) return refused;

    const before = this.#files;
    const written = new Map<string, WatchedFile>();
    for (const file of allFiles(before)) written.set(file.path, file);
    const steps = [
      // new clusters must exist before routes lead to them, old ones until no route does
      [...next.endpoints, withClustersOf(next.clusters, before.clusters)],
      next.routes,
      [next.listeners],
      [next.clusters],
    ];
    const undo: WatchedFile[] = [];
    const logStart = await fileSize(this.logPath);
    try {
      for (const step of steps) {
        const changed = step.filter((file) => written.get(file.path)?.version !== file.version);
        for (const file of changed) {
          const old = written.get(file.path);
          if (old) undo.unshift(old);
        }
        await this.write(changed, written);
      }
    } catch (error) {
      const said = await explainLog(this.logPath, logStart);
      // best effort: what it took before it takes again
      await this.write(undo, written, false).catch(() => undefined);
      return [failure('refused-by-envoy', `Envoy: ${(error as Error).message}: ${said}`)];
    }
    this.#files = next;
    await this.removeUnused(written);
    return [];
  }

  /** Replaces files and waits until each of them that was watched is acknowledged. Throws when one is refused. */
  private async write(files: readonly WatchedFile[], written: Map<string, WatchedFile>, strict = true): Promise<void> {
    if (files.length === 0) return;
    const before = await this.updateStats();
    for (const file of files) await replaceFile(file.path, file.content);
    // a file that is new is read when something that was written after it refers to it
    const awaited = files.filter((file) => written.has(file.path));
    for (const file of files) written.set(file.path, file);
    const end = Date.now() + UPDATE_TIMEOUT_MS;
    for (;;) {
      const stats = await this.updateStats();
      const grown = (file: WatchedFile, kind: string) => sum(stats, file.stat, kind) > sum(before, file.stat, kind);
      const rejected = awaited.filter((file) => grown(file, 'update_rejected'));
      if (strict && rejected.length > 0) throw new ProxyError(`refused ${rejected.map((f) => f.stat).join(', ')}`);
      const settled = awaited.every((f) => grown(f, 'update_success') || grown(f, 'update_rejected'));
      const warming =
        (stats.get('cluster_manager.warming_clusters') ?? 0) +
        (stats.get('listener_manager.total_listeners_warming') ?? 0);
      if (settled && warming === 0) return;
      if (Date.now() > end) {
        // a cluster that cannot be resolved warms for ever; it was taken nevertheless
        if (settled) return;
        throw new ProxyError('no acknowledgement in time');
      }
      await sleep(10);
    }
  }

  private async removeUnused(written: ReadonlyMap<string, WatchedFile>): Promise<void> {
    const used = new Set(allFiles(this.#files).map((file) => file.path));
    for (const path of written.keys()) if (!used.has(path)) await rm(path, { force: true });
  }

  /**
   * Stops the proxy: it takes no new connections, asks clients to close theirs, and ends when no request is in flight,
   * at the latest after `drainMs`. 0 stops it at once.
   */
  async stop(drainMs = 0): Promise<void> {
    await this.#busy;
    if (drainMs > 0 && this.running) {
      const end = Date.now() + drainMs;
      try {
        // from now on every answer of HTTP/1.1 says `connection: close`
        await this.admin.call('POST', '/healthcheck/fail');
        await this.admin.call('POST', '/drain_listeners?skip_exit');
        while (Date.now() < end && this.running && (await this.requestsInFlight()) > 0) await sleep(20);
      } catch {
        // an admin that does not answer is no reason to leave the process
      }
    }
    await endProcess(this.record);
    await removeRecord(this.dir);
  }

  /** Requests that the listeners of the mesh are working on. */
  async requestsInFlight(): Promise<number> {
    const stats = await this.admin.stats('^http\\..*\\.downstream_rq_active$');
    let total = 0;
    for (const [name, value] of stats) if (!name.startsWith('http.admin.')) total += value;
    return total;
  }
}

function failure(code: string, message: string): Diagnostic {
  return { severity: 'error', code, message };
}

function sum(stats: ReadonlyMap<string, number>, stat: string, kind: string): number {
  let total = 0;
  for (const [name, value] of stats) {
    if (name === `${stat}.${kind}` || (stat.startsWith('.') && name.endsWith(`${stat}.${kind}`))) total += value;
  }
  return total;
}

function allFiles(files: PreparedProxy): WatchedFile[] {
  return [files.clusters, files.listeners, ...files.routes, ...files.endpoints];
}

/** Top-level fields of two bootstraps whose values differ. */
function changedKeys(before: PreparedProxy['fields'], after: PreparedProxy['fields']): string[] {
  const keys = new Set([...before.keys(), ...after.keys()]);
  return [...keys].filter((key) => before.get(key) !== after.get(key));
}
