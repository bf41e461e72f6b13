/**
 * The certificates of gateways: Secrets among the documents, or files, as
 * https://istio.io/latest/docs/reference/config/networking/gateway/#ServerTLSSettings and the Gateway API's certificateRefs
 * have it; and the TLS contexts that istiod makes of them (pilot/pkg/networking/core/gateway.go).
 */
import { existsSync } from 'node:fs';
import type { Document } from '../documents.js';
import type { JsonObject } from '../resources.js';
import type { Context } from './context.js';
import type { IstioGateway } from './schema/gateway.js';

type Settings = NonNullable<NonNullable<IstioGateway['servers']>[number]['tls']>;

/** How a server of a gateway speaks TLS. */
export interface ServerTls {
  /** who asks for a certificate of the client's: `require` one, take one where there is one */
  readonly clients: 'ignore' | 'ask' | 'require';
  /** names of Secrets (`namespace/name`; without a namespace: that of the gateway's workload) */
  readonly secrets: readonly string[];
  /** files instead */
  readonly files?: { readonly certificate: string; readonly key: string; readonly authorities?: string };
  readonly parameters: JsonObject;
  /** what is not translated of it, in words */
  readonly problem?: string;
}

const VERSIONS: Readonly<Record<string, string>> = {
  TLS_AUTO: '',
  TLSV1_0: 'TLSv1_0',
  TLSV1_1: 'TLSv1_1',
  TLSV1_2: 'TLSv1_2',
  TLSV1_3: 'TLSv1_3',
};

/** The settings of a server of Istio's. */
export function istioTls(tls: Settings | undefined): ServerTls {
  const mode = tls?.mode ?? 'PASSTHROUGH';
  const clients = mode === 'MUTUAL' ? 'require' : mode === 'OPTIONAL_MUTUAL' ? 'ask' : 'ignore';
  const secrets = tls?.credentialNames?.length ? tls.credentialNames : tls?.credentialName ? [tls.credentialName] : [];
  const { serverCertificate: certificate = '', privateKey: key = '', caCertificates: authorities } = tls ?? {};
  const low = VERSIONS[tls?.minProtocolVersion ?? 'TLS_AUTO'];
  const high = VERSIONS[tls?.maxProtocolVersion ?? 'TLS_AUTO'];
  const unknown = (
    ['subjectAltNames', 'verifyCertificateSpki', 'verifyCertificateHash', 'caCrl', 'tlsCertificates'] as const
  ).find((name) => tls?.[name]?.length);
  const problem =
    mode === 'ISTIO_MUTUAL'
      ? 'it has the certificates of the mesh'
      : unknown || low === undefined || high === undefined
        ? `${unknown ?? 'the version'} is not translated`
        : tls?.caCertCredentialName
          ? 'caCertCredentialName is not translated'
          : tls?.insecureSkipVerify && clients !== 'ignore'
            ? 'insecureSkipVerify is not translated'
            : undefined;
  return {
    clients,
    secrets,
    ...(secrets.length === 0 ? { files: { certificate, key, ...(authorities ? { authorities } : {}) } } : {}),
    parameters: {
      tls_minimum_protocol_version: low || 'TLSv1_2',
      ...(high ? { tls_maximum_protocol_version: high } : {}),
      ...(tls?.cipherSuites?.length ? { cipher_suites: tls.cipherSuites } : {}),
    },
    ...(problem ? { problem } : {}),
  };
}

/**
 * The settings of a listener of the Gateway API.
 * @param namespace of the Gateway
 * @param verifies the Gateway says (`tls.frontend`) how clients' certificates are verified
 */
export function apiTls(
  tls:
    | { certificateRefs?: unknown[] | undefined; options?: object | undefined; frontendValidation?: unknown }
    | undefined,
  namespace: string,
  verifies: boolean,
): ServerTls {
  const refs = (tls?.certificateRefs ?? []).map((ref) => ref as Record<string, unknown>);
  const secrets = refs.map((ref) => `${ref.namespace ?? namespace}/${ref.name}`);
  const foreign = refs.find((ref) => (ref.group ?? '') !== '' || (ref.kind ?? 'Secret') !== 'Secret');
  const away = refs.find((ref) => ref.namespace !== undefined && ref.namespace !== namespace);
  const problem = foreign
    ? `certificates of kind ${foreign.kind} are not known here`
    : away
      ? 'certificates of other namespaces are not looked for'
      : tls?.frontendValidation
        ? 'frontendValidation is not translated'
        : verifies
          ? 'tls.frontend of the Gateway is not translated'
          : Object.keys(tls?.options ?? {}).length > 0
            ? 'options are not translated'
            : refs.length === 0
              ? 'it names no certificate'
              : undefined;
  const parameters = { tls_minimum_protocol_version: 'TLSv1_2' };
  return { clients: 'ignore', secrets, parameters, ...(problem ? { problem } : {}) };
}

const TYPE = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext';
/** Keys in Secrets: of the type kubernetes.io/tls, and Istio's own. */
const KEYS = { certificate: ['tls.crt', 'cert'], key: ['tls.key', 'key'], authorities: ['ca.crt', 'cacert'] } as const;

/** A value of a Secret, decoded. */
function secretValue(secret: Document, keys: readonly string[]): string | undefined {
  const { data, stringData } = secret.json as { data?: Record<string, unknown>; stringData?: Record<string, unknown> };
  for (const key of keys) {
    if (typeof stringData?.[key] === 'string') return stringData[key];
    if (typeof data?.[key] === 'string') return Buffer.from(data[key], 'base64').toString();
  }
  return undefined;
}

/** The certificates that there are. */
export class Certificates {
  readonly #secrets = new Map<string, Document>();
  readonly #assumed: boolean;

  /** @param documents all that was read; for judging policies, Secrets and files that are not there are taken to be */
  constructor(context: Context, documents: readonly Document[]) {
    this.#assumed = context.assumeEndpoints;
    for (const document of documents)
      if (document.kind === 'Secret' && document.apiVersion === 'v1')
        this.#secrets.set(`${document.namespace}/${document.name}`, document);
  }

  /** The transport socket of a server; else why there is none, in words. @param namespace of the gateway’s workload */
  socket(tls: ServerTls, namespace: string): JsonObject | string {
    const found = tls.files
      ? this.#ofFiles(tls.files)
      : this.#ofSecrets(tls.secrets, namespace, tls.clients !== 'ignore');
    if (typeof found === 'string') return found;
    const context: JsonObject = {
      '@type': TYPE,
      common_tls_context: { ...found, tls_params: tls.parameters, alpn_protocols: ['h2', 'http/1.1'] },
      require_client_certificate: tls.clients === 'require',
    };
    return { name: 'envoy.transport_sockets.tls', typed_config: context };
  }

  #ofFiles({ certificate, key, authorities }: NonNullable<ServerTls['files']>): JsonObject | string {
    if (certificate === '' || key === '') return 'it names no certificate';
    for (const file of [certificate, key, ...(authorities ? [authorities] : [])])
      if (!this.#assumed && !existsSync(file)) return `there is no file ${file}`;
    return {
      tls_certificates: [{ certificate_chain: { filename: certificate }, private_key: { filename: key } }],
      ...(authorities ? { validation_context: { trusted_ca: { filename: authorities } } } : {}),
    };
  }

  #ofSecrets(names: readonly string[], namespace: string, mutual: boolean): JsonObject | string {
    const certificates: JsonObject[] = [];
    let authorities: string | undefined;
    for (const wanted of names) {
      const name = wanted.includes('/') ? wanted : `${namespace}/${wanted}`;
      const secret = this.#secrets.get(name);
      if (!secret && this.#assumed) return this.#taken(name, mutual);
      if (!secret) return `no document describes the Secret ${name}`;
      const certificate = secretValue(secret, KEYS.certificate);
      const key = secretValue(secret, KEYS.key);
      if (certificate === undefined || key === undefined) return `the Secret ${name} has no certificate with its key`;
      certificates.push({ certificate_chain: { inline_string: certificate }, private_key: { inline_string: key } });
      const beside = this.#secrets.get(`${name}-cacert`);
      authorities ??= secretValue(secret, KEYS.authorities) ?? (beside && secretValue(beside, KEYS.authorities));
    }
    if (certificates.length === 0) return 'it names no certificate';
    if (mutual && authorities === undefined)
      return `the Secret ${names[0]} has no certificate of an authority for clients`;
    return {
      tls_certificates: certificates,
      ...(mutual && authorities ? { validation_context: { trusted_ca: { inline_string: authorities } } } : {}),
    };
  }

  /** What stands for a Secret that is somewhere else. */
  #taken(name: string, mutual: boolean): JsonObject {
    const of = (secret: string) => ({ name: `kubernetes://${secret}` });
    return {
      tls_certificate_sds_secret_configs: [of(name)],
      ...(mutual ? { validation_context_sds_secret_config: of(`${name}-cacert`) } : {}),
    };
  }
}
