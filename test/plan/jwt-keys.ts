/** Keys and tokens for tests. */
import { createHmac } from 'node:crypto';
import { CompactSign, exportJWK, generateKeyPair, type JWK } from 'jose';

export interface Signer {
  readonly jwk: JWK;
  /** @param header more header fields; @param payload an object, or the text itself */
  sign(payload: object | string, header?: object): Promise<string>;
}

/** A new key pair. */
export async function signer(alg: 'RS256' | 'ES256' | 'ES384' | 'PS256' | 'EdDSA', kid?: string): Promise<Signer> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  const jwk = { ...(await exportJWK(publicKey)), alg, ...(kid === undefined ? {} : { kid }) };
  return {
    jwk,
    sign(payload, header = {}) {
      const text = typeof payload === 'string' ? payload : JSON.stringify(payload);
      return new CompactSign(Buffer.from(text))
        .setProtectedHeader({ alg, ...(kid === undefined ? {} : { kid }), ...header })
        .sign(privateKey);
    },
  };
}

export const setOf = (...signers: readonly Signer[]): string => JSON.stringify({ keys: signers.map((s) => s.jwk) });

/** A token made by hand: nothing is checked. */
export function forged(header: object | string, payload: object | string, signature = 'c2ln'): string {
  const part = (p: object | string) => Buffer.from(typeof p === 'string' ? p : JSON.stringify(p)).toString('base64url');
  return `${part(header)}.${part(payload)}.${signature}`;
}

/** `none` and HMAC with a public key as the secret: the classics. */
export function confused(payload: object, secret: string): string {
  const head = forged({ alg: 'HS256' }, payload).split('.').slice(0, 2).join('.');
  return `${head}.${createHmac('sha256', secret).update(head).digest('base64url')}`;
}
