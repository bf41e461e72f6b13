/** Ids of requests that are traced: the proxy decides by their digits, and notes in their version what it has decided. */
import type { TracePlan } from './tracing.js';

/** Of how many requests shares are counted. */
export const SHARES = 10_000;
const VERSION = 14;

/** Whether an id says that its request is traced. */
export const isTraced = (id: string): boolean => /^[9ab]$/.test(id.charAt(VERSION));

const withVersion = (id: string, version: string): string =>
  `${id.slice(0, VERSION)}${version}${id.slice(VERSION + 1)}`;

/** The id (36 characters) with what is decided about its request, as Envoy's UUID extension does it. */
export function decidedId(id: string, { random, overall }: Pick<TracePlan, 'random' | 'overall'>): string {
  const share = Number.parseInt(id.slice(0, 8), 16) % SHARES;
  const decided = !isTraced(id) && share < random ? withVersion(id, '9') : id;
  return isTraced(decided) && share >= overall ? withVersion(decided, '4') : decided;
}
