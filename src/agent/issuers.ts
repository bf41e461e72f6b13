/** Where issuers of tokens have their keys, if policies do not say it: OpenID Connect Discovery 1.0, as istiod asks. */
import type { Diagnostic } from '../policy/diagnostics.js';
import { servicesAt } from '../policy/istio/request-authentication.js';
import { isWebAddress } from '../policy/istio/schema/request-authentication.js';
import type { Resources } from '../policy/resources.js';
import { endpointOf } from './cluster-place.js';
import { fetchText } from './jwks.js';

/** Under this name the answers stand among the texts that a policy was made of: it can be made again without asking. */
export const KEY_SETS = '<keys of issuers>';

/** Takes the answers out of texts. */
export function takeKeySets(texts: Map<string, string> | undefined): ReadonlyMap<string, string> {
  const found = texts?.get(KEY_SETS) ?? '[]';
  texts?.delete(KEY_SETS);
  return new Map(JSON.parse(found) as [string, string][]);
}

async function ask(issuer: string, resources: Resources): Promise<string> {
  const url = new URL(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`);
  const [service] = servicesAt(url).flatMap((name) => endpointOf(resources, name) ?? []);
  const found = (JSON.parse(await fetchText(url, service)) as { jwks_uri?: unknown }).jwks_uri;
  if (typeof found !== 'string' || !isWebAddress(found)) throw new Error('the answer has no jwks_uri');
  return found;
}

/**
 * Asks all issuers of the resources at once; each has some seconds.
 * @param known what they have said before, which counts for those that do not answer now
 * @returns what is known now, and a warning for each that did not answer
 */
export async function discover(
  resources: Resources,
  known: ReadonlyMap<string, string>,
): Promise<{ keySets: ReadonlyMap<string, string>; problems: Diagnostic[] }> {
  const keySets = new Map<string, string>();
  const problems: Diagnostic[] = [];
  await Promise.all(
    (resources.issuers ?? []).map(async (issuer) => {
      const before = known.get(issuer);
      try {
        keySets.set(issuer, await ask(issuer, resources));
      } catch (error) {
        if (before !== undefined) keySets.set(issuer, before);
        const rest = before === undefined ? '' : ': what it said before counts';
        const message = `${issuer} does not say where its keys are (${(error as Error).message})${rest}`;
        problems.push({ severity: 'warning', code: 'unknown-keys', message });
      }
    }),
  );
  return { keySets, problems };
}
