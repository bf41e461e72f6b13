/** HTTP/2: connections and streams as the programs of bpf/h2.bpf.c see them. */
import { STATUS_WORDS } from './actions.js';
import { type Layout, struct } from './struct.js';

export const MAX_H2_ENDS = 16384;
export const MAX_H2_STREAMS = 65536;
/** Bytes of a frame of a request's head that is made anew, with the frame's header. */
export const MAX_H2_STAGED = 4096;
/** Streams that may be tried again: those at once that are not answered yet, and bytes of frames kept of each. */
export const MAX_H2_KEPT_STREAMS = 8192;
export const MAX_H2_KEPT = 3840;

/**
 * One end of the agent's: of a client's connection, or of one to a server that belongs to a client. Windows are those of
 * the connection (RFC 9113, section 6.9): what may be sent to the peer is `granted` - `used`.
 */
export const H2EndSpec = struct('h2_end', 'An end of the agent’s.', [
  ['granted', 'u64', 'bytes of DATA that the peer has allowed so far; written by the agent'],
  ['used', 'u64', 'of these, sent'],
  ['came', 'u64', 'bytes of DATA of the peer that the kernel has sent on'],
  ['client', 'u64', 'cookie of the client’s connection'],
  ['cookie', 'u64', 'its own cookie'],
  ['id', 'u32', 'its own index'],
  ['client_id', 'u32', 'index of the client’s connection'],
  ['listener', 'u32', 'index; of a client’s'],
  ['open', 'u32', '1: the kernel may begin streams here'],
  ['last_stream', 'u32', 'of a client’s: the last one that it began'],
  ['door_left', 'u32', 'of a server’s: bytes of a frame that its dummy has still to pass on'],
  ['source', 'u32[4]', 'of a client’s: its address'],
  ['head', 'u8[32]', 'of a server’s: the beginning of a frame’s header, when its dummy got it in pieces'],
  ['head_len', 'u32', 'bytes of that'],
  ['busy', 'u32', 'of a client’s: a program is at a frame of a stream that may be tried again'],
  ['passed', 'u64', 'of a server’s: bytes of DATA that its dummy has passed on'],
  ['streams', 'u32', 'of a server’s: streams that it may take to be under way'],
  ['max_streams', 'u32', 'of a server’s: how many it allows'],
]);

export const H2StreamSpec = struct('h2_stream', 'A stream that the kernel has decided.', [
  ['upstream', 'u64', 'cookie of the connection to its server'],
  ['id', 'u32', 'index of that'],
  ['flags', 'u32', 'H2_STREAM'],
  ['sent', 'u32', 'bytes of the request’s body'],
  ['client_room', 'u32', 'while it may be tried again: what the client, and the server, have allowed by WINDOW_UPDATE'],
  ['server_room', 'u32', ''],
  ['log', 'u32', 'LOG of its listener'],
  ['latest', 'u64', 'when it is over at the latest, in ns of CLOCK_MONOTONIC; 0: never'],
  ['whole_by', 'u64', 'when the answer must be complete; 0: the request has not ended, or never'],
  ['active', 'u64', 'when something came last'],
  ['whole_ms', 'u32', 'from the request’s end until the complete answer; 0: no limit'],
  ['idle_ms', 'u32', 'how long nothing may come; 0: no limit'],
  ['received', 'u64', 'of what is logged: bytes of the request’s body that the kernel has sent on'],
  ['body', 'u64', 'the same of the answer’s'],
  ['edits', 'u32', 'number of the edits of its answer; 0: none'],
  ['lent', 'u32', 'of these answers: bit 0: the agent has the server’s side; the rest counts frames that it was given'],
  ['try_by', 'u64', 'when the head of the answer must have come; 0: the request has not ended, or never'],
  ['try_ms', 'u32', 'from the request’s end until then; 0: no limit'],
  ['pad', 'u32', ''],
  ['complete', 'u64', 'when the kernel saw the request’s end; 0: it has not'],
]);

export const H2ClockSpec = struct('h2_clock', 'When the agent has to look at deadlines.', [
  ['next', 'u64', 'no stream’s time is over before; 0: none has a deadline'],
]);

/** Why a stream's time is over: Envoy's route timeout, max_stream_duration (or grpc-timeout), stream idle timeout, the time of a try. */
export const H2_DUE = { WHOLE: 1, DURATION: 2, IDLE: 3, TRY: 4 };

export const H2DueSpec = struct('h2_due', 'A stream whose time is over.', [
  ['why', 'u32', 'H2_DUE'],
  ['flags', 'u32', 'H2_STREAM, before the agent took it over'],
]);

export const H2KeptSpec = struct('h2_kept', 'A stream that may be tried again, until it is answered.', [
  ['retry', `u64[${STATUS_WORDS}]`, 'statuses that are retried'],
  ['streams', 'u32', 'RETRY_STREAMS'],
  ['resets', 'u32', '1: so are resets'],
  ['left', 'u32', 'retries after the first'],
  ['backoff_ms', 'u32', 'the first one waits a random time shorter than this'],
  ['choice', 'u32', 'which of the clusters with a weight it was'],
  ['len', 'u32', 'bytes that are kept'],
  ['bytes', `u8[${MAX_H2_KEPT}]`, 'the client’s frames as they came'],
]);

/** Answers of the mesh that the agent has still to give, at once, and the longest one. */
export const MAX_H2_REPLIES = 256;
export const MAX_H2_REPLY = 4080;

export const H2ReplySpec = struct('h2_reply', 'What the mesh itself answers on a stream, as HTTP/1.1 would have it.', [
  ['cookie', 'u64', 'of the client’s connection'],
  ['flags', 'u32', 'H2_STREAM: GRPC, HEAD'],
  ['len', 'u32', 'bytes of the head and the body'],
  ['origin', 'u32', 'ORIGIN'],
  ['rule', 'u32', 'index of the rule plus one; 0: none'],
  ['generation', 'u32', 'of the image'],
  ['log', 'u32', 'LOG of the listener'],
  ['bytes', `u8[${MAX_H2_REPLY}]`, 'these'],
]);

export const H2_STREAM = {
  /** the client, or the server, has sent its last frame */
  CLIENT_ENDED: 1,
  SERVER_ENDED: 2,
  /** what the client, or the server, sends is carried by the agent from now on: a window was full */
  CLIENT_HELD: 4,
  SERVER_HELD: 8,
  /** the server has begun to answer */
  ANSWERED: 16,
  /** the request is gRPC's, or a HEAD: what the agent answers looks different then */
  GRPC: 32,
  HEAD: 64,
  /** it may be tried again until it is ANSWERED */
  RETRY: 128,
  /** it is being tried again: all frames are the agent's */
  TAKEN: 256,
};

/** Beside 0 and 1 in an envelope's `to_server`: nothing is sent, but a stream is the kernel's again. */
export const H2_GIVE_BACK = 2;

/** What h2_claim answers beside the flags that a stream had. */
export const H2_CLAIM = { FOUND: 2 ** 30, BUSY: 2 ** 29 };

export const STREAMS_LAYOUT: Layout = {
  constants: {
    MAX_H2_ENDS,
    MAX_H2_STREAMS,
    MAX_H2_STAGED,
    MAX_H2_KEPT,
    MAX_H2_KEPT_STREAMS,
    MAX_H2_REPLIES,
    MAX_H2_REPLY,
    H2_GIVE_BACK,
  },
  enums: { H2_STREAM, H2_DUE, H2_CLAIM },
  structs: [H2EndSpec, H2StreamSpec, H2ClockSpec, H2DueSpec, H2KeptSpec, H2ReplySpec],
};
