/** How long streams may take, beyond a route's timeout: gRPC's own header, and durations. */
import type { JsonObject } from '../policy/resources.js';
import type { HeaderEdit, StreamTimes } from './ir.js';
import { durationMs, has, join, type Notes, obj } from './notes.js';

/** What grpc-timeout can say in milliseconds with its eight digits; Envoy writes more in seconds. */
const MOST = 99_999_999;

/**
 * What RouteAction's max_grpc_timeout or max_stream_duration means for streams (Envoy's FilterUtility::finalTimeout, and
 * refreshDurationTimeout of its connection manager).
 * @param edits of the request, which must not touch the header; @param tries the time of each that the policy says, and the one that counts beside the route's timeout
 * @returns undefined when grpc-timeout is a header like any other, or with a note
 */
export function streamTimes(
  notes: Notes,
  action: JsonObject,
  path: string,
  {
    edits,
    tries,
    quiet,
  }: {
    readonly edits: readonly HeaderEdit[];
    readonly tries: readonly [said: number, counted: number];
    readonly quiet: boolean;
  },
): StreamTimes | undefined {
  const duration = obj(action, 'max_stream_duration');
  const key = duration ? 'max_stream_duration' : 'max_grpc_timeout';
  if (!has(action, key)) return undefined;
  const left = (message: string, field = key): undefined => {
    notes.add('timeout', message, join(path, field), action, field);
    return undefined;
  };
  const owner = duration ?? action;
  if (has(owner, duration ? 'grpc_timeout_header_offset' : 'grpc_timeout_offset'))
    return left('grpc-timeout is taken to be shorter', duration ? key : 'grpc_timeout_offset');
  if (edits.some(({ name }) => name === 'grpc-timeout')) return left('grpc-timeout is edited');
  const [said, counted] = tries;
  if (said > 0 && (duration || said !== counted)) return left('the time of a try stands beside others');
  const grpcMs = durationMs(owner, duration ? 'grpc_timeout_header_max' : 'max_grpc_timeout') ?? 0;
  const durationTime = duration && (durationMs(duration, 'max_stream_duration') ?? 0);
  if (grpcMs > MOST || (durationTime ?? 0) > MOST) return left('a time of more than a day');
  return {
    grpc: !duration,
    grpcMs,
    ...(durationTime === undefined ? {} : { durationMs: durationTime }),
    header: duration !== undefined && has(duration, 'grpc_timeout_header_max'),
    quiet,
  };
}
