/** DestinationRule (networking.istio.io). */
import { z } from 'zod';
import { atMostOne, duration, labels, nonEmpty, port, positiveDuration, rule, selector, uint32 } from './common.js';

const consistentHash = () => {
  const schema = z.object({
    httpHeaderName: z.string().optional(),
    httpCookie: z
      .object({
        name: nonEmpty(),
        path: z.string().optional(),
        ttl: duration().optional(),
        attributes: z.array(z.object({ name: z.string(), value: z.string().optional() })).optional(),
      })
      .optional(),
    useSourceIp: z.boolean().optional(),
    httpQueryParameterName: z.string().optional(),
    ringHash: z.object({ minimumRingSize: uint32().optional() }).optional(),
    maglev: z.object({ tableSize: uint32().optional() }).optional(),
    minimumRingSize: uint32().optional(),
  });
  const keys = ['httpHeaderName', 'httpCookie', 'useSourceIp', 'httpQueryParameterName'];
  return atMostOne(atMostOne(schema, keys), ['ringHash', 'maglev']);
};
export type ConsistentHash = z.infer<ReturnType<typeof consistentHash>>;

const loadBalancer = () =>
  atMostOne(
    z.object({
      simple: z.enum(['UNSPECIFIED', 'LEAST_CONN', 'RANDOM', 'PASSTHROUGH', 'ROUND_ROBIN', 'LEAST_REQUEST']).optional(),
      consistentHash: consistentHash().optional(),
      localityLbSetting: z.record(z.string(), z.unknown()).optional(),
      warmupDurationSecs: positiveDuration().optional(),
      warmup: z.record(z.string(), z.unknown()).optional(),
    }),
    ['simple', 'consistentHash'],
  );

const tcp = () =>
  z.object({
    maxConnections: z.int().min(0, 'must not be negative').optional(),
    connectTimeout: positiveDuration().optional(),
    maxConnectionDuration: positiveDuration().optional(),
    idleTimeout: duration().optional(),
    tcpKeepalive: z
      .object({ probes: uint32().optional(), time: duration().optional(), interval: duration().optional() })
      .optional(),
  });

const http = () =>
  z.object({
    http1MaxPendingRequests: z.int().min(0, 'must not be negative').optional(),
    http2MaxRequests: z.int().min(0, 'must not be negative').optional(),
    maxRequestsPerConnection: z.int().min(0, 'must not be negative').optional(),
    maxRetries: z.int().min(0, 'must not be negative').optional(),
    idleTimeout: duration().optional(),
    h2UpgradePolicy: z.enum(['DEFAULT', 'DO_NOT_UPGRADE', 'UPGRADE']).optional(),
    useClientProtocol: z.boolean().optional(),
    maxConcurrentStreams: z.int().min(0, 'must not be negative').optional(),
  });

const outlierDetection = () =>
  z.object({
    consecutiveErrors: z.int().min(0, 'must not be negative').optional(),
    splitExternalLocalOriginErrors: z.boolean().optional(),
    consecutiveLocalOriginFailures: uint32().optional(),
    consecutiveGatewayErrors: uint32().optional(),
    consecutive5xxErrors: uint32().optional(),
    interval: positiveDuration().optional(),
    baseEjectionTime: positiveDuration().optional(),
    maxEjectionPercent: z.int().min(0, 'must be 0 to 100').max(100, 'must be 0 to 100').optional(),
    minHealthPercent: z.int().min(0, 'must be 0 to 100').max(100, 'must be 0 to 100').optional(),
  });

const tls = () => {
  const schema = z.object({
    mode: z.enum(['DISABLE', 'SIMPLE', 'MUTUAL', 'ISTIO_MUTUAL']).optional(),
    clientCertificate: z.string().optional(),
    privateKey: z.string().optional(),
    caCertificates: z.string().optional(),
    caCrl: z.string().optional(),
    credentialName: z.string().optional(),
    subjectAltNames: z.array(z.string()).optional(),
    sni: z.string().optional(),
    insecureSkipVerify: z.boolean().optional(),
  });
  return rule(
    schema,
    (v) =>
      v.mode !== 'MUTUAL' ||
      v.credentialName !== undefined ||
      (v.clientCertificate !== undefined && v.privateKey !== undefined),
    'MUTUAL needs clientCertificate and privateKey, or credentialName',
  );
};
export type Tls = z.infer<ReturnType<typeof tls>>;

const policyFields = {
  loadBalancer: loadBalancer().optional(),
  connectionPool: z.object({ tcp: tcp().optional(), http: http().optional() }).optional(),
  outlierDetection: outlierDetection().optional(),
  tls: tls().optional(),
};

const trafficPolicy = () =>
  z.object({
    ...policyFields,
    portLevelSettings: z
      .array(z.object({ port: z.object({ number: port().optional() }).optional(), ...policyFields }))
      .optional(),
    tunnel: z.record(z.string(), z.unknown()).optional(),
    proxyProtocol: z.record(z.string(), z.unknown()).optional(),
    retryBudget: z.record(z.string(), z.unknown()).optional(),
  });
export type TrafficPolicy = z.infer<ReturnType<typeof trafficPolicy>>;

export const destinationRule = z.object({
  host: nonEmpty(),
  trafficPolicy: trafficPolicy().optional(),
  subsets: z
    .array(z.object({ name: nonEmpty(), labels: labels().optional(), trafficPolicy: trafficPolicy().optional() }))
    .optional(),
  exportTo: z.array(z.string()).optional(),
  workloadSelector: selector().optional(),
});
export type DestinationRule = z.infer<typeof destinationRule>;
