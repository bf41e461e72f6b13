/** Answers that the agent gives itself, as Envoy words them. */
import { type ExchangeEdits, editLocalReply } from './answer-programs.js';

const REASONS: Record<number, string> = {
  408: 'Request Timeout',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
};

/**
 * A complete answer. `toHead`: to a HEAD request, so without its body (RFC 9110 section 9.3.2). `close`: the connection
 * ends with it. `edits`: of the route's answers.
 */
export function localReply(status: number, body: string, toHead = false, close = false, edits?: ExchangeEdits): Buffer {
  const lines = [
    `HTTP/1.1 ${status} ${REASONS[status] ?? 'Unknown'}`,
    ...editLocalReply(body, edits).map(([name, value]) => `${name}: ${value}`),
    `date: ${new Date().toUTCString()}`,
    'server: envoy',
    ...(close ? ['connection: close'] : []),
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${toHead ? '' : body}`, 'latin1');
}

export const TIMEOUT_BODY = 'upstream request timeout';
export const IDLE_BODY = 'stream timeout';
export const TERMINATED_BODY =
  'upstream connect error or disconnect/reset before headers. reset reason: connection termination';
export const PROTOCOL_BODY = 'upstream connect error or disconnect/reset before headers. reset reason: protocol error';
