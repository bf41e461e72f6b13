/** The guides to all reasons, and the examples as whole documents. */
import { parse, stringify } from 'yaml';
import { REASONS, type ReasonText } from '../plan/reasons.js';
import type { EnvoyPlace, Example, Guide } from './guide.js';
import { CLUSTER_GUIDES } from './guides-clusters.js';
import { ENVOY_GUIDES } from './guides-envoy.js';
import { ISTIO_GUIDES } from './guides-istio.js';
import { LISTENER_GUIDES } from './guides-listeners.js';
import { ROUTE_GUIDES } from './guides-routes.js';

/** By reason code. */
export const GUIDES: Readonly<Record<string, Guide>> = {
  ...ENVOY_GUIDES,
  ...LISTENER_GUIDES,
  ...ROUTE_GUIDES,
  ...CLUSTER_GUIDES,
  ...ISTIO_GUIDES,
};

/** The text of a reason; one that is not on the list (there should be none) has its code as title. */
export function reasonText(code: string): ReasonText {
  return (REASONS as Readonly<Record<string, ReasonText>>)[code] ?? { title: code, explanation: '' };
}

/** What would make a rule with this reason offloadable; '' if nobody wrote it down. */
export function fixOf(code: string): string {
  return GUIDES[code]?.fix ?? '';
}

/** Where the documentation of a reason stands, in the repository and in the package. */
export function pageOf(code: string): string {
  return `docs/reasons/${code}.md`;
}

type Yaml = { [key: string]: unknown };
const HCM = 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager';
const ROUTER = 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router';

function bootstrap(parts: Partial<Record<EnvoyPlace, unknown>>): Yaml {
  const part = (place: EnvoyPlace): Yaml => (parts[place] ?? {}) as Yaml;
  const filters = (parts.filters ?? []) as unknown[];
  const route = parts.route ?? { match: { prefix: '/' }, route: { cluster: 'shop' } };
  const manager = {
    '@type': HCM,
    stat_prefix: 'http',
    ...part('connection manager'),
    route_config: {
      name: 'routes',
      ...part('route configuration'),
      virtual_hosts: [{ name: 'shop', domains: ['shop.example'], ...part('virtual host'), routes: [route] }],
    },
    http_filters: [...filters, { name: 'router', typed_config: { '@type': ROUTER } }],
  };
  const endpoint = { endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: 9000 } } } };
  return {
    ...part('bootstrap'),
    static_resources: {
      listeners: [
        {
          name: 'http',
          address: { socket_address: { address: '127.0.0.1', port_value: 10080 } },
          ...part('listener'),
          filter_chains: [{ filters: [{ name: 'http', typed_config: manager }], ...part('filter chain') }],
        },
      ],
      clusters: [
        {
          name: 'shop',
          type: 'STATIC',
          connect_timeout: '1s',
          load_assignment: { cluster_name: 'shop', endpoints: [{ lb_endpoints: [endpoint] }] },
          ...part('cluster'),
        },
      ],
    },
  };
}

const SERVICE = `apiVersion: v1
kind: Service
metadata: { name: reviews }
spec:
  clusterIP: 10.96.0.10
  selector: { app: reviews }
  ports: [{ name: http, port: 80 }]
---
`;

/** The example as files that `check` takes: a bootstrap, or documents beside a Service. */
export function exampleText(example: Example, which: 'before' | 'after'): string {
  const text = example[which];
  if (example.place === 'documents') return `${SERVICE}${text}\n`;
  const parts: Partial<Record<EnvoyPlace, unknown>> = {};
  for (const [place, around] of Object.entries(example.around ?? {})) parts[place as EnvoyPlace] = parse(around);
  parts[example.place] = parse(text);
  return stringify(bootstrap(parts));
}
