/** BackendTLSPolicy: connections to the Services that it names are TLS. */
import type { Context, RuleBuilder } from '../istio/context.js';
import type { Typed } from '../istio/kubernetes-services.js';
import type { Service, ServicePort } from '../istio/registry.js';
import { SYSTEM_CA } from '../istio/traffic-policy.js';
import { byAge } from '../istio/virtual-services.js';
import type { JsonObject } from '../resources.js';
import type { BackendTlsPolicy } from './schema.js';

interface Policy extends Typed<BackendTlsPolicy> {
  readonly rule: RuleBuilder;
}

export class BackendTls {
  readonly #context: Context;
  readonly #policies: Policy[];

  constructor(context: Context, documents: readonly Typed<BackendTlsPolicy>[]) {
    this.#context = context;
    this.#policies = [...documents].sort(byAge).map(({ document, spec }) => {
      const rule = context.rule(document, ['spec'], 'spec');
      if (spec.validation.caCertificateRefs?.length) {
        const unread = "certificates in the cluster cannot be read here: the system's are used instead";
        const at = ['spec', 'validation', 'caCertificateRefs'];
        context.unsupported(rule, at, 'tls-secret', unread);
        context.warn(document, at, 'not-translated', unread);
      }
      return { document, spec, rule };
    });
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
    const { document, spec, rule } = found;
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
            trusted_ca: { filename: SYSTEM_CA },
            match_typed_subject_alt_names: names,
          },
        },
      },
    };
    this.#context.origin(cluster, document, ['spec', 'validation'], 'transport_socket');
    rule.objects.push(cluster);
  }
}
