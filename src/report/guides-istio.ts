/** Guides to the reasons that concern Istio's and the Gateway API's documents. */
import type { Guide } from './guide.js';

const HEAD = (kind: string, name = 'reviews', group = 'networking.istio.io/v1') =>
  `apiVersion: ${group}\nkind: ${kind}\nmetadata: { name: ${name} }\n`;
const ROUTE = `${HEAD('VirtualService')}spec:
  hosts: [reviews]
  http:
    - route: [{ destination: { host: reviews } }]`;
const RULES = `${HEAD('DestinationRule')}spec:
  host: reviews
  trafficPolicy:
    `;
const SELECTED = `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: web, namespace: web }
spec: { selector: { matchLabels: { app: web } }, mtls: { mode: STRICT } }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: web }
spec: { clusterIP: 10.96.0.1, ports: [{ name: http, port: 80 }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
endpoints: [{ addresses: [10.1.0.1] }]
ports: [{ name: http, port: 80 }]
metadata:
  name: web
  namespace: web
  labels: { kubernetes.io/service-name: web`;
const ROUND_ROBIN = `${RULES}loadBalancer: { simple: ROUND_ROBIN }`;
const GATEWAY = `${HEAD('Gateway', 'public')}spec:
  selector: { istio: ingressgateway }
  servers: [{ port: { number: 80, name: web, protocol: HTTP }, hosts: [HOSTS] }]`;
const API_ROUTE = `${HEAD('HTTPRoute', 'reviews', 'gateway.networking.k8s.io/v1')}spec:
PARENTS  rules:
    - backendRefs: [{ name: reviews, port: 80 }]`;
const access = (rest: string) => `${HEAD('AuthorizationPolicy', 'reviews', 'security.istio.io/v1')}spec:\n${rest}`;
const TOKENS = `${HEAD('RequestAuthentication', 'reviews', 'security.istio.io/v1')}spec:
  jwtRules:`;
const SIDECAR = (name: string) => `${HEAD('Sidecar', name)}spec:
  egress: [{ hosts: ["./*"] }]`;
const PATCH = (context: string) => `${HEAD('EnvoyFilter', 'reviews', 'networking.istio.io/v1alpha3')}spec:
  configPatches:
    - applyTo: HTTP_FILTER
      match: { context: ${context} }
      patch:
        operation: INSERT_FIRST
        value:
          name: edits
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
            mutations: { request_mutations: [{ remove: x-debug }] }`;
const BY_PATH = access(`  action: DENY
  rules:
    - to: [{ operation: { paths: [/internal/*] } }]`);

export const ISTIO_GUIDES: Readonly<Record<string, Guide>> = {
  gateway: {
    fix: 'Give the files the Gateway, with a plain HTTP server for the hosts of the route.',
    example: {
      place: 'documents',
      before: `${GATEWAY.replace('HOSTS', 'other.example')}
---
${ROUTE.replace('  http:', '  gateways: [public]\n  http:')}`,
      after: `${GATEWAY.replace('HOSTS', '"*"')}
---
${ROUTE.replace('  http:', '  gateways: [public]\n  http:')}`,
    },
  },
  'parent-kind': {
    fix: 'Attach the route to a Gateway or a Service.',
    example: {
      place: 'documents',
      before: API_ROUTE.replace('PARENTS', '  parentRefs: [{ group: example.com, kind: Edge, name: reviews }]\n'),
      after: API_ROUTE.replace('PARENTS', '  parentRefs: [{ group: "", kind: Service, name: reviews }]\n'),
    },
  },
  'backend-kind': {
    fix: 'Send the requests to a Service.',
    without: 'what such a backend would be is known to its controller only.',
  },
  'unknown-filter': {
    fix: 'Use the filters of the Gateway API itself.',
    without: 'what such a filter would do is known to its controller only.',
  },
  'envoy-filter': {
    fix: 'Patch what clients or gateways send (SIDECAR_OUTBOUND, GATEWAY), with what is offloaded in an Envoy configuration; or narrow the patch (workloadSelector, match), so that it concerns fewer listeners, routes and clusters.',
    example: { place: 'documents', before: PATCH('SIDECAR_INBOUND'), after: PATCH('SIDECAR_OUTBOUND') },
  },
  wasm: {
    fix: 'Let the plugin select only the workloads that need it.',
    without: 'a plugin has no counterpart that is offloaded.',
  },
  sidecar: {
    fix: 'Remove the setting, or import the host in an egress listener without a port.',
    without: 'it depends on what the clients are meant to see.',
  },
  telemetry: {
    fix: 'Take metrics of requests from the applications, or from Sidestep.',
    without: 'metrics of a proxy only count what it sees.',
  },
  'source-match': {
    fix: 'Run an instance for these clients (`run --name web --labels app=web`, then `exec --name web`), or tell them apart by something in the request, such as a header.',
    example: {
      place: 'documents',
      before: `${SIDECAR('one')}\n---\n${SIDECAR('two')}`,
      after: SIDECAR('one'),
    },
  },
  'not-http': {
    fix: 'Offer the service by TCP, if its clients can speak that; else the proxy goes on to carry it.',
    example: {
      place: 'documents',
      before: `apiVersion: gateway.networking.k8s.io/v1alpha2
kind: UDPRoute
metadata: { name: ledger }
spec:
  parentRefs: [{ name: gate }]
  rules: [{ backendRefs: [{ name: ledger, port: 9443 }] }]`,
      after: `apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: { name: ledger }
spec:
  parentRefs: [{ name: gate }]
  rules: [{ backendRefs: [{ name: ledger, port: 9443 }] }]`,
    },
  },
  'no-host': {
    fix: 'Name the hosts, or delegate to it from a VirtualService that has some.',
    without: '`check` takes it that a VirtualService of elsewhere delegates to it; only `run` gives this reason.',
  },
  'not-exported': {
    fix: 'Export it to the namespace of the clients.',
    example: {
      place: 'documents',
      before: `${ROUTE.replace('{ name: reviews }', '{ name: reviews, namespace: other }').replace('hosts: [reviews]', 'hosts: [reviews.default.svc.cluster.local]').replace('host: reviews', 'host: reviews.default.svc.cluster.local')}
  exportTo: ["~"]`,
      after: ROUTE.replace('{ name: reviews }', '{ name: reviews, namespace: other }')
        .replace('hosts: [reviews]', 'hosts: [reviews.default.svc.cluster.local]')
        .replace('host: reviews', 'host: reviews.default.svc.cluster.local'),
    },
  },
  'no-http-port': {
    fix: 'Declare the port as HTTP (for TCP routes as TCP), by its name (http, http-...) or appProtocol.',
    without: 'it depends on the Service, not on the rule.',
  },
  'unknown-delegate': {
    fix: 'Give the files the VirtualService that it delegates to.',
    example: {
      place: 'documents',
      before: `${HEAD('VirtualService')}spec:
  hosts: [reviews]
  http:
    - delegate: { name: reviews-routes }`,
      after: `${HEAD('VirtualService')}spec:
  hosts: [reviews]
  http:
    - delegate: { name: reviews-routes }
---
${HEAD('VirtualService', 'reviews-routes')}spec:
  http:
    - route: [{ destination: { host: reviews } }]`,
    },
  },
  'delegate-conflict': {
    fix: 'Let each match of the delegate lie inside a match of the rule that delegates.',
    example: {
      place: 'documents',
      before: `${HEAD('VirtualService')}spec:
  hosts: [reviews]
  http:
    - match: [{ uri: { prefix: /api } }]
      delegate: { name: reviews-routes }
---
${HEAD('VirtualService', 'reviews-routes')}spec:
  http:
    - match: [{ uri: { prefix: /items } }]
      route: [{ destination: { host: reviews } }]`,
      after: `${HEAD('VirtualService')}spec:
  hosts: [reviews]
  http:
    - match: [{ uri: { prefix: /api } }]
      delegate: { name: reviews-routes }
---
${HEAD('VirtualService', 'reviews-routes')}spec:
  http:
    - match: [{ uri: { prefix: /api/items } }]
      route: [{ destination: { host: reviews } }]`,
    },
  },
  'no-service': {
    fix: 'Give the files the Service or ServiceEntry, or correct the host.',
    without: 'check supposes the services that no document describes.',
  },
  'traffic-policy': {
    fix: 'Remove the setting, if it is not needed.',
    example: {
      place: 'documents',
      before: `${RULES}tunnel: { targetHost: x.example, targetPort: 443 }`,
      after: ROUND_ROBIN,
    },
  },
  'mesh-tls': {
    fix: 'Give the node its certificates (run --certificates), and the labels of servers (Pods, or labels of EndpointSlices) where a policy selects some.',
    example: {
      place: 'documents',
      before: `${SELECTED} }`,
      after: `${SELECTED}, app: web }`,
    },
  },
  'tls-secret': {
    fix: 'Speak plain text on this hop, where the network allows it.',
    example: {
      place: 'documents',
      before: `${RULES}tls: { mode: SIMPLE, credentialName: reviews-ca }`,
      after: `${RULES}tls: { mode: DISABLE }`,
    },
  },
  passthrough: {
    fix: 'Use ROUND_ROBIN, RANDOM or LEAST_REQUEST.',
    example: { place: 'documents', before: `${RULES}loadBalancer: { simple: PASSTHROUGH }`, after: ROUND_ROBIN },
  },
  locality: {
    fix: 'Leave localities out where all endpoints are near.',
    example: {
      place: 'documents',
      before: `${RULES}loadBalancer: { simple: ROUND_ROBIN, localityLbSetting: { failoverPriority: [topology.kubernetes.io/region] } }`,
      after: ROUND_ROBIN,
    },
  },
  jwt: {
    fix: 'Give the rule the issuer’s keys (jwks or jwksUri; an issuer with an http address is asked for them), and let claims go into headers of their own.',
    example: {
      place: 'documents',
      before: `${TOKENS}
    - issuer: someone@issuer.example
      outputPayloadToHeader: authorization
      jwks: '{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}'`,
      after: `${TOKENS}
    - issuer: someone@issuer.example
      outputPayloadToHeader: x-token
      jwks: '{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}'`,
    },
  },
  'mixed-servers': {
    fix: 'Give the service’s ports and servers the property that the rule asks for, all of them or none.',
    without: 'it depends on the servers of the service, not on the rule.',
  },
  sni: {
    fix: 'Match on the host instead.',
    example: {
      place: 'documents',
      before: access(`  action: DENY
  rules:
    - when: [{ key: connection.sni, values: [old.example] }]`),
      after: access(`  action: DENY
  rules:
    - to: [{ operation: { hosts: [old.example] } }]`),
    },
  },
  metadata: {
    fix: 'Match on a header instead.',
    example: {
      place: 'documents',
      before: access(`  action: DENY
  rules:
    - when: [{ key: "experimental.envoy.filters.network.shop[tier]", values: [free] }]`),
      after: access(`  action: DENY
  rules:
    - when: [{ key: "request.headers[x-tier]", values: [free] }]`),
    },
  },
  'target-ref': {
    fix: 'Select the servers with spec.selector instead.',
    example: {
      place: 'documents',
      before: access(`  action: DENY
  targetRefs: [{ group: gateway.networking.k8s.io, kind: GatewayClass, name: waypoint }]
  rules:
    - to: [{ operation: { paths: [/internal/*] } }]`),
      after: access(`  action: DENY
  selector: { matchLabels: { app: reviews } }
  rules:
    - to: [{ operation: { paths: [/internal/*] } }]`),
    },
  },
  'dry-run': {
    fix: 'Take the annotation away when the policy is to be enforced.',
    example: {
      place: 'documents',
      before: BY_PATH.replace('{ name: reviews }', '{ name: reviews, annotations: { istio.io/dry-run: "true" } }'),
      after: BY_PATH,
    },
  },
  audit: {
    fix: 'Nothing to gain: auditing decides nothing.',
    without: 'an audit policy has no effect on requests.',
  },
  'custom-authorization': {
    fix: 'Say with an ALLOW or DENY policy what the external authorizer decides.',
    example: {
      place: 'documents',
      before: `apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: { name: mesh, namespace: istio-system }
spec:
  meshConfig:
    extensionProviders:
      - name: ext-authz
        envoyExtAuthzHttp: { service: authorizer.default.svc.cluster.local, port: 8000 }
---
${BY_PATH.replace('action: DENY', 'action: CUSTOM\n  provider: { name: ext-authz }')}`,
      after: BY_PATH,
    },
  },
  'partial-selection': {
    fix: 'Use subsets, so that the policy selects all servers of a destination or none.',
    without: 'it depends on the labels of the servers, not on the rule.',
  },
  'unknown-labels': {
    fix: 'Give the files the labels of the servers: Pod documents, or labels on the EndpointSlices.',
    without: 'it depends on the labels of the servers, not on the rule.',
  },
  'no-workload': {
    fix: 'Correct the selector, or give the files the Service.',
    without: 'check supposes the servers that no document describes.',
  },
  'unsupported-kind': {
    fix: 'Say what it does with a VirtualService, DestinationRule or AuthorizationPolicy, where that is possible.',
    without: 'the document as a whole is concerned.',
  },
  invalid: {
    fix: 'Correct the errors that are reported for the document.',
    without: 'an invalid document is not loaded at all.',
  },
};
