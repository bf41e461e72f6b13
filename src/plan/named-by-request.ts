/**
 * auto_sni and auto_san_validation: the handshake with a server names the host that the request is for, so requests for
 * another host need another connection. Hosts are known where a route rewrites them, or where domains say them; a cluster
 * of the plan for each leads to the same servers, through a relay that is told the name.
 */
import type { RouteContext, Variant } from './actions.js';
import { ALWAYS, all, test } from './conditions.js';
import type { Choice } from './destinations.js';
import type { ClusterPlan, ForwardAction, RelayPlan } from './ir.js';
import type { Notes } from './notes.js';

/** Each is a cluster of the plan. */
const MAX_NAMES = 16;
/** What stands between the name of a cluster and the host that it is for. */
export const FOR_HOST = '\0';

/** The host of an authority; undefined where Envoy would not name it as it stands (addresses), or it is no name. */
function hostName(authority: string): string | undefined {
  const host = authority.replace(/:\d+$/, '');
  return /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?$/.test(host) && !/^[\d.]+$/.test(host) ? host : undefined;
}

/** A relay that tells the server a name, or asks its certificate for it. */
function relayFor(relay: RelayPlan, name: string): RelayPlan {
  const { sni, san } = relay.byRequest!;
  const { byRequest: _, ...rest } = relay;
  return { ...rest, names: { ...(sni ? { sni: name } : {}), ...(san ? { san: name } : {}) } };
}

function clusterFor({ cluster }: Choice, name: string): ClusterPlan {
  const { relay } = cluster;
  if (!relay?.byRequest) return cluster;
  return { ...cluster, name: `${cluster.name}${FOR_HOST}${name}`, relay: relayFor(relay, name) };
}

/**
 * The variant of a route once more for each host that its requests may be for, and the proxy for other hosts.
 *
 * @param chosen the clusters of `variant`, in the same order
 * @param use is told the clusters
 */
export function byHost(
  notes: Notes,
  ctx: RouteContext,
  chosen: readonly Choice[],
  variant: Variant,
  use: (cluster: ClusterPlan) => void,
): Variant[] {
  const { action } = variant;
  if (action.kind !== 'forward') return [variant];
  const leading = (name: string): ForwardAction => {
    const clusters = chosen.map((choice, i) => {
      const cluster = clusterFor(choice, name);
      use(cluster);
      return { ...action.clusters[i]!, cluster: cluster.name };
    });
    return { ...action, clusters };
  };
  if (!chosen.some(({ cluster }) => cluster.relay?.byRequest)) {
    for (const { cluster } of chosen) use(cluster);
    return [variant];
  }
  const rest = notes.fork();
  rest.add('request-dependent', 'the host, which the TLS handshake names, is none of the domains', 'host');
  const others: Variant = { when: variant.when, action: { kind: 'proxy' }, reasons: rest.reasons, guard: true };
  const exact = ctx.domains.filter((d) => !d.includes('*'));
  const named = action.host === undefined ? exact : [action.host];
  const hosts = named.flatMap((authority) => {
    const name = hostName(authority);
    return name === undefined ? [] : [{ authority, name }];
  });
  if (hosts.length === 0 || hosts.length > MAX_NAMES) {
    const none = notes.fork();
    none.add('tls', 'the TLS handshake names the host of the request, of which no domain says what it is', 'host');
    return [{ ...others, reasons: none.reasons, guard: false }];
  }
  if (action.host !== undefined) return [{ ...variant, action: leading(hosts[0]!.name) }];
  const each = hosts.map(({ authority, name }): Variant => {
    const is = test({ kind: 'host' }, { kind: 'exact', value: authority, ignoreCase: false });
    return { ...variant, when: variant.when === ALWAYS ? is : all([variant.when, is]), action: leading(name) };
  });
  return [...each, others];
}
