/** The loaded BPF object as the agent uses it: attached programs, the image in force, counters. */

import { randomBytes } from 'node:crypto';
import { type FollowedCluster, type FollowedHost, writeHostSets } from '../compile/clusters.js';
import { closeCgroup, type InstanceCgroups, openCgroup } from '../kernel/cgroups.js';
import { ATTACH, type BpfLink, type BpfMap, BpfObject, type Mapping, u32, u64 } from '../kernel/libbpf.js';
import { announceData } from '../kernel/syscalls.js';
import { COUNTER } from '../layout/counts.js';
import { ConnSpec } from '../layout/exchanges.js';
import { set } from '../layout/struct.js';
import type { HostState } from '../plan/host-sets.js';
import { type Address, addressWords } from './address.js';
import { Commands } from './commands.js';
import { imageMap } from './image-map.js';
import { RuleHits } from './rule-hits.js';
import { SlotMemory } from './slot-memory.js';
import { Steering } from './steering.js';
import { TokenStore } from './token-store.js';

export class DataPlane {
  readonly #object: BpfObject;
  readonly #maps = new Map<string, BpfMap>();
  readonly #links: BpfLink[] = [];
  #inner: BpfMap | undefined;
  #image: Mapping | undefined;
  /** which connections come to the agent */
  readonly steering: Steering;
  readonly slots: SlotMemory;
  readonly commands: Commands;
  readonly hits: RuleHits;
  /** tokens that the kernel knows */
  readonly tokens: TokenStore;

  /** Loads the object and attaches its socket map programs. @throws KernelError */
  constructor(
    objectPath: string,
    /** answers get the headers that Envoy adds; the agent carries them then */
    readonly envoyHeaders = false,
    /** where the requests of applications are decided that ask for nothing else */
    readonly intake: 'socket' | 'listener' = 'socket',
    /** port of the loopback at which the proxy hands connections on; 0: none */
    chainPort = 0,
  ) {
    this.#object = BpfObject.open(objectPath);
    this.steering = new Steering(this.#object, (name) => this.map(name), this.#links, intake);
    if (envoyHeaders) this.#object.setConst('envoy_headers', 1);
    const seed = randomBytes(8).readBigUInt64LE();
    this.#object.setConst('token_seed', seed);
    this.#object.setConst('home_netns', this.steering.home);
    this.#object.setConst('lookup_netns', this.steering.home);
    this.#object.setConst('chain_port', chainPort);
    this.#object.load();
    this.tokens = new TokenStore(this.map('tokens').mmap().view, seed);
    this.hits = new RuleHits(this.map('rule_hits').mmap().view);
    this.slots = new SlotMemory((name) => this.map(name));
    this.#object.attachSockmap('on_message', 'clients', ATTACH.SK_MSG_VERDICT);
    this.#object.attachSockmap('on_answer', 'sockets', ATTACH.SK_SKB_STREAM_VERDICT);
    this.#object.attachSockmap('on_hello', 'hello_clients', ATTACH.SK_MSG_VERDICT);
    this.#object.attachSockmap('on_joint', 'joints', ATTACH.SK_SKB_STREAM_VERDICT);
    this.#object.attachSockmap('on_request', 'intakes', ATTACH.SK_SKB_STREAM_VERDICT);
    this.#object.attachSockmap('on_dummy', 'dummies', ATTACH.SK_MSG_VERDICT);
    this.#object.attachSockmap('on_server_message', 'servers', ATTACH.SK_MSG_VERDICT);
    this.commands = new Commands(this.#object.program('control'));
  }

  map(name: string): BpfMap {
    let map = this.#maps.get(name);
    if (!map) {
      map = this.#object.map(name);
      this.#maps.set(name, map);
    }
    return map;
  }

  /**
   * Attaches the hooks to the instance's cgroups: steering to the applications', watching to both.
   * @returns the descriptors of the links that must outlive the agent (the proxy inherits them)
   */
  attach(groups: InstanceCgroups): number[] {
    const apps = openCgroup(groups.apps);
    const listener = openCgroup(groups.listener);
    const root = openCgroup(groups.root);
    const agent = openCgroup(groups.agent);
    const plain = openCgroup(groups.plain);
    try {
      for (const name of ['connect4', 'connect6'])
        for (const group of [apps, plain]) this.#links.push(this.#object.attachCgroup(name, group));
      for (const group of [apps, plain, listener]) this.#links.push(this.#object.attachCgroup('direct_event', group));
      for (const name of ['listener4', 'listener6']) this.#links.push(this.#object.attachCgroup(name, listener));
      // the same-node bypass: both ends of the agent's own connections to servers among the applications
      for (const name of ['dial4', 'dial6', 'dialled', 'chain4'])
        this.#links.push(this.#object.attachCgroup(name, agent));
      this.#links.push(this.#object.attachCgroup('served', apps));
      this.#links.push(this.#object.attachCgroup('proxy_served', agent));
      this.#links.push(this.#object.attachCgroup('socket_event', root));
      const lasting = ['fallback4', 'fallback6', 'getpeername4', 'getpeername6'].map((name) =>
        this.#object.attachCgroup(name, root),
      );
      this.#links.push(...lasting);
      return lasting.map((link) => link.fd);
    } finally {
      for (const group of [apps, listener, root, agent, plain]) closeCgroup(group);
    }
  }

  /**
   * Switches to another policy image at once for every request decided from now on.
   * @param image at most IMAGE_SIZE
   * @returns when no program uses the old one any more
   */
  async install(image: Uint8Array): Promise<void> {
    const { map, mapping } = imageMap(image);
    // The update returns only when no program uses the old map any more, which takes the kernel a while.
    await this.map('policy').updateAside(u32(0), u32(map.fd));
    this.#image?.unmap();
    this.#image = mapping;
    this.#inner?.close();
    this.#inner = map;
  }

  /** Runs and run time in nanoseconds of the programs on requests and answers; 0 unless the kernel counts them. */
  programStats(): Record<string, { runs: number; ns: number }> {
    const of = (name: string) => {
      const { runs, runTime } = this.#object.program(name).info();
      return { runs: Number(runs), ns: Number(runTime) };
    };
    return { on_message: of('on_message'), on_answer: of('on_answer') };
  }

  /**
   * Changes who takes the traffic of a cluster of the image in force, for every request decided from now on. The room that
   * is written is the one that was given up at the change before, so no program reads it.
   */
  setHosts(cluster: FollowedCluster, room: 0 | 1, hosts: readonly FollowedHost[], states: readonly HostState[]): void {
    if (!this.#image) return;
    const { buffer, bytes } = this.#image;
    const next = writeHostSets(bytes, cluster, room, hosts, states);
    Atomics.store(new Int32Array(buffer, bytes.byteOffset + cluster.pointer, 1), 0, next);
  }

  /**
   * Has the requests of an accepted connection decided in the kernel (listener intake), those too that have come
   * already. Nothing may have been read from it. @throws KernelError when it is closed already
   */
  adopt(fd: number, cookie: bigint, listener: number, client: Address, asked: Address): void {
    const conn = new DataView(new ArrayBuffer(ConnSpec.size));
    set(conn, 0, ConnSpec, 'cookie', cookie);
    set(conn, 0, ConnSpec, 'listener', listener);
    for (const [i, word] of addressWords(client).entries()) set(conn, 0, ConnSpec, 'source', word, i);
    for (const [i, word] of addressWords(asked).entries()) set(conn, 0, ConnSpec, 'original', word, i);
    set(conn, 0, ConnSpec, 'original_port', asked.port);
    this.map('intake_conns').update(u64(cookie), new Uint8Array(conn.buffer));
    try {
      this.map('intakes').update(u64(cookie), u64(BigInt(fd)));
    } catch (error) {
      this.release(cookie);
      throw error;
    }
    announceData(fd);
  }

  /** Forgets an adopted connection that is closed. */
  release(cookie: bigint): void {
    this.map('intake_conns').delete(u64(cookie));
  }

  /**
   * Pairs a slot (after it is inserted, before it is given) with the server's end of its connection, if that is a socket of an
   * application of the mesh on this node: requests and answers then go from socket to socket.
   * @param cookie of the connection's own socket
   */
  pair(slot: number, cookie: bigint): void {
    const server = this.map('met').lookup(u64(cookie));
    this.map('met').delete(u64(cookie)); // a server's socket that is established later does not enter the map
    const met = server && new DataView(server.buffer, server.byteOffset).getBigUint64(0, true);
    if (met) this.commands.pair(slot, met);
  }

  /**
   * Joins a client's socket (cookie) and one of the agent's, from which nothing was read yet: bytes go from one to the other,
   * once the client is resumed. @returns whether they are. @throws KernelError when the socket is closed already
   */
  join(client: bigint, fd: number, own: bigint): boolean {
    this.commands.join(client, own);
    this.map('joints').update(u64(client), u64(BigInt(fd)));
    announceData(fd);
    return this.commands.join(client, own);
  }

  /** Forgets a client and what it was joined with. */
  part(client: bigint, own: bigint): void {
    for (const cookie of [client, own]) this.map('joined').delete(u64(cookie));
  }

  /** Sums of the per-CPU counters, by COUNTER name. */
  counters(): Record<keyof typeof COUNTER, number> {
    const out = {} as Record<keyof typeof COUNTER, number>;
    for (const [name, index] of Object.entries(COUNTER))
      out[name as keyof typeof COUNTER] = this.#sum('counters', index);
    return out;
  }

  #sum(map: string, index: number): number {
    const value = this.map(map).lookup(u32(index));
    if (!value) return 0;
    const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
    let sum = 0n;
    for (let at = 0; at < value.byteLength; at += 8) sum += view.getBigUint64(at, true);
    return Number(sum);
  }

  /** Detaches everything. Upstreams must have been removed before. */
  close(): void {
    for (const link of this.#links.splice(0)) link.close();
    this.#image?.unmap();
    this.#inner?.close();
    this.#object.close();
  }
}
