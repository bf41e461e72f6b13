/** Istio's files for a node with pods. */

export interface PodSpec {
  readonly name: string;
  readonly ip: string;
  readonly app: string;
}

export function pod({ name, ip, app }: PodSpec): string {
  return `---
apiVersion: v1
kind: Pod
metadata: { name: ${name}, labels: { app: ${app} } }
spec: { serviceAccountName: ${app} }
status: { podIP: "${ip}" }
`;
}

/** A service before pods that are given by their addresses. */
export function service(name: string, clusterIp: string, port: number, ...addresses: string[]): string {
  return `---
apiVersion: v1
kind: Service
metadata: { name: ${name} }
spec: { clusterIP: "${clusterIp}", selector: { app: ${name} }, ports: [{ name: http, port: 80, targetPort: ${port} }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: ${name}-1, labels: { kubernetes.io/service-name: ${name}, app: ${name} } }
addressType: ${addresses[0]?.includes(':') ? 'IPv6' : 'IPv4'}
ports: [{ name: http, port: ${port}, protocol: TCP }]
endpoints: [${addresses.map((a) => `{ addresses: ["${a}"] }`).join(', ')}]
`;
}

/**
 * Routes of a service and who may ask it: /private and /proxied/private only the account of `app: friend`. What begins with
 * /proxied is the proxy's (delays are).
 */
export function rules(name: string): string {
  return `---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: ${name} }
spec:
  hosts: [${name}]
  http:
    - match: [{ uri: { prefix: /proxied } }]
      fault: { delay: { fixedDelay: 0.001s, percentage: { value: 100 } } }
      route: [{ destination: { host: ${name} } }]
    - match: [{ uri: { prefix: /moved } }]
      redirect: { authority: elsewhere.example }
    - match: [{ uri: { prefix: /gone } }]
      directResponse: { status: 410 }
    - headers: { request: { set: { x-mesh: "yes" } } }
      route: [{ destination: { host: ${name} } }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: ${name} }
spec:
  selector: { matchLabels: { app: ${name} } }
  action: DENY
  rules:
    - to: [{ operation: { paths: [/private*, /proxied/private*] } }]
      from: [{ source: { notPrincipals: [cluster.local/ns/default/sa/friend] } }]
`;
}
