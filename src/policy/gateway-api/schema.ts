/** Gateway API (gateway.networking.k8s.io): the fields of Gateways, HTTPRoutes, GRPCRoutes and what belongs to them. */
import { z } from 'zod';
import { duration, headerText, labels, nonEmpty, port, regex, rule } from '../istio/schema/common.js';

const kindOf = () => ({ group: z.string().optional(), kind: z.string().optional() });

const parentRef = () =>
  z.object({
    ...kindOf(),
    name: nonEmpty(),
    namespace: z.string().optional(),
    sectionName: z.string().optional(),
    port: port().optional(),
  });
export type ParentRef = z.infer<ReturnType<typeof parentRef>>;

const objectRef = () =>
  z.object({ ...kindOf(), name: nonEmpty(), namespace: z.string().optional(), port: port().optional() });
export type ObjectRef = z.infer<ReturnType<typeof objectRef>>;

const header = () => z.object({ name: nonEmpty(), value: headerText() });
const headerModifier = () =>
  z.object({
    set: z.array(header()).optional(),
    add: z.array(header()).optional(),
    remove: z.array(nonEmpty()).optional(),
  });
export type HeaderModifier = z.infer<ReturnType<typeof headerModifier>>;

const pathModifier = () =>
  rule(
    z.object({
      type: z.enum(['ReplaceFullPath', 'ReplacePrefixMatch']),
      replaceFullPath: headerText().optional(),
      replacePrefixMatch: headerText().optional(),
    }),
    (v) => (v.type === 'ReplaceFullPath' ? v.replaceFullPath : v.replacePrefixMatch) !== undefined,
    'the value for this type is missing',
  );
export type PathModifier = z.infer<ReturnType<typeof pathModifier>>;

const redirect = () =>
  z.object({
    scheme: z.enum(['http', 'https']).optional(),
    hostname: headerText().optional(),
    path: pathModifier().optional(),
    port: port().optional(),
    statusCode: z
      .int()
      .refine((code) => [301, 302, 303, 307, 308].includes(code), 'must be 301, 302, 303, 307 or 308')
      .optional(),
  });
export type RequestRedirect = z.infer<ReturnType<typeof redirect>>;

const mirror = () =>
  z.object({
    backendRef: objectRef(),
    percent: z.int().min(0).max(100).optional(),
    fraction: z.object({ numerator: z.int().min(0), denominator: z.int().min(1).optional() }).optional(),
  });

const cors = () =>
  z.object({
    allowOrigins: z.array(nonEmpty()).optional(),
    allowCredentials: z.boolean().optional(),
    allowMethods: z.array(nonEmpty()).optional(),
    allowHeaders: z.array(nonEmpty()).optional(),
    exposeHeaders: z.array(nonEmpty()).optional(),
    maxAge: z.int().min(0).optional(),
  });
export type CorsFilter = z.infer<ReturnType<typeof cors>>;

/** The field in which a filter of each type has its settings. */
export const FILTER_FIELD: Readonly<Record<string, string>> = {
  RequestHeaderModifier: 'requestHeaderModifier',
  ResponseHeaderModifier: 'responseHeaderModifier',
  RequestRedirect: 'requestRedirect',
  URLRewrite: 'urlRewrite',
  RequestMirror: 'requestMirror',
  CORS: 'cors',
  ExtensionRef: 'extensionRef',
  ExternalAuth: 'externalAuth',
};

const filter = () =>
  rule(
    z.object({
      type: nonEmpty(),
      requestHeaderModifier: headerModifier().optional(),
      responseHeaderModifier: headerModifier().optional(),
      requestRedirect: redirect().optional(),
      urlRewrite: z.object({ hostname: headerText().optional(), path: pathModifier().optional() }).optional(),
      requestMirror: mirror().optional(),
      cors: cors().optional(),
      extensionRef: z.object({ group: z.string(), kind: nonEmpty(), name: nonEmpty() }).optional(),
      externalAuth: z.unknown().optional(),
    }),
    (v) => FILTER_FIELD[String(v.type)] === undefined || v[FILTER_FIELD[String(v.type)] ?? ''] !== undefined,
    'the settings for this type are missing',
  );
export type Filter = z.infer<ReturnType<typeof filter>>;

const backendRef = () =>
  z.object({
    ...kindOf(),
    name: nonEmpty(),
    namespace: z.string().optional(),
    port: port().optional(),
    weight: z.int().min(0, 'must not be negative').max(1_000_000, 'must be at most 1000000').optional(),
    filters: z.array(filter()).optional(),
  });
export type BackendRef = z.infer<ReturnType<typeof backendRef>>;

const valueMatch = () =>
  rule(
    z.object({ type: z.enum(['Exact', 'RegularExpression']).optional(), name: nonEmpty(), value: z.string() }),
    (v) => v.type !== 'RegularExpression' || regex().safeParse(v.value).success,
    'is not an RE2 regular expression',
    ['value'],
  );
export type ValueMatch = z.infer<ReturnType<typeof valueMatch>>;

const pathMatch = () =>
  rule(
    rule(
      z.object({ type: z.enum(['Exact', 'PathPrefix', 'RegularExpression']).optional(), value: z.string().optional() }),
      (v) => v.type !== 'RegularExpression' || regex().safeParse(v.value ?? '').success,
      'is not an RE2 regular expression',
      ['value'],
    ),
    (v) => v.type === 'RegularExpression' || String(v.value ?? '/').startsWith('/'),
    'must begin with a slash',
    ['value'],
  );

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH'] as const;

const httpMatch = () =>
  z.object({
    path: pathMatch().optional(),
    headers: z.array(valueMatch()).optional(),
    queryParams: z.array(valueMatch()).optional(),
    method: z.enum(METHODS).optional(),
  });
export type HttpMatch = z.infer<ReturnType<typeof httpMatch>>;

const sessionPersistence = () =>
  z.object({
    sessionName: z.string().optional(),
    absoluteTimeout: duration().optional(),
    idleTimeout: duration().optional(),
    type: z.enum(['Cookie', 'Header']).optional(),
    cookieConfig: z.object({ lifetimeType: z.enum(['Permanent', 'Session']).optional() }).optional(),
  });
export type SessionPersistence = z.infer<ReturnType<typeof sessionPersistence>>;

const commonRule = () => ({
  name: z.string().optional(),
  filters: z.array(filter()).optional(),
  backendRefs: z.array(backendRef()).optional(),
  sessionPersistence: sessionPersistence().optional(),
});

const httpRule = () =>
  z.object({
    ...commonRule(),
    matches: z.array(httpMatch()).optional(),
    timeouts: z.object({ request: duration().optional(), backendRequest: duration().optional() }).optional(),
    retry: z
      .object({
        codes: z.array(z.int().min(400).max(599)).optional(),
        attempts: z.int().optional(),
        backoff: duration().optional(),
      })
      .optional(),
  });
export type HttpRule = z.infer<ReturnType<typeof httpRule>>;

const grpcMethod = () =>
  rule(
    z.object({
      type: z.enum(['Exact', 'RegularExpression']).optional(),
      service: z.string().optional(),
      method: z.string().optional(),
    }),
    (v) =>
      v.type !== 'RegularExpression' || [v.service, v.method].every((text) => !text || regex().safeParse(text).success),
    'is not an RE2 regular expression',
  );
export type GrpcMethod = z.infer<ReturnType<typeof grpcMethod>>;

const grpcRule = () =>
  z.object({
    ...commonRule(),
    matches: z
      .array(z.object({ method: grpcMethod().optional(), headers: z.array(valueMatch()).optional() }))
      .optional(),
  });
export type GrpcRule = z.infer<ReturnType<typeof grpcRule>>;

const commonRoute = () => ({
  parentRefs: z.array(parentRef()).optional(),
  hostnames: z.array(nonEmpty()).optional(),
  useDefaultGateways: z.string().optional(),
});
export const httpRoute = z.object({ ...commonRoute(), rules: z.array(httpRule()).optional() });
export type HttpRoute = z.infer<typeof httpRoute>;
export const grpcRoute = z.object({ ...commonRoute(), rules: z.array(grpcRule()).optional() });
export type GrpcRoute = z.infer<typeof grpcRoute>;

export const tcpApiRoute = z.object({
  parentRefs: z.array(parentRef()).optional(),
  useDefaultGateways: z.string().optional(),
  rules: z
    .array(
      z.object({
        name: z.string().optional(),
        backendRefs: z
          .array(z.object({ ...objectRef().shape, weight: z.int().min(0).max(1000000).optional() }))
          .optional(),
      }),
    )
    .optional(),
});
export type TcpApiRoute = z.infer<typeof tcpApiRoute>;

/** TLSRoute; its versions differ in what is required only. */
export const tlsApiRoute = z.object({ ...tcpApiRoute.shape, hostnames: z.array(nonEmpty()).optional() });
export type TlsApiRoute = z.infer<typeof tlsApiRoute>;

const allowedRoutes = () =>
  z.object({
    namespaces: z
      .object({
        from: z.enum(['All', 'Selector', 'Same', 'None']).optional(),
        selector: z
          .object({
            matchLabels: labels().optional(),
            matchExpressions: z
              .array(
                z.object({
                  key: nonEmpty(),
                  operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']),
                  values: z.array(z.string()).optional(),
                }),
              )
              .optional(),
          })
          .optional(),
      })
      .optional(),
    kinds: z.array(z.object({ group: z.string().optional(), kind: nonEmpty() })).optional(),
  });
export type AllowedRoutes = z.infer<ReturnType<typeof allowedRoutes>>;

export const apiGateway = z.object({
  gatewayClassName: z.string().optional(),
  listeners: z
    .array(
      z.object({
        name: nonEmpty(),
        hostname: z.string().optional(),
        port: port(),
        protocol: nonEmpty(),
        tls: z
          .object({
            mode: z.enum(['Terminate', 'Passthrough']).optional(),
            certificateRefs: z.array(z.unknown()).optional(),
            options: z.record(z.string(), z.string()).optional(),
            frontendValidation: z.unknown().optional(),
          })
          .optional(),
        allowedRoutes: allowedRoutes().optional(),
      }),
    )
    .optional(),
  addresses: z.array(z.object({ type: z.string().optional(), value: z.string().optional() })).optional(),
  infrastructure: z.unknown().optional(),
  allowedListeners: z.unknown().optional(),
  backendTLS: z.unknown().optional(),
  tls: z.looseObject({ frontend: z.unknown().optional(), backend: z.unknown().optional() }).optional(),
  defaultScope: z.string().optional(),
});
export type ApiGateway = z.infer<typeof apiGateway>;

export const referenceGrant = z.object({
  from: z.array(z.object({ group: z.string().optional(), kind: nonEmpty(), namespace: nonEmpty() })).optional(),
  to: z.array(z.object({ group: z.string().optional(), kind: nonEmpty(), name: z.string().optional() })).optional(),
});
export type ReferenceGrant = z.infer<typeof referenceGrant>;

export const backendTlsPolicy = z.object({
  targetRefs: z
    .array(z.object({ ...kindOf(), name: nonEmpty(), sectionName: z.string().optional() }))
    .min(1, 'names no target'),
  validation: z.object({
    caCertificateRefs: z.array(objectRef()).optional(),
    wellKnownCACertificates: z.string().optional(),
    hostname: nonEmpty(),
    subjectAltNames: z
      .array(z.object({ type: nonEmpty(), hostname: z.string().optional(), uri: z.string().optional() }))
      .optional(),
  }),
  options: z.record(z.string(), z.string()).optional(),
});
export type BackendTlsPolicy = z.infer<typeof backendTlsPolicy>;
