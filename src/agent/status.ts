/** What is going on, in numbers. */
import type { DataPlane } from './data-plane.js';
import type { Generation } from './policy.js';
import type { RuleHits } from './rule-hits.js';
import type { TokenCounts } from './token-cache.js';
import type { Traffic } from './traffic.js';

export interface StatusInput {
  readonly name: string;
  readonly plane: DataPlane;
  readonly traffic: Traffic;
  /** requests of HTTP/2, where a policy has servers that speak it */
  readonly streams?: { readonly kernel: number; readonly proxy: number };
  readonly streamHits?: Pick<RuleHits, 'of'> | undefined;
  readonly namespaces: number;
  readonly tokens: TokenCounts;
  readonly log: { readonly lines: number; readonly lost: number };
  readonly spans: { readonly sent: number; readonly lost: number };
  readonly mirrors: { readonly sent: number; readonly lost: number };
  readonly generation: Generation;
  readonly startedAt: number;
  readonly admin: string;
  readonly proxyPid: number | undefined;
  readonly swapMs: number;
  readonly stallMs: number;
}

export interface Status {
  readonly name: string;
  readonly pid: number;
  readonly proxyPid: number | undefined;
  readonly admin: string;
  readonly uptimeSeconds: number;
  /**
   * kernel: decided, and answered or forwarded, without user space; proxy: left to the proxy; agent: decided in the
   * kernel but answered or carried by the agent (large answers, broken upstreams)
   */
  readonly requests: { readonly kernel: number; readonly proxy: number; readonly agent: number };
  /** requests that went straight to the socket of a server on this node (part of `requests.kernel`) */
  readonly bypassed: number;
  /** requests of HTTP/2 (part of `requests`), where a policy has servers that speak it */
  readonly streams?: { readonly kernel: number; readonly proxy: number };
  readonly generation: number;
  readonly rules: { readonly kernel: number; readonly proxy: number };
  readonly intake: 'socket' | 'listener';
  readonly connections: number;
  /** connections of listeners that are about connections: decided in the kernel, and left to the proxy */
  readonly routed: { readonly kernel: number; readonly proxy: number };
  /** other network namespaces than the agent's that are served */
  readonly namespaces: number;
  readonly upstreams: number;
  /** tokens that were verified for the kernel, and that were left to the proxy */
  readonly tokens: TokenCounts;
  /**
   * lines of access logs about requests that the kernel decided, and lines that are missing (`proxied`: requests that
   * the proxy got because the agent was behind; it has logged them)
   */
  readonly log: { readonly lines: number; readonly lost: number; readonly proxied: number };
  /** spans of requests that the kernel decided: taken by collectors, and by nobody */
  readonly spans: { readonly sent: number; readonly lost: number };
  /**
   * copies of requests that the kernel decided: taken by the proxy, and by nobody (`proxied`: requests that the proxy got
   * because the agent was behind; it has mirrored them)
   */
  readonly mirrors: { readonly sent: number; readonly lost: number; readonly proxied: number };
  readonly hits: readonly { readonly route: string; readonly requests: number }[];
  readonly counters: Record<string, number>;
  /**
   * of the policy in force: the image's size, how long it took to compile (without reading) and to put in force, and for
   * how long at most the agent could do nothing else during the last reload
   */
  readonly policy: {
    readonly bytes: number;
    readonly compileMs: number;
    readonly swapMs: number;
    readonly stallMs: number;
  };
  /** runs and run time of the programs, while kernel.bpf_stats_enabled is set */
  readonly programs: Record<string, { readonly runs: number; readonly ns: number }>;
}

type Named = Pick<Generation, 'ruleNames'>;
const names = new WeakMap<Named, readonly string[]>();

/** The names of a generation's rules, which are read when somebody asks. */
function ruleNames(of: Named): readonly string[] {
  let found = names.get(of);
  if (!found) {
    found = JSON.parse(Buffer.from(of.ruleNames).toString()) as string[];
    names.set(of, found);
  }
  return found;
}

/** What each rule has decided, of requests of both kinds together. */
function hitsOf({ plane, generation, streamHits }: StatusInput): { route: string; requests: number }[] {
  const sums = new Map<string, number>();
  const add = (of: Named, hits: Pick<RuleHits, 'of'>) =>
    ruleNames(of).forEach((route, i) => {
      const n = hits.of(i);
      if (n > 0) sums.set(route, (sums.get(route) ?? 0) + n);
    });
  add(generation, plane.hits);
  if (generation.streams && streamHits) add(generation.streams, streamHits);
  return [...sums].map(([route, requests]) => ({ route, requests }));
}

/** What `sidestep status --json` and the admin address tell. */
export function statusOf(input: StatusInput): Status {
  const { plane, traffic, generation, streams = { kernel: 0, proxy: 0 } } = input;
  const counters = plane.counters();
  const { proxied, answered, refused, carried } = traffic.counts;
  // An answer that the agent carried or gave belongs to a request that the kernel had counted as its own.
  const taken = answered + carried;
  return {
    name: input.name,
    pid: process.pid,
    proxyPid: input.proxyPid,
    admin: input.admin,
    uptimeSeconds: Math.round((Date.now() - input.startedAt) / 1000),
    requests: {
      kernel: Math.max(0, counters.KERNEL - taken) + streams.kernel,
      proxy: counters.PROXY + proxied + streams.proxy,
      agent: taken + refused,
    },
    ...(input.streams ? { streams } : {}),
    bypassed: counters.BYPASSED,
    generation: generation.number,
    rules: { kernel: generation.report.kernel, proxy: generation.report.proxy },
    intake: plane.intake,
    connections: traffic.connections,
    routed: { kernel: counters.ROUTED, proxy: counters.ROUTED_PROXY },
    namespaces: input.namespaces,
    upstreams: traffic.pool.size,
    tokens: { ...input.tokens },
    log: { lines: input.log.lines, lost: input.log.lost + counters.LOG_LOST, proxied: counters.LOG_FULL },
    spans: { ...input.spans },
    mirrors: {
      sent: input.mirrors.sent,
      lost: input.mirrors.lost + counters.MIRROR_LOST,
      proxied: counters.MIRROR_FULL,
    },
    hits: hitsOf(input),
    counters: Object.fromEntries(Object.entries(counters).map(([name, value]) => [name.toLowerCase(), value])),
    policy: {
      bytes: generation.compiled.stats.bytes,
      compileMs: Math.round(generation.compileMs),
      swapMs: Math.round(input.swapMs * 10) / 10,
      stallMs: Math.round(input.stallMs * 10) / 10,
    },
    programs: plane.programStats(),
  };
}
