/** Which connections come to the agent: by the connect hooks, and by the lookup of listening sockets. */
import { closeSync, openSync } from 'node:fs';
import { isIP } from 'node:net';
import { closeCgroup, type InstanceCgroups, openCgroup } from '../kernel/cgroups.js';
import { type BpfLink, type BpfMap, type BpfObject, u32, u64 } from '../kernel/libbpf.js';
import { currentNetnsCookie } from '../kernel/netns.js';
import { INTAKE } from '../layout/exchanges.js';
import { ArrivalSpec, INBOUND, NetnsSpec, PlaceSpec, SteerKeySpec, SteerSpec, TupleSpec } from '../layout/steering.js';
import { get, getBig, set } from '../layout/struct.js';
import { type Address, addressWords, isLoopback, plainAddress } from './address.js';

/** A client's socket that one of the agent's listeners has accepted. */
export interface Arrived {
  /** 0: its requests are decided at the accepted socket (listener intake) */
  readonly cookie: bigint;
  /** the address that the client asked for, as addressKey gives it */
  readonly asked: string;
}

/** The agent's listening sockets in another network namespace. */
export interface NamespaceSockets {
  readonly ipv4: Address | undefined;
  readonly ipv6: Address | undefined;
  /** the namespace's own addresses */
  readonly own: readonly string[];
}

/** Where an intercepted address is meant: in the agent's own network namespace, or in all others that it serves. */
export type Where = 'home' | 'elsewhere';

export class Steering {
  /** cookie of the agent's network namespace */
  readonly home = currentNetnsCookie();
  #lookup: BpfLink | undefined;

  constructor(
    private readonly object: BpfObject,
    private readonly map: (name: string) => BpfMap,
    /** closed by who made it */
    private readonly links: BpfLink[],
    private readonly intake: 'socket' | 'listener',
  ) {}

  /**
   * Sends connections to `from` elsewhere. `map`: `steers` (to the agent) or `fallbacks` (to the proxy).
   * @param direct to endpoints of the listener's route for connections, instead of `to`
   * @param hello to an endpoint that the connection’s first message says
   * @param where in other namespaces than the agent's, `steers` lead to the agent's listening socket there, whatever `to`
   */
  steer(
    map: 'steers' | 'fallbacks',
    from: Address,
    to: Address,
    keepAddress: boolean,
    listener: number,
    where: Where = 'home',
    direct = false,
    hello = false,
  ): void {
    const value = new DataView(new ArrayBuffer(SteerSpec.size));
    for (const [i, word] of addressWords(to).entries()) set(value, 0, SteerSpec, 'address', word, i);
    set(value, 0, SteerSpec, 'port', swap16(to.port));
    set(value, 0, SteerSpec, 'keep_address', keepAddress ? 1 : 0);
    set(value, 0, SteerSpec, 'listener', listener);
    set(value, 0, SteerSpec, 'direct', direct ? 1 : 0);
    set(value, 0, SteerSpec, 'hello', hello ? 1 : 0);
    set(value, 0, SteerSpec, 'intake', this.intake === 'listener' ? INTAKE.LISTENER : INTAKE.SOCKET);
    this.map(map).update(this.#steerKey(from, where), new Uint8Array(value.buffer));
  }

  /** Connections from other namespaces to `from` are refused when the agent does not take them. */
  refuseElsewhere(from: Address): void {
    const value = new DataView(new ArrayBuffer(SteerSpec.size));
    set(value, 0, SteerSpec, 'refuse', 1);
    this.map('fallbacks').update(this.#steerKey(from, 'elsewhere'), new Uint8Array(value.buffer));
  }

  /** Says where an endpoint is, for connections that go there from the client itself. Names are nowhere. */
  place(endpoint: number, at: Address): void {
    if (isIP(at.address) === 0) return;
    const value = new DataView(new ArrayBuffer(PlaceSpec.size));
    for (const [i, word] of addressWords(at).entries()) set(value, 0, PlaceSpec, 'address', word, i);
    set(value, 0, PlaceSpec, 'port', swap16(at.port));
    set(value, 0, PlaceSpec, 'family', plainAddress(at.address).includes(':') ? 10 : 2);
    this.map('places').update(u32(endpoint), new Uint8Array(value.buffer));
  }

  unsteer(map: 'steers' | 'fallbacks', from: Address, where: Where = 'home'): void {
    this.map(map).delete(this.#steerKey(from, where));
  }

  #steerKey(from: Address, where: Where): Uint8Array {
    return steerKey(from, where === 'home' ? this.home : 0n);
  }

  /** Takes the connections of a network namespace's applications to what is intercepted, with listening sockets there. */
  serveNamespace(cookie: bigint, { ipv4, ipv6, own }: NamespaceSockets): void {
    // first what is to be left alone
    for (const address of own) this.map('own_addresses').update(steerKey({ address, port: 0 }, cookie), u32(1));
    const value = new DataView(new ArrayBuffer(NetnsSpec.size));
    if (ipv4) set(value, 0, NetnsSpec, 'address4', addressWords(ipv4)[0]!);
    if (ipv6) for (const [i, word] of addressWords(ipv6).entries()) set(value, 0, NetnsSpec, 'address6', word, i);
    set(value, 0, NetnsSpec, 'port4', swap16(ipv4?.port ?? 0));
    set(value, 0, NetnsSpec, 'port6', swap16(ipv6?.port ?? 0));
    this.map('namespaces').update(u64(cookie), new Uint8Array(value.buffer));
  }

  /** Pooled connections to the proxy at this address may go from socket to socket, if it is one that the agent has started. */
  pairProxy(at: Address): void {
    this.map('proxies').update(tupleKey(at, this.home), u32(1));
  }

  /** Forgets a namespace: what is connected to from there is refused now. */
  leaveNamespace(cookie: bigint, own: readonly string[]): void {
    this.map('namespaces').delete(u64(cookie));
    this.forgetAddresses(cookie, own);
  }

  /** Addresses that a namespace does not have any more. */
  forgetAddresses(cookie: bigint, own: readonly string[]): void {
    for (const address of own) this.map('own_addresses').delete(steerKey({ address, port: 0 }, cookie));
  }

  /**
   * Takes the connections to an address from wherever they come, for the listening socket `fd`.
   * @param whose who listens at the address itself
   */
  takeInbound(address: Address, fd: number | undefined, whose: 'proxy' | 'workload'): void {
    if (fd === undefined) return; // closed already
    this.#attachLookup();
    const mode = u32(whose === 'proxy' ? INBOUND.PROXYS : INBOUND.WORKLOADS);
    const key = steerKey(address, this.home);
    this.map('inbound_agents').update(key, u64(BigInt(fd)));
    this.map('inbounds').update(key, mode);
    if (!isLoopback(address.address)) this.map('inbounds').update(steerKey(address, 0n), mode);
  }

  /** The proxy's listening socket takes the connections to an address while the agent is away. */
  keepInbound(address: Address, fd: number): void {
    this.map('inbound_proxies').update(steerKey(address, this.home), u64(BigInt(fd)));
  }

  #attachLookup(): BpfLink {
    if (!this.#lookup) {
      const netns = openSync('/proc/self/ns/net', 'r');
      try {
        this.#lookup = this.object.attachCgroup('inbound', netns);
      } finally {
        closeSync(netns);
      }
      this.links.push(this.#lookup);
    }
    return this.#lookup;
  }

  /**
   * Attaches what steers connections to workloads' ports, and what lets the agent and the proxy through to them.
   * @returns the links, which must be held as long as those ports are to be closed to everybody else
   */
  attachInbound(groups: InstanceCgroups): number[] {
    const agent = openCgroup(groups.agent);
    try {
      const own = this.object.attachCgroup('own_event', agent);
      this.links.push(own);
      return [this.#attachLookup().fd, own.fd];
    } finally {
      closeCgroup(agent);
    }
  }

  /** Leaves the connections to an address alone again. */
  leaveInbound(address: Address): void {
    const key = steerKey(address, this.home);
    this.map('inbounds').delete(key);
    if (!isLoopback(address.address)) this.map('inbounds').delete(steerKey(address, 0n));
    this.map('inbound_proxies').delete(key);
    this.map('inbound_agents').delete(key);
  }

  /** The client socket whose local end is `local`, in a network namespace. */
  arrived(local: Address, netns = this.home): Arrived | undefined {
    const value = this.map('tuples').lookup(tupleKey(local, netns));
    if (!value) return undefined;
    const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
    return {
      cookie: getBig(view, 0, ArrivalSpec, 'cookie'),
      asked: keyOf(
        [0, 1, 2, 3].map((i) => get(view, 0, ArrivalSpec, 'address', i)),
        get(view, 0, ArrivalSpec, 'port'),
        get(view, 0, ArrivalSpec, 'family'),
      ),
    };
  }

  forget(local: Address, netns = this.home): void {
    this.map('tuples').delete(tupleKey(local, netns));
  }
}

/** An address in a form in which the maps' and ours can be compared. */
export function addressKey(address: Address): string {
  return keyOf(addressWords(address), address.port, address.address.includes(':') ? 10 : 2);
}

function keyOf(words: readonly number[], port: number, family: number): string {
  return `${family} ${words.join('.')} ${port}`;
}

function swap16(port: number): number {
  return ((port & 0xff) << 8) | (port >> 8);
}

function tupleKey(end: Address, netns: bigint): Uint8Array {
  const key = new DataView(new ArrayBuffer(TupleSpec.size));
  set(key, 0, TupleSpec, 'netns', netns);
  for (const [i, word] of addressWords(end).entries()) set(key, 0, TupleSpec, 'address', word, i);
  set(key, 0, TupleSpec, 'port', end.port);
  return new Uint8Array(key.buffer);
}

function steerKey(from: Address, netns: bigint): Uint8Array {
  const view = new DataView(new ArrayBuffer(SteerKeySpec.size));
  set(view, 0, SteerKeySpec, 'netns', netns);
  for (const [i, word] of addressWords(from).entries()) set(view, 0, SteerKeySpec, 'address', word, i);
  set(view, 0, SteerKeySpec, 'port', swap16(from.port));
  set(view, 0, SteerKeySpec, 'family', from.address.includes(':') ? 10 : 2);
  return new Uint8Array(view.buffer);
}
