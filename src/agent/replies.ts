/** Answers that the agent gives itself, as Envoy words them. */
import { STATUS_CODES } from 'node:http';
import { type ExchangeEdits, editLocalReply } from './answer-programs.js';

/**
 * A complete answer. `toHead`: to a HEAD request, so without its body (RFC 9110 section 9.3.2). `close`: the connection
 * ends with it. `edits`: of the route's answers.
 */
export function localReply(status: number, body: string, toHead = false, close = false, edits?: ExchangeEdits): Buffer {
  const said = editLocalReply(status, body, edits);
  const lines = [
    `HTTP/1.1 ${said.status} ${STATUS_CODES[said.status] ?? 'Unknown'}`,
    ...said.headers.map(([name, value]) => `${name}: ${value}`),
    `date: ${new Date().toUTCString()}`,
    'server: envoy',
    ...(close ? ['connection: close'] : []),
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${toHead ? '' : said.body}`, 'latin1');
}

export const TIMEOUT_BODY = 'upstream request timeout';
export const IDLE_BODY = 'stream timeout';
export const TERMINATED_BODY =
  'upstream connect error or disconnect/reset before headers. reset reason: connection termination';
export const PROTOCOL_BODY = 'upstream connect error or disconnect/reset before headers. reset reason: protocol error';
