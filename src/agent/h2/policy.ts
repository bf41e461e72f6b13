/** The image that decides about requests of HTTP/2, and the servers that it may send them to. Pure. */
import { compileImage } from '../../compile/image.js';
import type { ListenerPlan, Plan } from '../../plan/ir.js';
import type { Address } from '../address.js';
import { loggedListeners } from '../logged-routes.js';
import type { Numbers, NumbersWanted, StreamPolicy, StreamServers } from '../policy.js';
import { stable } from '../stable.js';

/** Where an endpoint is. */
export function placeOf({ address, port }: Address): Address {
  return { address, port };
}

/**
 * @param plan for requests of HTTP/2 alone (`Assumptions.streams`)
 * @throws RangeError when the image has no room
 */
export function compileStreams(
  plan: Plan,
  { task, wanted }: { readonly task: { readonly number: number }; readonly wanted: NumbersWanted },
  numbers: Numbers,
): StreamPolicy {
  const keyOf = (address: string, port: number): string => `${port} ${address}`;
  const ids = new Map(wanted.streams.map(({ address, port }, i) => [keyOf(address, port), numbers.streams?.[i] ?? -1]));
  const programs = new Map(wanted.programs.map((program, i) => [JSON.stringify(program), numbers.programs[i]!]));
  const clusters = new Map(plan.clusters.map((cluster) => [cluster.name, cluster]));
  const serversOf = (listener: ListenerPlan): StreamServers => {
    const names = new Set(
      listener.virtualHosts.flatMap(({ routes }) =>
        routes.flatMap(({ action }) =>
          action.kind === 'forward' ? action.clusters.map(({ cluster }) => cluster) : [],
        ),
      ),
    );
    const chosen = [...names].flatMap((name) => clusters.get(name) ?? []);
    const all = chosen.flatMap(({ endpoints }) => endpoints).map(placeOf);
    const places = new Map(all.map((at) => [keyOf(at.address, at.port), at]));
    return {
      fixed: [...places].map(([key, at]) => ({ ...at, endpoint: ids.get(key)! })),
      named: chosen.filter(({ followed }) => followed?.names).map(({ name }) => name),
    };
  };
  const servers = plan.listeners
    .filter(({ offloaded, connections }) => offloaded && !connections)
    .map((listener) => [listener.name, serversOf(listener)] as const)
    .filter(([, { fixed, named }]) => fixed.length + named.length > 0 && fixed.length <= MAX_SERVERS);
  // of listeners without such servers nothing is needed
  const names = new Set(servers.map(([name]) => name));
  const ours = { ...plan, listeners: plan.listeners.filter(({ name }) => names.has(name)) };
  const { image, rules, followed } = compileImage(stable(ours, numbers.listeners), {
    generation: task.number,
    endpointId: (address, port) => ids.get(keyOf(address, port)) ?? -1,
    proxyEndpointId: () => -1,
    programNumber: (program) => programs.get(JSON.stringify(program))!,
    bucketIndex: () => undefined,
    breakerIndex: () => undefined,
    delays: false,
  });
  const ruleNames = new Uint8Array(Buffer.from(JSON.stringify(rules)));
  return {
    number: task.number,
    image,
    ruleNames,
    ruleCount: rules.length,
    logged: loggedListeners(ours, rules),
    servers: new Map(servers),
    followed,
  };
}

/** A connection is opened to each server for each client: with more of them, all is left to the proxy. */
export const MAX_SERVERS = 64;
