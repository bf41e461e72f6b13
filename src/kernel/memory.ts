/** Memory shared with the kernel: the values of mmap-able maps, and stable buffers for calls. */
import koffi from 'koffi';
import { KernelError } from './errors.js';
import { libc } from './libc.js';

export const PAGE_SIZE = 4096;
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
/** MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE */
const MAP_REPLACE = 0x02 | 0x10 | 0x20 | 0x4000;

/**
 * Live memory. What a BPF program writes is seen by the next read, and the other way round. For read-modify-write
 * against a running program use Atomics on a typed array over `buffer` (V8 compiles them to locked instructions for any
 * ArrayBuffer, shared or not).
 */
export class Mapping {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  readonly buffer: ArrayBuffer;
  readonly #address: unknown;
  readonly #length: number;
  #mapped = true;

  constructor(address: unknown, length: number) {
    this.#address = address;
    this.#length = length;
    this.buffer = koffi.view(address, length);
    this.view = new DataView(this.buffer);
    this.bytes = new Uint8Array(this.buffer);
  }

  /**
   * Lets go of the kernel's memory. Private zero pages take its place (they cost address space only), because V8 cannot
   * detach this kind of buffer: a view that somebody kept then reads zeros, where a plain munmap would be a SIGSEGV.
   */
  unmap(): void {
    if (!this.#mapped) return;
    this.#mapped = false;
    libc().mmap(this.#address, this.#length, PROT_READ, MAP_REPLACE, -1, 0);
  }
}

/**
 * Maps `length` bytes (rounded up to pages) of a descriptor.
 * @param writable false for memory that only the kernel may write (a ring buffer's producer pages)
 * @throws KernelError EPERM for a frozen map, EINVAL or ENOTSUPP when the map lacks BPF_F_MMAPABLE
 */
export function mapShared(fd: number, length: number, writable = true, offset = 0): Mapping {
  const rounded = Math.ceil(length / PAGE_SIZE) * PAGE_SIZE;
  const prot = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  const address = libc().mmap(null, rounded, prot, MAP_SHARED, fd, offset) as unknown;
  if (BigInt.asIntN(64, address as bigint) === -1n) throw new KernelError('map the memory', koffi.errno());
  return new Mapping(address, rounded);
}

/** A zeroed buffer that neither moves nor is collected, with its address for use inside C structures. */
export class Arena {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  readonly address: bigint;
  readonly #pointer: unknown;

  constructor(size: number) {
    this.#pointer = koffi.alloc('uint8_t', size);
    this.address = koffi.address(this.#pointer);
    const buffer = koffi.view(this.#pointer, size);
    this.view = new DataView(buffer);
    this.bytes = new Uint8Array(buffer);
    this.bytes.fill(0);
  }

  /** The pointer to pass where a C function wants `void *`, `offset` bytes in. */
  at(offset = 0): bigint {
    return this.address + BigInt(offset);
  }
}
