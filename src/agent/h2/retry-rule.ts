/** Whether a stream's answer, or its reset, has it tried again: as Envoy decides (RetryStateImpl). Pure. */
import { RETRY_STREAMS } from '../../layout/actions.js';
import { decodeBlock, type Field } from './block.js';
import type { RetryRule } from './kept.js';

const DIGITS = /^\s*\+?(\d+)\s*$/;

/** gRPC's status of a head; undefined: it has none that a policy could name. */
function grpcStatus(fields: readonly Field[]): number | undefined {
  const found = fields.filter(([name]) => name === 'grpc-status');
  const [, digits] = (found.length === 1 && DIGITS.exec(found[0]![1])) || [];
  return digits === undefined ? undefined : Number(digits);
}

/** Whether an answer is not for the client. @param block the whole header block; one of 1xx is the client's, and ends retries */
export function retriesHead(rule: RetryRule, block: Buffer): boolean {
  const fields = decodeBlock(block) ?? [];
  const status = Number(fields.find(([name]) => name === ':status')?.[1]);
  // a rate limiter's answer is not retried
  if (status < 200 || fields.some(([name]) => name === 'x-envoy-ratelimited')) return false;
  if (rule.retries(status)) return true;
  const grpc = grpcStatus(fields);
  return grpc !== undefined && grpc > 0 && grpc < 31 && ((rule.streams >> grpc) & 1) === 1;
}

/** @param refused the server has refused the stream, or says that it has not taken it */
export function retriesReset({ resets, streams }: RetryRule, refused: boolean): boolean {
  return resets || (refused && (streams & RETRY_STREAMS.REFUSED) > 0);
}
