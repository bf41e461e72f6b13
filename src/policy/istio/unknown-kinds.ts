/** Documents that no cluster would take: a policy whose kind or API group has a typing error must not be passed over in silence. */
import type { Document } from '../documents.js';
import type { Context } from './context.js';
import { didYouMean } from './validate.js';

const GATEWAY_API = 'gateway.networking.k8s.io';
/** The kinds of API groups that policies are in. */
const KINDS: Readonly<Record<string, readonly string[]>> = {
  'networking.istio.io': [
    ...['DestinationRule', 'EnvoyFilter', 'Gateway', 'ProxyConfig', 'ServiceEntry', 'Sidecar', 'VirtualService'],
    ...['WorkloadEntry', 'WorkloadGroup'],
  ],
  'security.istio.io': ['AuthorizationPolicy', 'PeerAuthentication', 'RequestAuthentication'],
  'telemetry.istio.io': ['Telemetry'],
  'extensions.istio.io': ['TrafficExtension', 'WasmPlugin'],
  [GATEWAY_API]: [
    ...['BackendTLSPolicy', 'GRPCRoute', 'Gateway', 'GatewayClass', 'HTTPRoute', 'ListenerSet', 'ReferenceGrant'],
    ...['TCPRoute', 'TLSRoute', 'UDPRoute'],
  ],
};
const CORE = ['Endpoints', 'List', 'Namespace', 'Pod', 'Service'];

/** The group of a kind that only one of the above has. */
function groupOf(kind: string): string | undefined {
  const groups = Object.keys(KINDS).filter((group) => KINDS[group]!.includes(kind));
  return groups.length === 1 ? groups[0] : undefined;
}

/**
 * Reports a document of a kind that its group does not have, if it is likely meant to be a policy.
 * @returns whether there is an error
 */
export function reportUnknownKind(context: Context, document: Document, group: string): boolean {
  const { apiVersion, kind } = document;
  if (typeof document.json.kind !== 'string' || typeof document.json.apiVersion !== 'string') {
    const field = typeof document.json.kind !== 'string' ? 'kind' : 'apiVersion';
    const missing = document.json[field] === undefined;
    context.error(
      document,
      [field],
      missing ? 'missing-field' : 'wrong-type',
      missing ? 'is required' : 'must be a string',
    );
    return true;
  }
  const wrong = (message: string, hint: string | undefined): true => {
    context.error(document, ['kind'], 'unknown-kind', message, hint);
    return true;
  };
  const meant = (word: string | undefined) => (word === undefined ? undefined : `did you mean "${word}"?`);
  const kinds = Object.hasOwn(KINDS, group) ? KINDS[group]! : undefined;
  const own = groupOf(kind);
  if (kinds) {
    if (kinds.includes(kind)) return false;
    const message = `${kind === '' ? 'an empty text' : kind} is no kind of ${group}`;
    if (own !== undefined) return wrong(message, `it is one of ${own}`);
    const guess = didYouMean(kind, kinds);
    // Gateway API has experimental kinds of many names
    if (guess !== undefined) return wrong(message, meant(guess));
    if (group !== GATEWAY_API) context.warn(document, ['kind'], 'unknown-kind', message);
    return false;
  }
  if (group === '') {
    if (own !== undefined) return wrong(`${kind} is no kind of ${apiVersion}`, `it is one of ${own}`);
    const guess = CORE.find((known) => known !== kind && known.toLowerCase() === kind.toLowerCase());
    return guess !== undefined && wrong(`${kind} is no kind of ${apiVersion}`, meant(guess));
  }
  const similar = own !== undefined && didYouMean(group, [own]) === own;
  return similar && wrong(`${group} has no kind ${kind}`, meant(own));
}
