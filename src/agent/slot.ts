/** A connection of the pool, as those see it who use it. */
import type { Socket } from 'node:net';
import type { Dummy } from './dummies.js';
import type { ExchangeActivity } from './exchange-activity.js';
import type { IdleTime } from './idle-connections.js';

export interface Slot {
  readonly slot: number;
  readonly endpoint: number;
  readonly socket: Socket;
  readonly cookie: bigint;
  /** the server has closed its side, or the connection broke */
  ended: boolean;
  /** bytes that came to the agent and that no exchange has claimed yet */
  inbox: Buffer[];
  /** told when something happens while the agent owns the answer */
  listener: ((event: 'data' | 'end') => void) | undefined;
  /** its dummy socket, where there is listener intake, or where heads of answers grow */
  dummy: Dummy | undefined;
  readonly idle: IdleTime;
  /** of the exchange under way */
  readonly activity: ExchangeActivity;
}
