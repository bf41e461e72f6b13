/** What the agent did itself. */
export interface AgentCounts {
  /** requests that it gave to the proxy */
  proxied: number;
  /** answers of its own to requests that the kernel had forwarded (a broken upstream, a timeout) */
  answered: number;
  /** answers of its own to requests that nobody else could take */
  refused: number;
  /** answers of servers that it carried to the client */
  carried: number;
}
