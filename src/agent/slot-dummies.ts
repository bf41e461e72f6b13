/** The dummy sockets of pool slots: given to them, watched, and taken away. */
import type { Socket } from 'node:net';
import type { DataPlane } from './data-plane.js';
import { Dummies } from './dummies.js';
import type { Slot } from './slot.js';

/** What the dummies ask of the pool. */
export interface DummyOwner {
  /** whether the slot still has this connection */
  has(slot: Slot): boolean;
  /** The connection is not used again. */
  end(slot: Slot): void;
  /** The end of an answer for the client `owner` was lost in the kernel. */
  lost(owner: bigint): void;
}

export class SlotDummies {
  #dummies: Dummies | undefined;
  /** slots that have a dummy, or get one: when it was used last, as of the last look, for how many looks that has been so */
  readonly #watched = new WeakMap<Slot, { used: bigint; looks: number }>();

  constructor(
    private readonly plane: DataPlane,
    private readonly pool: DummyOwner,
  ) {}

  /** Gives a slot a dummy socket, unless it has one. */
  async add(slot: Slot): Promise<void> {
    if (this.#watched.has(slot)) return;
    this.#watched.set(slot, { used: 0n, looks: 0 });
    const dummy = await this.#open()
      .open(() => this.#broken(slot))
      .catch(() => undefined);
    if (!dummy) return;
    if (!this.pool.has(slot)) {
      dummy.close();
      return;
    }
    slot.dummy = dummy;
    try {
      this.plane.slots.insertDummy(slot.slot, dummy.fd);
    } catch {
      this.pool.end(slot);
    }
  }

  /** A connection of the agent to itself. */
  pair(): Promise<{ socket: Socket; peer: Socket }> {
    return this.#open().pair();
  }

  /** Finds those that the kernel has disabled. Call now and then. */
  look(slots: Iterable<Slot>): void {
    for (const slot of slots) {
      const watched = this.#watched.get(slot);
      if (!watched || !slot.dummy || slot.dummy.broken) continue;
      const { given, taken, used, broken } = this.plane.slots.dummyState(slot.slot);
      watched.looks = used === watched.used ? watched.looks + 1 : 0;
      watched.used = used;
      if (broken) this.#broken(slot);
      // while it is used, the programs find out; afterwards once, and as long as something is in it
      else if (watched.looks === 1 || (watched.looks > 1 && given !== taken)) slot.dummy.look();
    }
  }

  /** Takes a slot's dummy away, if it has one. */
  drop(slot: Slot): void {
    if (!slot.dummy) return;
    this.plane.slots.removeDummy(slot.slot);
    slot.dummy.close();
  }

  /** No more are given. */
  close(): void {
    this.#dummies?.close();
  }

  #open(): Dummies {
    this.#dummies ??= new Dummies();
    return this.#dummies;
  }

  /** The kernel could not send something on: whose it was cannot go on, and the connection is not used again. */
  #broken(slot: Slot): void {
    if (!this.pool.has(slot)) return;
    this.plane.slots.removeDummy(slot.slot);
    slot.dummy?.close();
    // its exchange may be over already: the kernel sends after it has decided
    const last = this.plane.slots.dummyOwner(slot.slot);
    if (last !== 0n && last !== this.plane.slots.owner(slot.slot)) this.pool.lost(last);
    this.pool.end(slot);
  }
}
