/**
 * Applications in other network namespaces than the agent's, as pods are. In each such namespace the agent has listening
 * sockets, and the connect hook leads to those of the connection's own namespace, at the address from which that
 * namespace would have connected: so applications keep the address by which they are known.
 *
 * Loopback addresses mean something else in each namespace, so what is intercepted at one is intercepted in the
 * agent's own only. A namespace's own addresses are left alone there, too. While the agent is away, or has not been told
 * of a namespace, what can only be reached through it is refused at once (bpf/steer.h).
 */
import { closeSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { cgroupProcesses, type InstanceCgroups } from '../kernel/cgroups.js';
import {
  boundSocket,
  currentNetnsCookie,
  inNamespace,
  interfaceAddresses,
  namespaceId,
  openNamespace,
  sourceTowards,
} from '../kernel/netns.js';
import type { Intercept } from '../policy/resources.js';
import {
  type Address,
  addressBytes,
  addressText,
  isLoopback,
  isWildcard,
  localAddresses,
  plainAddress,
} from './address.js';
import type { DataPlane } from './data-plane.js';
import type { Arrival } from './listeners.js';
import { addressKey, type NamespaceSockets } from './steering.js';

const BACKLOG = 4096;
const SWEEP_MS = 1000;
/** So long after somebody asked for it a namespace is kept although none of our processes is in it yet. */
const GRACE_MS = 5000;

/** What the policy in force means for clients elsewhere. */
export interface ElsewherePolicy {
  readonly intercepts: readonly Intercept[];
  /** whether what the kernel leaves to the proxy can be given to it on behalf of clients elsewhere */
  readonly served: (listener: string) => boolean;
  readonly indexOf: (listener: string) => number;
  /** where the proxy listens; undefined: there is no proxy */
  readonly proxyOf: (listener: string) => Address | undefined;
}

interface Namespace {
  readonly cookie: bigint;
  readonly id: string;
  readonly servers: Server[];
  ports: { ipv4: number; ipv6: number };
  sockets: NamespaceSockets;
  /** its file; it is ours as long as this file is there, or one of our processes is in it */
  path: string | undefined;
  asked: number;
}

/** Address and port of an intercept as it is asked for elsewhere, and what its listener's rules see as the destination. */
interface Target {
  readonly intercept: Intercept;
  readonly from: Address;
  readonly listener: string;
  readonly destination: Address;
}

export class Namespaces {
  readonly #known = new Map<string, Namespace>();
  readonly #timer: NodeJS.Timeout;
  #targets = new Map<string, Target>();
  #steered: Address[] = [];
  #fallbacks: Address[] = [];

  constructor(
    private readonly plane: DataPlane,
    private readonly groups: InstanceCgroups,
    private readonly arrived: (arrival: Arrival) => void,
  ) {
    this.#timer = setInterval(() => this.#sweep(), SWEEP_MS).unref();
  }

  /** How many namespaces beside the agent's own are served. */
  get size(): number {
    return this.#known.size;
  }

  /** Puts a policy in force for clients in other namespaces, known ones or not. */
  enforce(policy: ElsewherePolicy): void {
    const targets = policy.intercepts.filter(({ inbound }) => !inbound).flatMap((i) => targetsOf(i, policy));
    this.#targets = new Map(targets.map((target) => [addressKey(target.from), target]));
    const steered: Address[] = [];
    const fallbacks: Address[] = [];
    for (const { from, listener, destination, intercept } of targets) {
      const direct = intercept.direct === true;
      if (direct || policy.served(listener)) {
        this.plane.steering.steer('steers', from, from, false, policy.indexOf(listener), 'elsewhere', direct);
        steered.push(from);
      }
      const proxy = policy.proxyOf(listener);
      // where the proxy itself listens it can be reached from there as well
      if (proxy && addressKey(destination) === addressKey(from)) continue;
      if (!proxy || isLoopback(proxy.address) || proxy.address.includes(':') !== from.address.includes(':'))
        this.plane.steering.refuseElsewhere(from);
      else this.plane.steering.steer('fallbacks', from, proxy, false, policy.indexOf(listener), 'elsewhere');
      fallbacks.push(from);
    }
    this.#unsteer('steers', this.#steered, steered);
    this.#unsteer('fallbacks', this.#fallbacks, fallbacks);
    this.#steered = steered;
    this.#fallbacks = fallbacks;
  }

  #unsteer(map: 'steers' | 'fallbacks', before: readonly Address[], now: readonly Address[]): void {
    const kept = new Set(now.map(addressKey));
    for (const from of before) if (!kept.has(addressKey(from))) this.plane.steering.unsteer(map, from, 'elsewhere');
  }

  /**
   * Serves the network namespace of a file, or brings what is known of its addresses up to date.
   * @param path a file that is there as long as the namespace is used, if there is one
   * @returns false when it is the agent's own
   * @throws KernelError when it cannot be entered, or is none
   */
  async add(file: string, path?: string): Promise<boolean> {
    const fd = openNamespace(file);
    try {
      const id = namespaceId(fd);
      if (id === undefined || id === namespaceId('/proc/self/ns/net')) return false;
      const lasting = path !== undefined && namespaceId(path) === id ? path : undefined;
      const known = this.#known.get(id);
      if (known) {
        known.asked = Date.now();
        known.path = lasting ?? known.path;
        inNamespace(fd, () => this.#serve(known));
        return true;
      }
      await this.#open(fd, id, lasting);
      return true;
    } finally {
      closeSync(fd);
    }
  }

  async #open(fd: number, id: string, path: string | undefined): Promise<void> {
    const { cookie, ipv4, ipv6 } = inNamespace(fd, () => ({
      cookie: currentNetnsCookie(),
      ipv4: boundSocket(addressBytes('0.0.0.0')),
      ipv6: boundSocket(addressBytes('::')),
    }));
    const namespace: Namespace = {
      ...{ cookie, id, path, servers: [], asked: Date.now() },
      ports: { ipv4: ipv4?.port ?? 0, ipv6: ipv6?.port ?? 0 },
      sockets: { ipv4: undefined, ipv6: undefined, own: [] },
    };
    this.#known.set(id, namespace);
    try {
      for (const socket of [ipv4, ipv6])
        if (socket) namespace.servers.push(await listenOn(socket.fd, (s) => this.#accept(namespace, s)));
      inNamespace(fd, () => this.#serve(namespace));
    } catch (error) {
      this.#release(namespace);
      throw error;
    }
  }

  /** Tells the kernel where a namespace's connections go; called inside it. */
  #serve(namespace: Namespace): void {
    const { cookie, ports, sockets: before } = namespace;
    const addresses = interfaceAddresses();
    const at = (v6: boolean, port: number): Address | undefined => {
      const address = port ? this.#ownAddress(addresses, v6) : undefined;
      return address === undefined ? undefined : { address, port };
    };
    const sockets: NamespaceSockets = {
      ipv4: at(false, ports.ipv4),
      ipv6: at(true, ports.ipv6),
      own: addresses.map(({ address }) => address),
    };
    namespace.sockets = sockets;
    this.plane.steering.serveNamespace(cookie, sockets);
    const kept = new Set(sockets.own);
    this.plane.steering.forgetAddresses(
      cookie,
      before.own.filter((address) => !kept.has(address)),
    );
  }

  /** The address by which applications of the namespace are known. */
  #ownAddress(addresses: ReturnType<typeof interfaceAddresses>, v6: boolean): string | undefined {
    const mine = addresses.filter(({ address }) => address.includes(':') === v6);
    for (const { from } of this.#targets.values()) {
      if (from.address.includes(':') !== v6) continue;
      const source = sourceTowards(addressBytes(from.address));
      if (source) return addressText(source);
    }
    const linkLocal = /^fe[89ab]/i;
    return (mine.find(({ address, internal }) => !internal && !linkLocal.test(address)) ?? mine.find((m) => m.internal))
      ?.address;
  }

  #accept(namespace: Namespace, socket: Socket): void {
    const client = { address: plainAddress(socket.remoteAddress ?? ''), port: socket.remotePort ?? 0 };
    const arrived = client.port ? this.plane.steering.arrived(client, namespace.cookie) : undefined;
    const target = arrived && this.#targets.get(arrived.asked);
    if (!arrived || !target) {
      socket.destroy(); // nobody whom the hooks sent here, or what he asked for is not ours any more
      return;
    }
    this.arrived({
      ...{ socket, client, listener: target.listener, asked: target.destination, netns: namespace.cookie },
      cookie: arrived.cookie === 0n ? undefined : arrived.cookie,
    });
  }

  /** Serves the namespaces of processes that an earlier agent has left in the instance's cgroups. */
  async adoptLeft(join: (file: string) => Promise<void>): Promise<void> {
    for (const pid of this.#processes()) await join(`/proc/${pid}/ns/net`).catch(() => undefined);
  }

  #processes(): number[] {
    const { apps, plain, listener } = this.groups;
    return [apps, plain, listener].flatMap(cgroupProcesses);
  }

  /** Lets go of namespaces that are gone but for our sockets, which would keep them alive. */
  #sweep(): void {
    const now = Date.now();
    const doubtful = [...this.#known.values()].filter(
      ({ id, path, asked }) => now - asked > GRACE_MS && (path === undefined || namespaceId(path) !== id),
    );
    if (doubtful.length === 0) return;
    const used = new Set(this.#processes().map((pid) => namespaceId(`/proc/${pid}/ns/net`)));
    for (const namespace of doubtful) if (!used.has(namespace.id)) this.#release(namespace);
  }

  #release(namespace: Namespace): void {
    this.#known.delete(namespace.id);
    this.plane.steering.leaveNamespace(namespace.cookie, namespace.sockets.own);
    for (const server of namespace.servers) server.close();
  }

  /** No more connections are taken; those that were go on. */
  closeAll(): void {
    clearInterval(this.#timer);
    for (const namespace of [...this.#known.values()]) this.#release(namespace);
  }
}

/** What an intercept means in other namespaces: nothing at a loopback address, and the host's addresses at a wildcard. */
function targetsOf(intercept: Intercept, policy: ElsewherePolicy): Target[] {
  const { address, port, listener } = intercept;
  const addresses = isWildcard(address)
    ? localAddresses().filter((a) => a.includes(':') === (address === '::'))
    : [address];
  const proxy = policy.proxyOf(listener);
  return addresses
    .filter((a) => !isLoopback(a))
    .map((a) => {
      const from = { address: a.split('%')[0]!, port };
      // as in the agent's own namespace, where its connection to the proxy says the same
      const own = isWildcard(address) || !proxy || (proxy.address === address && proxy.port === port);
      return { intercept, from, listener, destination: own ? from : proxy };
    });
}

function listenOn(fd: number, accept: (socket: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true }, accept);
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      closeSync(fd);
      reject(error);
    });
    server.listen({ fd }, BACKLOG, () => {
      server.removeAllListeners('error');
      server.on('error', () => undefined);
      resolve(server);
    });
  });
}
