/** Gateway API documents -> Envoy resources, together with those of Istio and Kubernetes (see ../istio). */
import type { Document } from '../documents.js';
import type { Context } from '../istio/context.js';
import type { Typed } from '../istio/kubernetes-services.js';
import type {
  ApiGateway,
  BackendTlsPolicy,
  GrpcRoute,
  HttpRoute,
  ReferenceGrant,
  TcpApiRoute,
  TlsApiRoute,
} from './schema.js';

export { BackendTls } from './backend-tls.js';
export { Backends } from './backends.js';
export { ApiGateways } from './listeners.js';
export { ApiRoutes } from './routes.js';

/** The documents of the Gateway API, validated. */
export interface GatewayApiInput {
  readonly apiGateways: Typed<ApiGateway>[];
  readonly httpRoutes: Typed<HttpRoute>[];
  readonly grpcRoutes: Typed<GrpcRoute>[];
  readonly tcpRoutes: Typed<TcpApiRoute>[];
  readonly tlsRoutes: Typed<TlsApiRoute>[];
  readonly referenceGrants: Typed<ReferenceGrant>[];
  readonly backendTls: Typed<BackendTlsPolicy>[];
}

const NOT_HTTP = new Set(['UDPRoute']);

/** Registers the rules of routes that are about neither HTTP, TLS nor TCP. */
export function recogniseRoutes(context: Context, document: Document): void {
  if (!NOT_HTTP.has(document.kind)) return;
  const { spec } = document.json;
  const rules =
    spec && typeof spec === 'object' && !Array.isArray(spec) && Array.isArray(spec.rules) ? spec.rules : [null];
  rules.forEach((_, index) => {
    const path = ['spec', 'rules', index];
    const rule = context.rule(document, path, `rules[${index}]`);
    context.unsupported(rule, path, 'not-http', `${document.kind}s are not intercepted`);
  });
}
