/**
 * Reads a BPF ring buffer (Documentation/bpf/ringbuf.rst): one page with the consumer's position, one with the
 * producer's, then the data twice in a row, so that no record is cut. Nobody is woken; the caller looks when it likes.
 */
import type { BpfMap } from './bpf-map.js';
import { type Mapping, mapShared, PAGE_SIZE } from './memory.js';

const BUSY = 0x80000000;
const DISCARDED = 0x40000000;
const HEADER = 8;

export class RingBuffer {
  readonly #consumer: Mapping;
  readonly #producer: Mapping;
  readonly #produced: BigUint64Array;
  readonly #consumed: BigUint64Array;
  readonly #lengths: Int32Array;
  readonly #size: number;

  /** @param map of type BPF_MAP_TYPE_RINGBUF. @throws KernelError when it cannot be mapped */
  constructor(map: BpfMap) {
    this.#size = map.shape.maxEntries;
    this.#consumer = mapShared(map.fd, PAGE_SIZE);
    this.#producer = mapShared(map.fd, PAGE_SIZE + 2 * this.#size, false, PAGE_SIZE);
    this.#consumed = new BigUint64Array(this.#consumer.buffer, 0, 1);
    this.#produced = new BigUint64Array(this.#producer.buffer, 0, 1);
    this.#lengths = new Int32Array(this.#producer.buffer);
  }

  /**
   * Hands out every record that is complete, in order; the bytes are valid during the call only.
   * @param most records at a time
   * @returns how many
   */
  drain(take: (record: DataView) => void, most = Number.POSITIVE_INFINITY): number {
    let count = 0;
    let at = Number(this.#consumed[0]);
    const end = Number(Atomics.load(this.#produced, 0));
    while (at < end && count < most) {
      const offset = PAGE_SIZE + (at & (this.#size - 1));
      const head = Atomics.load(this.#lengths, offset / 4) >>> 0;
      if (head & BUSY) break;
      const length = head & ~DISCARDED;
      if (!(head & DISCARDED)) {
        take(new DataView(this.#producer.buffer, offset + HEADER, length));
        count++;
      }
      at += Math.ceil((length + HEADER) / 8) * 8;
      Atomics.store(this.#consumed, 0, BigInt(at));
    }
    return count;
  }

  close(): void {
    this.#consumer.unmap();
    this.#producer.unmap();
  }
}
