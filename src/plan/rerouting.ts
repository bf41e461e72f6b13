/**
 * Routes that depend on tokens. Envoy chooses a route before any filter runs; a jwt_authn filter whose provider has
 * `clear_route_cache` has it chosen again once a good token has left its claims in the metadata (tried with the binary:
 * not for `forward_payload_header` alone). Filters before it have then acted as the first route told them, so this is
 * only followed where the filter is the first one and no route configures it.
 */
import type { JsonObject } from '../policy/resources.js';
import { all, headersOf, NEVER, not, whatever } from './conditions.js';
import type { Condition } from './ir.js';
import { JWT_METADATA, type JwtCase, type JwtFilter, TOO_MANY_QUESTIONS } from './jwt.js';
import { bool, list, type Notes, obj, onlyFields, str } from './notes.js';
import type { MetadataTest } from './route-match.js';
import { valueMatch } from './value-match.js';

/** The jwt_authn filter of a chain. */
export interface JwtPlace {
  readonly jwt: JwtFilter;
  readonly name: string;
  readonly first: boolean;
  readonly disabled: boolean;
}

/** What a route's match sees of tokens. */
export class Rerouting {
  readonly #place: JwtPlace | undefined;
  readonly #cases: readonly JwtCase[];
  /** why only the proxy knows what routes see */
  readonly #unknown: string | undefined;

  /** @param routeConfig the routes whose matches are asked about */
  constructor(place: JwtPlace | undefined, routeConfig: JsonObject) {
    this.#place = place?.jwt.reroutes ? place : undefined;
    this.#cases = this.#place ? this.#place.jwt.outcome(undefined, '').cases : [];
    if (!this.#place) return;
    if (!this.#place.first || this.#place.disabled) this.#unknown = 'other filters see requests before they are';
    else if (configures(routeConfig, this.#place.name)) this.#unknown = 'a route configures the filter';
  }

  /** Tests of metadata in a route's match. */
  readonly metadata: MetadataTest = (notes, matcher, path) => {
    const before = notes.reasons.length;
    onlyFields(notes, matcher, path, ['filter', 'path', 'value', 'invert']);
    const filter = str(matcher, 'filter');
    if (filter !== JWT_METADATA) notes.add('metadata', `metadata of ${filter || 'a filter'}`, path, matcher);
    if (this.#unknown !== undefined)
      notes.add('metadata', `requests are routed again by their tokens, and ${this.#unknown}`, path, matcher);
    if (notes.reasons.length > before) return undefined;
    const keys = list(matcher, 'path').map((segment) => str(segment, 'key'));
    const value = obj(matcher, 'value') ?? {};
    const condition = this.#place
      ? this.#place.jwt.claim(notes, this.#cases, keys, value, `${path}.value`, true)
      : // nobody has written anything by the time that the route is chosen
        valueMatch(notes, value, `${path}.value`) && NEVER;
    if (!condition && notes.reasons.length === before) notes.add('budget', TOO_MANY_QUESTIONS, path, matcher);
    return condition && bool(matcher, 'invert') ? not(condition) : condition;
  };

  /**
   * Requests of which a route's match, in computing `condition`, would see other headers than the client sent.
   * @returns undefined, with a reason, if that is not known
   */
  unseen(notes: Notes, condition: Condition, path: string, match: JsonObject): Condition | undefined {
    if (!this.#place) return NEVER;
    const { changed } = this.#place.jwt;
    if (!headersOf(condition).some((name) => changed.has(name))) return NEVER;
    if (this.#unknown !== undefined) {
      notes.add('metadata', `requests are routed again by their tokens, and ${this.#unknown}`, path, match);
      return undefined;
    }
    return all([whatever(condition, changed), this.#place.jwt.rerouted(notes, this.#cases)]);
  }
}

/** Whether anything in a route configuration has a configuration of its own for the filter. */
function configures(value: unknown, filter: string): boolean {
  if (Array.isArray(value)) return value.some((v) => configures(v, filter));
  if (typeof value !== 'object' || value === null) return false;
  const own = obj(value as JsonObject, 'typed_per_filter_config');
  return (own !== undefined && Object.hasOwn(own, filter)) || Object.values(value).some((v) => configures(v, filter));
}
