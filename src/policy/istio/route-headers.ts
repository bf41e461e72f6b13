/** Header operations of routes and destinations, as istiod translates them. */
import type { JsonObject } from '../resources.js';
import type { Headers } from './schema/virtual-service.js';

export interface HeaderOperations {
  /** header fields of a Route or a ClusterWeight, those that are not empty */
  readonly fields: JsonObject;
  /** the new Host that was asked for by setting `host` or `:authority` */
  readonly authority: string;
}

const isAuthority = (name: string) => /^(:authority|host)$/i.test(name);
/** Names that Envoy refuses to edit; Host becomes a host rewrite instead. */
const isInternal = (name: string) => name.startsWith(':') || /^host$/i.test(name);

function additions(
  values: Readonly<Record<string, string>> | undefined,
  action: string,
): { add: JsonObject[]; authority: string } {
  let authority = '';
  const add: { key: string; json: JsonObject }[] = [];
  for (const [key, value] of Object.entries(values ?? {})) {
    if (isAuthority(key)) authority = value;
    if (!isInternal(key)) add.push({ key, json: { header: { key, value }, append_action: action } });
  }
  add.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  return { add: add.map((a) => a.json), authority };
}

/** Translates `headers` of a route or destination. Sets come before additions, each sorted by name. */
export function headerOperations(headers: Headers | undefined): HeaderOperations {
  const fields: JsonObject = {};
  let authority = '';
  for (const direction of ['request', 'response'] as const) {
    const operations = headers?.[direction];
    const set = additions(operations?.set, 'OVERWRITE_IF_EXISTS_OR_ADD');
    const add = additions(operations?.add, 'APPEND_IF_EXISTS_OR_ADD');
    const both = [...set.add, ...add.add];
    if (both.length > 0) fields[`${direction}_headers_to_add`] = both;
    const remove = (operations?.remove ?? []).filter((name) => !isInternal(name));
    if (remove.length > 0) fields[`${direction}_headers_to_remove`] = remove;
    if (direction === 'request') authority = set.authority || add.authority;
  }
  return { fields, authority };
}

/** Appends header fields to those of a route (a single destination's operations count at the route). */
export function appendHeaderFields(target: JsonObject, fields: JsonObject): void {
  for (const [key, value] of Object.entries(fields)) {
    const before = target[key];
    target[key] = Array.isArray(before) && Array.isArray(value) ? [...before, ...value] : value;
  }
}
