/** The decision of the programs in the kernel, one request at a time (BPF_PROG_TEST_RUN). */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TokenAnswers, type TokenKey, TokenStore } from '../../src/agent/token-store.js';
import { type BpfMap, BpfObject, type Mapping, u32 } from '../../src/kernel/libbpf.js';
import { packageRoot } from '../../src/lab/paths.js';
import { COUNTER } from '../../src/layout/counts.js';
import { FACT_WORDS, ImageHeader } from '../../src/layout/image.js';
import { set } from '../../src/layout/struct.js';

export interface KernelDecision {
  readonly result: 'partial' | 'odd' | 'decided';
  readonly action: 'proxy' | 'forward' | 'reply';
  /** -1: none */
  readonly rule: number;
  readonly output: Buffer;
  readonly facts: readonly bigint[];
  /** places in which tokens were found; of one: which, and whether nothing is known of it */
  readonly tokenPlaces: number;
  readonly tokenPlace: number;
  readonly tokenUnknown: boolean;
}

const QUESTION = 32;
const PREFIX = 16;
/** Where an outcome has its facts. */
const FACTS = 32;

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
  /** the maps of verified tokens and of rate limits' buckets */
  readonly tokens: Mapping;
  readonly buckets: Mapping;
  readonly #store: TokenStore;
  #used = false;
  #generation = 0;

  /** Compiles and loads the program. @throws KernelError when the kernel refuses it */
  constructor() {
    this.#object = BpfObject.open(compile());
    this.#object.load();
    this.#image = this.#object.map('image').mmap().bytes;
    this.#outcome = this.#object.map('outcomes').mmap().bytes;
    this.tokens = this.#object.map('tokens').mmap();
    this.buckets = this.#object.map('buckets').mmap();
    this.#store = new TokenStore(this.tokens.view, 0n);
  }

  /** Puts an image in force, of a generation of its own: what the programs remember belongs to one. */
  install(image: Uint8Array): void {
    this.#image.set(image);
    this.#image.fill(0, image.length);
    set(new DataView(this.#image.buffer, this.#image.byteOffset), 0, ImageHeader, 'generation', ++this.#generation);
    if (this.#used) this.tokens.bytes.fill(0);
    this.#used = false;
  }

  /** Makes a token known, of the image in force. */
  know(key: Omit<TokenKey, 'generation'>, answers: TokenAnswers): void {
    this.#used = true;
    if (!this.#store.put({ ...key, generation: this.#generation }, answers, 2n ** 62n, 1n))
      throw new Error('the token is too long');
  }

  /**
   * Decides twice where nothing is drawn: the second time as the programs remember it.
   * @param draw takes tokens out of the buckets, too
   */
  decide(listener: number, request: Uint8Array, sourceIp: Uint8Array, draw = false): KernelDecision {
    const first = this.decideOnce(listener, request, sourceIp, draw);
    if (draw) return first;
    const again = this.decideOnce(listener, request, sourceIp, draw);
    const of = ({ result, action, rule, facts }: KernelDecision) => ({ result, action, rule, facts });
    assert.deepEqual(of(again), of(first), 'what is remembered');
    return again;
  }

  /** Decides once. */
  decideOnce(listener: number, request: Uint8Array, sourceIp: Uint8Array, draw = false): KernelDecision {
    const packet = Buffer.alloc(PREFIX + QUESTION + request.length);
    packet.writeUInt32LE(listener, PREFIX);
    packet.writeUInt32LE(sourceIp.length, PREFIX + 4);
    packet.writeUInt32LE(request.length, PREFIX + 8);
    packet.writeUInt32LE(draw ? 1 : 0, PREFIX + 12);
    packet.set(sourceIp, PREFIX + 16);
    packet.set(request, PREFIX + QUESTION);
    const { retval } = this.#object.program('decide_one').testRun(packet);
    if (retval !== 0) throw new Error(`the test program says ${retval}`);
    const view = new DataView(this.#outcome.buffer, this.#outcome.byteOffset);
    const word = (index: number) => view.getUint32(4 * index, true);
    const [result, kind, rule, length] = [word(0), word(1), word(2), word(3)];
    const body = FACTS + 8 * FACT_WORDS;
    return {
      result: (['partial', 'decided', 'odd'] as const)[result]!,
      action: (['proxy', 'forward', 'reply'] as const)[kind]!,
      rule: rule - 1,
      output: Buffer.from(this.#outcome.subarray(body, body + length)),
      facts: Array.from({ length: FACT_WORDS }, (_, i) => view.getBigUint64(FACTS + 8 * i, true)),
      ...{ tokenPlaces: word(4), tokenPlace: word(5), tokenUnknown: word(6) === 1 },
    };
  }

  /** Where decisions are remembered. */
  get decisions(): BpfMap {
    return this.#object.map('decisions');
  }

  /** How often a decision was one that was remembered. */
  recalled(): number {
    const counts = this.#object.map('counters').lookup(u32(COUNTER.RECALLED))!;
    return [...new BigUint64Array(counts.buffer, counts.byteOffset, counts.length / 8)].reduce(
      (n, c) => n + Number(c),
      0,
    );
  }

  /** Runs and run time of the program, while the kernel counts them. */
  stats(): { runs: bigint; runTime: bigint } {
    return this.#object.program('decide_one').info();
  }

  close(): void {
    this.#object.close();
  }
}
