/** The loaded BPF object as the agent uses it: typed access to the maps, and the control program. */

import { randomBytes } from 'node:crypto';
import { type FollowedCluster, type FollowedHost, writeHostSets } from '../compile/clusters.js';
import { closeCgroup, type InstanceCgroups, openCgroup } from '../kernel/cgroups.js';
import {
  ATTACH,
  type BpfLink,
  type BpfMap,
  BpfObject,
  createMap,
  KernelError,
  MAP_FLAG,
  MAP_TYPE,
  type Mapping,
  u32,
  u64,
} from '../kernel/libbpf.js';
import { announceData, socketCookie } from '../kernel/syscalls.js';
import { MAX_VARIABLES, STATUS_WORDS } from '../layout/actions.js';
import { CTL, CtlSpec, QUEUED } from '../layout/control.js';
import { COUNTER, HIT_COUNTS, MAX_RULES } from '../layout/counts.js';
import {
  ConnSpec,
  EndpointSpec,
  MAX_ENDPOINTS,
  MAX_REPLAY,
  MAX_STAGED,
  MAX_VARIABLE_BYTES,
  UpstreamSpec,
  VariablesSpec,
} from '../layout/exchanges.js';
import { IMAGE_SIZE, IMAGE_SLACK } from '../layout/image.js';
import { get, getBig, set } from '../layout/struct.js';
import type { HostState } from '../plan/host-sets.js';
import { type Address, addressWords } from './address.js';
import { Steering } from './steering.js';
import { TokenStore } from './token-store.js';

/** The test run takes the first bytes for an Ethernet header. */
const CTL_AT = 16;

/** What the control program says about a client connection. */
export interface ConnectionState {
  /** redirected bytes wait unread at the client, or are on their way there */
  readonly queued: boolean;
  /** a part of the request is on its way to the upstream still (listener intake) */
  readonly underway: boolean;
  /** an exchange on a pooled connection had not ended when `queued` was found out */
  readonly inFlight: boolean;
  readonly gate: number;
  readonly requested: number;
  /** replies of the mesh that the kernel gave */
  readonly replied: number;
  readonly upstream: number;
  readonly passed: bigint;
  readonly bodyLeft: bigint;
  readonly flags: number;
}

export class DataPlane {
  readonly #object: BpfObject;
  readonly #maps = new Map<string, BpfMap>();
  readonly #links: BpfLink[] = [];
  #inner: BpfMap | undefined;
  #image: Mapping | undefined;
  readonly #ctlBytes = new Uint8Array(CTL_AT + CtlSpec.size);
  readonly #ctl = new DataView(this.#ctlBytes.buffer);
  /** which connections come to the agent */
  readonly steering: Steering;
  /** live views */
  readonly upstreams: DataView;
  readonly upstreamWords: Int32Array;
  readonly endpoints: DataView;
  readonly replays: Uint8Array;
  readonly #variables: { readonly view: DataView; readonly bytes: Uint8Array };
  readonly blocks: DataView;
  /** HIT_COUNTS times the requests by rule, in two words */
  readonly #hits: Uint32Array;
  /** tokens that the kernel knows */
  readonly tokens: TokenStore;

  /** Loads the object and attaches its socket map programs. @throws KernelError */
  constructor(
    objectPath: string,
    /** answers get the headers that Envoy adds; the agent carries them then */
    readonly envoyHeaders = false,
    /** where the requests of applications are decided that ask for nothing else */
    readonly intake: 'socket' | 'listener' = 'socket',
  ) {
    this.#object = BpfObject.open(objectPath);
    this.steering = new Steering(this.#object, (name) => this.map(name), this.#links, intake);
    if (envoyHeaders) this.#object.setConst('envoy_headers', 1);
    const seed = randomBytes(8).readBigUInt64LE();
    this.#object.setConst('token_seed', seed);
    this.#object.setConst('home_netns', this.steering.home);
    this.#object.setConst('lookup_netns', this.steering.home);
    this.#object.load();
    this.tokens = new TokenStore(this.map('tokens').mmap().view, seed);
    const { view } = this.map('rule_hits').mmap();
    this.#hits = new Uint32Array(view.buffer, view.byteOffset, 2 * MAX_RULES * HIT_COUNTS);
    const upstreams = this.map('upstreams').mmap();
    this.upstreams = upstreams.view;
    this.upstreamWords = new Int32Array(upstreams.buffer);
    this.endpoints = this.map('endpoints').mmap().view;
    this.replays = this.map('replays').mmap().bytes;
    this.#variables = this.map('variables').mmap();
    this.blocks = this.map('blocks').mmap().view;
    this.#object.attachSockmap('on_message', 'clients', ATTACH.SK_MSG_VERDICT);
    this.#object.attachSockmap('on_answer', 'sockets', ATTACH.SK_SKB_STREAM_VERDICT);
    this.#object.attachSockmap('on_request', 'intakes', ATTACH.SK_SKB_STREAM_VERDICT);
    this.#object.attachSockmap('on_dummy', 'dummies', ATTACH.SK_MSG_VERDICT);
    this.#object.attachSockmap('on_server_message', 'servers', ATTACH.SK_MSG_VERDICT);
    this.#run(CTL.HELLO, {});
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
      for (const name of ['listener4', 'listener6']) this.#links.push(this.#object.attachCgroup(name, listener));
      // the same-node bypass: both ends of the agent's own connections to servers among the applications
      for (const name of ['dial4', 'dial6', 'dialled']) this.#links.push(this.#object.attachCgroup(name, agent));
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
    const map = createMap(
      { name: 'image', type: MAP_TYPE.ARRAY, keySize: 4, valueSize: IMAGE_SIZE + IMAGE_SLACK, maxEntries: 1 },
      MAP_FLAG.MMAPABLE,
    );
    const mapping = map.mmap();
    mapping.bytes.set(image);
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

  /** State of a client connection; undefined when its socket is gone (or never was in the map). */
  query(cookie: bigint): ConnectionState | undefined {
    return this.#run(CTL.QUERY, { cookie }) ? this.#state() : undefined;
  }

  /** Tells how many bytes the agent has written to the connection, the end of its current answer included. */
  native(cookie: bigint, written: number): void {
    this.#run(CTL.NATIVE, { cookie, native: written >>> 0 });
  }

  /** The agent has sent the rest of the current request's body itself. */
  bodySent(cookie: bigint): void {
    this.#run(CTL.BODY_SENT, { cookie });
  }

  /** Gives the connection back to the kernel if exactly `passed` bytes have come to the agent. */
  resume(cookie: bigint, passed: number, written: number): boolean {
    return this.#run(CTL.RESUME, { cookie, arg: BigInt(passed), native: written >>> 0 });
  }

  /** From now on what the client sends comes to the agent. @returns false when it did already, or the socket is gone */
  hold(cookie: bigint): boolean {
    return this.#run(CTL.HOLD, { cookie });
  }

  /** The clock that the lives of tokens are measured with (bpf_ktime_get_boot_ns). */
  now(): bigint {
    this.#run(CTL.NOW, {});
    return getBig(this.#ctl, CTL_AT, CtlSpec, 'passed');
  }

  /** Counts one more request in flight, if that may be. */
  enter(breaker: number): boolean {
    return this.#run(CTL.ENTER, { slot: breaker });
  }

  /** Counts one less. */
  leave(breaker: number): void {
    this.#run(CTL.LEAVE, { slot: breaker });
  }

  /** What is in flight on a slot is over for its breaker. */
  uncount(slot: number): void {
    this.#run(CTL.UNCOUNT, { slot });
  }

  /** Says which breaker has counted what is in flight on a slot. */
  countOn(slot: number, breaker: number): void {
    const at = (slot * UpstreamSpec.size + UpstreamSpec.at.breaker!.offset) / 4;
    Atomics.store(this.upstreamWords, at, breaker + 1);
  }

  /** Takes a token of a bucket of `buckets`. @returns whether there was one; undefined: ask again */
  draw(bucket: number): boolean | undefined {
    const taken = this.#run(CTL.DRAW, { slot: bucket });
    return taken || getBig(this.#ctl, CTL_AT, CtlSpec, 'passed') === 0n ? taken : undefined;
  }

  /** Ends the exchange of `cookie` on a slot. @returns false when it had ended already */
  finish(slot: number, cookie: bigint, reusable: boolean): boolean {
    return this.#run(CTL.FINISH, { slot, cookie, arg: reusable ? 1n : 0n });
  }

  /** `native`, then `finish`: the agent is about to write the end of an answer that it has carried. */
  complete(slot: number, cookie: bigint, reusable: boolean, written: number): boolean {
    return this.#run(CTL.COMPLETE, { slot, cookie, arg: reusable ? 1n : 0n, native: written >>> 0 });
  }

  /** Takes a slot out of its pool. @returns whether it was idle */
  take(slot: number): boolean {
    return this.#run(CTL.TAKE, { slot });
  }

  give(slot: number): void {
    this.#run(CTL.GIVE, { slot });
  }

  #run(command: number, input: { cookie?: bigint; arg?: bigint; native?: number; slot?: number }): boolean {
    const view = this.#ctl;
    this.#ctlBytes.fill(0);
    set(view, CTL_AT, CtlSpec, 'command', command);
    set(view, CTL_AT, CtlSpec, 'cookie', input.cookie ?? 0n);
    set(view, CTL_AT, CtlSpec, 'arg', input.arg ?? 0n);
    set(view, CTL_AT, CtlSpec, 'native', input.native ?? 0);
    set(view, CTL_AT, CtlSpec, 'slot', input.slot ?? 0);
    const { dataOut } = this.#object.program('control').testRun(this.#ctlBytes);
    this.#ctlBytes.set(dataOut.subarray(0, this.#ctlBytes.length));
    return get(view, CTL_AT, CtlSpec, 'result') === 1;
  }

  #state(): ConnectionState {
    const view = this.#ctl;
    const number = (name: string): number => get(view, CTL_AT, CtlSpec, name);
    return {
      queued: (number('queued') & QUEUED.ANSWER) !== 0,
      underway: (number('queued') & QUEUED.REQUEST) !== 0,
      inFlight: (number('queued') & QUEUED.IN_FLIGHT) !== 0,
      gate: number('gate'),
      requested: number('requested'),
      replied: number('replied'),
      upstream: number('upstream'),
      passed: getBig(view, CTL_AT, CtlSpec, 'passed'),
      bodyLeft: getBig(view, CTL_AT, CtlSpec, 'body_left'),
      flags: number('flags'),
    };
  }

  /** Makes a connected socket usable as pool slot `slot` of `endpoint` (not yet in the pool: see `give`). */
  insertUpstream(slot: number, fd: number, cookie: bigint, endpoint: number): void {
    const base = slot * UpstreamSpec.size;
    const incarnation = get(this.upstreams, base, UpstreamSpec, 'incarnation');
    for (let i = 0; i < UpstreamSpec.size; i += 4) this.upstreams.setUint32(base + i, 0, true);
    set(this.upstreams, base, UpstreamSpec, 'endpoint', endpoint);
    set(this.upstreams, base, UpstreamSpec, 'incarnation', (incarnation + 1) >>> 0);
    this.map('slots').update(u64(cookie), u32(slot));
    this.map('sockets').update(u32(slot), u64(BigInt(fd)));
  }

  /**
   * Gives a slot its dummy socket (see bpf/intake-listener.h and answer-dummy.h).
   * @throws KernelError when it is closed already
   */
  insertDummy(slot: number, fd: number): void {
    const at = slot * UpstreamSpec.size + UpstreamSpec.at.dummy_cookie!.offset;
    this.upstreams.setBigUint64(at, socketCookie(fd), true);
    this.map('stages').update(u32(slot), new Uint8Array(8 + MAX_STAGED));
    this.map('dummy_slots').update(u32(fd), u32(slot));
    this.map('dummies').update(u32(slot), u64(BigInt(fd)));
    set(this.upstreams, slot * UpstreamSpec.size, UpstreamSpec, 'dummy', 1);
  }

  /** Takes a slot's dummy socket away, if it has one. */
  removeDummy(slot: number): void {
    set(this.upstreams, slot * UpstreamSpec.size, UpstreamSpec, 'dummy', 0);
    this.#vacate('dummies', slot);
  }

  /**
   * Pairs a slot (after insertUpstream, before `give`) with the server's end of its connection, if that is a socket of an
   * application of the mesh on this node: requests and answers then go from socket to socket.
   * @param cookie of the connection's own socket
   */
  pair(slot: number, cookie: bigint): void {
    const server = this.map('met').lookup(u64(cookie));
    this.map('met').delete(u64(cookie)); // a server's socket that is established later does not enter the map
    const met = server && new DataView(server.buffer, server.byteOffset).getBigUint64(0, true);
    if (met) this.#run(CTL.PAIR, { slot, cookie: met });
  }

  /** Ends an exchange of which no byte of the answer was seen. @returns false when it is further, or ended */
  giveUp(slot: number, cookie: bigint): boolean {
    return this.#run(CTL.GIVE_UP, { slot, cookie });
  }

  /** Makes the answer the agent's, so that the kernel sends none of it to the client. @returns false when it has begun */
  takeOver(slot: number, cookie: bigint): boolean {
    return this.#run(CTL.TAKE_OVER, { slot, cookie });
  }

  removeUpstream(slot: number, cookie: bigint): void {
    this.map('slots').delete(u64(cookie));
    this.#vacate('sockets', slot);
  }

  #vacate(map: 'sockets' | 'dummies', slot: number): void {
    try {
      this.map(map).delete(u32(slot));
    } catch (error) {
      // EINVAL: the element is empty, because closing the socket has taken it out already.
      if (!(error instanceof KernelError && error.code === 'EINVAL')) throw error;
    }
  }

  upstream(slot: number, name: string): number {
    return get(this.upstreams, slot * UpstreamSpec.size, UpstreamSpec, name);
  }

  owner(slot: number): bigint {
    return getBig(this.upstreams, slot * UpstreamSpec.size, UpstreamSpec, 'owner');
  }

  /**
   * What was given to a slot's dummy socket in its exchange, what it has sent on, when (ns) it did so last, and whether a
   * program found it disabled.
   */
  dummyState(slot: number): {
    readonly given: number;
    readonly taken: number;
    readonly used: bigint;
    readonly broken: boolean;
  } {
    return {
      used: getBig(this.upstreams, slot * UpstreamSpec.size, UpstreamSpec, 'answered'),
      given: this.upstream(slot, 'given'),
      taken: this.upstream(slot, 'taken'),
      broken: this.upstream(slot, 'dummy') === 2,
    };
  }

  /** Cookie of the client whose bytes went through the slot's dummy socket last; 0: nobody's. */
  dummyOwner(slot: number): bigint {
    return getBig(this.upstreams, slot * UpstreamSpec.size, UpstreamSpec, 'dummy_owner');
  }

  /** Whether an answer with this status is not for the client, because the request is tried again. */
  retries(slot: number, status: number): boolean {
    const bit = status - 200;
    if (bit < 0 || bit >= STATUS_WORDS * 64) return false;
    const word = getBig(this.upstreams, slot * UpstreamSpec.size, UpstreamSpec, 'retry', bit >> 6);
    return ((word >> BigInt(bit & 63)) & 1n) === 1n;
  }

  /** Bytes to come of the body or chunk. */
  remaining(slot: number): bigint {
    return getBig(this.upstreams, slot * UpstreamSpec.size, UpstreamSpec, 'remaining');
  }

  /** Bytes of the answer's body, without framing, that the kernel has sent to the client. */
  sentBody(slot: number): bigint {
    return getBig(this.upstreams, slot * UpstreamSpec.size, UpstreamSpec, 'body');
  }

  /** When the request was sent, on the monotonic clock, in nanoseconds. */
  started(slot: number): bigint {
    return getBig(this.upstreams, slot * UpstreamSpec.size, UpstreamSpec, 'started');
  }

  /** Another piece of the request was sent now. */
  touch(slot: number): void {
    const at = slot * UpstreamSpec.size + UpstreamSpec.at.started!.offset;
    this.upstreams.setBigUint64(at, process.hrtime.bigint(), true);
  }

  /** Sets flags of an upstream against concurrent programs. */
  addFlags(slot: number, flags: number): void {
    const at = (slot * UpstreamSpec.size + UpstreamSpec.at.flags!.offset) / 4;
    Atomics.or(this.upstreamWords, at, flags);
  }

  /** The request kept for a replay. */
  replay(slot: number): Uint8Array {
    const length = Math.min(this.upstream(slot, 'replay_len'), MAX_REPLAY);
    return this.replays.slice(slot * MAX_REPLAY, slot * MAX_REPLAY + length);
  }

  /** What was kept of the request in flight for the edits of its answer. */
  variables(slot: number): string[] {
    const { view, bytes } = this.#variables;
    const base = slot * VariablesSpec.size;
    const ends = Array.from({ length: MAX_VARIABLES }, (_, k) =>
      Math.min(get(view, base, VariablesSpec, 'ends', k), MAX_VARIABLE_BYTES),
    );
    const start = base + VariablesSpec.at.bytes!.offset;
    return ends.map((end, k) =>
      Buffer.from(bytes.slice(start + (k === 0 ? 0 : ends[k - 1]!), start + end)).toString('latin1'),
    );
  }

  endpoint(id: number, name: string): number {
    return get(this.endpoints, id * EndpointSpec.size, EndpointSpec, name);
  }

  setEndpoint(id: number, name: string, value: number, index = 0): void {
    if (id >= MAX_ENDPOINTS) throw new RangeError(`endpoint ${id}`);
    set(this.endpoints, id * EndpointSpec.size, EndpointSpec, name, value, index);
  }

  /** Sums of the per-CPU counters, by COUNTER name. */
  counters(): Record<keyof typeof COUNTER, number> {
    const out = {} as Record<keyof typeof COUNTER, number>;
    for (const [name, index] of Object.entries(COUNTER))
      out[name as keyof typeof COUNTER] = this.#sum('counters', index);
    return out;
  }

  /** Requests that rule `index` of the image decided in the kernel. */
  ruleHits(index: number): number {
    if (index >= MAX_RULES) return 0;
    let sum = 0;
    for (let at = 2 * index; at < this.#hits.length; at += 2 * MAX_RULES)
      sum += this.#hits[at]! + this.#hits[at + 1]! * 2 ** 32;
    return sum;
  }

  /** Starts counting the rules anew: their numbers mean something else in each generation. */
  clearRuleHits(rules: number): void {
    for (let at = 0; at < this.#hits.length; at += 2 * MAX_RULES)
      this.#hits.fill(0, at, at + 2 * Math.min(rules, MAX_RULES));
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
