/** Streams of the kernel's whose time is over (bpf/h2-timeouts.h): told to the agent, who ends them. */

import type { AnswerProgram } from '../../compile/answer-edits.js';
import type { BpfObject } from '../../kernel/libbpf.js';
import { H2_DUE, H2ClockSpec, H2DueSpec, H2StreamSpec } from '../../layout/streams.js';
import { get, getBig } from '../../layout/struct.js';
import type { AgentEnd } from '../log-entries.js';
import type { Frame } from './frames.js';
import { localReply, withEdits } from './replies.js';

/** As often as the agent looks at timeouts of HTTP/1.1. */
const LOOK_MS = 20;

export interface Due {
  readonly stream: number;
  /** H2_DUE */
  readonly why: number;
  /** H2_STREAM when the agent took it over */
  readonly flags: number;
}

export class Timeouts {
  readonly #clock: DataView;
  readonly #timer: NodeJS.Timeout;
  readonly #clients = new Map<number, (due: Due) => void>();

  constructor(private readonly object: BpfObject) {
    this.#clock = object.map('h2_clock').mmap().view;
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
  }

  /** Calls `over` for each stream of a client (its index) whose time is over, until the function returned is called. */
  watch(client: number, over: (due: Due) => void): () => void {
    this.#clients.set(client, over);
    return () => this.#clients.delete(client);
  }

  #look(): void {
    const next = getBig(this.#clock, 0, H2ClockSpec, 'next');
    if (next === 0n || next > process.hrtime.bigint()) return;
    this.object.program('h2_overdue').testRun(Buffer.alloc(16));
    const map = this.object.map('h2_due');
    for (const key of [...map.keys()]) {
      const value = map.lookup(key);
      map.delete(key);
      const [client, stream] = new Uint32Array(key.slice().buffer) as unknown as [number, number];
      if (!value) continue;
      const view = new DataView(value.buffer);
      const [why, flags] = [get(view, 0, H2DueSpec, 'why'), get(view, 0, H2DueSpec, 'flags')];
      this.#clients.get(client)?.({ stream, why, flags });
    }
  }

  close(): void {
    clearInterval(this.#timer);
  }
}

/** The deadline that nothing puts off, of a stream as the programs have it (struct h2_stream). */
export function deadlineOf(stream: DataView): { readonly at: number; readonly why: number } | undefined {
  const of = (name: string, why: number) => ({ at: Number(getBig(stream, 0, H2StreamSpec, name)) / 1e6, why });
  const all = [of('whole_by', H2_DUE.WHOLE), of('latest', H2_DUE.DURATION)].filter(({ at }) => at > 0);
  return all.sort((a, b) => a.at - b.at)[0];
}

const WORDS: Readonly<Record<number, string>> = {
  [H2_DUE.WHOLE]: 'upstream request timeout',
  [H2_DUE.DURATION]: 'downstream duration timeout',
  [H2_DUE.IDLE]: 'stream timeout',
  [H2_DUE.TRY]: 'upstream request timeout',
};

/** What its access log says then. */
export const OVERDUE: Readonly<Record<number, AgentEnd>> = {
  [H2_DUE.WHOLE]: { flags: ['UT'], details: 'response_timeout' },
  [H2_DUE.DURATION]: { details: 'max_duration_timeout' },
  [H2_DUE.TRY]: { flags: ['UT'], details: 'upstream_per_try_timeout' },
  [H2_DUE.IDLE]: { flags: ['SI'], details: 'stream_idle_timeout' },
};

/**
 * What Envoy answers when the time of a stream is over that has no answer yet: 504, or 408 where the request has not ended.
 * @param ended whether it has; @param program the route's edits
 */
export function timedOut({ stream, why, flags }: Due, ended: boolean, program?: AnswerProgram): Frame[] {
  const body = WORDS[why]!;
  const status = why === H2_DUE.WHOLE || why === H2_DUE.TRY || ended ? 504 : 408;
  // 504 is UNAVAILABLE, 408 UNKNOWN; a duration is gRPC's own deadline
  const grpc = why === H2_DUE.DURATION ? 4 : status === 504 ? 14 : 2;
  return localReply(stream, flags, { status, grpc, body, ...withEdits(status, body, program) });
}
