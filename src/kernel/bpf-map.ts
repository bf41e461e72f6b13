/** BPF maps by descriptor. */
import { MAP_TYPE } from './constants.js';
import { errnoName, KernelError } from './errors.js';
import { libbpf, makeOpts, withLog } from './libbpf-native.js';
import { type Mapping, mapShared } from './memory.js';
import { closeFd } from './syscalls.js';

const PER_CPU: readonly number[] = [
  MAP_TYPE.PERCPU_HASH,
  MAP_TYPE.PERCPU_ARRAY,
  MAP_TYPE.LRU_PERCPU_HASH,
  MAP_TYPE.PERCPU_CGROUP_STORAGE,
];

/** What a map is; sizes in bytes. */
export interface MapShape {
  readonly name: string;
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
}

/** A key or value of one little-endian u32. */
export function u32(value: number): Uint8Array {
  return new Uint8Array(new Uint32Array([value]).buffer);
}

/** A key or value of one little-endian u64. */
export function u64(value: bigint): Uint8Array {
  return new Uint8Array(new BigUint64Array([value]).buffer);
}

export class BpfMap {
  /** Distance in bytes between the elements of an array map in its mapping (values are padded to 8 bytes). */
  readonly stride: number;
  /** Bytes that a lookup returns: the value, or for a per-CPU map `stride` bytes for each possible CPU. */
  readonly lookupSize: number;

  constructor(
    readonly fd: number,
    readonly shape: MapShape,
  ) {
    this.stride = Math.ceil(shape.valueSize / 8) * 8;
    this.lookupSize = PER_CPU.includes(shape.type) ? this.stride * possibleCpus() : shape.valueSize;
  }

  /** @returns the value of `key`, undefined when there is none. @throws KernelError for any other failure. */
  lookup(key: Uint8Array): Uint8Array | undefined {
    this.#check('key', key, this.shape.keySize);
    const value = new Uint8Array(this.lookupSize);
    const result = libbpf().mapLookup(this.fd, key, value) as number;
    if (result === 0) return value;
    if (errnoName(result) === 'ENOENT') return undefined;
    throw new KernelError(`look up an element of the map ${this.shape.name}`, -result);
  }

  /**
   * Writes an element. For a map of maps and for socket maps the value is a descriptor (u32).
   * @param flags UPDATE
   * @throws KernelError E2BIG when the map is full, EEXIST / ENOENT according to `flags`
   */
  update(key: Uint8Array, value: Uint8Array, flags = 0): void {
    this.#check('key', key, this.shape.keySize);
    // A socket map with 8-byte values takes a descriptor of 4 or 8 bytes; all others take exactly one value.
    this.#check('value', value, this.lookupSize);
    const result = libbpf().mapUpdate(this.fd, key, value, flags) as number;
    if (result !== 0) throw new KernelError(`update the map ${this.shape.name}`, -result);
  }

  /** The same where the kernel may wait long for those who use what is replaced: this thread does not. */
  async updateAside(key: Uint8Array, value: Uint8Array, flags = 0): Promise<void> {
    this.#check('key', key, this.shape.keySize);
    this.#check('value', value, this.lookupSize);
    const call = libbpf().mapUpdate as unknown as { async: (...args: unknown[]) => void };
    const result = await new Promise<number>((resolve, reject) => {
      const done = (error: Error | null, code: number) => (error ? reject(error) : resolve(code));
      call.async(this.fd, key, value, flags, done);
    });
    if (result !== 0) throw new KernelError(`update the map ${this.shape.name}`, -result);
  }

  /** Removes an element. @returns false when there was none. */
  delete(key: Uint8Array): boolean {
    this.#check('key', key, this.shape.keySize);
    const result = libbpf().mapDelete(this.fd, key) as number;
    if (result === 0) return true;
    if (errnoName(result) === 'ENOENT') return false;
    // A socket map's own word for it: the kernel empties the element when the socket in it closes.
    if (this.shape.type === MAP_TYPE.SOCKMAP && errnoName(result) === 'EINVAL') return false;
    throw new KernelError(`delete from the map ${this.shape.name}`, -result);
  }

  /** All keys at the moment; a map that changes meanwhile may yield a key twice or leave one out. */
  *keys(): Generator<Uint8Array> {
    let key: Uint8Array | null = null;
    for (;;) {
      const next = new Uint8Array(this.shape.keySize);
      const result = libbpf().mapNextKey(this.fd, key, next) as number;
      if (errnoName(result) === 'ENOENT') return;
      if (result !== 0) throw new KernelError(`walk the map ${this.shape.name}`, -result);
      yield next;
      key = next;
    }
  }

  /**
   * The live memory of a whole array map that has BPF_F_MMAPABLE: element `i` is at byte `i * stride`. Unmap it when the
   * map is no longer needed; the mapping outlives the descriptor.
   */
  mmap(writable = true): Mapping {
    return mapShared(this.fd, this.stride * this.shape.maxEntries, writable);
  }

  /** Closes the descriptor of a map made by createMap (those of an object are closed with it). */
  close(): void {
    closeFd(this.fd);
  }

  #check(what: string, bytes: Uint8Array, size: number): void {
    if (bytes.length !== size)
      throw new RangeError(`the map ${this.shape.name} has a ${what} of ${size} bytes, not ${bytes.length}`);
  }
}

/**
 * Creates a map outside any object: an inner map of a map of maps, for one policy generation.
 * @param flags MAP_FLAG
 * @throws KernelError
 */
export function createMap(shape: MapShape, flags = 0): BpfMap {
  // struct bpf_map_create_opts: sz, btf_fd, btf_key_type_id, btf_value_type_id, btf_vmlinux_value_type_id,
  // inner_map_fd, map_flags, map_extra (u64), numa_node, map_ifindex
  const opts = makeOpts(48, (view) => view.setUint32(28, flags, true));
  const { result, log } = withLog(
    () =>
      libbpf().mapCreate(
        shape.type,
        shape.name.slice(0, 15),
        shape.keySize,
        shape.valueSize,
        shape.maxEntries,
        opts.at(),
      ) as number,
  );
  if (result < 0) throw new KernelError(`create the map ${shape.name}`, -result, log);
  return new BpfMap(result, shape);
}

/** Number of possible CPUs: the number of values in an element of a per-CPU map. */
function possibleCpus(): number {
  return libbpf().possibleCpus() as number;
}
