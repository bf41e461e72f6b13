/**
 * The headers that Envoy's jwt_authn filter makes of a good token (forward_payload_header, claim_to_headers), where it is
 * sure how it writes them. Found by trying: whole numbers below 2^64 are written as such, others with six digits behind
 * the point; lists and objects are written as JSON in padded base64, whose order of keys and spelling of numbers and of
 * some characters is Envoy's own business; nothing and `null` make no header.
 */
import { MAX_TOKEN_LINES } from '../layout/image.js';
import type { TokenProvider } from './tokens.js';

type Claims = Readonly<Record<string, unknown>>;

/** Headers that come with a token. */
export interface TokenHeaders {
  /** in order */
  readonly all: readonly (readonly [name: string, value: string])[];
  /** some of them are made of claims */
  readonly claims: boolean;
}

/** Beyond this, numbers in JSON are not what they seem. */
const MAX_NUMBER = Number.MAX_SAFE_INTEGER;
/** What stands in a header as it is. */
const VALUE = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/;
/** What every writer of JSON writes alike. */
const PLAIN = /^[A-Za-z0-9 ._:/@#*+=,;()!?$-]*$/;

/** A claim as text: '' makes no header; undefined: only Envoy knows. */
function claimText(value: unknown): string | undefined {
  if (value === undefined || value === null || value === '') return '';
  if (typeof value === 'boolean') return String(value);
  if (typeof value === 'string') return VALUE.test(value) ? value : undefined;
  if (typeof value === 'number') {
    if (Math.abs(value) > MAX_NUMBER) return undefined;
    return Number.isInteger(value) && value >= 0 ? String(Math.abs(value)) : value.toFixed(6);
  }
  if (Array.isArray(value) && value.every((v) => typeof v === 'string' && PLAIN.test(v)))
    return Buffer.from(JSON.stringify(value)).toString('base64');
  return undefined;
}

/** A claim by its name; undefined where it is not there. */
function claimAt(claims: Claims, name: string): unknown {
  let value: unknown = claims;
  for (const key of name.split('.')) {
    const inside = typeof value === 'object' && value !== null && !Array.isArray(value) && Object.hasOwn(value, key);
    if (!inside) return undefined;
    value = (value as Claims)[key];
  }
  return value;
}

/**
 * The headers of a token that a provider accepts.
 *
 * @param payload the token's second part, as it stands in the request
 * @returns undefined when only Envoy knows how they look, or when they are too long
 */
export function tokenHeaders(provider: TokenProvider, claims: Claims, payload: string): TokenHeaders | undefined {
  const all: [string, string][] = [];
  if (provider.payloadHeader !== '') {
    const padding = provider.padded ? '='.repeat((4 - (payload.length % 4)) % 4) : '';
    all.push([provider.payloadHeader, payload + padding]);
  }
  const before = all.length;
  for (const { name, claim } of provider.claimHeaders) {
    const text = claimText(claimAt(claims, claim));
    if (text === undefined) return undefined;
    if (text !== '') all.push([name, text]);
  }
  return headerLines(all).length > MAX_TOKEN_LINES ? undefined : { all, claims: all.length > before };
}

/** Headers as the lines of a head. */
export function headerLines(headers: TokenHeaders['all']): Buffer {
  return Buffer.from(headers.map(([name, value]) => `${name}: ${value}\r\n`).join(''), 'latin1');
}
