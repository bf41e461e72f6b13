/**
 * add_user_agent of a connection manager (ConnectionManagerUtility::mutateRequestHeaders): the proxy tells servers who it
 * is, and speaks for clients that do not say who they are.
 */
import type { JsonObject } from '../policy/resources.js';
import { any, headerPresent, not, test } from './conditions.js';
import type { Condition, HeaderEdit } from './ir.js';
import { bool, join, type Notes, str } from './notes.js';

/** What a proxy of Sidestep's own calls itself where the bootstrap does not say. */
export const UNNAMED = 'sidestep';
const PREFIX = 'x-envoy-downstream-service-';
const PLAIN = /^[\x21-\x7e]+$/;

export interface UserAgent {
  readonly edits: readonly HeaderEdit[];
  /** requests that get a name from the proxy: they are left to it */
  readonly guard: Condition;
}

/** Reads `add_user_agent`; undefined: it does nothing, or, with a reason, it is the proxy's. */
export function userAgentOf(
  notes: Notes,
  hcm: JsonObject,
  node: JsonObject | undefined,
  path: string,
): UserAgent | undefined {
  const key = 'add_user_agent';
  if (!bool(hcm, key)) return undefined;
  const names = { cluster: str(node, 'cluster') || UNNAMED, node: str(node, 'id') || UNNAMED };
  if (!notes.environment || !Object.values(names).every((name) => PLAIN.test(name))) {
    notes.add('unsupported-field', 'what the proxy calls itself is not known', join(path, key), hcm, key);
    return undefined;
  }
  const empty = test({ kind: 'header', name: 'user-agent' }, { kind: 'exact', value: '', ignoreCase: false });
  return {
    edits: Object.entries(names).map(([what, value]) => ({ op: 'overwrite', name: `${PREFIX}${what}`, value })),
    guard: any([not(headerPresent('user-agent')), empty]),
  };
}

/** Whether a header is one that the proxy names itself in. */
export const namesProxy = (header: string | undefined): boolean => header?.startsWith(PREFIX) ?? false;
