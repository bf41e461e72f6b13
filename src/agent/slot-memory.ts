/** What programs and agent know of pool slots and endpoints (bpf/maps.h), in the agent's memory. */
import { type BpfMap, KernelError, u32, u64 } from '../kernel/libbpf.js';
import { socketCookie } from '../kernel/syscalls.js';
import { MAX_VARIABLES, STATUS_WORDS } from '../layout/actions.js';
import {
  EndpointSpec,
  MAX_ENDPOINTS,
  MAX_REPLAY,
  MAX_STAGED,
  MAX_VARIABLE_BYTES,
  UpstreamSpec,
  VariablesSpec,
} from '../layout/exchanges.js';
import { get, getBig, set } from '../layout/struct.js';

export class SlotMemory {
  readonly #upstreams: DataView;
  readonly #words: Int32Array;
  readonly #endpoints: DataView;
  readonly #endpointWords: Int32Array;
  readonly #replays: Uint8Array;
  readonly #variables: { readonly view: DataView; readonly bytes: Uint8Array };

  /** @param map the maps of the loaded object, by name */
  constructor(private readonly map: (name: string) => BpfMap) {
    const upstreams = map('upstreams').mmap();
    this.#upstreams = upstreams.view;
    this.#words = new Int32Array(upstreams.buffer);
    const endpoints = map('endpoints').mmap();
    this.#endpoints = endpoints.view;
    this.#endpointWords = new Int32Array(endpoints.buffer);
    this.#replays = map('replays').mmap().bytes;
    this.#variables = map('variables').mmap();
  }

  /** Makes a connected socket usable as pool slot `slot` of `endpoint` (not yet in the pool: see `give`). */
  insert(slot: number, fd: number, cookie: bigint, endpoint: number): void {
    const base = slot * UpstreamSpec.size;
    const incarnation = get(this.#upstreams, base, UpstreamSpec, 'incarnation');
    for (let i = 0; i < UpstreamSpec.size; i += 4) this.#upstreams.setUint32(base + i, 0, true);
    set(this.#upstreams, base, UpstreamSpec, 'endpoint', endpoint);
    set(this.#upstreams, base, UpstreamSpec, 'incarnation', (incarnation + 1) >>> 0);
    this.map('slots').update(u64(cookie), u32(slot));
    this.map('sockets').update(u32(slot), u64(BigInt(fd)));
  }

  /** Takes a slot's connection (its cookie) away. */
  remove(slot: number, cookie: bigint): void {
    this.map('slots').delete(u64(cookie));
    this.#vacate('sockets', slot);
  }

  /**
   * Gives a slot its dummy socket (see bpf/intake-listener.h and answer-dummy.h).
   * @throws KernelError when it is closed already
   */
  insertDummy(slot: number, fd: number): void {
    const at = slot * UpstreamSpec.size + UpstreamSpec.at.dummy_cookie!.offset;
    this.#upstreams.setBigUint64(at, socketCookie(fd), true);
    this.map('stages').update(u32(slot), new Uint8Array(8 + MAX_STAGED));
    this.map('dummy_slots').update(u32(fd), u32(slot));
    this.map('dummies').update(u32(slot), u64(BigInt(fd)));
    set(this.#upstreams, slot * UpstreamSpec.size, UpstreamSpec, 'dummy', 1);
  }

  /** Takes a slot's dummy socket away, if it has one. */
  removeDummy(slot: number): void {
    set(this.#upstreams, slot * UpstreamSpec.size, UpstreamSpec, 'dummy', 0);
    this.#vacate('dummies', slot);
  }

  #vacate(map: 'sockets' | 'dummies', slot: number): void {
    try {
      this.map(map).delete(u32(slot));
    } catch (error) {
      // EINVAL: the element is empty, because closing the socket has taken it out already.
      if (!(error instanceof KernelError && error.code === 'EINVAL')) throw error;
    }
  }

  /** One connection less of an endpoint's. */
  leaveEndpoint(endpoint: number): void {
    Atomics.sub(this.#endpointWords, (endpoint * EndpointSpec.size + EndpointSpec.at.active!.offset) / 4, 1);
  }

  /** A member of UpstreamSpec. */
  field(slot: number, name: string): number {
    return get(this.#upstreams, slot * UpstreamSpec.size, UpstreamSpec, name);
  }

  /** Cookie of the client whose exchange is on a slot; 0: nobody's. */
  owner(slot: number): bigint {
    return getBig(this.#upstreams, slot * UpstreamSpec.size, UpstreamSpec, 'owner');
  }

  /** When the request was sent, on the monotonic clock, in nanoseconds. */
  started(slot: number): bigint {
    return getBig(this.#upstreams, slot * UpstreamSpec.size, UpstreamSpec, 'started');
  }

  /** Another piece of the request was sent now. */
  touch(slot: number): void {
    const at = slot * UpstreamSpec.size + UpstreamSpec.at.started!.offset;
    this.#upstreams.setBigUint64(at, process.hrtime.bigint(), true);
  }

  /** Sets flags of an upstream against concurrent programs. */
  addFlags(slot: number, flags: number): void {
    const at = (slot * UpstreamSpec.size + UpstreamSpec.at.flags!.offset) / 4;
    Atomics.or(this.#words, at, flags);
  }

  /** Bytes to come of the body or chunk. */
  remaining(slot: number): bigint {
    return getBig(this.#upstreams, slot * UpstreamSpec.size, UpstreamSpec, 'remaining');
  }

  /** Bytes of the answer's body, without framing, that the kernel has sent to the client. */
  sentBody(slot: number): bigint {
    return getBig(this.#upstreams, slot * UpstreamSpec.size, UpstreamSpec, 'body');
  }

  /** Whether an answer with this status is not for the client, because the request is tried again. */
  retries(slot: number, status: number): boolean {
    const bit = status - 200;
    if (bit < 0 || bit >= STATUS_WORDS * 64) return false;
    const word = getBig(this.#upstreams, slot * UpstreamSpec.size, UpstreamSpec, 'retry', bit >> 6);
    return ((word >> BigInt(bit & 63)) & 1n) === 1n;
  }

  /** Says which breaker has counted what is in flight on a slot. */
  countOn(slot: number, breaker: number): void {
    const at = (slot * UpstreamSpec.size + UpstreamSpec.at.breaker!.offset) / 4;
    Atomics.store(this.#words, at, breaker + 1);
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
      used: getBig(this.#upstreams, slot * UpstreamSpec.size, UpstreamSpec, 'answered'),
      given: this.field(slot, 'given'),
      taken: this.field(slot, 'taken'),
      broken: this.field(slot, 'dummy') === 2,
    };
  }

  /** Cookie of the client whose bytes went through the slot's dummy socket last; 0: nobody's. */
  dummyOwner(slot: number): bigint {
    return getBig(this.#upstreams, slot * UpstreamSpec.size, UpstreamSpec, 'dummy_owner');
  }

  /** The request kept for a replay. */
  replay(slot: number): Uint8Array {
    const length = Math.min(this.field(slot, 'replay_len'), MAX_REPLAY);
    return this.#replays.slice(slot * MAX_REPLAY, slot * MAX_REPLAY + length);
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

  /** A member of EndpointSpec. */
  endpoint(id: number, name: string): number {
    return get(this.#endpoints, id * EndpointSpec.size, EndpointSpec, name);
  }

  setEndpoint(id: number, name: string, value: number, index = 0): void {
    if (id >= MAX_ENDPOINTS) throw new RangeError(`endpoint ${id}`);
    set(this.#endpoints, id * EndpointSpec.size, EndpointSpec, name, value, index);
  }
}
