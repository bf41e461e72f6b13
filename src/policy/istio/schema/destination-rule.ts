/** DestinationRule (networking.istio.io). */
import { z } from 'zod';
import {
  atMostOne,
  count,
  duration,
  labels,
  nonEmpty,
  port,
  positiveDuration,
  rule,
  selector,
  uint32,
} from './common.js';

const ringSize = () => uint32().max(8388608, 'must be at most 8388608');
function isPrime(n: number): boolean {
  for (let d = 2; d * d <= n; d++) if (n % d === 0) return false;
  return n > 1;
}
const tableSize = () =>
  uint32()
    .max(5000011, 'must be at most 5000011')
    .refine((n) => n === 0 || isPrime(n), 'must be a prime number');

const consistentHash = () => {
  const schema = z.object({
    httpHeaderName: nonEmpty().optional(),
    httpCookie: z
      .object({
        name: nonEmpty(),
        path: z.string().optional(),
        ttl: duration().optional(),
        attributes: z.array(z.object({ name: z.string(), value: z.string().optional() })).optional(),
      })
      .optional(),
    useSourceIp: z.boolean().optional(),
    httpQueryParameterName: nonEmpty().optional(),
    ringHash: z.object({ minimumRingSize: ringSize().optional() }).optional(),
    maglev: z.object({ tableSize: tableSize().optional() }).optional(),
    minimumRingSize: ringSize().optional(),
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
      warmup: z
        .object({
          duration: positiveDuration(),
          minimumPercent: z.number().min(0, 'must be 0 to 100').max(100, 'must be 0 to 100').optional(),
          aggression: z.number().min(1, 'must be at least 1').optional(),
        })
        .optional(),
      zoneAwareLbSetting: z.record(z.string(), z.unknown()).optional(),
    }),
    ['simple', 'consistentHash'],
  );

const tcp = () =>
  z.object({
    maxConnections: count().optional(),
    connectTimeout: positiveDuration().optional(),
    maxConnectionDuration: positiveDuration().optional(),
    idleTimeout: duration().optional(),
    tcpKeepalive: z
      .object({ probes: uint32().optional(), time: duration().optional(), interval: duration().optional() })
      .optional(),
  });

const http = () =>
  z.object({
    http1MaxPendingRequests: count().optional(),
    http2MaxRequests: count().optional(),
    maxRequestsPerConnection: count().optional(),
    maxRetries: count().optional(),
    idleTimeout: duration().optional(),
    h2UpgradePolicy: z.enum(['DEFAULT', 'DO_NOT_UPGRADE', 'UPGRADE']).optional(),
    useClientProtocol: z.boolean().optional(),
    maxConcurrentStreams: count().optional(),
    http2KeepAlive: z
      .object({ interval: positiveDuration().optional(), timeout: positiveDuration().optional() })
      .optional(),
  });

const outlierDetection = () =>
  z.object({
    consecutiveErrors: count().optional(),
    splitExternalLocalOriginErrors: z.boolean().optional(),
    consecutiveLocalOriginFailures: uint32().optional(),
    consecutiveGatewayErrors: uint32().optional(),
    consecutive5xxErrors: uint32().optional(),
    interval: positiveDuration().optional(),
    baseEjectionTime: positiveDuration().optional(),
    maxEjectionPercent: z.int().min(0, 'must be 0 to 100').max(100, 'must be 0 to 100').optional(),
    minHealthPercent: z.int().min(0, 'must be 0 to 100').max(100, 'must be 0 to 100').optional(),
    outlierDetectionHttpErrorCodes: z.array(z.int()).optional(),
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

/** Of a whole rule or subset, not of a port. */
const wholeFields = {
  tunnel: z
    .object({ protocol: z.enum(['CONNECT', 'POST']).optional(), targetHost: nonEmpty(), targetPort: port() })
    .optional(),
  proxyProtocol: z.object({ version: z.enum(['V1', 'V2']).optional() }).optional(),
  retryBudget: z
    .object({
      percent: z.number().min(0, 'must be 0 to 100').max(100, 'must be 0 to 100').optional(),
      minRetryConcurrency: uint32().optional(),
      budgetInterval: duration().optional(),
    })
    .optional(),
};

const trafficPolicy = () =>
  z.object({
    ...policyFields,
    portLevelSettings: z
      .array(z.object({ port: z.object({ number: port().optional() }).optional(), ...policyFields }))
      .optional(),
    ...wholeFields,
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
