/** What the documentation of a reason says beside its text: what to change, and an example that a test runs. */

/** Where a snippet of an Envoy configuration stands in the example's bootstrap. */
export type EnvoyPlace =
  | 'listener'
  | 'filter chain'
  | 'connection manager'
  | 'filters'
  | 'route configuration'
  | 'virtual host'
  | 'route'
  | 'cluster'
  | 'bootstrap';

/** `before` gives the reason, `after` is wholly in the kernel. Both are YAML. */
export type Example =
  | {
      readonly place: EnvoyPlace;
      readonly before: string;
      readonly after: string;
      /** what both have at other places */
      readonly around?: Partial<Record<EnvoyPlace, string>>;
    }
  /** Kubernetes documents beside a Service `reviews` */
  | { readonly place: 'documents'; readonly before: string; readonly after: string };

export interface Guide {
  /** one sentence: the change after which the rule would be offloaded */
  readonly fix: string;
  readonly example?: Example;
  /** why there is no example */
  readonly without?: string;
}
