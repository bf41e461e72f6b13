/** Streams that the agent has ended, which servers may not know of yet: they count for a moment longer (bpf/h2-limits.h). */
import type { BpfObject } from '../../kernel/libbpf.js';
import { H2EndSpec } from '../../layout/streams.js';
import { getBig } from '../../layout/struct.js';

/** Frames of the agent's are with the server by then, or will be before any new head. */
const SETTLED_MS = 50;

/** By the cookie of a server's connection: its index, and how many streams. */
type Ended = Map<bigint, { readonly server: number; n: number }>;

export class Places {
  #ended: Ended = new Map();
  #settling: Ended = new Map();
  readonly #timer: NodeJS.Timeout;

  /** @param ends the map of ends */
  constructor(
    private readonly object: BpfObject,
    private readonly ends: DataView,
  ) {
    this.#timer = setInterval(() => this.#look(), SETTLED_MS);
  }

  /** A stream of a server's connection (its index) was ended. */
  ended(server: number): void {
    const cookie = getBig(this.ends, server * H2EndSpec.size, H2EndSpec, 'cookie');
    const known = this.#ended.get(cookie);
    if (known) known.n++;
    else this.#ended.set(cookie, { server, n: 1 });
  }

  #look(): void {
    for (const [cookie, { server, n }] of this.#settling) {
      const packet = Buffer.alloc(32);
      packet.writeBigUInt64LE(cookie, 16);
      packet.writeUInt32LE(server, 24);
      packet.writeUInt32LE(n, 28);
      this.object.program('h2_release').testRun(packet);
    }
    this.#settling = this.#ended;
    this.#ended = new Map();
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
