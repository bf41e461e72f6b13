/** What is told of the exchanges of one client connection when the agent deals with them: access log and outlier detection. */
import type { ExchangeEdits } from './answer-programs.js';
import type { ConnectionContext } from './connection-context.js';
import { FAILURES, type Failure } from './failures.js';
import { parseHead } from './http-framing.js';
import type { AgentEnd } from './log-entries.js';
import type { Slot } from './slot.js';

export class ExchangeRecords {
  constructor(
    private readonly context: Pick<ConnectionContext, 'plane' | 'log' | 'programs' | 'tried'>,
    /** of the client's socket */
    private readonly cookie: bigint,
  ) {}

  /** What became of the try on a slot; a status only once, a failure even after it. */
  tried(slot: Slot, status: number, failure = false): void {
    const { plane, tried } = this.context;
    const watch = plane.slots.field(slot.slot, 'watch');
    if (watch === 0 || (!failure && plane.slots.field(slot.slot, 'counted') === 1)) return;
    tried(watch, status);
  }

  /** For the access log: how an exchange ended. Before its slot can be taken again. */
  ended(slot: Slot, end: AgentEnd): void {
    this.context.log.ended(slot.slot, this.cookie, Number(this.context.plane.slots.sentBody(slot.slot)), end);
  }

  /** The same with an answer of the agent's own. */
  replied(slot: Slot, status: number, reply: Buffer, failure: Failure, missing = 0): void {
    const end = reply.indexOf('\r\n\r\n') + 4;
    const answer = parseHead(reply.subarray(0, end))?.headers ?? [];
    this.ended(slot, { ...FAILURES[failure], status, answer, sent: reply.length - end, missing });
  }

  /** The edits of the answer on a slot. */
  edits(slot: Slot): ExchangeEdits | undefined {
    const { plane, programs } = this.context;
    const program = programs.get(plane.slots.field(slot.slot, 'edits'));
    return program && { program, variables: plane.slots.variables(slot.slot), figure: programs.figure };
  }
}
