/** Gateway (networking.istio.io): the ports that a gateway's workload opens, and for which hosts. */
import { z } from 'zod';
import { labels, nonEmpty, port } from './common.js';

export const TLS_MODES = [
  'PASSTHROUGH',
  'SIMPLE',
  'MUTUAL',
  'AUTO_PASSTHROUGH',
  'ISTIO_MUTUAL',
  'OPTIONAL_MUTUAL',
] as const;

const tls = () =>
  z.object({
    httpsRedirect: z.boolean().optional(),
    mode: z.enum(TLS_MODES).optional(),
    serverCertificate: z.string().optional(),
    privateKey: z.string().optional(),
    caCertificates: z.string().optional(),
    caCrl: z.string().optional(),
    credentialName: z.string().optional(),
    credentialNames: z.array(z.string()).optional(),
    tlsCertificates: z.array(z.unknown()).optional(),
    caCertCredentialName: z.string().optional(),
    subjectAltNames: z.array(z.string()).optional(),
    verifyCertificateSpki: z.array(z.string()).optional(),
    verifyCertificateHash: z.array(z.string()).optional(),
    minProtocolVersion: z.string().optional(),
    maxProtocolVersion: z.string().optional(),
    insecureSkipVerify: z.boolean().optional(),
    cipherSuites: z.array(z.string()).optional(),
  });

const server = () =>
  z.object({
    name: z.string().optional(),
    port: z.object({
      number: port(),
      protocol: nonEmpty(),
      name: z.string().optional(),
      targetPort: z.number().optional(),
    }),
    bind: z.string().optional(),
    hosts: z.array(nonEmpty()).min(1, 'names no host'),
    tls: tls().optional(),
    defaultEndpoint: z.string().optional(),
  });

export const gateway = z.object({
  selector: labels().optional(),
  servers: z.array(server()).optional(),
});
export type IstioGateway = z.infer<typeof gateway>;
