/**
 * What a listener asks about JSON Web Tokens, in terms that outlive one request: a token is verified once, in user space,
 * and the answers to all questions (facts) are kept with it. The kernel asks none of them of a token that it does not
 * know.
 */

/** Where a token may be in a request; the kernel looks into all places of a listener. Header names are lower case. */
export interface TokenPlace {
  readonly kind: 'header' | 'param' | 'cookie';
  readonly name: string;
}

/** Where a provider looks for its token in a header: the value from behind `prefix` on. */
export interface TokenHeader {
  /** lower case */
  readonly name: string;
  readonly prefix: string;
}

/** envoy.extensions.filters.http.jwt_authn.v3.JwtProvider, as far as a token is judged by it. */
export interface TokenProvider {
  /** '': any issuer */
  readonly issuer: string;
  /** empty: any audience */
  readonly audiences: readonly string[];
  readonly headers: readonly TokenHeader[];
  readonly params: readonly string[];
  readonly cookies: readonly string[];
  /** the token stays in the request */
  readonly forward: boolean;
  /** key in the filter's metadata that the claims are put under; '': nowhere */
  readonly payloadKey: string;
  /** claims whose text becomes a list of its words in the metadata */
  readonly spaceDelimited: readonly string[];
  /** the request is routed again once the token has left claims in the metadata or in headers */
  readonly reroutes: boolean;
  readonly keys: TokenKeys;
  /** headers that claims (names with dots for what is inside others) are put into; names are lower case */
  readonly claimHeaders: readonly { readonly name: string; readonly claim: string }[];
  /** header that the token's payload is put into as it is, lower case; '': none */
  readonly payloadHeader: string;
  /** its base64 is padded */
  readonly padded: boolean;
  /** what `sub` must be */
  readonly subject?: TextMatch;
}

export type TokenKeys =
  | { readonly kind: 'inline'; readonly jwks: string }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'remote'; readonly uri: string; readonly cluster: string; readonly cacheMs: number };

/** envoy.extensions.filters.http.jwt_authn.v3.JwtRequirement. `none`: everything passes. */
export type Requirement =
  | { readonly kind: 'provider'; readonly provider: string; readonly audiences: readonly string[] }
  | { readonly kind: 'any' | 'all'; readonly of: readonly Requirement[] }
  | { readonly kind: 'allow_missing' | 'allow_failed' | 'none' };

/** envoy.type.matcher.v3.ValueMatcher, of those kinds that do not match what is missing. */
export type ValueMatch =
  | { readonly kind: 'string'; readonly matcher: TextMatch }
  | { readonly kind: 'bool'; readonly value: boolean }
  | { readonly kind: 'present' }
  | { readonly kind: 'any_element'; readonly of: ValueMatch }
  | { readonly kind: 'or'; readonly of: readonly ValueMatch[] };

export type TextMatch =
  | { readonly kind: 'exact' | 'prefix' | 'suffix' | 'contains'; readonly value: string; readonly ignoreCase: boolean }
  | { readonly kind: 'regex'; readonly pattern: string };

/** One question about a token that is the only one in its request. */
export type TokenFact =
  /**
   * the requirement is met, `remove` is the header that the token's provider takes out of the request ('': none), and
   * `adds` says whether it puts something into headers
   */
  | {
      readonly kind: 'satisfied';
      readonly requirement: Requirement;
      readonly remove: string;
      readonly adds: boolean;
    }
  /** the requirement is met, and the claims that this leaves in the metadata match */
  | {
      readonly kind: 'claim';
      readonly requirement: Requirement;
      readonly path: readonly string[];
      readonly value: ValueMatch;
      /** what routes see, which know of claims only when the request is routed again */
      readonly routed?: true;
    }
  /** the requirement is met, and the request is routed again */
  | { readonly kind: 'rerouted'; readonly requirement: Requirement };

export interface TokenPlan {
  /** where tokens are looked up; of a request with more than one none is known */
  readonly places: readonly TokenPlace[];
  readonly providers: Readonly<Record<string, TokenProvider>>;
  /** by number, at most MAX_TOKEN_FACTS */
  readonly facts: readonly TokenFact[];
}

/** Bits of the two words that facts about tokens have. */
export const MAX_TOKEN_FACTS = 128;

/** Names of the providers that a requirement speaks of, each once. */
export function providersOf(requirement: Requirement): string[] {
  if (requirement.kind === 'provider') return [requirement.provider];
  if (requirement.kind !== 'any' && requirement.kind !== 'all') return [];
  return [...new Set(requirement.of.flatMap(providersOf))];
}

/**
 * Whether a requirement looks at the tokens of all providers, not only of those that it names: that is what "may be
 * missing" (or bad) means where it does not stand beside a provider as its alternative.
 */
export function looksEverywhere(requirement: Requirement): boolean {
  if (requirement.kind === 'allow_missing' || requirement.kind === 'allow_failed') return true;
  if (requirement.kind === 'all') return requirement.of.some(looksEverywhere);
  if (requirement.kind !== 'any') return false;
  const others = requirement.of.filter(({ kind }) => kind !== 'allow_missing' && kind !== 'allow_failed');
  return others.length === 0 || others.some(looksEverywhere);
}

/** Whether the requirement is met by a request without any token (in the places of its providers). */
export function allowsMissing(requirement: Requirement): boolean {
  switch (requirement.kind) {
    case 'provider':
      return false;
    case 'any':
      return requirement.of.some(allowsMissing);
    case 'all':
      return requirement.of.every(allowsMissing);
    default:
      return true;
  }
}
