/** Documents of a mesh, as text. */

/** Endpoints of one version of a service: 127.0.1.1 for v1, 127.0.1.2 for v2. */
export const slice = (service: string, version: 'v1' | 'v2', port: number, name: string): string => `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: ${service}-${version}-${name}
  labels: { kubernetes.io/service-name: ${service}, version: ${version}, app: ${service} }
addressType: IPv4
ports: [{ name: ${name}, port: ${port}, protocol: TCP }]
endpoints: [{ addresses: ["127.0.1.${version === 'v1' ? 1 : 2}"] }]
`;
export const service = (name: string, address: string, ports: string): string => `---
apiVersion: v1
kind: Service
metadata: { name: ${name} }
spec: { clusterIP: ${address}, selector: { app: ${name} }, ports: [${ports}] }
`;
export const istio = (kind: string, name: string, spec: string): string => `---
apiVersion: networking.istio.io/v1
kind: ${kind}
metadata: { name: ${name} }
spec: ${spec}
`;
