/** What the agent's ends of client connections share, and what a connection's exchanges ask of it. */
import type { DownstreamIdle } from '../plan/idle-times.js';
import type { AnswerPrograms } from './answer-programs.js';
import type { SessionEvent } from './breakers.js';
import type { ChainFacts } from './chain-server.js';
import type { AgentCounts } from './counts.js';
import type { DataPlane } from './data-plane.js';
import type { Head } from './http-framing.js';
import type { ProxyTarget } from './proxy-session.js';
import type { RequestLog } from './request-log.js';
import type { UpstreamPool } from './upstream-pool.js';

/** How often the agent looks whether the kernel is done with something. */
export const POLL_MS = 1;

export interface ConnectionContext {
  readonly plane: DataPlane;
  readonly pool: UpstreamPool;
  /** of a connection that comes from the proxy: the chain that it was taken from */
  readonly relayed?: ChainFacts & { readonly chain: string };
  /** where the proxy listens for this listener; undefined: there is none */
  readonly proxy: () => ProxyTarget | undefined;
  /** what the proxy is told first where it listens at a Unix socket */
  readonly prologue: () => Buffer;
  /** a request's head that goes to the proxy */
  readonly head: (head: Head) => void;
  /** what becomes of the exchanges of a connection to the proxy */
  readonly exchange: (event: SessionEvent, end: string) => void;
  readonly programs: AnswerPrograms;
  readonly log: RequestLog;
  /** how long the connection may be idle */
  readonly idle: () => DownstreamIdle;
  readonly counted: (what: keyof AgentCounts) => void;
  readonly closed: () => void;
  /** the requests are decided at the agent's own end (listener intake) */
  readonly atListener: boolean;
  /** what became of a try, for outlier detection: the status of its answer, or what its failure counts as */
  readonly tried: (watch: number, status: number) => void;
  /** whether a connection with this cookie is there */
  readonly known: (cookie: bigint) => boolean;
}

/** The agent's end of a client connection, as the exchanges on it see it. */
export interface ClientEnd {
  /** of the client's socket */
  readonly cookie: bigint;
  readonly closed: boolean;
  /** bytes written so far */
  readonly written: number;
  /** Tells the kernel that so many more bytes are about to be written, before the end of an answer is. */
  announce(length: number): void;
  /** @param ahead so many bytes may wait here. @returns false when the client cannot take more now */
  write(bytes: Buffer, ahead?: number): boolean;
  /** Resolves once the client can take more, or is gone. */
  drained(): Promise<void>;
  /** An answer of the agent's own to a request that the kernel had counted. */
  answer(bytes: Buffer): void;
  /** Resolves when the client has read all that the kernel redirected; false when it is gone. */
  quiet(): Promise<boolean>;
  /** Sends a request to the proxy, over a new connection if there is none. */
  toProxy(bytes: Buffer): void;
  dropProxy(): void;
  /** Ends the connection at once; the client sees a reset. */
  reset(): void;
  closeGracefully(): void;
}

/** Resolves after so many milliseconds. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
