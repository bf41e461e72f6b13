/** What the agent says when the proxy asks for the tokens of a request (src/proxy/consult.ts). */

import type { LocalLimit } from '../plan/local-limits.js';
import { View } from '../plan/request-view.js';
import type { TokenBuckets } from './token-buckets.js';

/** A request as the proxy describes it: all header lines, pseudo-headers among them, and the client's address. */
export interface ConsultedRequest {
  /** the limit whose tokens it needs, if that is what is asked */
  readonly limit: string;
  /** else the cluster that it is for, and on which connection it came */
  readonly cluster: string;
  readonly end: string;
  /** answers must not say that they are Envoy's */
  readonly quiet: boolean;
  /** the route's timeout (0: none) */
  readonly timeoutMs: number;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly sourceIp: string;
}

/** Let it pass, with headers that are set, or a refusal; `bucket`: the one that the answer is to tell of. */
export interface Said {
  readonly headers?: readonly (readonly [name: string, value: string])[];
  readonly refusal?: LocalLimit['reply'];
  readonly bucket?: string;
}
/** undefined: the agent cannot say, and the proxy decides by itself. */
export type Advice = Said | undefined;

/** How a bucket stands when the answer is made. */
export type Figures = ReturnType<TokenBuckets['figures']>;

/** The two ways in which Envoy looks at a repeated header. */
function views(request: ConsultedRequest): { first: View; joined: View } {
  const pseudo = new Map<string, string>();
  const lines: [string, string][] = [];
  for (const [name, value] of request.headers) {
    if (name === ':authority') lines.push(['host', value]);
    else if (name.startsWith(':')) pseudo.set(name, value);
    else lines.push([name.toLowerCase(), value]);
  }
  const merged = new Map<string, string>();
  for (const [name, value] of lines) merged.set(name, merged.has(name) ? `${merged.get(name)},${value}` : value);
  const view = (headers: readonly (readonly [string, string])[]): View =>
    new View({
      method: pseudo.get(':method') ?? '',
      target: pseudo.get(':path') ?? '',
      headers,
      sourceIp: request.sourceIp,
    });
  return { first: view(lines), joined: view([...merged]) };
}

/** The limits in force, those that are about to be, and those of the generation before: requests on their way may mean them. */
export class Consultant {
  #next: ReadonlyMap<string, LocalLimit> = new Map();
  #current: ReadonlyMap<string, LocalLimit> = new Map();
  #last: ReadonlyMap<string, LocalLimit> = new Map();

  constructor(private readonly buckets: TokenBuckets) {}

  /** From now on the proxy may ask about these limits, too. */
  prepare(limits: Iterable<LocalLimit>): void {
    this.#next = new Map([...limits].map((limit) => [limit.id, limit]));
  }

  /** The limits that were prepared last are in force. Those until now are remembered once more. */
  enforced(): void {
    this.#last = this.#current;
    this.#current = this.#next;
  }

  /** Takes the tokens that a request needs. */
  ask(request: ConsultedRequest): Advice {
    const of = (limits: ReadonlyMap<string, LocalLimit>) => limits.get(request.limit);
    const limit = of(this.#current) ?? of(this.#next) ?? of(this.#last);
    if (!limit) return undefined;
    const { first, joined } = views(request);
    let described = false;
    let shown: string | undefined;
    const said = (bucket: string): Said => (limit.figures ? { bucket } : {});
    for (const { descriptor, always, bucket } of limit.steps) {
      if (descriptor) {
        if (!first.holds(descriptor.first) || !joined.holds(descriptor.joined)) continue;
        described = true;
      } else if (described && !always) continue;
      const taken = this.buckets.take(bucket.key);
      if (taken === undefined) return undefined;
      if (!taken) return { refusal: limit.reply, ...said(bucket.key) };
      shown ??= bucket.key;
    }
    return shown === undefined ? {} : said(shown);
  }

  /** How a bucket stands that an answer is to tell of. */
  figures(bucket: string): Figures {
    return this.buckets.figures(bucket);
  }
}
