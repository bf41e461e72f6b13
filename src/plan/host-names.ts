/** From the host of a request to a virtual host. */

import type { ListenerPlan, VirtualHostPlan } from './ir.js';
import { asciiLower } from './matchers.js';

/** The host without its port (the part after the last colon that is not inside brackets). */
export function hostName(host: string): string {
  const colon = host.lastIndexOf(':');
  return colon < 0 || host.lastIndexOf(']') > colon ? host : host.slice(0, colon);
}

/** Envoy's choice of a virtual host: exact, then the longest `*suffix`, then the longest `prefix*`, then `*`. */
export function findVirtualHost(listener: ListenerPlan, rawHost: string): VirtualHostPlan | undefined {
  const { stripPort } = listener;
  let host = rawHost;
  if (stripPort === 'any' || (typeof stripPort === 'number' && rawHost.endsWith(`:${stripPort}`)))
    host = hostName(rawHost);
  host = asciiLower(host);
  const entries = listener.virtualHosts.flatMap((v) => v.domains.map((d) => ({ v, d })));
  const exact = entries.find((e) => e.d === host && !e.d.includes('*'));
  if (exact) return exact.v;
  const longest = (fits: (d: string) => boolean) =>
    entries
      .filter((e) => e.d !== '*' && e.d.length - 1 < host.length && fits(e.d))
      .sort((a, b) => b.d.length - a.d.length)[0];
  const suffix = longest((d) => d.startsWith('*') && host.endsWith(d.slice(1)));
  const prefix = longest((d) => !d.startsWith('*') && d.endsWith('*') && host.startsWith(d.slice(0, -1)));
  return (suffix ?? prefix ?? entries.find((e) => e.d === '*'))?.v;
}
