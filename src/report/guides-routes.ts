/** Guides to the reasons that concern routes: what they match, and what they do. */
import type { Guide } from './guide.js';

const FORWARD = 'match: { prefix: / }\nroute: { cluster: shop }';

export const ROUTE_GUIDES: Readonly<Record<string, Guide>> = {
  'route-match': {
    fix: 'Write the match with path, prefix, path_separated_prefix or safe_regex.',
    example: {
      place: 'route',
      before: `match:
  path_match_policy:
    name: template
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig
      path_template: /items/{id}
route: { cluster: shop }`,
      after: 'match: { safe_regex: { regex: "/items/[^/]+" } }\nroute: { cluster: shop }',
    },
  },
  'match-header': {
    fix: 'Match on a header that the proxy does not maintain itself.',
    example: {
      place: 'route',
      before: `match: { prefix: /, headers: [{ name: x-request-id, present_match: true }] }
route: { cluster: shop }`,
      after: `match: { prefix: /, headers: [{ name: x-shop-request, present_match: true }] }
route: { cluster: shop }`,
    },
  },
  regex: {
    fix: 'Write the expression without what is outside the supported syntax, for example with explicit ranges.',
    example: {
      place: 'route',
      before: `match: { safe_regex: { regex: '/\\C+' } }
route: { cluster: shop }`,
      after: `match: { safe_regex: { regex: '/[a-z]+' } }
route: { cluster: shop }`,
    },
  },
  'runtime-fraction': {
    fix: 'Use weighted_clusters instead of a fraction of the matches.',
    example: {
      place: 'route',
      before: `match: { prefix: /, runtime_fraction: { default_value: { numerator: 10 } } }
route: { cluster: shop }`,
      after: `match: { prefix: / }
route: { weighted_clusters: { clusters: [{ name: shop, weight: 100 }] } }`,
    },
  },
  'route-action': {
    fix: 'Use a route, redirect or direct_response.',
    example: {
      place: 'route',
      before: 'match: { prefix: / }\nnon_forwarding_action: {}',
      after: 'match: { prefix: / }\ndirect_response: { status: 404 }',
    },
  },
  'cluster-unknown': {
    fix: 'Name the cluster (cluster or weighted_clusters), and define it in the files.',
    example: {
      place: 'route',
      before: 'match: { prefix: / }\nroute: { cluster_header: x-cluster }',
      after:
        'match: { prefix: /, headers: [{ name: x-cluster, string_match: { exact: shop } }] }\nroute: { cluster: shop }',
    },
  },
  'header-format': {
    fix: 'Write the value without %COMMANDS%.',
    example: {
      place: 'route',
      before: `${FORWARD}
request_headers_to_add: [{ header: { key: x-time, value: "%START_TIME%" } }]`,
      after: `${FORWARD}
request_headers_to_add: [{ header: { key: x-mesh, value: "shop" } }]`,
    },
  },
  'header-edit': {
    fix: 'Edit a header of your own instead.',
    example: {
      place: 'route',
      before: `${FORWARD}
request_headers_to_remove: [x-request-id]`,
      after: `${FORWARD}
request_headers_to_remove: [x-shop-internal]`,
    },
  },
  'response-headers': {
    fix: 'Leave these headers to the proxy, or edit a header of your own instead.',
    example: {
      place: 'route',
      before: `${FORWARD}
response_headers_to_add: [{ header: { key: server, value: shop } }]`,
      after: FORWARD,
    },
  },
  retry: {
    fix: 'Retry on connect-failure, refused-stream, reset-before-request, unavailable, cancelled and 503 only.',
    example: {
      place: 'route',
      before:
        'match: { prefix: / }\nroute: { cluster: shop, retry_policy: { retry_on: "retriable-4xx,connect-failure" } }',
      after: 'match: { prefix: / }\nroute: { cluster: shop, retry_policy: { retry_on: connect-failure } }',
    },
  },
  timeout: {
    fix: 'Use the route’s timeout instead.',
    example: {
      place: 'route',
      before: 'match: { prefix: / }\nroute: { cluster: shop, max_stream_duration: { max_stream_duration: 10s } }',
      after: 'match: { prefix: / }\nroute: { cluster: shop, timeout: 10s }',
    },
  },
  mirror: {
    fix: 'Mirror all requests of a route that has several clusters, or choose between them on routes of their own.',
    example: {
      place: 'route',
      before:
        'match: { prefix: / }\nroute:\n  weighted_clusters: { clusters: [{ name: shop, weight: 1 }, { name: shop, weight: 2 }] }\n  request_mirror_policies: [{ cluster: shop, runtime_fraction: { default_value: { numerator: 50 } } }]',
      after:
        'match: { prefix: / }\nroute:\n  weighted_clusters: { clusters: [{ name: shop, weight: 1 }, { name: shop, weight: 2 }] }\n  request_mirror_policies: [{ cluster: shop }]',
    },
  },
  'host-rewrite': {
    fix: 'Use host_rewrite_literal on a virtual host with exact domains.',
    example: {
      place: 'route',
      before: 'match: { prefix: / }\nroute: { cluster: shop, host_rewrite_header: x-host }',
      after: 'match: { prefix: / }\nroute: { cluster: shop, host_rewrite_literal: shop.internal }',
    },
  },
  'path-rewrite': {
    fix: 'Use prefix_rewrite, or a regex_rewrite whose result is never empty.',
    example: {
      place: 'route',
      before: `match: { prefix: /old }
route: { cluster: shop, regex_rewrite: { pattern: { regex: "/old" }, substitution: "" } }`,
      after: 'match: { prefix: /old/ }\nroute: { cluster: shop, prefix_rewrite: / }',
    },
  },
  redirect: {
    fix: 'Redirect with path_redirect or prefix_rewrite.',
    example: {
      place: 'route',
      before: `match: { prefix: /old/ }
redirect: { regex_rewrite: { pattern: { regex: "/old/(.*)" }, substitution: '/new/\\1' } }`,
      after: 'match: { prefix: /old/ }\nredirect: { prefix_rewrite: /new/ }',
    },
  },
  'direct-response': {
    fix: 'Answer with a short inline text and a status that has a body.',
    example: {
      place: 'route',
      before: 'match: { prefix: / }\ndirect_response: { status: 205 }',
      after: 'match: { prefix: / }\ndirect_response: { status: 200, body: { inline_string: "ok" } }',
    },
  },
  'require-tls': {
    fix: 'Leave require_tls to the edge.',
    example: { place: 'virtual host', before: 'require_tls: ALL', after: '{}' },
  },
};
