/** What the instance's own proxy is given of a policy, so that what kernel and proxy keep together has one place. */
import type { RelayPlan } from '../plan/ir.js';
import type { LocalLimit } from '../plan/local-limits.js';
import type { MirrorPlan } from '../plan/mirrors.js';
import { speaksHttp2 } from '../plan/streams.js';
import { asString } from '../policy/envoy/walk.js';
import type { JsonObject, Resources } from '../policy/resources.js';
import {
  type NumberedChain,
  WITHOUT_BREAKERS,
  withBreakers,
  withChains,
  withCollectors,
  withConsults,
  withDelayRoutes,
  withInboundListeners,
  withMirrors,
  withOutliers,
  withoutLimits,
  withRelays,
  withReplayRoutes,
} from '../proxy/index.js';
import type { PolicyTask } from './policy.js';

/** What the kernel has of a policy, as far as the proxy must know. */
export interface KernelShare {
  readonly limits: ReadonlyMap<JsonObject, LocalLimit>;
  readonly breakers: ReadonlySet<string>;
  /** those of them whose requests may have to wait */
  readonly waiting: ReadonlySet<string>;
  readonly ejectable: ReadonlyMap<string, JsonObject>;
  readonly inbound: ReadonlyMap<string, string>;
  readonly chains: readonly NumberedChain[];
  readonly elsewhere: ReadonlyMap<string, string>;
  readonly relays: ReadonlyMap<string, RelayPlan>;
  /** clusters that spans of the kernel's requests go to */
  readonly collectors: readonly string[];
  /** clusters whose endpoints are avoided that the kernel has tried */
  readonly tried: ReadonlySet<string>;
  /** what the kernel hands copies for */
  readonly mirrors: readonly MirrorPlan[];
}

/** The resources for the proxy of a task. Nothing is ejected in them. */
export function forProxy(task: PolicyTask, resources: Resources, share: KernelShare): Resources {
  const { limits, breakers, waiting, ejectable, inbound, chains, elsewhere, relays, collectors, tried, mirrors } =
    share;
  const settings = {
    ...(limits.size > 0 ? withoutLimits(resources) : {}),
    ...(breakers.size > 0 ? WITHOUT_BREAKERS : {}),
  };
  const asking = withBreakers(withConsults(resources, limits, task.consultPath), breakers, waiting, task.consultPath);
  const streamed = new Set(task.http2 ? resources.clusters.filter(speaksHttp2).map(({ name }) => asString(name)) : []);
  const relayed = new Set(chains.map(({ name }) => name));
  const all = withInboundListeners(
    withOutliers(
      withMirrors(withDelayRoutes(withReplayRoutes(asking, settings, streamed, tried)), mirrors, task.proxyFolder),
      ejectable,
      task.reportsPath,
    ),
    [...new Set([...inbound.keys(), ...(task.elsewhere ? elsewhere.keys() : [])])].filter((name) => !relayed.has(name)),
    task.proxyFolder,
  );
  const whole = withCollectors(
    withRelays(all, relays.values(), task.relaySecret, task.reportsPath),
    collectors,
    task.proxyFolder,
  );
  return task.chains ? withChains(whole, chains, task.proxyFolder, task.chains) : whole;
}
