/** RequestAuthentication (security.istio.io). */
import { z } from 'zod';
import { atMostOne, headerText, nonEmpty, positiveDuration, selector, targetRef } from './common.js';

function isKeySet(text: string): boolean {
  try {
    return Array.isArray((JSON.parse(text) as { keys?: unknown }).keys);
  } catch {
    return false;
  }
}

/** Whether it is the address of a document on the web. */
export const isWebAddress = (text: string) => /^https?:\/\/[^/?#]+/.test(text) && URL.canParse(text);

export const jwtRule = () =>
  atMostOne(
    z.object({
      issuer: nonEmpty(),
      audiences: z.array(nonEmpty()).optional(),
      jwksUri: z.string().refine(isWebAddress, 'is no http or https address').optional(),
      jwks_uri: z.string().refine(isWebAddress, 'is no http or https address').optional(),
      jwks: z.string().refine(isKeySet, 'is no JSON Web Key Set ({"keys": [...]})').optional(),
      fromHeaders: z.array(z.object({ name: nonEmpty(), prefix: headerText().optional() })).optional(),
      fromParams: z.array(nonEmpty()).optional(),
      fromCookies: z.array(nonEmpty()).optional(),
      outputPayloadToHeader: headerText().optional(),
      outputClaimToHeaders: z.array(z.object({ header: nonEmpty(), claim: nonEmpty() })).optional(),
      forwardOriginalToken: z.boolean().optional(),
      timeout: positiveDuration().optional(),
      spaceDelimitedClaims: z.array(nonEmpty()).optional(),
    }),
    ['jwks', 'jwksUri', 'jwks_uri'],
  );
export type JwtRule = z.infer<ReturnType<typeof jwtRule>>;

export const requestAuthentication = z.object({
  selector: selector().optional(),
  targetRef: targetRef().optional(),
  targetRefs: z.array(targetRef()).optional(),
  jwtRules: z.array(jwtRule()).optional(),
});
export type RequestAuthentication = z.infer<typeof requestAuthentication>;

/** PeerAuthentication, as far as it decides about requests in plain text. */
const mtls = () => z.object({ mode: z.enum(['UNSET', 'DISABLE', 'PERMISSIVE', 'STRICT']).optional() });
export const peerAuthentication = z.object({
  selector: selector().optional(),
  mtls: mtls().optional(),
  portLevelMtls: z.record(z.string(), mtls()).optional(),
});
export type PeerAuthentication = z.infer<typeof peerAuthentication>;
