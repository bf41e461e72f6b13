/**
 * Local rate limits (envoy.filters.http.local_ratelimit): token buckets that requests of one configuration share. Envoy
 * 1.40 refills them continuously, takes from the buckets of matching descriptors (the slowest first), then from the
 * default one, and gives nothing back when a later one is empty (tried with the binary).
 */
import { createHash } from 'node:crypto';
import { envoyRegistry } from '../policy/envoy/descriptors.js';
import type { Json, JsonObject, Resources } from '../policy/resources.js';
import { editText, type Named } from './answers.js';
import { ALWAYS, all, any, not } from './conditions.js';
import { descriptorConditions, type MetDescriptor } from './descriptors.js';
import { share } from './fault.js';
import { headerOption } from './header-edits.js';
import type { AnswerEdit, Condition, Plan, ReplyAction, TokenBucket } from './ir.js';
import { anyType, bool, durationMs, has, isObject, join, list, Notes, num, obj, onlyFields, str } from './notes.js';
import { type MayChange, runtimeMayChange } from './runtime.js';

export const LOCAL_LIMIT = 'envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit';

/** One bucket that requests of a configuration take from. */
export interface LimitStep {
  /** which requests, as far as none of their headers is repeated */
  readonly when: Condition;
  /** the descriptor that it belongs to; undefined: the default bucket */
  readonly descriptor?: Pick<MetDescriptor, 'first' | 'joined'>;
  /** of the default bucket: requests with a descriptor take from it, too */
  readonly always?: boolean;
  readonly bucket: TokenBucket;
}

/** What a configuration of the filter does, in order; the first step without a token answers. */
export interface LocalLimit {
  /** names the configuration where the proxy asks about it */
  readonly id: string;
  readonly steps: readonly LimitStep[];
  readonly reply: { readonly status: number; readonly body: string; readonly headers: ReplyAction['headers'] };
  /** answers to requests that it counted have x-ratelimit headers */
  readonly figures: boolean;
}

/** Where a configuration of the filter stands: its bucket lives as long as what `resource` says. */
export interface LimitPlace {
  /** the listener or route configuration that holds it; Envoy makes new buckets when it changes */
  readonly resource: JsonObject;
  /** unique in the resources */
  readonly name: string;
  /** of a route's own configuration: the route and its virtual host */
  readonly route?: JsonObject;
  readonly virtualHost?: JsonObject;
  /** of a filter: the routes of its connection manager, and whether other managers use them, too */
  readonly routes?: JsonObject;
  readonly shared?: boolean;
}

/** Everything that reading a limit depends on. */
export interface LimitContext {
  readonly places: ReadonlyMap<JsonObject, LimitPlace>;
  /** some route or virtual host has rate_limits */
  readonly routeLimits: boolean;
  /** a runtime layer may change percentages */
  readonly mayChange: MayChange;
  /** the node's cluster, as the user's bootstrap has it */
  readonly sourceCluster: string;
}

const X_RATELIMIT = 'enable_x_ratelimit_headers';
const KNOWN = [
  'stat_prefix',
  'status',
  'token_bucket',
  'filter_enabled',
  'filter_enforced',
  'response_headers_to_add',
  'descriptors',
  'always_consume_default_token_bucket',
  'vh_rate_limits',
  'rate_limits',
  'max_dynamic_descriptors',
];
/** Longest time that a bucket may take to fill, in milliseconds: what its numbers hold (see BUCKET_SHIFT). */
const MAX_FILL_MS = 2 ** 57 / 1_000_000;
const DENIED = 'local_rate_limited';

/** What may be a connection manager among the network filters of a listener. */
function managersOf(listener: JsonObject): JsonObject[] {
  const chains = [...list(listener, 'filter_chains'), obj(listener, 'default_filter_chain') ?? {}];
  return chains.flatMap((chain) => list(chain, 'filters').map((filter) => obj(filter, 'typed_config') ?? {}));
}

/** The places of all configurations of the filter in the resources, by the configuration's identity. */
export function limitPlaces(resources: Resources): Map<JsonObject, LimitPlace> {
  const places = new Map<JsonObject, LimitPlace>();
  const add = (config: Json | undefined, place: LimitPlace): void => {
    if (!isObject(config)) return;
    if (anyType(config) === LOCAL_LIMIT) places.set(config, place);
    else add(config.config, place);
  };
  const perRoute = (owner: JsonObject, place: LimitPlace): void => {
    for (const [filter, config] of Object.entries(obj(owner, 'typed_per_filter_config') ?? {}))
      add(config, { ...place, name: `${place.name}/${filter}` });
  };
  const routes = (config: JsonObject, resource: JsonObject, name: string): void => {
    perRoute(config, { resource, name });
    list(config, 'virtual_hosts').forEach((virtualHost, v) => {
      perRoute(virtualHost, { resource, name: `${name}/${v}` });
      list(virtualHost, 'routes').forEach((route, r) => {
        perRoute(route, { resource, name: `${name}/${v}/${r}`, route, virtualHost });
      });
    });
  };
  const users = new Map<string, number>();
  for (const manager of resources.listeners.flatMap(managersOf)) {
    const rds = str(obj(manager, 'rds'), 'route_config_name');
    users.set(rds, (users.get(rds) ?? 0) + 1);
  }
  resources.listeners.forEach((listener, l) => {
    const name = `listener/${str(listener, 'name') || l}`;
    let n = 0;
    for (const manager of managersOf(listener)) {
      const at = `${name}/${n++}`;
      const inline = obj(manager, 'route_config');
      const rds = str(obj(manager, 'rds'), 'route_config_name');
      const used = inline ?? resources.routeConfigs.find((config) => rds !== '' && str(config, 'name') === rds);
      list(manager, 'http_filters').forEach((filter, f) => {
        add(filter.typed_config, {
          resource: listener,
          name: `${at}/${f}`,
          ...(used ? { routes: used } : {}),
          shared: !inline && (users.get(rds) ?? 0) > 1,
        });
      });
      if (inline) routes(inline, listener, `${at}/routes`);
    }
  });
  for (const config of resources.routeConfigs) routes(config, config, `routes/${str(config, 'name')}`);
  return places;
}

/** What reading limits depends on, from the resources. */
export function limitContext(resources: Resources): LimitContext {
  const configs = [
    ...resources.routeConfigs,
    ...resources.listeners.flatMap(managersOf).map((manager) => obj(manager, 'route_config') ?? {}),
  ];
  const places = limitPlaces(resources);
  const hosts = places.size === 0 ? [] : configs.flatMap((config) => list(config, 'virtual_hosts'));
  return {
    places,
    routeLimits: hosts.some(
      (host) =>
        has(host, 'rate_limits') || list(host, 'routes').some((route) => has(obj(route, 'route'), 'rate_limits')),
    ),
    mayChange: (key) => runtimeMayChange(resources.bootstrap, key),
    sourceCluster: str(obj(resources.bootstrap, 'node'), 'cluster'),
  };
}

/** A RuntimeFractionalPercent whose absence means never. */
function percentage(notes: Notes, config: JsonObject, key: string, path: string, runtime: MayChange) {
  const fraction = obj(config, key);
  if (!fraction) return 'none';
  const at = join(path, key);
  onlyFields(notes, fraction, at, ['default_value', 'runtime_key']);
  if (str(fraction, 'runtime_key') !== '' && runtime(str(fraction, 'runtime_key')))
    notes.add('runtime-fraction', 'a runtime layer may change it', at, config, key);
  const value = share(obj(fraction, 'default_value'));
  if (value === 'some') notes.add('runtime-fraction', 'a share of the requests', at, config, key);
  return value;
}

/** A TokenBucket; undefined, with a reason, if the kernel cannot count so. */
function bucketOf(notes: Notes, owner: JsonObject, path: string, key: string): TokenBucket | undefined {
  const at = join(path, 'token_bucket');
  const source = obj(owner, 'token_bucket') ?? {};
  onlyFields(notes, source, at, ['max_tokens', 'tokens_per_fill', 'fill_interval']);
  const bucket = {
    key,
    maxTokens: num(source, 'max_tokens'),
    tokensPerFill: num(source, 'tokens_per_fill', 1),
    fillMs: durationMs(source, 'fill_interval') ?? 0,
  };
  const { maxTokens, tokensPerFill, fillMs } = bucket;
  if (maxTokens >= 1 && tokensPerFill >= 1 && fillMs >= 1 && (maxTokens * fillMs) / tokensPerFill <= MAX_FILL_MS)
    return bucket;
  notes.add('rate-limit', 'a bucket that the fast path cannot keep', at, owner, 'token_bucket');
  return undefined;
}

/** The number of an HttpStatus, whose code is written as a name or a number; 0: none. */
function statusCode(status: JsonObject | undefined): number {
  const name = str(status, 'code');
  if (name === '') return num(status, 'code');
  return (
    envoyRegistry()
      .getEnum('envoy.type.v3.StatusCode')
      ?.values.find((v) => v.name === name)?.number ?? 0
  );
}

/** The headers of the refusal before Envoy adds the body's: additions to nothing. */
function refusalHeaders(notes: Notes, config: JsonObject, path: string): ReplyAction['headers'] {
  const key = 'response_headers_to_add';
  // without the environment: whether a limit is enforced here is asked in places that do not know it
  const found = new Notes(notes.provenance);
  const edits = list(config, key).flatMap(
    (option, i) => headerOption(found, option, `${join(path, key)}[${i}]`, 'response') ?? [],
  );
  notes.reasons.push(...found.reasons);
  const ordered = [
    ...edits.filter(({ op }) => op.startsWith('overwrite')),
    ...edits.filter(({ op }) => !op.startsWith('overwrite')),
  ].flatMap((edit) => {
    if (
      edit.op === 'remove' ||
      edit.op === 'join' ||
      edit.op === 'renew' ||
      edit.op === 'sampled' ||
      typeof edit.value !== 'string'
    )
      return [];
    return [{ op: edit.op, name: edit.name, value: edit.value }];
  });
  const headers = editText([], ordered);
  const names = headers.map(([name]: Named<string>) => name);
  if (new Set(names).size < names.length || new Set(ordered.map(({ name }) => name)).size < ordered.length)
    notes.add('rate-limit', 'the refusal has several lines of one header', join(path, key), config, key);
  if (
    names.some((name) => name.startsWith(':') || ['content-length', 'transfer-encoding', 'connection'].includes(name))
  )
    notes.add('rate-limit', 'the refusal changes its framing', join(path, key), config, key);
  return headers.map(([name, value]) => ({ name, value: [{ kind: 'literal', value }] }));
}

/**
 * The headers by which Envoy tells how a bucket stands when the answer is made (draft-polli-ratelimit-headers-03): the one
 * that refused, else that of the slowest descriptor, else the default one.
 * @param bucket undefined: the first that the request took from
 */
export function figureEdits(bucket?: TokenBucket): AnswerEdit[] {
  return (['limit', 'remaining', 'reset'] as const).map((of) => ({
    op: 'append',
    name: `x-ratelimit-${of}`,
    value: [{ kind: 'figure', of, ...(bucket ? { bucket } : {}) }],
  }));
}

/**
 * Reads a LocalRateLimit.
 * @returns `none` if it lets every request pass unchanged; undefined, with a reason in `notes`, if the proxy keeps it
 */
export function localLimit(
  notes: Notes,
  config: JsonObject,
  path: string,
  context: LimitContext,
): LocalLimit | 'none' | undefined {
  const before = notes.reasons.length;
  const place = context.places.get(config);
  if (percentage(notes, config, 'filter_enabled', path, context.mayChange) === 'none' || !place)
    return notes.reasons.length > before ? undefined : 'none';
  const enforced = percentage(notes, config, 'filter_enforced', path, context.mayChange);
  const marks = enforced === 'none' ? ['request_headers_to_add_when_not_enforced'] : [];
  const shown = str(config, X_RATELIMIT);
  const figures = shown === 'DRAFT_VERSION_03' && enforced !== 'none';
  for (const key of Object.keys(config)) {
    if (key === X_RATELIMIT && figures) continue;
    const late = key === 'request_headers_to_add_when_not_enforced' && marks.length === 0;
    if (key === '@type' || KNOWN.includes(key) || late || !has(config, key)) continue;
    if (config[key] === false || config[key] === 0 || config[key] === 'OFF') continue;
    notes.add('rate-limit', `the proxy keeps limits with ${key}`, join(path, key), config, key);
  }
  if (notes.reasons.length > before) return undefined;
  if (enforced === 'none' || (!has(config, 'token_bucket') && !has(config, 'descriptors'))) return 'none';

  const id = `${place.name}@${digest(place.resource)}`;
  const own = bucketOf(notes, config, path, id);
  const described = descriptorConditions(notes, config, path, place, context);
  const steps = described.flatMap(({ descriptor, at, first, joined, index }): LimitStep[] => {
    const bucket = bucketOf(notes, descriptor, at, `${id}#${index}`);
    return bucket ? [{ when: all([first, joined]), descriptor: { first, joined }, bucket }] : [];
  });
  const rate = ({ bucket }: LimitStep) => bucket.tokensPerFill / bucket.fillMs;
  steps.sort((a, b) => rate(a) - rate(b));
  const always = bool(config, 'always_consume_default_token_bucket', true);
  if (own) steps.push({ when: always ? ALWAYS : not(any(steps.map(({ when }) => when))), always, bucket: own });
  if (place.shared !== undefined && !bare(place))
    notes.add('rate-limit', 'the proxy alone counts requests without a route here', path, config);
  const code = statusCode(obj(config, 'status'));
  const headers = refusalHeaders(notes, config, path);
  if (notes.reasons.length > before) return undefined;
  return { id, steps, reply: { status: code < 400 ? 429 : code, body: DENIED, headers }, figures };
}

/**
 * The limits that the kernel enforces, by the configuration's identity: those whose buckets the plan takes tokens from. The
 * proxy must ask for these tokens, too.
 */
export function enforcedLimits(resources: Resources, plan: Plan): Map<JsonObject, LocalLimit> {
  const context = limitContext(resources);
  const keys = new Set<string>();
  for (const { offloaded, rbac, virtualHosts } of context.places.size > 0 ? plan.listeners : [])
    for (const checks of offloaded ? [rbac, ...virtualHosts.flatMap((v) => v.routes.map((r) => r.rbac ?? []))] : [])
      for (const { bucket } of checks) if (bucket) keys.add(bucket.key);
  const found = new Map<JsonObject, LocalLimit>();
  for (const config of context.places.keys()) {
    const limit = localLimit(new Notes(resources.provenance), config, '', context);
    if (limit && limit !== 'none' && limit.steps.some(({ bucket }) => keys.has(bucket.key))) found.set(config, limit);
  }
  return found;
}

/**
 * Whether requests without a route may be given one that answers 404, so that the proxy asks about them, too (it asks about
 * nothing that has no route): nothing that stands above the routes may act on its answer.
 */
function bare({ routes, shared }: LimitPlace): boolean {
  if (!routes || shared) return false;
  return [routes, ...list(routes, 'virtual_hosts')].every((owner) => {
    const filters = Object.values(obj(owner, 'typed_per_filter_config') ?? {});
    const own = (config: Json | undefined): boolean =>
      isObject(config) && (anyType(config) === LOCAL_LIMIT || own(config.config));
    return !has(owner, 'response_headers_to_add') && !has(owner, 'response_headers_to_remove') && filters.every(own);
  });
}

/** Digests of resources by identity: many limits may be in one. */
const digests = new WeakMap<JsonObject, string>();

function digest(resource: JsonObject): string {
  let text = digests.get(resource);
  if (text === undefined) {
    text = createHash('sha256').update(JSON.stringify(resource)).digest('hex').slice(0, 20);
    digests.set(resource, text);
  }
  return text;
}
