/** The decision of the programs in the kernel, one request at a time (BPF_PROG_TEST_RUN). */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BpfObject } from '../../src/kernel/libbpf.js';
import { packageRoot } from '../../src/lab/paths.js';
import { FACT_WORDS } from '../../src/layout/image.js';

export interface KernelDecision {
  readonly result: 'partial' | 'odd' | 'decided';
  readonly action: 'proxy' | 'forward' | 'reply';
  /** -1: none */
  readonly rule: number;
  readonly output: Buffer;
  readonly facts: readonly bigint[];
}

const QUESTION = 32;
const PREFIX = 16;

function compile(): string {
  const folder = mkdtempSync(join(tmpdir(), 'sidestep-agreement-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  const out = join(folder, 'decide.bpf.o');
  const multiarch = ['/usr/include/x86_64-linux-gnu', '/usr/include/aarch64-linux-gnu'].filter((p) => existsSync(p));
  const includes = [join(packageRoot(), 'bpf'), ...multiarch].map((p) => `-I${p}`);
  const source = join(packageRoot(), 'test/agreement/decide.bpf.c');
  execFileSync('clang', ['-O2', '-g', '-mcpu=v3', '-target', 'bpf', ...includes, '-c', source, '-o', out]);
  return out;
}

export class Kernel {
  readonly #object: BpfObject;
  readonly #image: Uint8Array;
  readonly #outcome: Uint8Array;

  /** Compiles and loads the program. @throws KernelError when the kernel refuses it */
  constructor() {
    this.#object = BpfObject.open(compile());
    this.#object.load();
    this.#image = this.#object.map('image').mmap().bytes;
    this.#outcome = this.#object.map('outcomes').mmap().bytes;
  }

  /** Puts an image in force. */
  install(image: Uint8Array): void {
    this.#image.set(image);
    this.#image.fill(0, image.length);
  }

  decide(listener: number, request: Uint8Array, sourceIp: Uint8Array): KernelDecision {
    const packet = Buffer.alloc(PREFIX + QUESTION + request.length);
    packet.writeUInt32LE(listener, PREFIX);
    packet.writeUInt32LE(sourceIp.length, PREFIX + 4);
    packet.writeUInt32LE(request.length, PREFIX + 8);
    packet.set(sourceIp, PREFIX + 16);
    packet.set(request, PREFIX + QUESTION);
    const { retval } = this.#object.program('decide_one').testRun(packet);
    if (retval !== 0) throw new Error(`the test program says ${retval}`);
    const view = new DataView(this.#outcome.buffer, this.#outcome.byteOffset);
    const [result, kind, rule, length] = [0, 4, 8, 12].map((at) => view.getUint32(at, true)) as [
      number,
      number,
      number,
      number,
    ];
    const body = 16 + 8 * FACT_WORDS;
    return {
      result: (['partial', 'decided', 'odd'] as const)[result]!,
      action: (['proxy', 'forward', 'reply'] as const)[kind]!,
      rule: rule - 1,
      output: Buffer.from(this.#outcome.subarray(body, body + length)),
      facts: Array.from({ length: FACT_WORDS }, (_, i) => view.getBigUint64(16 + 8 * i, true)),
    };
  }

  /** Runs and run time of the program, while the kernel counts them. */
  stats(): { runs: bigint; runTime: bigint } {
    return this.#object.program('decide_one').info();
  }

  close(): void {
    this.#object.close();
  }
}
