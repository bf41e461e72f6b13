/** Routes for connections by their first message as structures of the image. */
import { HelloRouteSpec, HelloTableSpec, MAX_PROTOCOLS, ProtocolSpec } from '../layout/hellos.js';
import type { ConnectionRoute, HelloPlan, HelloWay } from '../plan/ir.js';
import type { Blob } from './blob.js';
import type { Clusters } from './clusters.js';
import { storeConnections } from './connections.js';
import { hostDfa } from './host.js';
import type { Refusal } from './refusals.js';

const STATES = 250_000;

function word(bytes: Buffer, from: number): bigint {
  const padded = Buffer.alloc(8);
  padded.set(bytes.subarray(from, from + 8));
  return padded.readBigUInt64LE();
}

/**
 * Stores where the connections to a listener go, by what a client says first.
 * @param rule the index that a route is counted under
 * @param refused told which routes the proxy must choose, and why
 * @returns the offset of a hello_table. @throws ImageFull
 */
export function storeHellos(
  blob: Blob,
  clusters: Clusters,
  plan: HelloPlan,
  rule: (route: ConnectionRoute) => number,
  refused: (route: ConnectionRoute, why: Refusal) => void,
): number {
  const routes = plan.routes.map((route) => {
    const stored = storeConnections(blob, clusters, route, rule(route));
    if (typeof stored === 'number') return stored;
    refused(route, stored);
    return 0;
  });
  const offset = (route: number | undefined): number => (route === undefined ? 0 : routes[route]!);
  const way = ({ route, protocols }: HelloWay): number => {
    const many = protocols.length > MAX_PROTOCOLS;
    const why: Refusal = { code: 'budget', message: `${protocols.length} protocols to choose by` };
    if (many)
      for (const of of [route, ...protocols.map((p) => p.route)]) if (of !== undefined) refused(plan.routes[of]!, why);
    const list = many ? [] : protocols;
    return blob.structs(HelloRouteSpec, [
      {
        route: many ? 0 : offset(route),
        n_protocols: list.length,
        protocols: blob.structs(
          ProtocolSpec,
          list.map(({ name, route: to }) => {
            const bytes = Buffer.from(name);
            return { low: word(bytes, 0), high: word(bytes, 8), length: bytes.length, route: offset(to) };
          }),
        ),
      },
    ]);
  };
  const names = hostDfa(
    plan.names.map(({ name }) => [name]),
    'none',
    STATES,
  );
  const ways = plan.names.map((named) => way(named.way));
  if (!names)
    for (const route of plan.routes)
      refused(route, { code: 'budget', message: 'the server names have too many states' });
  const nobody = way({ protocols: [] });
  const rows = names
    ? blob.rows(names, (label) => (label.length === 0 ? 0 : ways[label[0]!]!))
    : { start: 0, classes: 0 };
  return blob.structs(HelloTableSpec, [
    {
      names: rows.start,
      classes: rows.classes,
      other: names ? way(plan.other) : nobody,
      plain: names ? way(plan.plain) : nobody,
    },
  ]);
}
