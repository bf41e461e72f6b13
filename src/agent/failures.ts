/** Exchanges that cannot be completed: what the client is told, and what access logs say. */

import type { AgentEnd } from './log-entries.js';
import { IDLE_BODY, TERMINATED_BODY, TIMEOUT_BODY } from './replies.js';

/** What Envoy's access log says of failures: response flags and response code details (tried with 1.40). */
export const FAILURES = {
  terminated: { flags: ['UC'], details: 'upstream_reset_before_response_started{connection_termination}' },
  protocol: { flags: ['UPE'], details: 'upstream_reset_before_response_started{protocol_error}' },
  /** an answer that ends before it is complete, in order or by a reset */
  cut: { flags: ['UPE'], details: 'upstream_reset_after_response_started{protocol_error}' },
  timeout: { flags: ['UT'], details: 'response_timeout' },
  idle: { flags: ['SI'], details: 'stream_idle_timeout' },
  'idle answer': { flags: ['SI'], details: 'stream_idle_timeout' },
  'try timeout': { flags: ['UT'], details: 'upstream_per_try_timeout' },
} as const;
export type Failure = keyof typeof FAILURES;

/** What is answered when no byte of the server's answer has come. */
export const LOCAL_ANSWERS = {
  terminated: { status: 503, body: TERMINATED_BODY },
  timeout: { status: 504, body: TIMEOUT_BODY },
  'try timeout': { status: 504, body: TIMEOUT_BODY },
  /** before the request is complete, and after it */
  idle: { status: 408, body: IDLE_BODY },
  'idle answer': { status: 504, body: IDLE_BODY },
} as const;

/** The client has gone. */
export const GONE: AgentEnd = { flags: ['DC'], details: 'downstream_remote_disconnect' };
