/** envoy.config.route.v3.RouteMatch -> Condition, and which part of the path matched (for rewrites). */
import type { JsonObject } from '../policy/resources.js';
import { ALWAYS, all, any, NEVER, test } from './conditions.js';
import { headerCondition, queryCondition } from './header-match.js';
import type { Condition } from './ir.js';
import { bool, has, isObject, join, list, type Notes, num, obj, onlyFields, str } from './notes.js';
import type { MayChange } from './runtime.js';
import { regexMatcher } from './string-match.js';

export interface RouteMatchPlan {
  /** undefined: cannot be computed in the kernel (the notes say why) */
  readonly condition: Condition | undefined;
  /** bytes of the path that a prefix rewrite replaces; `whole`: all of it (without the query) */
  readonly matched: number | 'whole';
}

const PATH = { kind: 'path' } as const;
const TYPE = { kind: 'header', name: 'content-type' } as const;
/** What Envoy takes for gRPC (source/common/grpc/common.cc, hasGrpcContentType). */
const GRPC = any([
  test(TYPE, { kind: 'exact', value: 'application/grpc', ignoreCase: false }),
  test(TYPE, { kind: 'prefix', value: 'application/grpc+', ignoreCase: false }),
]);

function pathCondition(notes: Notes, match: JsonObject, path: string): { c?: Condition; matched: number | 'whole' } {
  const ignoreCase = !bool(match, 'case_sensitive', true);
  if (typeof match.path === 'string') {
    return { c: test(PATH, { kind: 'exact', value: match.path, ignoreCase }), matched: 'whole' };
  }
  if (typeof match.prefix === 'string') {
    const value = match.prefix;
    const matched = Buffer.byteLength(value);
    // every target that is decided here starts with a slash
    if (value === '' || value === '/') return { c: ALWAYS, matched };
    return { c: test(PATH, { kind: 'prefix', value, ignoreCase }), matched };
  }
  if (typeof match.path_separated_prefix === 'string') {
    const value = match.path_separated_prefix;
    const exact = test(PATH, { kind: 'exact', value, ignoreCase });
    const below = test(PATH, { kind: 'prefix', value: `${value}/`, ignoreCase });
    return { c: any([exact, below]), matched: Buffer.byteLength(value) };
  }
  const regex = obj(match, 'safe_regex');
  if (regex) {
    const m = regexMatcher(notes, regex, join(path, 'safe_regex'));
    return m ? { c: test(PATH, m), matched: 'whole' } : { matched: 'whole' };
  }
  if (has(match, 'connect_matcher')) {
    // CONNECT requests never get here: the fast path leaves them to the proxy unparsed
    return { c: NEVER, matched: 'whole' };
  }
  const kind = has(match, 'path_match_policy') ? 'path_match_policy' : 'no path specifier';
  notes.add('route-match', `${kind} is left to the proxy`, join(path, 'path_match_policy'), match);
  return { matched: 'whole' };
}

/**
 * A RuntimeFractionalPercent: true or false where it is decided by the files, undefined with a reason otherwise. A
 * runtime key can be overridden by a runtime layer, so it is decided only if no layer may say something about it.
 */
function runtimeFraction(notes: Notes, fraction: JsonObject, path: string, mayChange: MayChange): boolean | undefined {
  const value = obj(fraction, 'default_value') ?? {};
  const scale = { HUNDRED: 100, TEN_THOUSAND: 10_000, MILLION: 1_000_000 }[str(value, 'denominator') || 'HUNDRED'];
  const numerator = num(value, 'numerator');
  if (str(fraction, 'runtime_key') !== '' && mayChange(str(fraction, 'runtime_key'))) {
    notes.add('runtime-fraction', 'a runtime layer can change this fraction', path, fraction);
    return undefined;
  }
  if (scale !== undefined && numerator >= scale) return true;
  if (numerator === 0) return false;
  notes.add('runtime-fraction', `${numerator} of ${scale ?? 'unknown'} requests match`, path, fraction);
  return undefined;
}

/** Tests of the metadata that a request has when it is routed; undefined, with a reason: not known. */
export type MetadataTest = (notes: Notes, matcher: JsonObject, path: string) => Condition | undefined;

/** A RouteMatch; the condition is undefined, with reasons, if the kernel cannot compute it. */
export function routeMatch(
  notes: Notes,
  match: JsonObject,
  path: string,
  mayChange: MayChange,
  metadata?: MetadataTest,
  /** gRPC requests are not the proxy's */
  grpc = false,
): RouteMatchPlan {
  const before = notes.reasons.length;
  onlyFields(notes, match, path, [
    'path',
    'prefix',
    'path_separated_prefix',
    'safe_regex',
    'connect_matcher',
    'path_match_policy',
    'case_sensitive',
    'runtime_fraction',
    'headers',
    'query_parameters',
    'grpc',
    ...(metadata ? ['dynamic_metadata'] : []),
  ]);
  const { c, matched } = pathCondition(notes, match, path);
  const parts: (Condition | undefined)[] = [c];
  if (isObject(match.runtime_fraction)) {
    const fixed = runtimeFraction(notes, match.runtime_fraction, join(path, 'runtime_fraction'), mayChange);
    if (fixed === false) parts.push(NEVER);
  }
  // elsewhere, requests with a gRPC content type are sent to the proxy by the virtual host's guard
  if (has(match, 'grpc')) parts.push(grpc ? GRPC : NEVER);
  list(match, 'headers').forEach((h, i) => {
    parts.push(headerCondition(notes, h, join(path, `headers[${i}]`)));
  });
  list(match, 'query_parameters').forEach((q, i) => {
    parts.push(queryCondition(notes, q, join(path, `query_parameters[${i}]`)));
  });
  if (metadata)
    list(match, 'dynamic_metadata').forEach((m, i) => {
      parts.push(metadata(notes, m, join(path, `dynamic_metadata[${i}]`)));
    });
  const known = parts.filter((p): p is Condition => p !== undefined);
  // a part that never holds decides whatever the others say
  if (known.includes(NEVER)) return { condition: NEVER, matched };
  return { condition: notes.reasons.length > before ? undefined : all(known), matched };
}
