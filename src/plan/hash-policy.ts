/** RouteAction.HashPolicy: what of a request decides the endpoint under consistent hashing. */
import type { JsonObject } from '../policy/resources.js';
import type { RouteContext } from './actions.js';
import { MANAGED } from './header-match.js';
import type { HashPolicy, HeaderEdit } from './ir.js';
import { bool, has, join, list, type Notes, obj, onlyFields, str } from './notes.js';

/** What the route itself changes before the hash is made. */
export interface Changes {
  readonly edits: readonly HeaderEdit[];
  readonly target: boolean;
  readonly host: boolean;
}

const MAX_POLICIES = 8;

function headerSource(
  notes: Notes,
  ctx: RouteContext,
  header: JsonObject,
  at: string,
  changes: Changes,
): HashPolicy['of'] | undefined {
  onlyFields(notes, header, at, ['header_name']);
  const name = str(header, 'header_name').toLowerCase();
  const refuse = (why: string) => {
    notes.add('lb-policy', `a hash of ${name}, ${why}`, join(at, 'header_name'), header, 'header_name');
    return undefined;
  };
  switch (name) {
    case ':method':
      return { kind: 'method' };
    case ':path':
      return changes.target ? refuse('which is rewritten') : { kind: 'target' };
    case ':authority':
    case 'host':
      return changes.host || ctx.listener.stripPort !== 'none' ? refuse('which is rewritten') : { kind: 'host' };
    default:
      if (MANAGED.has(name) || name.startsWith(':') || name.startsWith('x-envoy-') || name === 'content-length')
        return refuse('which the proxy itself changes');
      if (name === 'x-forwarded-proto' || name === 'x-forwarded-host') return refuse('which the proxy itself changes');
      if (changes.edits.some((edit) => edit.name === name)) return refuse('which the route edits');
      return { kind: 'header', name };
  }
}

/**
 * Reads the hash policies of a route; what the fast path cannot compute becomes a reason.
 *
 * @param changes edits and rewrites of the route, which come before the hash
 */
export function hashPolicies(
  notes: Notes,
  ctx: RouteContext,
  action: JsonObject,
  path: string,
  changes: Changes,
): HashPolicy[] {
  const found: HashPolicy[] = [];
  list(action, 'hash_policy').forEach((policy, i) => {
    const at = `${join(path, 'hash_policy')}[${i}]`;
    const terminal = bool(policy, 'terminal');
    const add = (of: HashPolicy['of'] | undefined, generated = false): void => {
      if (of) found.push({ of, terminal, generated });
    };
    onlyFields(notes, policy, at, ['header', 'cookie', 'connection_properties', 'query_parameter', 'terminal']);
    const header = obj(policy, 'header');
    if (header) add(headerSource(notes, ctx, header, join(at, 'header'), changes));
    const cookie = obj(policy, 'cookie');
    if (cookie) {
      onlyFields(notes, cookie, join(at, 'cookie'), ['name', 'ttl', 'path', 'attributes']);
      if (changes.edits.some((edit) => edit.name === 'cookie'))
        notes.add('lb-policy', 'a hash of cookies, which the route edits', join(at, 'cookie'), policy, 'cookie');
      add({ kind: 'cookie', name: str(cookie, 'name') }, has(cookie, 'ttl'));
    }
    const query = obj(policy, 'query_parameter');
    if (query) {
      onlyFields(notes, query, join(at, 'query_parameter'), ['name']);
      add({ kind: 'query', name: str(query, 'name') });
    }
    const connection = obj(policy, 'connection_properties');
    if (connection) {
      onlyFields(notes, connection, join(at, 'connection_properties'), ['source_ip']);
      if (bool(connection, 'source_ip')) {
        ctx.listener.usesRemoteIp();
        add({ kind: 'source_ip' });
      }
    }
  });
  if (found.length > MAX_POLICIES)
    notes.add('lb-policy', `${found.length} hash policies`, join(path, 'hash_policy'), action, 'hash_policy');
  return found;
}
