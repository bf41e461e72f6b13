/**
 * TLS to the servers of a cluster. The kernel moves plain bytes, so connections lead to a relay: a cluster of the proxy
 * with the same TLS settings, which encrypts what a pooled connection carries, and reads nothing of it.
 */
import { createHash } from 'node:crypto';
import type { JsonObject } from '../policy/resources.js';
import type { RelayPlan } from './ir.js';
import { anyType, bool, has, isObject, join, type Notes, obj, onlyFields, strings } from './notes.js';
import { speaksHttp2 } from './streams.js';

const RAW = '.RawBuffer';
const UPSTREAM_TLS = 'envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext';
const AT = 'transport_socket.typed_config';

/** What is the same on every connection to an endpoint, whatever request it is opened for. */
const CONTEXT = ['common_tls_context', 'sni', 'allow_renegotiation', 'max_session_keys', 'enforce_rsa_key_usage'];
const COMMON = [
  'tls_params',
  'tls_certificates',
  'tls_certificate_sds_secret_configs',
  'validation_context',
  'validation_context_sds_secret_config',
  'combined_validation_context',
  'alpn_protocols',
];

/** Settings of a cluster that its relay has as well: how connections are opened and buffered. */
const SHARED = ['connect_timeout', 'per_connection_buffer_limit_bytes', 'upstream_connection_options'];

/** What a pool of HTTP/1.1 connections offers where the settings offer nothing (ALPN, RFC 7301). */
const HTTP1 = 'http/1.1';

/** Whether the name in the handshake, and one that the certificate must have, are those of the request's host. */
function namedByRequest(cluster: JsonObject): RelayPlan['byRequest'] {
  const options = Object.values(obj(cluster, 'typed_extension_protocol_options') ?? {}).filter(isObject);
  const owners = [...options, cluster].map((o) => obj(o, 'upstream_http_protocol_options'));
  const [sni, san] = ['auto_sni', 'auto_san_validation'].map((key) => owners.some((o) => bool(o, key)));
  return sni || san ? { sni: sni === true, san: san === true } : undefined;
}

/** What connections to an endpoint behind a relay are told apart by. */
export function relayId({ key, names = {} }: RelayPlan): string {
  return [key, names.sni ?? '', names.san ?? ''].join('/');
}

/**
 * The relay that a cluster needs. Whatever keeps the kernel from using one is noted.
 *
 * @param possible there is a proxy that can relay
 * @returns undefined where servers are spoken to in plain text, or by the proxy alone
 */
export function upstreamRelay(notes: Notes, cluster: JsonObject, possible: boolean): RelayPlan | undefined {
  const socket = obj(cluster, 'transport_socket');
  const context = obj(socket, 'typed_config');
  const type = anyType(context);
  if (!socket || type.endsWith(RAW)) return undefined;
  const no = (message: string, field = 'transport_socket') => {
    notes.add('tls', message, field, cluster, 'transport_socket');
    return undefined;
  };
  if (!context || type !== UPSTREAM_TLS || !possible)
    return no(`connections to the endpoints use ${type || String(socket.name ?? '')}`);
  const found = notes.fork();
  onlyFields(found, context, AT, CONTEXT);
  const common = obj(context, 'common_tls_context') ?? {};
  onlyFields(found, common, join(AT, 'common_tls_context'), COMMON);
  const offered = strings(common, 'alpn_protocols');
  // a relay offers HTTP/1.1
  if (offered.includes('h2') || speaksHttp2(cluster)) return no('HTTP/2 is offered in the TLS handshake');
  notes.reasons.push(...found.reasons);
  if (!found.clean) return undefined;
  const settings: JsonObject = {
    transport_socket: {
      ...socket,
      typed_config: {
        ...context,
        common_tls_context: { ...common, alpn_protocols: offered.length > 0 ? offered : [HTTP1] },
      },
    },
  };
  for (const key of SHARED) if (has(cluster, key)) settings[key] = cluster[key]!;
  const byRequest = namedByRequest(cluster);
  const key = createHash('sha256').update(JSON.stringify(settings)).digest('hex').slice(0, 16);
  return { key, settings, ...(byRequest ? { byRequest } : {}) };
}
