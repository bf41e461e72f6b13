/**
 * Verifies a token and answers a listener's questions about it, as Envoy's jwt_authn filter would. Nothing depends on it
 * that Envoy refuses: the proxy sees every token that is not judged here, so whatever is unusual (JSON that two parsers
 * could read differently, encodings that are not canonical, header fields that change the meaning) is not judged.
 */
import { compactVerify, importJWK, type JWK } from 'jose';
import { matchesValue } from './matchers.js';
import { type TokenHeaders, tokenHeaders } from './token-headers.js';
import {
  allowsMissing,
  MAX_TOKEN_FACTS,
  providersOf,
  type Requirement,
  type TokenFact,
  type TokenPlace,
  type TokenPlan,
  type TokenProvider,
  type ValueMatch,
} from './tokens.js';

/** A verified token. */
export interface KnownToken {
  /** numbers of the facts that hold */
  readonly facts: ReadonlySet<number>;
  /** end of its validity, in seconds since the epoch; undefined: none */
  readonly until: number | undefined;
  /** headers that come with it, in order; at most MAX_TOKEN_LINES bytes as lines */
  readonly headers: readonly (readonly [name: string, value: string])[];
}

/** The keys of a provider, or undefined while nobody knows them. */
export type KeysOf = (provider: TokenProvider) => Promise<readonly JWK[] | undefined>;

type Claims = Readonly<Record<string, unknown>>;
/** `missing`: no token for this provider; `other`: certainly one of another issuer; `uncertain`: only Envoy knows */
type Finding =
  | { readonly kind: 'missing' | 'other' | 'uncertain' }
  | { readonly kind: 'good'; readonly claims: Claims; readonly headers: TokenHeaders };

const ALGORITHM = /^(RS|PS|ES|HS)(256|384|512)$|^EdDSA$/;
const TOKEN = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
const MAX_DEPTH = 32;

/** The keys of a JSON Web Key Set (RFC 7517); undefined if it is none. */
export function keysOfSet(text: string): readonly JWK[] | undefined {
  try {
    const set = JSON.parse(text) as { keys?: unknown };
    return Array.isArray(set.keys) ? set.keys.filter((k): k is JWK => typeof k === 'object' && k !== null) : undefined;
  } catch {
    return undefined;
  }
}

/** The JSON object in a part of a token, if every parser reads it alike: canonical base64url, UTF-8, no key twice. */
function readPart(part: string): Claims | undefined {
  const bytes = Buffer.from(part, 'base64url');
  if (bytes.toString('base64url') !== part) return undefined;
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    const value: unknown = JSON.parse(text);
    const plain = typeof value === 'object' && value !== null && !Array.isArray(value) && !ambiguous(text);
    // halves of surrogate pairs can only be written as escapes
    return plain && !/\\u(d[89a-f])/i.test(text) ? (value as Claims) : undefined;
  } catch {
    return undefined;
  }
}

/** True for (valid) JSON with a key twice in one object, or nested deeply. */
function ambiguous(text: string): boolean {
  const open: (Set<string> | undefined)[] = [];
  let last = '';
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\]:]/g)) {
    if (token === '{' || token === '[') {
      if (open.push(token === '{' ? new Set() : undefined) > MAX_DEPTH) return true;
    } else if (token === '}' || token === ']') open.pop();
    else if (token === ':') {
      const keys = open.at(-1);
      const key = JSON.parse(last) as string;
      if (keys?.has(key)) return true;
      keys?.add(key);
    } else last = token;
  }
  return false;
}

/** What is in a provider's parameter or cookie, or behind the prefix of its header, where that is exactly one token. */
function tokenIn(provider: TokenProvider, { kind, name }: TokenPlace, value: string): string | 'missing' | 'uncertain' {
  if (kind !== 'header') {
    if (!(kind === 'param' ? provider.params : provider.cookies).includes(name)) return 'missing';
    // taking a token out of the query, Envoy writes all of it anew
    return (kind === 'cookie' || provider.forward) && TOKEN.test(value) ? value : 'uncertain';
  }
  const places = provider.headers.filter((h) => h.name === name && value.includes(h.prefix));
  const [place] = places;
  if (!place) return 'missing';
  if (places.length > 1 || !value.startsWith(place.prefix)) return 'uncertain';
  const rest = value.slice(place.prefix.length);
  // Envoy passes over white space only where there is a prefix
  const token = place.prefix === '' ? rest : rest.replace(/^ +/, '');
  return TOKEN.test(token) ? token : 'uncertain';
}

const isTime = (value: unknown) => value === undefined || (Number.isSafeInteger(value) && (value as number) > 0);
const isText = (value: unknown) => value === undefined || typeof value === 'string';

/** The audiences of a token, undefined if they are not in their usual form. */
function audiencesOf(claims: Claims): string[] | undefined {
  const { aud } = claims;
  if (aud === undefined) return [];
  if (typeof aud === 'string') return [aud];
  return Array.isArray(aud) && aud.every((a) => typeof a === 'string') ? aud : undefined;
}

async function verifies(token: string, header: Claims, keys: readonly JWK[]): Promise<boolean> {
  const { alg, kid } = header as { alg: string; kid?: string };
  for (const key of keys) {
    if (kid !== undefined && key.kid !== undefined && key.kid !== kid) continue;
    if (key.alg !== undefined && key.alg !== alg) continue;
    try {
      await compactVerify(token, await importJWK(key, alg), { algorithms: [alg] });
      return true;
    } catch {
      // another key may fit
    }
  }
  return false;
}

async function examine(
  provider: TokenProvider,
  audiences: readonly string[],
  { place, value }: PlacedToken,
  keysOf: KeysOf,
  now: number,
): Promise<Finding> {
  const token = tokenIn(provider, place, value);
  if (token === 'missing' || token === 'uncertain') return { kind: token };
  const [head = '', body = '', signature = ''] = token.split('.');
  const header = readPart(head);
  const claims = readPart(body);
  if (!header || !claims || Buffer.from(signature, 'base64url').toString('base64url') !== signature)
    return { kind: 'uncertain' };
  if (typeof header.alg !== 'string' || !ALGORITHM.test(header.alg) || !isText(header.kid) || 'crit' in header)
    return { kind: 'uncertain' };
  const { iss, sub, jti, exp, nbf, iat } = claims;
  const own = audiencesOf(claims);
  if (!isText(iss) || !isText(sub) || !isText(jti) || ![exp, nbf, iat].every(isTime) || !own)
    return { kind: 'uncertain' };
  if (provider.issuer !== '' && iss !== provider.issuer) return { kind: 'other' };
  // without the skew that Envoy grants: clocks may be set while a token is remembered
  if ((exp !== undefined && (exp as number) <= now) || (nbf !== undefined && (nbf as number) > now))
    return { kind: 'uncertain' };
  const wanted = audiences.length > 0 ? audiences : provider.audiences;
  if (wanted.length > 0 && !wanted.some((a) => own.includes(a))) return { kind: 'uncertain' };
  if (provider.subject && !matchesValue(provider.subject, Buffer.from((sub as string) ?? '').toString('latin1')))
    return { kind: 'uncertain' };
  const headers = tokenHeaders(provider, claims, body);
  if (!headers) return { kind: 'uncertain' };
  const keys = await keysOf(provider);
  return keys && (await verifies(token, header, keys)) ? { kind: 'good', claims, headers } : { kind: 'uncertain' };
}

/** One requirement's outcome for a token: the provider that accepts it, or undefined where it is not met for certain. */
interface Judgement {
  readonly name: string;
  readonly provider: TokenProvider;
  readonly claims: Claims;
  readonly headers: TokenHeaders;
}

interface PlacedToken {
  readonly place: TokenPlace;
  readonly value: string;
}

class Judge {
  readonly #findings = new Map<string, Finding>();

  constructor(
    readonly plan: TokenPlan,
    readonly token: PlacedToken,
    readonly keysOf: KeysOf,
    readonly now: number,
  ) {}

  async #find(name: string, audiences: readonly string[]): Promise<Finding> {
    const key = JSON.stringify([name, audiences]);
    let finding = this.#findings.get(key);
    if (!finding) {
      const provider = this.plan.providers[name];
      finding = provider
        ? await examine(provider, audiences, this.token, this.keysOf, this.now)
        : ({ kind: 'uncertain' } as const);
      this.#findings.set(key, finding);
    }
    return finding;
  }

  /** Leaves of a requirement with what was found for them. */
  async #leaves(requirement: Requirement): Promise<{ name: string; finding: Finding }[]> {
    if (requirement.kind === 'provider')
      return [{ name: requirement.provider, finding: await this.#find(requirement.provider, requirement.audiences) }];
    if (requirement.kind !== 'any' && requirement.kind !== 'all') return [];
    const found: { name: string; finding: Finding }[] = [];
    for (const part of requirement.of) found.push(...(await this.#leaves(part)));
    return found;
  }

  async #met(requirement: Requirement): Promise<boolean> {
    switch (requirement.kind) {
      case 'provider':
        return (await this.#find(requirement.provider, requirement.audiences)).kind === 'good';
      case 'all': {
        // the first of several tests that the token passes may take it out of the request
        const good = (await this.#leaves(requirement)).filter(({ finding }) => finding.kind === 'good');
        if (good.length > 1 && good.some(({ name }) => !this.plan.providers[name]?.forward)) return false;
        for (const part of requirement.of) if (!(await this.#met(part))) return false;
        return true;
      }
      case 'any': {
        let allMissing = true;
        for (const part of requirement.of) {
          if (await this.#met(part)) return true;
          for (const { finding } of await this.#leaves(part)) allMissing &&= finding.kind === 'missing';
        }
        return (
          requirement.of.some((part) => part.kind === 'allow_failed') || (allMissing && allowsMissing(requirement))
        );
      }
      case 'allow_missing':
        return false;
      default:
        return true;
    }
  }

  /** Undefined: the requirement is not met, or only Envoy knows whether and by which provider. */
  async judge(requirement: Requirement): Promise<Judgement | undefined> {
    const leaves = await this.#leaves(requirement);
    if (leaves.some(({ finding }) => finding.kind === 'uncertain')) return undefined;
    // with two that accept it would matter which comes first
    const good = new Map(leaves.filter(({ finding }) => finding.kind === 'good').map((l) => [l.name, l.finding]));
    const [only] = good;
    if (!only || good.size > 1 || only[1].kind !== 'good' || !(await this.#met(requirement))) return undefined;
    const [name, { claims, headers }] = only;
    if (headers.all.length > 0 && !(await this.#direct(requirement))) return undefined;
    return { name, provider: this.plan.providers[name]!, claims, headers };
  }

  /** Whether nothing is looked at once the provider has accepted the token: what is takes headers out again. */
  async #direct(requirement: Requirement): Promise<boolean> {
    if (requirement.kind === 'provider') return true;
    if (requirement.kind === 'any')
      for (const part of requirement.of) if (await this.#met(part)) return await this.#direct(part);
    return false;
  }
}

/** The claims as they are in the metadata under the provider's key. */
function normalised({ provider, claims }: Judgement): Claims {
  const out: Record<string, unknown> = { ...claims };
  for (const name of provider.spaceDelimited) {
    const value = claims[name];
    const words = typeof value === 'string' ? value.split(' ').filter((word) => word !== '') : [];
    if (words.length > 0) out[name] = words;
  }
  return out;
}

function valueMatches(match: ValueMatch, value: unknown): boolean {
  switch (match.kind) {
    case 'present':
      return value !== undefined;
    case 'bool':
      return value === match.value;
    case 'string':
      return typeof value === 'string' && matchesValue(match.matcher, Buffer.from(value).toString('latin1'));
    case 'any_element':
      return Array.isArray(value) && value.some((element) => valueMatches(match.of, element));
    case 'or':
      return match.of.some((of) => valueMatches(of, value));
  }
}

/** Envoy routes a request again when the provider is told to, and there is something new to see. */
function reroutes({ provider, headers }: Judgement): boolean {
  return provider.reroutes && (provider.payloadKey !== '' || headers.claims);
}

function holds(fact: TokenFact, judgement: Judgement, place: TokenPlace): boolean {
  const { provider, headers } = judgement;
  if (fact.kind === 'satisfied') {
    const removed = !provider.forward && place.kind === 'header' ? place.name : '';
    return fact.remove === removed && fact.adds === headers.all.length > 0;
  }
  if (fact.kind === 'rerouted') return reroutes(judgement);
  if (fact.routed && !reroutes(judgement)) return false;
  let value: unknown = fact.path[0] === provider.payloadKey ? normalised(judgement) : undefined;
  for (const key of fact.path.slice(1)) {
    const inside = typeof value === 'object' && value !== null && !Array.isArray(value) && Object.hasOwn(value, key);
    value = inside ? (value as Claims)[key] : undefined;
  }
  return valueMatches(fact.value, value);
}

/** The facts as words of 64 bits, the first facts in the lowest bits of the first. */
export function factWords(facts: Iterable<number>): bigint[] {
  const words = new Array<bigint>(MAX_TOKEN_FACTS / 64).fill(0n);
  for (const fact of facts) words[fact >> 6]! |= 1n << BigInt(fact & 63);
  return words;
}

/**
 * Judges the token in a request.
 *
 * @param value what is in the place as received, without white space around it (latin1)
 * @param now seconds since the epoch
 * @returns undefined when no fact is certain: the proxy decides about the token each time
 */
export async function judgeToken(
  plan: TokenPlan,
  place: TokenPlace,
  value: string,
  keysOf: KeysOf,
  now: number,
): Promise<KnownToken | undefined> {
  const judge = new Judge(plan, { place, value }, keysOf, now);
  const facts = new Set<number>();
  let until: number | undefined;
  let by: Judgement | undefined;
  for (const [number, fact] of plan.facts.entries()) {
    if (providersOf(fact.requirement).length === 0) continue;
    const judgement = await judge.judge(fact.requirement);
    if (!judgement) continue;
    // what comes with a token is one provider's
    if (judgement.headers.all.length > 0) {
      by ??= judgement;
      if (by.name !== judgement.name) continue;
    }
    if (typeof judgement.claims.exp === 'number') until = judgement.claims.exp;
    if (holds(fact, judgement, place)) facts.add(number);
  }
  const met = [...facts].some((number) => plan.facts[number]?.kind === 'satisfied');
  return met ? { facts, until, headers: by?.headers.all ?? [] } : undefined;
}
