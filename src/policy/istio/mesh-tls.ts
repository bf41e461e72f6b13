/**
 * Mutual TLS with the certificates of the mesh, as istiod has sidecars speak it (buildUpstreamClusterTLSContext in
 * pilot/pkg/networking/core/cluster_tls.go, and the ALPN that the filter istio.alpn puts in its place).
 */
import { isIP } from 'node:net';
import type { JsonObject } from '../resources.js';
import type { Context } from './context.js';
import type { Endpoint, Service, ServicePort } from './registry.js';
import type { Tls } from './schema/destination-rule.js';

/** Where this node's certificates of the mesh are. */
export interface MeshCertificates {
  /** files of Envoy's secret discovery: the workload's certificate with its key, and whom it trusts */
  readonly identity: string;
  readonly authorities: string;
  /** whether servers at an address are of this host: Sidestep is their sidecar, and speaks plain text to them */
  readonly own: (address: string) => boolean;
}

/** What `check` takes a node to have. */
export const ASSUMED_CERTIFICATES: MeshCertificates = {
  identity: '/etc/certs/identity.json',
  authorities: '/etc/certs/authorities.json',
  own: () => false,
};

/** What is said where `check` does so. */
export const ASSUMED =
  'the node is taken to have certificates of the mesh: without run --certificates, requests go in plain text';

/** Names of the secrets, as istiod calls them. */
export const IDENTITY_SECRET = 'default';
export const AUTHORITIES_SECRET = 'ROOTCA';

const TLS = 'envoy.transport_sockets.tls';
const PLAIN: JsonObject = {
  name: 'envoy.transport_sockets.raw_buffer',
  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer' },
};
const MODE: JsonObject = { tlsMode: 'istio' };
const ALPN = { http1: ['istio-http/1.1', 'istio', 'http/1.1'], http2: ['istio-h2', 'istio', 'h2'], other: ['istio'] };

/** What a port's servers are offered; where nothing says what it carries, what HTTP/1.1 is carried with. */
function offered({ protocol, sniffed }: ServicePort): string[] {
  if (protocol === 'http' || sniffed) return ALPN.http1;
  return protocol === 'http2' ? ALPN.http2 : ALPN.other;
}
const SAN_TYPES = ['DNS', 'URI', 'EMAIL', 'IP_ADDRESS'];

/** A name in a certificate, of whatever type. */
export function anyName(exact: string): JsonObject[] {
  return SAN_TYPES.map((san_type) => ({ san_type, matcher: { exact } }));
}

/**
 * Names of which the server's certificate must have one. istiod knows the service account of every server; where the files
 * do not, any account of the service's namespace is taken.
 */
function names(context: Context, service: Service, settings: Tls): JsonObject[] {
  const own = settings.subjectAltNames ?? [];
  if (own.length > 0) return own.flatMap(anyName);
  if (service.document.kind === 'ServiceEntry') return (service.subjectAltNames ?? []).flatMap(anyName);
  const accounts = service.endpoints.map(({ account }) => account);
  const known = accounts.filter((account) => account !== undefined);
  if (known.length > 0 && known.length === accounts.length) return [...new Set(known)].sort().flatMap(anyName);
  const prefix = `spiffe://${context.trustDomain}/ns/${service.namespace}/sa/`;
  return [{ san_type: 'URI', matcher: { prefix } }];
}

/** istiod's name for a cluster in a handshake. */
function serverName({ number }: ServicePort, subset: string, { host }: Service): string {
  return `outbound_.${number}_.${subset}_.${host}`;
}

const secret = (name: string, path: string): JsonObject => ({
  name,
  sds_config: { path_config_source: { path }, resource_api_version: 'V3' },
});

function socket(
  context: Context,
  { identity, authorities }: MeshCertificates,
  to: { readonly service: Service; readonly port: ServicePort; readonly subset: string },
  settings: Tls,
): JsonObject {
  const found = names(context, to.service, settings);
  return {
    name: TLS,
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext',
      sni: settings.sni || serverName(to.port, to.subset, to.service),
      common_tls_context: {
        tls_params: { tls_minimum_protocol_version: 'TLSv1_2', tls_maximum_protocol_version: 'TLSv1_3' },
        tls_certificate_sds_secret_configs: [secret(IDENTITY_SECRET, identity)],
        combined_validation_context: {
          default_validation_context: found.length > 0 ? { match_typed_subject_alt_names: found } : {},
          validation_context_sds_secret_config: secret(AUTHORITIES_SECRET, authorities),
        },
        alpn_protocols: offered(to.port),
      },
    },
  };
}

/**
 * Makes a cluster speak mutual TLS to servers that are not of this host, where this node has certificates.
 *
 * @param endpoints of the cluster
 * @param wants whether a server is spoken to in TLS, if it is none of this host
 * @returns whether an endpoint is spoken to in TLS while others are not; it is to be marked by `withMode` then
 */
export function applyMeshTls(
  context: Context,
  cluster: JsonObject,
  to: { readonly service: Service; readonly port: ServicePort; readonly subset: string },
  endpoints: readonly Endpoint[],
  settings: Tls,
  wants: (endpoint: Endpoint) => boolean = () => true,
): (endpoint: Endpoint) => boolean {
  const { mesh } = context;
  const none = () => false;
  if (!mesh) return none;
  const inTls = (e: Endpoint) => !(isIP(e.address) !== 0 && mesh.own(e.address)) && wants(e);
  if (endpoints.length > 0 && !endpoints.some(inTls)) return none;
  const tls = socket(context, mesh, to, settings);
  if (endpoints.every(inTls)) {
    cluster.transport_socket = tls;
    return none;
  }
  cluster.transport_socket_matches = [
    { name: 'tlsMode-istio', match: MODE, transport_socket: tls },
    { name: 'tlsMode-disabled', match: {}, transport_socket: PLAIN },
  ];
  return inTls;
}

/** An endpoint that is spoken to in TLS, of a cluster that has others. */
export function withMode(endpoint: JsonObject): JsonObject {
  return { ...endpoint, metadata: { filter_metadata: { 'envoy.transport_socket_match': MODE } } };
}
