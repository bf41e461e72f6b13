/** Names of hosts, as Istio reads and writes them. */

/** Resolves a short name in a document's namespace; names with a dot and wildcards stay as they are. */
export function resolveHost(host: string, namespace: string, domain: string): string {
  if (host === '*' || host.includes('.')) return host;
  return `${host}.${namespace}.svc.${domain}`;
}

/** True if `pattern` (exact, or `*` followed by a suffix) covers `host`, itself possibly a wildcard. */
export function hostMatches(pattern: string, host: string): boolean {
  if (pattern === host || pattern === '*') return true;
  if (!pattern.startsWith('*')) return false;
  const suffix = pattern.slice(1);
  return host.length >= pattern.length - 1 && host.replace(/^\*/, '').endsWith(suffix);
}

/** The most specific of the patterns that cover `host`: exact, else the longest wildcard. */
export function mostSpecific(patterns: Iterable<string>, host: string): string | undefined {
  let best: string | undefined;
  for (const pattern of patterns) {
    if (!hostMatches(pattern, host)) continue;
    if (pattern === host) return pattern;
    if (best === undefined || pattern.length > best.length) best = pattern;
  }
  return best;
}

/** `outbound|9080|v1|reviews.default.svc.cluster.local` */
export function clusterName(port: number, subset: string, host: string): string {
  return `outbound|${port}|${subset}|${host}`;
}

/** An IPv6 literal in brackets, anything else as it is. */
export function urlHost(host: string): string {
  return host.includes(':') && !host.startsWith('[') ? `[${host}]` : host;
}

/** Short forms of a Kubernetes service's name that a client in `namespace` may use; none for other hosts. */
export function shortNames(host: string, namespace: string, domain: string): string[] {
  const suffix = `.svc.${domain}`;
  if (!host.endsWith(suffix)) return [];
  const parts = host.slice(0, -suffix.length).split('.');
  const [name, ns] = parts;
  if (!name || !ns || parts.length !== 2) return [];
  const longer = [`${name}.${ns}`, `${name}.${ns}.svc`];
  return ns === namespace ? [name, ...longer] : longer;
}

/** What VirtualServices are bound to when they are about the mesh's own clients. */
export const MESH = 'mesh';

/** `namespace/name` of a gateway as VirtualServices write it: also by its name alone, or as a host name. */
export function gatewayName(text: string, namespace: string): string {
  if (text === MESH || text.includes('/')) return text;
  const [name = '', other] = text.split('.');
  return `${other ?? namespace}/${name}`;
}

/** Hosts that both name: of two that overlap the narrower one. */
export function hostIntersection(offered: readonly string[], wanted: readonly string[]): string[] {
  const out = new Set<string>();
  for (const a of offered) {
    for (const b of wanted) {
      if (hostMatches(b, a)) out.add(a);
      else if (hostMatches(a, b)) out.add(b);
    }
  }
  return [...out];
}
