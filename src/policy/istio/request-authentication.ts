/**
 * RequestAuthentications -> Envoy's jwt_authn filter (pilot/pkg/security/authn in istiod). Istio enforces them in the
 * server's sidecar; here the filter of the client's listener holds all providers, and each route asks for what its
 * destination's policies require.
 */
import { isIP } from 'node:net';
import type { Document } from '../documents.js';
import type { JsonObject } from '../resources.js';
import type { ClusterInfo } from './clusters.js';
import type { Context, RuleBuilder } from './context.js';
import { envoyDuration } from './duration.js';
import { clusterName } from './hosts.js';
import type { Typed } from './kubernetes-services.js';
import type { JwtRule, RequestAuthentication } from './schema/request-authentication.js';
import { byAge } from './virtual-services.js';

export const JWT_FILTER = 'envoy.filters.http.jwt_authn';
const JWT = 'envoy.extensions.filters.http.jwt_authn.v3';
/** Key in the filter's metadata that claims are under; authorization policies look there. */
const PAYLOAD = 'payload';
/** Claims that are lists of words by their specification (RFC 8693 and common use). */
const SPACE_DELIMITED = ['scope', 'permission'];
/** How often istiod fetches keys anew. */
const CACHE = '1200s';
const FETCH_TIMEOUT = '5s';
/** The certificate authorities that the machine trusts, where Istio's proxies look for them, too. */
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt';

/**
 * A key set that accepts no token, since Envoy takes no empty one. The point on P-256 comes from a hash (x is SHA-256 of
 * "sidestep: a key that nobody has 0"), so that nobody knows the private key.
 */
const NOBODYS_KEY = JSON.stringify({
  keys: [
    {
      kty: 'EC',
      crv: 'P-256',
      alg: 'ES256',
      x: '6nC-45lD-HpVKzSpIbtrPi8ITqIOnvsIM8MP8YxRKho',
      y: 'YkL-xCs4A9-nqMciNnmESGpHDulHf5jGdQoRPdsRXvY',
    },
  ],
});

/** Whose per-route configuration an object is. */
const owners = new WeakMap<JsonObject, RequestAuthentications>();

/** The filter of a listener whose routes have these per-route configurations. */
export function jwtFilter(perRoutes: readonly JsonObject[]): JsonObject {
  const [owner] = perRoutes.map((config) => owners.get(config)).filter((found) => found !== undefined);
  return owner?.filter(perRoutes) ?? { '@type': `type.googleapis.com/${JWT}.JwtAuthentication` };
}

/** The filter of a gateway, whose requests all must meet what `perRoute` says. There, routes may ask for claims. */
export function gatewayJwtFilter(perRoute: JsonObject): JsonObject {
  const rule = { match: { prefix: '/' }, requirement_name: perRoute.requirement_name ?? '' };
  return { ...owners.get(perRoute)?.filter([perRoute], true), rules: [rule] };
}

export interface AuthenticationPolicy {
  readonly document: Document;
  readonly spec: RequestAuthentication;
  /** one for each of `jwtRules` */
  readonly rules: readonly RuleBuilder[];
  /** what it is attached to; without, it selects servers */
  readonly targets?: readonly { readonly kind: string; readonly name: string }[];
}

export class RequestAuthentications {
  readonly policies: AuthenticationPolicy[] = [];
  readonly #context: Context;
  readonly #clusters: ReadonlyMap<string, ClusterInfo>;
  readonly #providers = new Map<string, JsonObject>();
  readonly #requirements = new Map<string, JsonObject>();
  /** clusters that keys are fetched from, by name */
  readonly keyClusters = new Map<string, JsonObject>();

  /** @param clusters those of the services, by name */
  constructor(
    context: Context,
    documents: readonly Typed<RequestAuthentication>[],
    clusters: ReadonlyMap<string, ClusterInfo>,
  ) {
    this.#context = context;
    this.#clusters = clusters;
    for (const { document, spec } of [...documents].sort(byAge)) this.#add(document, spec);
  }

  #add(document: Document, spec: RequestAuthentication): void {
    const rules = (spec.jwtRules ?? []).map((_, index) =>
      this.#context.rule(document, ['spec', 'jwtRules', index], `jwtRules[${index}]`),
    );
    const targets = [...(spec.targetRef ? [spec.targetRef] : []), ...(spec.targetRefs ?? [])];
    const foreign = targets.find(({ kind }) => !/^(Service|ServiceEntry|Gateway)$/.test(kind));
    if (foreign) {
      const path = ['spec', spec.targetRef ? 'targetRef' : 'targetRefs'];
      const message = `policies of a ${foreign.kind} are not translated`;
      for (const rule of rules) this.#context.unsupported(rule, path, 'target-ref', message);
      return;
    }
    if (rules.length > 0) this.policies.push({ document, spec, rules, ...(targets.length > 0 ? { targets } : {}) });
  }

  /** The per-route configuration that asks for what `policies` require; undefined for none. */
  perRoute(policies: readonly AuthenticationPolicy[]): JsonObject | undefined {
    const rules = policies.flatMap((policy) =>
      (policy.spec.jwtRules ?? []).map((rule, index) => ({ policy, rule, index })),
    );
    if (rules.length === 0) return undefined;
    // as istiod orders them
    rules.sort((a, b) => (a.rule.issuer < b.rule.issuer ? -1 : a.rule.issuer > b.rule.issuer ? 1 : 0));
    const names = rules.map(({ policy, rule, index }) => this.#provider(policy, rule, index));
    const name = names.join(' ');
    if (!this.#requirements.has(name)) this.#requirements.set(name, requirement(names));
    const config = { '@type': `type.googleapis.com/${JWT}.PerRouteConfig`, requirement_name: name };
    owners.set(config, this);
    return config;
  }

  /**
   * The filter of a listener whose routes have these per-route configurations.
   * @param reroutes requests with good tokens are routed again
   */
  filter(perRoutes: readonly JsonObject[], reroutes = false): JsonObject {
    const names = new Set(perRoutes.map((config) => String(config.requirement_name)));
    const providers: JsonObject = {};
    const requirements: JsonObject = {};
    for (const name of [...names].sort()) {
      requirements[name] = this.#requirements.get(name) ?? {};
      for (const provider of name.split(' ')) {
        const own = this.#providers.get(provider) ?? {};
        providers[provider] = reroutes ? this.#rerouting(own) : own;
      }
    }
    return {
      '@type': `type.googleapis.com/${JWT}.JwtAuthentication`,
      providers,
      requirement_map: requirements,
      bypass_cors_preflight: true,
    };
  }

  /** A provider of a gateway; it counts for the same rule. */
  #rerouting(provider: JsonObject): JsonObject {
    const copy: JsonObject = { ...provider, clear_route_cache: true };
    const position = this.#context.provenance.get(provider);
    if (position) this.#context.provenance.set(copy, position);
    for (const { rules } of this.policies)
      for (const rule of rules) if (rule.objects.includes(provider)) rule.objects.push(copy);
    return copy;
  }

  #provider({ document, rules }: AuthenticationPolicy, rule: JwtRule, index: number): string {
    const name = `${document.namespace}/${document.name}/${index}`;
    const known = this.#providers.get(name);
    if (known) return name;
    const path = ['spec', 'jwtRules', index];
    const provider: JsonObject = { issuer: rule.issuer };
    if (rule.audiences?.length) provider.audiences = rule.audiences;
    if (rule.forwardOriginalToken) provider.forward = true;
    if (rule.outputPayloadToHeader) provider.forward_payload_header = rule.outputPayloadToHeader;
    if (rule.outputClaimToHeaders?.length)
      provider.claim_to_headers = rule.outputClaimToHeaders.map(({ header, claim }) => ({
        header_name: header,
        claim_name: claim,
      }));
    if (rule.fromHeaders?.length)
      provider.from_headers = rule.fromHeaders.map((h) => ({
        name: h.name,
        ...(h.prefix ? { value_prefix: h.prefix } : {}),
      }));
    if (rule.fromParams?.length) provider.from_params = rule.fromParams;
    if (rule.fromCookies?.length) provider.from_cookies = rule.fromCookies;
    provider.payload_in_metadata = PAYLOAD;
    const words = [...new Set([...SPACE_DELIMITED, ...(rule.spaceDelimitedClaims ?? [])])];
    provider.normalize_payload_in_metadata = { space_delimited_claims: words };
    Object.assign(provider, this.#keys(document, rule, index, rules[index]));
    this.#context.origin(provider, document, path);
    rules[index]?.objects.push(provider);
    this.#providers.set(name, provider);
    return name;
  }

  #keys(document: Document, rule: JwtRule, index: number, builder: RuleBuilder | undefined): JsonObject {
    if (rule.jwks) return { local_jwks: { inline_string: rule.jwks } };
    const uri = rule.jwksUri ?? rule.jwks_uri ?? this.#context.keySetOf(rule.issuer);
    if (uri) {
      const cluster = this.#keyCluster(new URL(uri));
      const timeout = rule.timeout ? envoyDuration(rule.timeout) : FETCH_TIMEOUT;
      return { remote_jwks: { http_uri: { uri, cluster, timeout }, cache_duration: CACHE } };
    }
    const path = ['spec', 'jwtRules', index];
    const asked = this.#context.issuers.has(rule.issuer);
    const message = asked
      ? 'where the keys are is only known to the issuer (OpenID discovery): no token is accepted'
      : 'nothing says where the keys are, and the issuer is no address to ask: no token is accepted';
    this.#context.warn(document, path, 'unknown-keys', message, 'give jwksUri or jwks');
    // without an issuer to ask no token is ever good, as with Istio; the warning says so
    if (builder && asked) this.#context.unsupported(builder, path, 'jwt', message);
    return { local_jwks: { inline_string: NOBODYS_KEY } };
  }

  /** The cluster that a key set is fetched from: a service's of the documents, or one for the host's name. */
  #keyCluster(uri: URL): string {
    const secure = uri.protocol === 'https:';
    const port = Number(uri.port || (secure ? 443 : 80));
    const host = uri.hostname.replace(/^\[|\]$/g, '');
    for (const service of servicesAt(uri, this.#context.domain)) if (this.#clusters.has(service)) return service;
    const name = `jwks|${uri.protocol}//${uri.host}`;
    const endpoint = { address: { socket_address: { address: host, port_value: port } } };
    const tls = {
      '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext',
      sni: host,
      common_tls_context: {
        validation_context: {
          trusted_ca: { filename: CERTIFICATES },
          match_typed_subject_alt_names: [{ san_type: isIP(host) ? 'IP_ADDRESS' : 'DNS', matcher: { exact: host } }],
        },
      },
    };
    this.keyClusters.set(name, {
      name,
      type: 'STRICT_DNS',
      connect_timeout: '10s',
      dns_lookup_family: 'V4_PREFERRED',
      load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint }] }] },
      ...(secure ? { transport_socket: { name: 'tls', typed_config: tls } } : {}),
    });
    return name;
  }

  /** Gives reasons to rules that protect nothing here. */
  explainUnused(): void {
    for (const { rules } of this.policies)
      for (const rule of rules) {
        if (rule.objects.length > 0 || rule.unsupported.length > 0) continue;
        const message = 'no service with HTTP ports has servers that it selects';
        this.#context.unsupported(rule, ['spec', 'selector'], 'no-workload', message);
      }
  }
}

/** The clusters of services that an address may mean, the likeliest first. */
export function servicesAt(uri: URL, domain = 'cluster.local'): string[] {
  if (uri.protocol === 'https:') return [];
  const host = uri.hostname.replace(/^\[|\]$/g, '');
  return [host, `${host}.svc.${domain}`, `${host}.${domain}`].map((name) =>
    clusterName(Number(uri.port || 80), '', name),
  );
}

/** A token must be good if there is one; with several issuers that share a place, one of them must accept it. */
function requirement(names: readonly string[]): JsonObject {
  const optional = names.map(
    (name): JsonObject => ({ requires_any: { requirements: [{ provider_name: name }, { allow_missing: {} }] } }),
  );
  const [only] = optional;
  if (only && optional.length === 1) return only;
  const each = names.map((name): JsonObject => ({ provider_name: name }));
  return { requires_any: { requirements: [...each, { requires_all: { requirements: optional } }] } };
}
