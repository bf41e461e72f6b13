/** How long connections may be idle (core.HttpProtocolOptions.idle_timeout), in milliseconds; 0: for ever. */
import { connectionManagers } from '../policy/envoy/walk.js';
import type { JsonObject } from '../policy/resources.js';
import { durationMs, isObject, obj } from './notes.js';

/** The default, of both sides. */
export const HOUR_MS = 3_600_000;
const DRAIN_MS = 5000;
const DELAYED_CLOSE_MS = 1000;

/** How long a connection to a cluster's endpoint may have no request in flight. */
export function upstreamIdleMs(cluster: JsonObject): number {
  const options = Object.values(obj(cluster, 'typed_extension_protocol_options') ?? {}).filter(isObject);
  const found = [...options, cluster].map((owner) =>
    durationMs(obj(owner, 'common_http_protocol_options'), 'idle_timeout'),
  );
  return found.find((ms) => ms !== undefined) ?? HOUR_MS;
}

/** What clients' connections to a listener are allowed. */
export interface DownstreamIdle {
  readonly idleMs: number;
  /** what Envoy 1.40 adds for connections that have been used: it drains them first, then closes with a delay (tried with the binary) */
  readonly closingMs: number;
}

/** How long a client's connection to a listener may have no request in flight. */
export function downstreamIdle(listener: JsonObject): DownstreamIdle {
  const [manager = {}] = connectionManagers(listener);
  return {
    idleMs: durationMs(obj(manager, 'common_http_protocol_options'), 'idle_timeout') ?? HOUR_MS,
    closingMs:
      (durationMs(manager, 'drain_timeout') ?? DRAIN_MS) +
      (durationMs(manager, 'delayed_close_timeout') ?? DELAYED_CLOSE_MS),
  };
}

/** The shorter of two such times. */
export function shorter(a: number | undefined, b: number): number {
  return !a ? b : b === 0 ? a : Math.min(a, b);
}

/** A time after which a connection to the proxy is closed, so that the proxy does not drain it. */
export function beforeDrain(idleMs: number): number {
  return (idleMs * 3) / 4;
}
