/** BPF programs by descriptor: run one, attach one. */
import { type AttachType, PROGRAM_TYPE } from './constants.js';
import { KernelError } from './errors.js';
import { libbpf, withLog } from './libbpf-native.js';
import { Arena } from './memory.js';
import { closeFd } from './syscalls.js';

/** Most bytes of data (in and out) and of context of a test run. */
const DATA_SIZE = 16 * 1024;
const CONTEXT_SIZE = 4096;
const OPTS_SIZE = 80;

export interface TestRun {
  /** the program's return value */
  readonly retval: number;
  /** the packet as the program left it */
  readonly dataOut: Uint8Array;
  /** the context as the program left it (a copy); empty when none was given */
  readonly contextOut: Uint8Array;
}

/** What the kernel says about a loaded program. */
export interface ProgramInfo {
  readonly id: number;
  /** bytes of machine code; 0 when the JIT is off */
  readonly jitedBytes: number;
  /** instructions that the verifier had to walk (it gives up at one million); 0 before Linux 5.16 */
  readonly verifiedInstructions: number;
  /** total run time in nanoseconds and number of runs; both 0 unless kernel.bpf_stats_enabled is set */
  readonly runTime: bigint;
  readonly runs: bigint;
}

export class BpfProgram {
  #arena: Arena | undefined;

  constructor(
    readonly fd: number,
    readonly name: string,
    readonly type: number,
    /** the attach type of the program's section, 0 if it has none */
    readonly attachType: number,
  ) {}

  /**
   * Runs the program once (BPF_PROG_TEST_RUN), on the calling thread.
   * @param data the packet, at least 14 bytes for a `tc` program; empty for a `syscall` program
   * @param context the context structure: `struct __sk_buff`, or the argument of a `syscall` program
   * @throws KernelError when the kernel does not run it; what the program returns is never an error here
   */
  testRun(data: Uint8Array = new Uint8Array(), context?: Uint8Array): TestRun {
    if (data.length > DATA_SIZE || (context && context.length > CONTEXT_SIZE))
      throw new RangeError(`a test run takes at most ${DATA_SIZE} bytes of data and ${CONTEXT_SIZE} of context`);
    this.#arena ??= new Arena(OPTS_SIZE + 2 * DATA_SIZE + CONTEXT_SIZE + CONTEXT_SIZE);
    const { view, bytes } = this.#arena;
    const dataIn = OPTS_SIZE;
    const dataOut = dataIn + DATA_SIZE;
    const contextIn = dataOut + DATA_SIZE;
    const contextOut = contextIn + CONTEXT_SIZE;
    // The kernel writes the context of a `syscall` program back in place and refuses every other buffer.
    const inPlace = this.type === PROGRAM_TYPE.SYSCALL;
    bytes.fill(0, 0, OPTS_SIZE);
    bytes.set(data, dataIn);
    view.setBigUint64(0, BigInt(OPTS_SIZE), true);
    if (!inPlace) {
      view.setBigUint64(8, this.#arena.at(dataIn), true);
      view.setBigUint64(16, this.#arena.at(dataOut), true);
      view.setUint32(24, data.length, true);
      view.setUint32(28, DATA_SIZE, true);
    }
    if (context) {
      bytes.set(context, contextIn);
      view.setBigUint64(32, this.#arena.at(contextIn), true);
      view.setUint32(48, context.length, true);
      if (!inPlace) {
        view.setBigUint64(40, this.#arena.at(contextOut), true);
        view.setUint32(52, context.length, true);
      }
    }
    const result = libbpf().testRun(this.fd, this.#arena.at()) as number;
    if (result !== 0) throw new KernelError(`run the program ${this.name}`, -result);
    const from = inPlace ? contextIn : contextOut;
    return {
      retval: view.getUint32(56, true),
      dataOut: bytes.slice(dataOut, dataOut + (inPlace ? 0 : view.getUint32(28, true))),
      contextOut: bytes.slice(from, from + (context?.length ?? 0)),
    };
  }

  /** @throws KernelError */
  info(): ProgramInfo {
    const bytes = new Uint8Array(256);
    const result = libbpf().infoByFd(this.fd, bytes, [bytes.length]) as number;
    if (result !== 0) throw new KernelError(`ask about the program ${this.name}`, -result);
    // offsets of struct bpf_prog_info
    const view = new DataView(bytes.buffer);
    return {
      id: view.getUint32(4, true),
      jitedBytes: view.getUint32(16, true),
      runTime: view.getBigUint64(192, true),
      runs: view.getBigUint64(200, true),
      verifiedInstructions: view.getUint32(216, true),
    };
  }

  /** Closes the descriptor of a program made by loadInstructions (those of an object are closed with it). */
  close(): void {
    closeFd(this.fd);
  }
}

/**
 * An attachment that lives as long as a descriptor of it does: when the process dies, whatever the reason, it is gone
 * (unless a child inherited `fd`).
 */
export class BpfLink {
  #open = true;
  constructor(readonly fd: number) {}

  /** Detaches, unless another process holds the link too. Safe to call twice. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeFd(this.fd);
  }
}

/**
 * Attaches a program to a cgroup (or, for sk_lookup, a network namespace) by link.
 * @param target descriptor of the cgroup's directory
 * @param type default: the attach type of the program's section
 * @throws KernelError
 */
export function attachLink(program: BpfProgram, target: number, type: number = program.attachType): BpfLink {
  const { result, log } = withLog(() => libbpf().linkCreate(program.fd, target, type, null) as number);
  if (result < 0) throw new KernelError(`attach the program ${program.name}`, -result, log);
  return new BpfLink(result);
}

/** Attaches a verdict or parser program to a socket map; it stays until the map is gone or detachSockmap. */
export function attachSockmap(program: BpfProgram, map: { fd: number }, type: AttachType): void {
  const { result, log } = withLog(() => libbpf().programAttach(program.fd, map.fd, type, 0) as number);
  if (result < 0) throw new KernelError(`attach the program ${program.name} to a socket map`, -result, log);
}

/** Undoes attachSockmap for sockets that are added later; those already in the map keep the program. */
export function detachSockmap(program: BpfProgram, map: { fd: number }, type: AttachType): void {
  const result = libbpf().programDetach(program.fd, map.fd, type) as number;
  if (result < 0) throw new KernelError(`detach the program ${program.name} from a socket map`, -result);
}

/** Loads a program given as instructions (8 bytes each): for probes that must not depend on a compiled object. */
export function loadInstructions(type: number, name: string, instructions: BigUint64Array): BpfProgram {
  const bytes = new Uint8Array(instructions.buffer, instructions.byteOffset, instructions.byteLength);
  const { result, log } = withLog(
    () => libbpf().programLoad(type, name, 'GPL', bytes, instructions.length, null) as number,
  );
  if (result < 0) throw new KernelError(`load the program ${name}`, -result, log);
  return new BpfProgram(result, name, type, 0);
}
