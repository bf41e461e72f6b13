/** Kubernetes' Service, EndpointSlice, Endpoints and Pod as far as they matter here, ServiceEntry and WorkloadEntry. */
import { z } from 'zod';
import { labels, nonEmpty, port, uint32 } from './common.js';

const intOrString = () => z.union([z.int(), z.string()], { error: 'must be a port number or name' });

export const service = z.object({
  type: z.string().optional(),
  clusterIP: z.string().optional(),
  clusterIPs: z.array(z.string()).optional(),
  externalIPs: z.array(z.string()).optional(),
  externalName: z.string().optional(),
  selector: labels().optional(),
  ports: z
    .array(
      z.object({
        name: z.string().optional(),
        port: port(),
        protocol: z.string().optional(),
        appProtocol: z.string().optional(),
        targetPort: intOrString().optional(),
      }),
    )
    .optional(),
});
export type KubernetesService = z.infer<typeof service>;

const targetRef = () =>
  z.object({ kind: z.string().optional(), name: z.string().optional(), namespace: z.string().optional() });
const endpointPort = () =>
  z.object({
    name: z.string().optional(),
    port: port().optional(),
    protocol: z.string().optional(),
    appProtocol: z.string().optional(),
  });

export const endpointSlice = z.object({
  addressType: z.string().optional(),
  endpoints: z
    .array(
      z.object({
        addresses: z.array(nonEmpty()).optional(),
        conditions: z.object({ ready: z.boolean().optional(), serving: z.boolean().optional() }).optional(),
        targetRef: targetRef().optional(),
      }),
    )
    .optional(),
  ports: z.array(endpointPort()).optional(),
});
export type EndpointSlice = z.infer<typeof endpointSlice>;

export const endpoints = z.object({
  subsets: z
    .array(
      z.object({
        addresses: z.array(z.object({ ip: nonEmpty(), targetRef: targetRef().optional() })).optional(),
        ports: z.array(endpointPort()).optional(),
      }),
    )
    .optional(),
});
export type Endpoints = z.infer<typeof endpoints>;

export const pod = z.object({
  spec: z
    .object({
      serviceAccountName: z.string().optional(),
      // the deprecated name of the same
      serviceAccount: z.string().optional(),
      hostNetwork: z.boolean().optional(),
      containers: z
        .array(
          z.object({
            ports: z.array(z.object({ name: z.string().optional(), containerPort: port().optional() })).optional(),
          }),
        )
        .optional(),
    })
    .optional(),
  status: z
    .object({
      phase: z.string().optional(),
      podIP: z.string().optional(),
      podIPs: z.array(z.object({ ip: z.string().optional() })).optional(),
    })
    .optional(),
});
export type Pod = z.infer<typeof pod>;

export const workloadEntry = () =>
  z.object({
    address: z.string().optional(),
    ports: z.record(z.string(), port()).optional(),
    labels: labels().optional(),
    network: z.string().optional(),
    locality: z.string().optional(),
    weight: uint32().optional(),
    serviceAccount: z.string().optional(),
  });
export const workloadEntrySpec = workloadEntry();
export type WorkloadEntry = z.infer<ReturnType<typeof workloadEntry>>;

export const serviceEntry = z.object({
  hosts: z.array(nonEmpty()).min(1, 'names no host'),
  addresses: z.array(nonEmpty()).optional(),
  ports: z
    .array(
      z.object({
        number: port(),
        name: nonEmpty(),
        protocol: z.string().optional(),
        targetPort: port().optional(),
      }),
    )
    .optional(),
  location: z.enum(['MESH_EXTERNAL', 'MESH_INTERNAL']).optional(),
  resolution: z.enum(['NONE', 'STATIC', 'DNS', 'DNS_ROUND_ROBIN', 'DYNAMIC_DNS']).optional(),
  endpoints: z.array(workloadEntry()).optional(),
  workloadSelector: z.object({ labels: labels().optional() }).optional(),
  exportTo: z.array(z.string()).optional(),
  subjectAltNames: z.array(z.string()).optional(),
});
export type ServiceEntry = z.infer<typeof serviceEntry>;
