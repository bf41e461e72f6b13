/** Commands of the agent to the programs, and their answers. */
import { type Layout, struct } from './struct.js';

/** Commands of the control program (run by the agent through BPF_PROG_TEST_RUN). */
export const CTL = {
  /** copy the connection's state */
  QUERY: 0,
  /** leave agent mode if `passed` equals `arg`; `native` is then the number of bytes that the agent wrote */
  RESUME: 1,
  /** detach an upstream from its client: after this the program sends nothing more to it */
  DETACH: 2,
  /** end the exchange that the agent completed: the slot becomes idle (arg 1) or stays out of its pool (arg 0) */
  FINISH: 3,
  /** take an idle slot out of its pool; result 1 if it was idle */
  TAKE: 4,
  /** put a slot into its pool */
  GIVE: 5,
  /** says that the agent wrote `native` bytes to the connection so far, the answer it is about to end included */
  NATIVE: 6,
  /** the agent has sent the rest of the request's body */
  BODY_SENT: 7,
  /** pairs a slot with the server's socket whose cookie is `cookie` */
  PAIR: 8,
  /** like FINISH, but only while no byte of the answer was seen */
  GIVE_UP: 9,
  /** the caller is the agent: connections that it opens may be paired */
  HELLO: 10,
  /** from now on the answer is the agent's, if no byte of it was seen */
  TAKE_OVER: 11,
  /** answers in `passed` what the programs' clock for tokens says (bpf_ktime_get_boot_ns) */
  NOW: 12,
  /** takes a token of the bucket `slot`: result 1 if there was one; `passed` is 1 when that could not be found out */
  DRAW: 13,
  /** counts one more request of the breaker `slot`: result 1 if it may be */
  ENTER: 14,
  /** counts one less */
  LEAVE: 15,
  /** an exchange on `slot` is over for its breaker, whatever became of it */
  UNCOUNT: 16,
  /** NATIVE, then FINISH */
  COMPLETE: 17,
  /** from now on what the client sends is the agent's; result 0 if it was already */
  HOLD: 18,
  /** joins the client `cookie` and the agent’s socket `arg`, which are in their maps; result 1 if they are */
  JOIN: 19,
} as const;

/** What is under way for a client, in the order in which the bits are found out: nothing is missed in between. */
export const QUEUED = {
  /** redirected bytes wait unread at the client, or are on their way there */
  ANSWER: 1,
  /** a part of the request is on its way to the upstream still (listener intake) */
  REQUEST: 2,
  /** an exchange on a pooled connection */
  IN_FLIGHT: 4,
} as const;

export const CtlSpec = struct('ctl', 'Argument and answer of the control program.', [
  ['command', 'u32', 'CTL'],
  ['result', 'u32', 'answer: 1 done or found, 0 not'],
  ['cookie', 'u64', 'client socket'],
  ['arg', 'u64', 'see CTL'],
  ['native', 'u32', 'see CTL'],
  ['slot', 'u32', 'upstream slot'],
  ['queued', 'u32', 'answer: QUEUED'],
  ['unread', 'u32', 'answer: bytes of the native queue that the client has not read'],
  ['gate', 'u32', 'answer'],
  ['requested', 'u32', 'answer'],
  ['done', 'u32', 'answer'],
  ['upstream', 'u32', 'answer'],
  ['passed', 'u64', 'answer'],
  ['body_left', 'u64', 'answer'],
  ['listener', 'u32', 'answer'],
  ['flags', 'u32', 'answer: CONN_FLAG'],
  ['replied', 'u32', 'answer'],
  ['connect_ms', 'u32', 'answer: conn.user_timeout'],
]);

export const CONTROL_LAYOUT: Layout = {
  constants: {},
  enums: { QUEUED, CTL },
  structs: [CtlSpec],
};
