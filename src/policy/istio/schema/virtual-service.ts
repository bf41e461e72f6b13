/** VirtualService (networking.istio.io): HTTP, TLS and TCP routes. */
import { z } from 'zod';
import {
  atMostOne,
  count,
  duration,
  exactlyOne,
  formatText,
  headerText,
  labels,
  nonEmpty,
  originMatch,
  percent,
  port,
  positiveDuration,
  regex,
  rule,
  stringMatch,
  uint32,
  uriMatch,
} from './common.js';

const headerValues = () => z.record(z.string().min(1), formatText());
const headerOperations = () =>
  z.object({
    set: headerValues().optional(),
    add: headerValues().optional(),
    remove: z.array(nonEmpty()).optional(),
  });
export const headers = () =>
  z.object({ request: headerOperations().optional(), response: headerOperations().optional() });
export type Headers = z.infer<ReturnType<typeof headers>>;

export const destination = () =>
  z.object({
    host: nonEmpty(),
    subset: z.string().optional(),
    port: z.object({ number: port().optional() }).optional(),
  });
export type Destination = z.infer<ReturnType<typeof destination>>;

const httpMatch = () =>
  z.object({
    name: z.string().optional(),
    uri: uriMatch().optional(),
    scheme: stringMatch().optional(),
    method: stringMatch().optional(),
    authority: stringMatch().optional(),
    headers: z.record(z.string().min(1), stringMatch()).optional(),
    withoutHeaders: z.record(z.string().min(1), stringMatch()).optional(),
    queryParams: z.record(z.string().min(1), stringMatch()).optional(),
    port: port().optional(),
    sourceLabels: labels().optional(),
    sourceNamespace: z.string().optional(),
    gateways: z.array(z.string()).optional(),
    ignoreUriCase: z.boolean().optional(),
    statPrefix: z.string().optional(),
  });
export type HttpMatch = z.infer<ReturnType<typeof httpMatch>>;

const routeDestination = () =>
  z.object({
    destination: destination(),
    weight: count().optional(),
    headers: headers().optional(),
  });
export type RouteDestination = z.infer<ReturnType<typeof routeDestination>>;

const redirectFields = () =>
  z.object({
    uri: headerText().optional(),
    prefixRewrite: headerText().optional(),
    authority: headerText().optional(),
    scheme: z.string().optional(),
    port: port().optional(),
    derivePort: z.enum(['FROM_PROTOCOL_DEFAULT', 'FROM_REQUEST_PORT']).optional(),
    redirectCode: z
      .int()
      .refine((code) => [0, 301, 302, 303, 307, 308].includes(code), 'must be 301, 302, 303, 307 or 308')
      .optional(),
  });
const redirect = () => atMostOne(atMostOne(redirectFields(), ['uri', 'prefixRewrite']), ['port', 'derivePort']);
export type Redirect = z.infer<ReturnType<typeof redirect>>;

const directResponse = () =>
  z.object({
    status: z.int().min(200, 'must be 200 to 599').max(599, 'must be 200 to 599'),
    body: atMostOne(z.object({ string: z.string().optional(), bytes: z.base64('is not base64').optional() }), [
      'string',
      'bytes',
    ]).optional(),
  });
export type DirectResponse = z.infer<ReturnType<typeof directResponse>>;

const rewrite = () =>
  atMostOne(
    z.object({
      uri: headerText().optional(),
      authority: headerText().optional(),
      uriRegexRewrite: z.object({ match: regex(), rewrite: headerText().optional() }).optional(),
    }),
    ['uri', 'uriRegexRewrite'],
  );
export type Rewrite = z.infer<ReturnType<typeof rewrite>>;

/** What `retryOn` may name besides status codes (Envoy's x-envoy-retry-on and x-envoy-retry-grpc-on). */
const RETRY_ON = new Set(
  (
    '5xx gateway-error reset reset-before-request connect-failure envoy-ratelimited retriable-4xx refused-stream ' +
    'retriable-status-codes retriable-headers http3-post-connect-failure cancelled deadline-exceeded internal ' +
    'resource-exhausted unavailable'
  ).split(' '),
);
const retryOn = () =>
  z.string().superRefine((value, context) => {
    for (const part of value.split(',').map((p) => p.trim())) {
      if (part === '' || RETRY_ON.has(part) || /^[1-5]\d\d$/.test(part)) continue;
      context.addIssue({ code: 'custom', message: `"${part}" is neither a retry condition nor a status code` });
    }
  });

const retries = () =>
  z.object({
    attempts: count().optional(),
    perTryTimeout: positiveDuration().optional(),
    retryOn: retryOn().optional(),
    retryRemoteLocalities: z.boolean().optional(),
    retryIgnorePreviousHosts: z.boolean().optional(),
    backoff: positiveDuration().optional(),
  });
export type Retries = z.infer<ReturnType<typeof retries>>;

export const GRPC_STATUS = [
  'OK',
  'CANCELLED',
  'UNKNOWN',
  'INVALID_ARGUMENT',
  'DEADLINE_EXCEEDED',
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'PERMISSION_DENIED',
  'RESOURCE_EXHAUSTED',
  'FAILED_PRECONDITION',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
  'UNAUTHENTICATED',
] as const;

const fault = () =>
  z.object({
    delay: exactlyOne(
      z.object({
        percent: z.int().min(0, 'must be 0 to 100').max(100, 'must be 0 to 100').optional(),
        percentage: percent().optional(),
        fixedDelay: positiveDuration().optional(),
        exponentialDelay: positiveDuration().optional(),
      }),
      ['fixedDelay', 'exponentialDelay'],
    ).optional(),
    abort: exactlyOne(
      z.object({
        httpStatus: z.int().min(200, 'must be 200 to 599').max(599, 'must be 200 to 599').optional(),
        grpcStatus: z.enum(GRPC_STATUS).optional(),
        http2Error: z.string().optional(),
        percentage: percent().optional(),
      }),
      ['httpStatus', 'grpcStatus', 'http2Error'],
    ).optional(),
  });
export type Fault = z.infer<ReturnType<typeof fault>>;

const cors = () =>
  z.object({
    allowOrigin: z.array(z.string()).optional(),
    allowOrigins: z.array(originMatch()).optional(),
    allowMethods: z.array(z.string()).optional(),
    allowHeaders: z.array(z.string()).optional(),
    exposeHeaders: z.array(z.string()).optional(),
    maxAge: duration().optional(),
    allowCredentials: z.boolean().optional(),
    unmatchedPreflights: z.enum(['UNSPECIFIED', 'FORWARD', 'IGNORE']).optional(),
  });
export type Cors = z.infer<ReturnType<typeof cors>>;

const has = (v: Record<string, unknown>, key: string) => v[key] !== undefined;

const httpRoute = () => {
  let schema = z.object({
    name: z.string().optional(),
    match: z.array(httpMatch()).optional(),
    route: z.array(routeDestination()).optional(),
    redirect: redirect().optional(),
    directResponse: directResponse().optional(),
    delegate: z.object({ name: nonEmpty(), namespace: z.string().optional() }).optional(),
    rewrite: rewrite().optional(),
    timeout: duration().optional(),
    retries: retries().optional(),
    fault: fault().optional(),
    mirror: destination().optional(),
    mirrors: z.array(z.object({ destination: destination(), percentage: percent().optional() })).optional(),
    mirrorPercent: uint32().max(100, 'must be 0 to 100').optional(),
    mirror_percent: uint32().max(100, 'must be 0 to 100').optional(),
    mirrorPercentage: percent().optional(),
    corsPolicy: cors().optional(),
    headers: headers().optional(),
  });
  const targets = ['route', 'redirect', 'directResponse', 'delegate'];
  const count = (v: Record<string, unknown>) => targets.filter((key) => has(v, key)).length;
  schema = rule(schema, (v) => count(v) > 0, `one of ${targets.join(', ')} is required`);
  schema = rule(schema, (v) => count(v) <= 1, `only one of ${targets.join(', ')} may be set`);
  schema = rule(
    schema,
    (v) => !has(v, 'route') || !Array.isArray(v.route) || v.route.length > 0,
    'names no destination',
    ['route'],
  );
  schema = rule(schema, (v) => !has(v, 'redirect') || !has(v, 'rewrite'), 'a redirect takes no rewrite', ['rewrite']);
  schema = rule(schema, (v) => !has(v, 'redirect') || !has(v, 'fault'), 'a redirect takes no fault', ['fault']);
  schema = rule(
    schema,
    ({ redirect, match }) =>
      !(redirect as Redirect | undefined)?.prefixRewrite ||
      !Array.isArray(match) ||
      match.every((m: HttpMatch | null) => !m?.uri || m.uri.prefix !== undefined),
    'prefixRewrite takes matches by prefix only',
    ['redirect'],
  );
  schema = rule(
    schema,
    (v) => {
      if (!Array.isArray(v.route) || v.route.length < 2) return true;
      const sum = v.route.reduce((total: number, r) => total + (typeof r?.weight === 'number' ? r.weight : 0), 0);
      return sum > 0 && sum <= 4294967295;
    },
    'the weights of several destinations must not all be 0, nor exceed 4294967295 together',
    ['route'],
  );
  return schema;
};
export type HttpRoute = z.infer<ReturnType<typeof httpRoute>>;

const someWeight = (v: Record<string, unknown>) =>
  !Array.isArray(v.route) || v.route.length < 2 || v.route.some((r) => typeof r?.weight === 'number' && r.weight > 0);

const tcpMatch = () =>
  z.object({
    destinationSubnets: z.array(z.string()).optional(),
    sourceSubnet: z.string().optional(),
    port: port().optional(),
    sourceLabels: labels().optional(),
    sourceNamespace: z.string().optional(),
    gateways: z.array(z.string()).optional(),
  });
export type TcpMatch = z.infer<ReturnType<typeof tcpMatch>>;

const tcpDestination = () => z.object({ destination: destination(), weight: count().optional() });

const tcpRoute = () =>
  rule(
    z.object({
      match: z.array(tcpMatch()).optional(),
      route: z.array(tcpDestination()).min(1, 'names no destination'),
    }),
    someWeight,
    'the weights of several destinations must not all be 0',
    ['route'],
  );
export type TcpRoute = z.infer<ReturnType<typeof tcpRoute>>;

const tlsMatch = () =>
  z.object({
    sniHosts: z.array(nonEmpty()).min(1, 'names no server name'),
    destinationSubnets: z.array(z.string()).optional(),
    port: port().optional(),
    sourceLabels: labels().optional(),
    sourceNamespace: z.string().optional(),
    gateways: z.array(z.string()).optional(),
  });
export type TlsMatch = z.infer<ReturnType<typeof tlsMatch>>;

const tlsRoute = () =>
  rule(
    z.object({
      match: z.array(tlsMatch()).min(1, 'has no match'),
      route: z.array(tcpDestination()).min(1, 'names no destination'),
    }),
    someWeight,
    'the weights of several destinations must not all be 0',
    ['route'],
  );
export type TlsRoute = z.infer<ReturnType<typeof tlsRoute>>;

export const virtualService = rule(
  z.object({
    hosts: z.array(nonEmpty()).optional(),
    gateways: z.array(nonEmpty()).optional(),
    http: z.array(httpRoute()).optional(),
    tls: z.array(tlsRoute()).optional(),
    tcp: z.array(tcpRoute()).optional(),
    exportTo: z.array(z.string()).optional(),
  }),
  (v) => has(v, 'http') || has(v, 'tls') || has(v, 'tcp'),
  'one of http, tls, tcp is required',
);
export type VirtualService = z.infer<typeof virtualService>;
