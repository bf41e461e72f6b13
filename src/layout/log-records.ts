/** What the programs tell of requests that are to be logged. */
import { type Layout, struct } from './struct.js';

/**
 * The ring buffer of what is to be logged: its size in bytes, and how much of it requests leave free, so that there is
 * room for the ends of all exchanges that have begun. A request that finds less goes to the proxy, which logs it.
 */
export const LOG_RING = 4 * 1024 * 1024;
export const LOG_RESERVE = 1024 * 1024;

/** What a record of the ring buffer tells. */
export const LOG_RECORD = {
  /** a request was forwarded; its head follows */
  BEGIN: 1,
  /** the head of its answer, which follows */
  ANSWER: 2,
  /** the answer is complete */
  END: 4,
  /** the mesh's own reply: the request's head follows, then the reply's */
  REPLY: 8,
  /** with END, a stream: its client has reset it */
  RESET: 16,
} as const;

/** What happened, for the access log; heads follow as LOG says. Times are of bpf_ktime_get_ns. */
export const LogRecordSpec = struct('log_record', 'A record of the ring buffer of requests that are logged.', [
  ['kind', 'u32', 'bits of LOG_RECORD'],
  ['listener', 'u32', 'index'],
  ['cookie', 'u64', 'of the client socket; of a stream, of the agent’s end'],
  ['time', 'u64', 'when'],
  [
    'received',
    'u64',
    'BEGIN: bytes of the body that the request announces; END of a stream: that have come; ANSWER of one: when the request was complete, 0: it is not',
  ],
  ['body', 'u64', 'END, REPLY: bytes of the answer’s body, without framing'],
  ['slot', 'u32', 'pool slot; REPLY: none; of a stream, its number'],
  ['generation', 'u32', 'BEGIN, REPLY: of the image'],
  ['rule', 'u32', 'BEGIN, REPLY: index of the rule plus one, 0: none'],
  ['choice', 'u32', 'BEGIN: index of the cluster among those of the action'],
  ['endpoint', 'u32', 'BEGIN: id; of a stream, the index of the connection to its server'],
  ['status', 'u32', 'ANSWER, REPLY'],
  ['source', 'u32[4]', "BEGIN, REPLY: the client's address, network order; IPv4 in the first word"],
  ['original', 'u32[4]', 'BEGIN, REPLY: the address that it asked for'],
  ['source_port', 'u32', 'host order'],
  ['original_port', 'u32', 'host order'],
  ['origin', 'u32', 'REPLY: ORIGIN'],
  ['request_len', 'u32', "bytes of the request's head that follow"],
  ['answer_len', 'u32', "bytes of the answer's head that follow"],
  ['pad', 'u32', 'zero'],
  [
    'parent',
    'u64[2]',
    'BEGIN, where requests are traced by OpenTelemetry: digits of the id of the span before, 0: there is none',
  ],
]);

/** The ring buffer of requests to be mirrored, and how much of it a request must find free. */
export const MIRROR_RING = 4 * 1024 * 1024;
export const MIRROR_RESERVE = 1024 * 1024;

export const MirroredSpec = struct('mirrored', 'A request that is to be mirrored: its head follows, then its body.', [
  ['key', 'u64', 'mirror.key'],
  ['head_len', 'u32', 'bytes'],
  ['body_len', 'u32', 'bytes'],
]);

export const LOG_RECORDS_LAYOUT: Layout = {
  constants: { LOG_RING, LOG_RESERVE, MIRROR_RING, MIRROR_RESERVE },
  enums: { LOG_RECORD },
  structs: [LogRecordSpec, MirroredSpec],
};
