/**
 * The jwt_authn filter (envoy.extensions.filters.http.jwt_authn.v3) -> conditions. A request passes in the kernel when it
 * carries no token at all and need not, or when its token is known and meets the requirement; every other one is the
 * proxy's, which verifies it and whose answer stands.
 *
 * What was read off Envoy's source and tried with the binary: a header counts as a token's place only when it contains
 * the prefix, in its exact spelling; the names of query parameters are decoded before they are compared; all tokens of a
 * request must be good; the first provider of `requires_any` that accepts decides, and only it removes the header.
 */
import { MAX_TOKEN_PLACES } from '../layout/image.js';
import type { JsonObject } from '../policy/resources.js';
import { ALWAYS, all, any, NEVER, not, test } from './conditions.js';
import type { TokenChange } from './filter-outcome.js';
import type { Condition } from './ir.js';
import { elsewhereEmpty, headersEmpty, mayHide } from './jwt-places.js';
import { filledBy, placesOf, readProvider } from './jwt-provider.js';
import { readRequirement } from './jwt-requirement.js';
import { anyType, bool, has, isObject, join, list, type Notes, obj, onlyFields, str } from './notes.js';
import { routeMatch } from './route-match.js';
import type { MayChange } from './runtime.js';
import { TokenQuestions } from './token-questions.js';
import {
  allowsMissing,
  looksEverywhere,
  providersOf,
  type Requirement,
  type TokenPlace,
  type TokenPlan,
  type TokenProvider,
} from './tokens.js';
import { valueMatch } from './value-match.js';

export const JWT_TYPE = 'envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication';
const PER_ROUTE = 'envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig';
/** The namespace of the metadata that the filter writes. */
export const JWT_METADATA = 'envoy.filters.http.jwt_authn';
export const TOO_MANY_QUESTIONS = 'more questions about tokens than there is room for';
/** Which requirement applies when; the conditions exclude each other. */
export interface JwtCase {
  readonly when: Condition;
  readonly requirement: Requirement;
}

/** What a good token does to its request. */
interface Effect {
  /** header that goes with it; '': none */
  readonly remove: string;
  /** headers come with it */
  readonly adds: boolean;
}

/** What the filter does to the requests of one route. */
export interface JwtOutcome {
  readonly cases: readonly JwtCase[];
  readonly notes: Notes;
}

interface Provider {
  readonly read: TokenProvider;
  readonly notes: Notes;
}

/** A jwt_authn filter of a listener. */
export class JwtFilter {
  readonly #config: JsonObject;
  readonly #path: string;
  readonly #questions = new TokenQuestions();
  readonly #providers = new Map<string, Provider>();
  readonly #cases: JwtOutcome;
  readonly #places: readonly TokenPlace[];
  /** headers that good tokens are the only ones to fill, lower case */
  readonly #filled: ReadonlySet<string>;
  readonly #bypass: boolean;
  readonly #notes: Notes;

  constructor(notes: Notes, config: JsonObject, path: string, mayChange: MayChange) {
    this.#config = config;
    this.#path = path;
    this.#notes = notes.fork();
    onlyFields(this.#notes, config, path, [
      'providers',
      'rules',
      'requirement_map',
      'bypass_cors_preflight',
      // how a refusal, which is the proxy's, reads
      'strip_failure_response',
      'stat_prefix',
    ]);
    this.#bypass = bool(config, 'bypass_cors_preflight');
    for (const [name, value] of Object.entries(obj(config, 'providers') ?? {})) {
      if (!isObject(value)) continue;
      const notes = this.#notes.fork();
      this.#providers.set(name, { read: readProvider(notes, value, `${path}.providers["${name}"]`), notes });
    }
    const read = [...this.#providers.values()].map((p) => p.read);
    this.#places = placesOf(read);
    this.#filled = new Set(read.flatMap(filledBy));
    if (this.#places.length > MAX_TOKEN_PLACES)
      this.#notes.add('budget', `tokens in more than ${MAX_TOKEN_PLACES} places`, join(path, 'providers'), config);
    const both = this.#places.find(({ kind, name }) => kind === 'header' && this.#filled.has(name));
    if (both) this.#notes.add('jwt', `tokens are read from ${both.name} and written to it`, path, config);
    this.#cases = this.#rules(mayChange);
  }

  /** Names of the headers in which tokens may be, lower case. */
  get headers(): readonly string[] {
    return this.#places.flatMap(({ kind, name }) => (kind === 'header' ? [name] : kind === 'cookie' ? ['cookie'] : []));
  }

  /** Headers that the filter takes out of every request that it sees, before a good token fills them. */
  get filled(): ReadonlySet<string> {
    return this.#filled;
  }

  /** The providers' objects with why tokens are not judged in the kernel by them (nothing: they are). */
  *outcomes(): Generator<readonly [JsonObject, Notes]> {
    for (const [name, { notes }] of this.#providers) yield [obj(obj(this.#config, 'providers'), name)!, notes];
  }

  #named(name: string): Requirement | undefined {
    const found = obj(obj(this.#config, 'requirement_map'), name);
    return found && readRequirement(this.#notes, found, `${this.#path}.requirement_map["${name}"]`);
  }

  /** The filter's own rules: the first that matches applies. */
  #rules(mayChange: MayChange): JwtOutcome {
    const notes = this.#notes.fork();
    const cases: JwtCase[] = [];
    let before: Condition = NEVER;
    list(this.#config, 'rules').forEach((rule, i) => {
      const at = `${this.#path}.rules[${i}]`;
      onlyFields(notes, rule, at, ['match', 'requires', 'requirement_name']);
      const { condition } = routeMatch(notes, obj(rule, 'match') ?? {}, join(at, 'match'), mayChange);
      if (condition === undefined) return;
      const requires = obj(rule, 'requires');
      const requirement = requires
        ? readRequirement(notes, requires, join(at, 'requires'))
        : has(rule, 'requirement_name')
          ? this.#named(str(rule, 'requirement_name'))
          : ({ kind: 'none' } as const);
      if (!requirement) {
        notes.add('jwt', 'a requirement that is not defined', join(at, 'requirement_name'), rule);
        return;
      }
      cases.push({ when: all([condition, not(before)]), requirement });
      before = any([before, condition]);
    });
    return { cases, notes };
  }

  /** What applies to a route: its own configuration, or the filter's rules. */
  outcome(perRoute: JsonObject | undefined, path: string): JwtOutcome {
    const notes = this.#notes.fork();
    notes.reasons.push(...this.#notes.reasons);
    if (!perRoute) {
      notes.reasons.push(...this.#cases.notes.reasons);
      return { cases: this.#checked(notes, this.#cases.cases), notes };
    }
    if (anyType(perRoute) !== PER_ROUTE)
      notes.add('per-route-filter', `unknown configuration ${anyType(perRoute)}`, path, perRoute);
    onlyFields(notes, perRoute, path, ['disabled', 'requirement_name']);
    if (bool(perRoute, 'disabled')) {
      if (this.#filled.size > 0) notes.add('jwt', 'whether headers for claims are taken out', path, perRoute);
      return { cases: [], notes };
    }
    const requirement = this.#named(str(perRoute, 'requirement_name'));
    if (!requirement) {
      notes.add('jwt', 'a requirement that is not defined', join(path, 'requirement_name'), perRoute);
      return { cases: [], notes };
    }
    return { cases: this.#checked(notes, [{ when: ALWAYS, requirement }]), notes };
  }

  /** Adds the reasons of the providers that the cases need. */
  #checked(notes: Notes, cases: readonly JwtCase[]): readonly JwtCase[] {
    if (cases.some(({ requirement }) => looksEverywhere(requirement)))
      notes.add('jwt', 'tokens may be missing, but those of all providers are looked at', this.#path, this.#config);
    for (const { requirement } of cases)
      for (const name of providersOf(requirement)) {
        const provider = this.#providers.get(name);
        if (provider) notes.reasons.push(...provider.notes.reasons);
        else notes.add('jwt', `no provider ${name}`, this.#path, this.#config);
      }
    return cases;
  }

  #read(requirement: Requirement): TokenProvider[] {
    return providersOf(requirement).flatMap((name) => this.#providers.get(name)?.read ?? []);
  }

  /** What good tokens can do to a request: take a header out of it, add others. */
  #effects(providers: readonly TokenProvider[]): Effect[] {
    const effects = new Map<string, Effect>();
    for (const p of providers)
      for (const { kind, name } of placesOf([p])) {
        // see tokenIn in judge-token.ts
        if (kind === 'param' && !p.forward) continue;
        const remove = p.forward || kind !== 'header' ? '' : name;
        for (const adds of filledBy(p).length === 0 ? [false] : p.payloadHeader === '' ? [false, true] : [true])
          effects.set(`${adds} ${remove}`, { remove, adds });
      }
    return [...effects.values()];
  }

  /** The request's token meets the requirement, and does this to it. */
  #satisfied(notes: Notes, requirement: Requirement, effect: Effect): Condition {
    const fact = this.#questions.ask({ kind: 'satisfied', requirement, ...effect });
    if (!fact) {
      notes.add('budget', TOO_MANY_QUESTIONS, this.#path, this.#config);
      return NEVER;
    }
    // whether a preflight request is looked at is decided by more than its method
    const method = test({ kind: 'method' }, { kind: 'exact', value: 'OPTIONS', ignoreCase: false });
    return all([fact, ...(this.#bypass ? [not(method)] : [])]);
  }

  /** Requests that the kernel cannot judge. */
  undecided(notes: Notes, cases: readonly JwtCase[]): Condition {
    const preflight = test({ kind: 'method' }, { kind: 'exact', value: 'OPTIONS', ignoreCase: false });
    const untouched = this.#bypass && this.#filled.size > 0 ? preflight : NEVER;
    return any([
      untouched,
      ...cases.map(({ when, requirement }) => {
        const providers = this.#read(requirement);
        if (looksEverywhere(requirement)) return when;
        if (providers.length === 0) return allowsMissing(requirement) ? NEVER : when;
        const ways = this.#effects(providers).map((e) => this.#satisfied(notes, requirement, e));
        if (allowsMissing(requirement)) {
          const headers = headersEmpty(notes, providers, this.#path);
          const elsewhere = elsewhereEmpty(notes, providers, this.#path);
          if (!headers || !elsewhere)
            notes.add('jwt', 'a place for tokens that only the proxy can look into', this.#path, this.#config);
          else ways.push(all([headers, elsewhere]));
        }
        return all([when, any([not(any(ways)), mayHide(this.#places)])]);
      }),
    ]);
  }

  /** What good tokens do to requests, and when. */
  changes(notes: Notes, cases: readonly JwtCase[]): TokenChange[] {
    const effects = new Map<string, Effect>();
    for (const { requirement } of cases)
      for (const effect of this.#effects(this.#read(requirement)))
        if (effect.remove !== '' || effect.adds) effects.set(JSON.stringify(effect), effect);
    return [...effects.values()].map((effect) => ({
      remove: effect.remove,
      adds: effect.adds ? [...this.#filled] : [],
      when: any(
        cases
          .filter(({ requirement }) =>
            this.#effects(this.#read(requirement)).some((e) => e.remove === effect.remove && e.adds === effect.adds),
          )
          .map(({ when, requirement }) => all([when, this.#satisfied(notes, requirement, effect)])),
      ),
    }));
  }

  /** Whether a good token can lead to another route. */
  get reroutes(): boolean {
    return [...this.#providers.values()].some(({ read }) => read.reroutes);
  }

  /** Headers that look different when a request is routed again, lower case. */
  get changed(): ReadonlySet<string> {
    const rerouting = [...this.#providers.values()].flatMap(({ read }) => (read.reroutes ? [read] : []));
    if (rerouting.length === 0) return new Set();
    // the filter takes headers for claims out for all providers
    return new Set([...rerouting.flatMap((p) => p.headers.map((h) => h.name)), ...this.#filled]);
  }

  /** Requests that are routed again. */
  rerouted(notes: Notes, cases: readonly JwtCase[]): Condition {
    const conditions = cases.map(({ when, requirement }) => {
      if (!this.#read(requirement).some((p) => p.reroutes)) return NEVER;
      const fact = this.#questions.ask({ kind: 'rerouted', requirement });
      if (!fact) notes.add('budget', TOO_MANY_QUESTIONS, this.#path, this.#config);
      return fact ? all([when, fact]) : NEVER;
    });
    return any(conditions);
  }

  /**
   * A test of the metadata that the filter leaves behind; undefined if it cannot be computed.
   * @param routed as the route's match sees it
   */
  claim(
    notes: Notes,
    cases: readonly JwtCase[],
    path: readonly string[],
    value: JsonObject,
    at: string,
    routed = false,
  ): Condition | undefined {
    const match = valueMatch(notes, value, at);
    if (!match) return undefined;
    const parts = cases.map(({ when, requirement }) => {
      const known = this.#read(requirement).some(
        (p) => p.payloadKey !== '' && p.payloadKey === path[0] && (p.reroutes || !routed),
      );
      if (!known) return NEVER;
      const fact = this.#questions.ask({
        kind: 'claim',
        requirement,
        path,
        value: match,
        ...(routed ? { routed } : {}),
      });
      return fact && all([when, fact]);
    });
    return parts.every((p) => p !== undefined) ? any(parts as Condition[]) : undefined;
  }

  /** All questions asked so far; undefined if there are none. */
  plan(): TokenPlan | undefined {
    const { facts } = this.#questions;
    if (facts.length === 0) return undefined;
    const providers: Record<string, TokenProvider> = {};
    for (const name of new Set(facts.flatMap((f) => providersOf(f.requirement)))) {
      const read = this.#providers.get(name)?.read;
      if (read) providers[name] = read;
    }
    return { places: this.#places, providers, facts };
  }
}
