/** A compiled BPF object: opened (a description that may still be changed), then loaded into the kernel. */
import koffi from 'koffi';
import { BpfMap } from './bpf-map.js';
import { attachLink, attachSockmap, type BpfLink, BpfProgram } from './bpf-program.js';
import type { AttachType } from './constants.js';
import { errnoName, errnoNumber, KernelError } from './errors.js';
import { libbpf, withLog, withLogAside } from './libbpf-native.js';

export { BpfMap, createMap, u32, u64 } from './bpf-map.js';
export { BpfLink, BpfProgram } from './bpf-program.js';
export { ATTACH, MAP_FLAG, MAP_TYPE, UPDATE } from './constants.js';
export { errnoName, KernelError } from './errors.js';
export { Mapping } from './memory.js';

const BTF_KIND_DATASEC = 15;

/** Where a global variable lies in its section. */
interface Variable {
  readonly offset: number;
  readonly size: number;
}

export class BpfObject {
  readonly path: string;
  #handle: unknown;
  #loaded = false;
  readonly #maps = new Map<string, BpfMap>();
  readonly #programs = new Map<string, BpfProgram>();

  private constructor(path: string, handle: unknown) {
    this.path = path;
    this.#handle = handle;
  }

  /**
   * Reads a compiled object; nothing reaches the kernel yet.
   * @throws KernelError ENOENT when there is no such file, EINVAL/LIBBPF errors with libbpf's text when it is not one
   */
  static open(path: string): BpfObject {
    const { result, log } = withLog(() => libbpf().objectOpen(path, null) as unknown);
    if (!result) throw new KernelError(`open ${path}`, koffi.errno() || errnoNumber('EINVAL'), log);
    return new BpfObject(path, result);
  }

  /** Writes `bytes` at byte `offset` of the section .rodata (`const volatile` variables), before load. */
  setRodata(bytes: Uint8Array, offset = 0): void {
    const data = this.#section('.rodata');
    if (offset + bytes.length > data.length)
      throw new RangeError(`.rodata of ${this.path} has ${data.length} bytes, not ${offset + bytes.length}`);
    data.set(bytes, offset);
  }

  /**
   * Sets a `const volatile` integer (1, 2, 4 or 8 bytes) by its name, before load.
   * @throws RangeError when the object has no such variable
   */
  setConst(name: string, value: number | bigint): void {
    const variable = this.#variables('.rodata').get(name);
    if (!variable) throw new RangeError(`${this.path} has no constant ${name}`);
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
    this.setRodata(bytes.subarray(0, variable.size), variable.offset);
  }

  /** Changes the number of elements of a map, before load. */
  setMapMaxEntries(name: string, maxEntries: number): void {
    const result = libbpf().mapSetMaxEntries(this.#findMap(name), maxEntries) as number;
    if (result !== 0) throw new KernelError(`set the size of the map ${name}`, -result);
  }

  /** Leaves a program out, before load. @throws RangeError when there is none of this name */
  leaveOut(name: string): void {
    const handle = libbpf().findProgram(this.#open(), name) as unknown;
    if (!handle) throw new RangeError(`${this.path} has no program ${name}`);
    const result = libbpf().programAutoload(handle, false) as number;
    if (result !== 0) throw new KernelError(`leave out the program ${name}`, -result);
  }

  /**
   * Creates the maps and loads the programs.
   * @throws KernelError with one sentence and, in `log`, all that libbpf and the verifier said
   */
  load(): void {
    const { result, log } = withLog(() => libbpf().objectLoad(this.#open()) as number);
    if (result !== 0) throw new KernelError(`load ${this.path}`, -result, log);
    this.#loaded = true;
  }

  /** The same in another thread: the verifier takes seconds for large programs, in which this one goes on. */
  async loadAside(): Promise<void> {
    const load = libbpf().objectLoad as unknown as { async: (...args: unknown[]) => void };
    const { result, log } = await withLogAside<number>((done) => load.async(this.#open(), done));
    if (result !== 0) throw new KernelError(`load ${this.path}`, -result, log);
    this.#loaded = true;
  }

  /** The map of this name (also `.rodata`, `.bss`). @throws RangeError when there is none. */
  map(name: string): BpfMap {
    let map = this.#maps.get(name);
    if (!map) {
      const handle = this.#findMap(name);
      const native = libbpf();
      map = new BpfMap(this.#needFd(native.mapFd(handle) as number, name), {
        name,
        type: native.mapType(handle) as number,
        keySize: native.mapKeySize(handle) as number,
        valueSize: native.mapValueSize(handle) as number,
        maxEntries: native.mapMaxEntries(handle) as number,
      });
      this.#maps.set(name, map);
    }
    return map;
  }

  /** The program of this name (its C function). @throws RangeError when there is none. */
  program(name: string): BpfProgram {
    let program = this.#programs.get(name);
    if (!program) {
      const native = libbpf();
      const handle = native.findProgram(this.#open(), name) as unknown;
      if (!handle) throw new RangeError(`${this.path} has no program ${name}`);
      program = new BpfProgram(
        this.#needFd(native.programFd(handle) as number, name),
        name,
        native.programType(handle) as number,
        native.programAttachType(handle) as number,
      );
      this.#programs.set(name, program);
    }
    return program;
  }

  /** Names of all maps, in the order of the object. */
  mapNames(): string[] {
    return this.#walk(libbpf().nextMap, libbpf().mapName);
  }

  /** Names of all programs, in the order of the object. */
  programNames(): string[] {
    return this.#walk(libbpf().nextProgram, libbpf().programName);
  }

  /** Attaches a program of this object to a socket map (ATTACH.SK_MSG_VERDICT, ATTACH.SK_SKB_STREAM_VERDICT ...). */
  attachSockmap(program: string | BpfProgram, map: string | BpfMap, type: AttachType): void {
    const p = typeof program === 'string' ? this.program(program) : program;
    attachSockmap(p, typeof map === 'string' ? this.map(map) : map, type);
  }

  /** Attaches a program of this object to an open cgroup directory (sk_lookup: network namespace) by link. */
  attachCgroup(program: string | BpfProgram, cgroupFd: number): BpfLink {
    return attachLink(typeof program === 'string' ? this.program(program) : program, cgroupFd);
  }

  /** Closes the descriptors of all maps and programs. Attachments by link, and mappings, stay until they are closed. */
  close(): void {
    if (!this.#handle) return;
    libbpf().objectClose(this.#handle);
    this.#handle = undefined;
    this.#maps.clear();
    this.#programs.clear();
  }

  #open(): unknown {
    if (!this.#handle) throw new Error(`${this.path} is closed`);
    return this.#handle;
  }

  #needFd(fd: number, name: string): number {
    if (!this.#loaded || fd < 0) throw new Error(`${name} of ${this.path} is not loaded (${errnoName(fd)})`);
    return fd;
  }

  #findMap(name: string): unknown {
    const handle = libbpf().findMap(this.#open(), name) as unknown;
    if (!handle) throw new RangeError(`${this.path} has no map ${name}`);
    return handle;
  }

  /** The initial contents of a data section, writable. */
  #section(name: string): Uint8Array {
    const size = [0];
    const address = libbpf().mapInitialValue(this.#findMap(name), size) as unknown;
    if (!address) throw new RangeError(`${this.path} has no section ${name}`);
    if (this.#loaded) throw new Error(`${name} of ${this.path} is set before load, not after`);
    return new Uint8Array(koffi.view(address, size[0] ?? 0));
  }

  /** The variables of a data section, from the object's BTF (struct btf_type, then struct btf_var_secinfo[vlen]). */
  #variables(section: string): Map<string, Variable> {
    const native = libbpf();
    const btf = native.objectBtf(this.#open()) as unknown;
    const id = native.btfFindByNameKind(btf, section, BTF_KIND_DATASEC) as number;
    const found = new Map<string, Variable>();
    if (id < 0) return found;
    const type = native.btfTypeById(btf, id) as bigint;
    const count = koffi.decode.uint32(type + 4n) & 0xffff;
    for (let i = 0; i < count; i++) {
      const entry = type + 12n + BigInt(i * 12);
      const variable = native.btfTypeById(btf, koffi.decode.uint32(entry)) as bigint;
      const name = native.btfNameByOffset(btf, koffi.decode.uint32(variable)) as string;
      found.set(name, { offset: koffi.decode.uint32(entry + 4n), size: koffi.decode.uint32(entry + 8n) });
    }
    return found;
  }

  #walk(next: (...args: unknown[]) => unknown, nameOf: (...args: unknown[]) => unknown): string[] {
    const names: string[] = [];
    for (let at = next(this.#open(), null); at; at = next(this.#open(), at)) names.push(String(nameOf(at)));
    return names;
  }
}
