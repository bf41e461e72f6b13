/** One rule of an HTTPRoute or GRPCRoute -> Envoy routes for one port. */
import type { Document } from '../documents.js';
import type { Path, RuleBuilder } from '../istio/context.js';
import { envoyDuration, parseDuration } from '../istio/duration.js';
import { hashPolicy, mirrorPolicy, retryPolicy } from '../istio/route-policies.js';
import type { RouteInput } from '../istio/routes.js';
import type { JsonObject } from '../resources.js';
import type { Backends } from './backends.js';
import { filterConfigs, foreignFilter, headerFields, pathVariants, redirectAction, type Variant } from './filters.js';
import { grpcMatch, httpMatch, type Match, type Ranked } from './match.js';
import type { BackendRef, Filter, GrpcRule, HttpRule } from './schema.js';
import { SESSION_FILTER, sessionConfig } from './session.js';

export interface ApiRule {
  readonly document: Document;
  readonly path: Path;
  readonly spec: HttpRule | GrpcRule;
  readonly rule: RuleBuilder;
}

/** The cluster of requests that lead nowhere: none has this name. */
const NOWHERE = 'invalid-backend';

/** What an HTTPRoute's requests that lead nowhere are answered; for a GRPCRoute's, 503 is what the status UNAVAILABLE is. */
const NOWHERE_HTTP = 500;
const NOWHERE_GRPC = 503;

class Translator {
  constructor(
    readonly input: RouteInput,
    readonly backends: Backends,
    readonly api: ApiRule,
    readonly listenPort: number,
  ) {}

  get #nowhere(): number {
    return this.api.document.kind === 'GRPCRoute' ? NOWHERE_GRPC : NOWHERE_HTTP;
  }

  matches(): Match[] {
    const { context } = this.input;
    const { document, path, spec } = this.api;
    const grpc = document.kind === 'GRPCRoute';
    const list = spec.matches?.length ? spec.matches : [undefined];
    return list.map((match, index) => {
      const at = match ? [...path, 'matches', index] : path;
      return grpc
        ? grpcMatch(context, document, match as Parameters<typeof grpcMatch>[2], at)
        : httpMatch(context, document, match as Parameters<typeof httpMatch>[2], at);
    });
  }

  /**
   * Says that requests are answered 500 because nobody here can do what is asked.
   *
   * @param shared only a share of the rule's requests
   */
  #foreign(path: Path, type: string, shared: boolean): void {
    const message = `the filter ${type} is not known here: requests are answered 500`;
    this.input.context.warn(this.api.document, path, 'unknown-filter', message);
    if (shared) this.input.context.unsupported(this.api.rule, path, 'unknown-filter', message);
  }

  /** The backends that take requests, each with its share. */
  #destinations(refs: readonly BackendRef[]): { ref: BackendRef; cluster: string; weight: number; path: Path }[] {
    const { document, path } = this.api;
    const used = refs.filter((ref) => ref.weight !== 0);
    const shared = used.some((ref) => 'cluster' in this.backends.resolve(document, ref));
    return refs.flatMap((ref, index) => {
      const at = [...path, 'backendRefs', index];
      const weight = ref.weight ?? 1;
      const found = this.backends.report(this.api.rule, ref, at, shared);
      if (weight === 0) return [];
      const foreign = used.length === 1 ? -1 : foreignFilter(ref.filters, true);
      if (foreign >= 0) this.#foreign([...at, 'filters', foreign], ref.filters?.[foreign]?.type ?? '', shared);
      const usable = 'cluster' in found && foreign < 0;
      return [{ ref, cluster: usable ? found.cluster : NOWHERE, weight, path: at }];
    });
  }

  /** What happens to the requests of the rule: the action's field of a Route, and further fields of it. */
  action(variant: Variant): JsonObject {
    const { input, api, listenPort } = this;
    const { context } = input;
    const { document, path, spec } = api;
    const refs = spec.backendRefs ?? [];
    const used = refs.filter((ref) => ref.weight !== 0);
    // The filters of an only backend are as good as the rule's.
    const filters: readonly Filter[] = [
      ...(spec.filters ?? []),
      ...(used.length === 1 ? (used[0]?.filters ?? []) : []),
    ];
    const { fields, host } = headerFields(filters);
    const out: JsonObject = { ...fields };
    for (const key of Object.keys(fields)) context.origin(out, document, [...path, 'filters'], key);
    const foreign = foreignFilter(filters, false);
    if (foreign >= 0) {
      this.#foreign([...path, 'filters', foreign], filters[foreign]?.type ?? '', false);
      return { ...out, direct_response: { status: NOWHERE_HTTP } };
    }
    const redirect = filters.find((filter) => filter.requestRedirect)?.requestRedirect;
    if (redirect) {
      const action = { ...redirectAction(redirect, listenPort), ...variant.redirect };
      return { ...out, redirect: context.origin(action, document, [...path, 'filters']) };
    }
    const configs = filterConfigs(context, api.rule, filters, [...path, 'filters']);
    if (spec.sessionPersistence) {
      const config = sessionConfig(spec.sessionPersistence, api.rule.id);
      configs[SESSION_FILTER] = context.origin(config, document, [...path, 'sessionPersistence']);
    }
    if (Object.keys(configs).length > 0) out.typed_per_filter_config = configs;
    const destinations = this.#destinations(refs);
    if (destinations.every(({ cluster }) => cluster === NOWHERE)) {
      if (refs.length === 0) {
        const message = `no backend takes its requests: they are answered ${this.#nowhere}`;
        context.warn(document, [...path, 'backendRefs'], 'no-backend', message);
      }
      return { ...out, direct_response: { status: this.#nowhere } };
    }
    return { ...out, route: this.#forward(variant, filters, destinations, host) };
  }

  #forward(
    variant: Variant,
    filters: readonly Filter[],
    destinations: readonly { ref: BackendRef; cluster: string; weight: number; path: Path }[],
    host: string,
  ): JsonObject {
    const { input, api } = this;
    const { context } = input;
    const { document, path } = api;
    const action: JsonObject = { ...this.#timeouts(), ...variant.rewrite };
    const rewrite = filters.find((filter) => filter.urlRewrite)?.urlRewrite;
    const authority = rewrite?.hostname ?? host;
    if (authority) action.host_rewrite_literal = authority;
    for (const key of ['prefix_rewrite', 'regex_rewrite', 'host_rewrite_literal'])
      context.origin(action, document, [...path, 'filters'], key);
    const mirrors = this.#mirrors(filters);
    if (mirrors.length > 0) action.request_mirror_policies = mirrors;
    const [only] = destinations;
    if (only && destinations.length === 1) {
      action.cluster = only.cluster;
      context.origin(action, document, only.path, 'cluster');
    } else {
      action.weighted_clusters = {
        clusters: destinations.map(({ ref, cluster, weight, path: at }) => {
          const own = headerFields(ref.filters);
          const name = ref.filters?.find((filter) => filter.urlRewrite)?.urlRewrite?.hostname ?? own.host;
          const weighted: JsonObject = { name: cluster, weight, ...own.fields };
          if (name) weighted.host_rewrite_literal = name;
          return context.origin(weighted, document, at);
        }),
      };
    }
    // What leads nowhere is answered 500, not 503, which is the proxy's own answer.
    if (this.#nowhere !== NOWHERE_GRPC) action.cluster_not_found_response_code = 'INTERNAL_SERVER_ERROR';
    const hashes = destinations.flatMap(({ ref }) => {
      const found = this.backends.resolve(document, ref);
      if (!('cluster' in found)) return [];
      const namespace = input.registry.get(found.host)?.namespace ?? document.namespace;
      const hash = hashPolicy(
        input.destinationRules.effective(found.host, namespace, found.port, '').loadBalancer?.consistentHash,
      );
      return hash ? [hash] : [];
    });
    if (hashes.length > 0) action.hash_policy = hashes;
    const retry = this.#retry(destinations.length === 1 && hashes.length > 0);
    if (retry) action.retry_policy = retry;
    return action;
  }

  #mirrors(filters: readonly Filter[]): JsonObject[] {
    const { context } = this.input;
    const { document, path, rule } = this.api;
    return filters.flatMap((filter, index): JsonObject[] => {
      const mirror = filter.requestMirror;
      if (!mirror) return [];
      const at = [...path, 'filters', index, 'requestMirror'];
      const found = this.backends.resolve(document, mirror.backendRef);
      if (!('cluster' in found)) {
        context.warn(document, at, found.code, `${found.message}: nothing is mirrored`);
        if (found.foreign) context.unsupported(rule, at, found.code, found.message);
        return [];
      }
      const { fraction, percent } = mirror;
      const share = fraction ? (100 * fraction.numerator) / (fraction.denominator ?? 100) : percent;
      if (share === 0) return [];
      const policy = mirrorPolicy(found.cluster, share);
      return [context.origin(policy, document, at)];
    });
  }

  #timeouts(): JsonObject {
    const { timeouts, retry } = this.api.spec as HttpRule;
    // Without a word about retries, the time for a try is the time for the request.
    const whole = (!retry && nonZero(timeouts?.backendRequest)) || nonZero(timeouts?.request);
    const timeout = envoyDuration(whole ?? '0s');
    const out: JsonObject = { timeout, max_grpc_timeout: timeout };
    if (timeouts) this.input.context.origin(out, this.api.document, [...this.api.path, 'timeouts'], 'timeout');
    return out;
  }

  #retry(consistentHash: boolean): JsonObject | undefined {
    const { retry, timeouts } = this.api.spec as HttpRule;
    // Without a word about retries: those of every service of the mesh.
    if (!retry) return retryPolicy(undefined, consistentHash);
    const perTryTimeout = nonZero(timeouts?.backendRequest);
    const retryOn = ['connect-failure', 'refused-stream', 'unavailable', 'cancelled', ...(retry.codes ?? [])].join(',');
    const out = retryPolicy(
      {
        ...{ attempts: retry.attempts ?? DEFAULT_ATTEMPTS, retryOn },
        ...(perTryTimeout ? { perTryTimeout } : {}),
        ...(retry.backoff ? { backoff: retry.backoff } : {}),
      },
      consistentHash,
    );
    return out && this.input.context.origin(out, this.api.document, [...this.api.path, 'retry']);
  }
}

/** Istio's for services without a retry policy, too. */
const DEFAULT_ATTEMPTS = 2;

/** A duration, if it is one that is not zero. */
const nonZero = (text: string | undefined): string | undefined =>
  text !== undefined && (parseDuration(text) ?? 0n) !== 0n ? text : undefined;

/** What changes the path: a filter of the rule, or of its only backend. */
function pathModifier(spec: HttpRule | GrpcRule) {
  const used = (spec.backendRefs ?? []).filter((ref) => ref.weight !== 0);
  const all = [...(spec.filters ?? []), ...(used.length === 1 ? (used[0]?.filters ?? []) : [])];
  return all.map((filter) => filter.requestRedirect?.path ?? filter.urlRewrite?.path).find((path) => path);
}

/**
 * Translates one rule.
 *
 * @param listenPort the port of the Service or the listener that clients connect to
 * @returns its routes with what their order depends on
 */
export function ruleRoutes(
  input: RouteInput,
  backends: Backends,
  api: ApiRule,
  listenPort: number,
  created: string,
): Ranked[] {
  const { context } = input;
  const { document, path, rule, spec } = api;
  const translator = new Translator(input, backends, api, listenPort);
  const modifier = pathModifier(spec);
  const { namespace, name } = document;
  return translator.matches().flatMap((match, index) => {
    if (modifier?.type === 'ReplacePrefixMatch' && match.prefix === undefined) {
      const message = 'ReplacePrefixMatch needs matches of type PathPrefix';
      context.error(document, [...path, 'matches', index, 'path'], 'invalid-value', message);
      return [];
    }
    return pathVariants(match, modifier).map((variant): Ranked => {
      const route: JsonObject = {
        name: `${document.namespace}.${document.name}.${rule.rule}`,
        match: variant.match,
        ...translator.action(variant),
      };
      context.origin(route, document, spec.matches?.length ? [...path, 'matches', index] : path);
      context.origin(variant.match, document, [...path, 'matches', index]);
      rule.objects.push(route);
      return { route, rank: match.rank, created, namespace, name };
    });
  });
}
