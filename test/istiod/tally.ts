/** What comparisons count and find. */

import type { Seen } from './known.js';

export interface Difference {
  readonly set: string;
  /** what is different: `applied`, `host`, `route`, `decision`, `cluster`, `listener` ... */
  readonly what: string;
  readonly where: string;
  readonly ours: string;
  readonly theirs: string;
  /** why it is meant, if it is */
  readonly known?: string;
}

/** A document that only one side takes. */
export interface Refusal {
  readonly set: string;
  readonly by: 'istiod' | 'sidestep';
  readonly document: string;
  readonly why: string;
}

export interface Tally {
  sets: number;
  documents: number;
  requests: number;
  /** of these: decided by a route that a VirtualService made, on our side and on istiod's */
  ours: number;
  theirs: number;
  /** of these: left to the proxy, on one side, before the routes are looked at */
  left: number;
  /** of these: the plan computed the whole on both sides */
  computed: number;
  /** of these: an RBAC filter refused it on istiod's side */
  denied: number;
  /** routes that are the same as written, of all */
  same: number;
  routes: number;
  clusters: number;
  virtualServices: number;
  apiRoutes: number;
  /** servers with policies, and of these: token providers, requests, and those that both sides judge */
  servers: number;
  providers: number;
  inbound: number;
  judged: number;
  /** ports of servers whose mode of mutual TLS was compared, and of these: those that a PeerAuthentication changes */
  peers: number;
  decidedPeers: number;
  differences: Difference[];
  refused: Refusal[];
  failed: { set: string; why: string }[];
}

export const emptyTally = (): Tally => ({
  ...{ sets: 0, documents: 0, requests: 0, ours: 0, theirs: 0, left: 0, computed: 0, denied: 0, same: 0, routes: 0 },
  ...{ apiRoutes: 0, servers: 0, providers: 0, inbound: 0, judged: 0, peers: 0, decidedPeers: 0 },
  ...{ clusters: 0, virtualServices: 0, differences: [], refused: [], failed: [] },
});

export type Differ = (
  what: string,
  where: string,
  ours: unknown,
  theirs: unknown,
  more?: Pick<Seen, 'field' | 'host' | 'route' | 'cluster' | 'grpc' | 'unprogrammed'>,
) => void;
