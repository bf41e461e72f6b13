/** The numbers of pool slots. Each endpoint has blocks of them, in which the programs look for its idle connections. */
import { BLOCK_SIZE, ENDPOINT_BLOCKS, MAX_BLOCKS } from '../layout/exchanges.js';
import type { SlotMemory } from './slot-memory.js';

/** A slot rests this long before another connection gets it, so that no program still means the old one. */
const QUARANTINE_MS = 200;

export class SlotNumbers {
  /** free slots by block, of blocks that an endpoint has */
  readonly #free: number[][] = [];
  readonly #freeBlocks = Array.from({ length: MAX_BLOCKS }, (_, i) => i).reverse();
  /** blocks by endpoint, which keeps them */
  readonly #blocks = new Map<number, number[]>();

  constructor(private readonly slots: Pick<SlotMemory, 'setEndpoint'>) {}

  /** A free slot for a connection to an endpoint; undefined: there is none. */
  take(endpoint: number): number | undefined {
    const blocks = this.#blocks.get(endpoint) ?? [];
    for (const block of blocks) {
      const free = this.#free[block]?.pop();
      if (free !== undefined) return free;
    }
    if (blocks.length >= ENDPOINT_BLOCKS) return undefined;
    const block = this.#freeBlocks.pop();
    if (block === undefined) return undefined;
    this.#free[block] = Array.from({ length: BLOCK_SIZE }, (_, i) => block * BLOCK_SIZE + i).reverse();
    this.slots.setEndpoint(endpoint, 'blocks', block, blocks.length);
    blocks.push(block);
    this.#blocks.set(endpoint, blocks);
    this.slots.setEndpoint(endpoint, 'n_blocks', blocks.length);
    return this.#free[block]!.pop();
  }

  /** The connection of a slot is closed: after a while another one may have it. */
  release(slot: number): void {
    const block = Math.floor(slot / BLOCK_SIZE);
    setTimeout(() => this.#free[block]!.push(slot), QUARANTINE_MS).unref();
  }
}
