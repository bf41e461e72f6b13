/**
 * BackendTLSPolicy: connections to the Services that it names are TLS
 * (https://gateway-api.sigs.k8s.io/reference/spec/#backendtlspolicy).
 */
import type { Document } from '../documents.js';
import type { Context, RuleBuilder } from '../istio/context.js';
import type { Typed } from '../istio/kubernetes-services.js';
import type { Service, ServicePort } from '../istio/registry.js';
import { SYSTEM_CA } from '../istio/traffic-policy.js';
import { byAge } from '../istio/virtual-services.js';
import type { JsonObject } from '../resources.js';
import type { BackendTlsPolicy } from './schema.js';

interface Policy extends Typed<BackendTlsPolicy> {
  readonly rule: RuleBuilder;
  /** validation context: whom servers' certificates must come from */
  readonly authorities: JsonObject;
}

const AUTHORITIES = 'ca.crt';

/** The authorities in a ConfigMap or Secret. */
function authoritiesIn({ kind, json }: Document): string | undefined {
  const { data, stringData } = json as Record<'data' | 'stringData', Record<string, unknown> | undefined>;
  const plain = kind === 'Secret' ? stringData?.[AUTHORITIES] : data?.[AUTHORITIES];
  if (typeof plain === 'string') return plain;
  const encoded = kind === 'Secret' ? data?.[AUTHORITIES] : undefined;
  return typeof encoded === 'string' ? Buffer.from(encoded, 'base64').toString() : undefined;
}

export class BackendTls {
  readonly #context: Context;
  readonly #policies: Policy[];

  /** @param all documents, of which ConfigMaps and Secrets are looked at; for judging policies, those that are not there are taken to be */
  constructor(context: Context, documents: readonly Typed<BackendTlsPolicy>[], all: readonly Document[]) {
    this.#context = context;
    this.#policies = [...documents].sort(byAge).map(({ document, spec }) => {
      const rule = context.rule(document, ['spec'], 'spec');
      const found = this.#authorities({ document, spec }, all);
      if (typeof found !== 'string') return { document, spec, rule, authorities: found };
      const at = ['spec', 'validation', 'caCertificateRefs'];
      const unread = `${found}: the system's certificates are used instead`;
      context.unsupported(rule, at, 'tls-secret', unread);
      context.warn(document, at, 'not-translated', unread);
      return { document, spec, rule, authorities: { trusted_ca: { filename: SYSTEM_CA } } };
    });
  }

  /** The validation context that a policy asks for; else what is wrong, in words. */
  #authorities({ document, spec }: Typed<BackendTlsPolicy>, all: readonly Document[]): JsonObject | string {
    const [ref, ...more] = spec.validation.caCertificateRefs ?? [];
    if (!ref) return { trusted_ca: { filename: SYSTEM_CA } };
    const { group = '', kind = '', name } = ref;
    if (more.length > 0) return 'several certificates are not translated';
    if (group !== '' || (kind !== 'ConfigMap' && kind !== 'Secret'))
      return `certificates of kind ${kind} are not known here`;
    const own = all.find(
      (d) => d.apiVersion === 'v1' && d.kind === kind && d.name === name && d.namespace === document.namespace,
    );
    const text = own && authoritiesIn(own);
    if (text !== undefined) return { trusted_ca: { inline_string: text } };
    if (own) return `the ${kind} ${name} has no ${AUTHORITIES}`;
    if (!this.#context.assumeEndpoints) return `no document describes the ${kind} ${name}`;
    return { trusted_ca: { filename: `/etc/certs/${document.namespace}/${name}` } };
  }

  /** Makes a cluster speak TLS if a policy says so for its Service or port. */
  apply(cluster: JsonObject, service: Service, port: ServicePort): void {
    const { domain } = this.#context;
    const means = (section: string | undefined) => (policy: Policy) =>
      policy.spec.targetRefs.some(
        (ref) =>
          (ref.kind ?? 'Service') === 'Service' &&
          `${ref.name}.${policy.document.namespace}.svc.${domain}` === service.host &&
          ref.sectionName === section,
      );
    // The oldest one counts, and before those for the whole Service those for the port.
    const found = this.#policies.find(means(port.name)) ?? this.#policies.find(means(undefined));
    if (!found) return;
    const { document, spec, rule, authorities } = found;
    const { hostname, subjectAltNames = [] } = spec.validation;
    const names = subjectAltNames.map(({ type, hostname: name, uri }): JsonObject => {
      return type === 'URI'
        ? { san_type: 'URI', matcher: { exact: uri ?? '' } }
        : { san_type: 'DNS', matcher: { exact: name ?? '' } };
    });
    if (names.length === 0) names.push({ san_type: 'DNS', matcher: { exact: hostname } });
    cluster.transport_socket = {
      name: 'envoy.transport_sockets.tls',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext',
        sni: hostname,
        common_tls_context: {
          validation_context: {
            ...authorities,
            match_typed_subject_alt_names: names,
          },
        },
      },
    };
    this.#context.origin(cluster, document, ['spec', 'validation'], 'transport_socket');
    rule.objects.push(cluster);
  }
}
