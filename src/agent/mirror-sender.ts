/**
 * Mirrored requests on their way from the kernel to the proxy, which makes shadows of them (src/proxy/mirrors.ts). What
 * waits here is bounded: then it waits in the ring buffer, and when that is full, requests are the proxy's.
 */
import { connect, type Socket } from 'node:net';
import type { BpfMap } from '../kernel/bpf-map.js';
import { RingBuffer } from '../kernel/ring-buffer.js';
import { MirroredSpec } from '../layout/log-records.js';
import { get, getBig } from '../layout/struct.js';
import { MIRROR_HEADER } from '../proxy/index.js';

const DRAIN_MS = 5;
const TIMEOUT_MS = 5000;
/** Connections to the proxy, and copies that may wait for one. */
const CONNECTIONS = 16;
const WAITING = 256;
const END = Buffer.from('\r\n\r\n');

export class MirrorSender {
  readonly #ring: RingBuffer;
  #timer: NodeJS.Timeout | undefined;
  #waiting: Buffer[] = [];
  readonly #idle: Socket[] = [];
  #open = 0;
  #busy = 0;
  /** copies that the proxy has taken, and that nobody has */
  readonly counts = { sent: 0, lost: 0 };

  /**
   * @param map the ring buffer
   * @param path Unix socket of the proxy
   */
  constructor(
    map: BpfMap,
    private readonly path: string,
  ) {
    this.#ring = new RingBuffer(map);
  }

  /** Some listener mirrors requests from now on. */
  begin(): void {
    this.#timer ??= setInterval(() => this.#drain(), DRAIN_MS);
  }

  #drain(): void {
    const room = WAITING - this.#waiting.length;
    if (room > 0) this.#ring.drain((record) => this.#waiting.push(requestOf(record)), room);
    this.#send();
  }

  #send(): void {
    while (this.#waiting.length > 0) {
      const socket = this.#idle.pop() ?? (this.#open < CONNECTIONS ? this.#connected() : undefined);
      if (!socket) return;
      this.#exchange(socket, this.#waiting.shift()!);
    }
  }

  #connected(): Socket {
    this.#open++;
    const socket = connect(this.path);
    socket.setTimeout(TIMEOUT_MS);
    socket.on('error', () => {}); // told by 'close'
    socket.once('close', () => {
      this.#open--;
      const at = this.#idle.indexOf(socket);
      if (at >= 0) this.#idle.splice(at, 1);
    });
    return socket;
  }

  #exchange(socket: Socket, request: Buffer): void {
    this.#busy++;
    let head = Buffer.alloc(0);
    const over = (taken: boolean) => {
      socket.off('data', read);
      socket.off('close', closed);
      socket.off('timeout', late);
      this.#busy--;
      if (taken) this.counts.sent++;
      else this.counts.lost++;
    };
    const closed = () => over(false);
    const late = () => socket.destroy();
    const read = (data: Buffer) => {
      head = Buffer.concat([head, data]);
      if (!head.includes(END)) return;
      // the answer has no body; any other is none of the listener that mirrors
      const taken = head.subarray(9, 12).equals(Buffer.from('200'));
      over(taken);
      if (taken && !/\r\nconnection: close\r\n/i.test(head.toString('latin1'))) this.#idle.push(socket);
      else socket.destroy();
      this.#send();
    };
    socket.on('data', read);
    socket.once('close', closed);
    socket.once('timeout', late);
    socket.write(request);
  }

  /** Sends what there is, within the time. */
  async close(withinMs: number): Promise<void> {
    if (this.#timer) {
      const end = performance.now() + withinMs;
      do {
        this.#drain();
        await new Promise((resolve) => setTimeout(resolve, DRAIN_MS));
      } while ((this.#busy > 0 || this.#waiting.length > 0) && performance.now() < end);
      clearInterval(this.#timer);
    }
    this.counts.lost += this.#waiting.length;
    this.#waiting = [];
    for (const socket of this.#idle) socket.destroy();
    this.#ring.close();
  }
}

/** The copy in a record, with the line that says whom it is for. */
function requestOf(record: DataView): Buffer {
  const number = (name: string) => get(record, 0, MirroredSpec, name);
  const key = getBig(record, 0, MirroredSpec, 'key').toString(16).padStart(16, '0');
  const headLength = number('head_len');
  const bytes = Buffer.from(record.buffer, record.byteOffset + MirroredSpec.size, headLength + number('body_len'));
  const end = headLength - 2;
  return Buffer.concat([bytes.subarray(0, end), Buffer.from(`${MIRROR_HEADER}: ${key}\r\n`), bytes.subarray(end)]);
}
