/** The agent's commands to the programs, which the control program carries out (CTL says what each does). */
import type { BpfProgram } from '../kernel/libbpf.js';
import { CTL, CtlSpec, QUEUED } from '../layout/control.js';
import { get, getBig, set } from '../layout/struct.js';

/** The test run takes the first bytes for an Ethernet header. */
const CTL_AT = 16;

/** What the control program says about a client connection. */
export interface ConnectionState {
  /** redirected bytes wait unread at the client, or are on their way there */
  readonly queued: boolean;
  /** a part of the request is on its way to the upstream still (listener intake) */
  readonly underway: boolean;
  /** an exchange on a pooled connection had not ended when `queued` was found out */
  readonly inFlight: boolean;
  readonly gate: number;
  readonly requested: number;
  /** replies of the mesh that the kernel gave */
  readonly replied: number;
  readonly upstream: number;
  readonly passed: bigint;
  readonly bodyLeft: bigint;
  readonly flags: number;
  /** how long connecting may take, where a first message was looked at; 0: nothing said so */
  readonly connectMs: number;
}

export class Commands {
  readonly #ctlBytes = new Uint8Array(CTL_AT + CtlSpec.size);
  readonly #ctl = new DataView(this.#ctlBytes.buffer);

  /** The caller becomes the agent: connections that it opens may be paired. @param program the control program */
  constructor(private readonly program: Pick<BpfProgram, 'testRun'>) {
    this.#run(CTL.HELLO, {});
  }

  /** State of a client connection; undefined when its socket is gone (or never was in the map). */
  query(cookie: bigint): ConnectionState | undefined {
    return this.#run(CTL.QUERY, { cookie }) ? this.#state() : undefined;
  }

  /** Tells how many bytes the agent has written to the connection, the end of its current answer included. */
  native(cookie: bigint, written: number): void {
    this.#run(CTL.NATIVE, { cookie, native: written >>> 0 });
  }

  /** The agent has sent the rest of the current request's body itself. */
  bodySent(cookie: bigint): void {
    this.#run(CTL.BODY_SENT, { cookie });
  }

  /** Gives the connection back to the kernel if exactly `passed` bytes have come to the agent. */
  resume(cookie: bigint, passed: number, written: number): boolean {
    return this.#run(CTL.RESUME, { cookie, arg: BigInt(passed), native: written >>> 0 });
  }

  /** From now on what the client sends comes to the agent. @returns false when it did already, or the socket is gone */
  hold(cookie: bigint): boolean {
    return this.#run(CTL.HOLD, { cookie });
  }

  /** See `DataPlane.join`. @returns whether both ends are in their maps */
  join(cookie: bigint, own: bigint): boolean {
    return this.#run(CTL.JOIN, { cookie, arg: own });
  }

  /** The clock that the lives of tokens are measured with (bpf_ktime_get_boot_ns). */
  now(): bigint {
    this.#run(CTL.NOW, {});
    return getBig(this.#ctl, CTL_AT, CtlSpec, 'passed');
  }

  /** Counts one more request in flight, if that may be. */
  enter(breaker: number): boolean {
    return this.#run(CTL.ENTER, { slot: breaker });
  }

  /** Counts one less. */
  leave(breaker: number): void {
    this.#run(CTL.LEAVE, { slot: breaker });
  }

  /** What is in flight on a slot is over for its breaker. */
  uncount(slot: number): void {
    this.#run(CTL.UNCOUNT, { slot });
  }

  /** Takes a token of a bucket of `buckets`. @returns whether there was one; undefined: ask again */
  draw(bucket: number): boolean | undefined {
    const taken = this.#run(CTL.DRAW, { slot: bucket });
    return taken || getBig(this.#ctl, CTL_AT, CtlSpec, 'passed') === 0n ? taken : undefined;
  }

  /** Ends the exchange of `cookie` on a slot. @returns false when it had ended already */
  finish(slot: number, cookie: bigint, reusable: boolean): boolean {
    return this.#run(CTL.FINISH, { slot, cookie, arg: reusable ? 1n : 0n });
  }

  /** `native`, then `finish`: the agent is about to write the end of an answer that it has carried. */
  complete(slot: number, cookie: bigint, reusable: boolean, written: number): boolean {
    return this.#run(CTL.COMPLETE, { slot, cookie, arg: reusable ? 1n : 0n, native: written >>> 0 });
  }

  /** Ends an exchange of which no byte of the answer was seen. @returns false when it is further, or ended */
  giveUp(slot: number, cookie: bigint): boolean {
    return this.#run(CTL.GIVE_UP, { slot, cookie });
  }

  /** Makes the answer the agent's, so that the kernel sends none of it to the client. @returns false when it has begun */
  takeOver(slot: number, cookie: bigint): boolean {
    return this.#run(CTL.TAKE_OVER, { slot, cookie });
  }

  /** Takes a slot out of its pool. @returns whether it was idle */
  take(slot: number): boolean {
    return this.#run(CTL.TAKE, { slot });
  }

  give(slot: number): void {
    this.#run(CTL.GIVE, { slot });
  }

  /** Pairs a slot with the server's end of its connection, the socket with the cookie `server`. */
  pair(slot: number, server: bigint): void {
    this.#run(CTL.PAIR, { slot, cookie: server });
  }

  #run(command: number, input: { cookie?: bigint; arg?: bigint; native?: number; slot?: number }): boolean {
    const view = this.#ctl;
    this.#ctlBytes.fill(0);
    set(view, CTL_AT, CtlSpec, 'command', command);
    set(view, CTL_AT, CtlSpec, 'cookie', input.cookie ?? 0n);
    set(view, CTL_AT, CtlSpec, 'arg', input.arg ?? 0n);
    set(view, CTL_AT, CtlSpec, 'native', input.native ?? 0);
    set(view, CTL_AT, CtlSpec, 'slot', input.slot ?? 0);
    const { dataOut } = this.program.testRun(this.#ctlBytes);
    this.#ctlBytes.set(dataOut.subarray(0, this.#ctlBytes.length));
    return get(view, CTL_AT, CtlSpec, 'result') === 1;
  }

  #state(): ConnectionState {
    const view = this.#ctl;
    const number = (name: string): number => get(view, CTL_AT, CtlSpec, name);
    return {
      queued: (number('queued') & QUEUED.ANSWER) !== 0,
      underway: (number('queued') & QUEUED.REQUEST) !== 0,
      inFlight: (number('queued') & QUEUED.IN_FLIGHT) !== 0,
      gate: number('gate'),
      requested: number('requested'),
      replied: number('replied'),
      upstream: number('upstream'),
      passed: getBig(view, CTL_AT, CtlSpec, 'passed'),
      bodyLeft: getBig(view, CTL_AT, CtlSpec, 'body_left'),
      flags: number('flags'),
      connectMs: number('connect_ms'),
    };
  }
}
