/** HttpConnectionManager.tracing: which requests are traced, by whom, and where spans are sent. */
import type { JsonObject } from '../policy/resources.js';
import type { AnswerEdit, HeaderEdit } from './ir.js';
import { anyType, bool, join, list, Notes, num, obj, onlyFields, str } from './notes.js';
import { SHARES } from './trace-ids.js';
import { UNNAMED } from './user-agent.js';

const TRACE = 'envoy.config.trace.v3.';
const DEFAULT_PATH_LENGTH = 256;
/** Its lines of requests and answers name what a span is called. */
export const OPERATION = 'x-envoy-decorator-operation';

/** Where spans go: by way of the proxy, to one of its clusters. */
export interface Collector {
  readonly cluster: string;
  readonly protocol: 'http' | 'grpc';
  readonly host: string;
  readonly path: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
}

/** A tag of each span beside Envoy's own. */
export interface CustomTag {
  readonly tag: string;
  /** a header of the request, where it has it */
  readonly header?: string;
  /** otherwise; empty: no tag */
  readonly value: string;
}

export interface TracePlan {
  /** none: nobody is told, and nothing is sent */
  readonly tracer: 'none' | 'zipkin' | 'opentelemetry';
  /** of 10,000 requests: so many are traced whose ids do not say so; and so many at most, whatever they say */
  readonly random: number;
  readonly overall: number;
  /** the listener is for requests of clients, not to servers */
  readonly egress: boolean;
  /** Zipkin: trace ids of 128 bits; span ids that client and server share */
  readonly long: boolean;
  readonly shared: boolean;
  readonly collector?: Collector;
  readonly service: string;
  readonly node: { readonly id: string; readonly zone: string };
  readonly maxPath: number;
  readonly tags: readonly CustomTag[];
  /** names of clusters in statistics, where they are others */
  readonly statNames: Readonly<Record<string, string>>;
}

/** Whether spans of what the kernel decides are sent: where the proxy traces nothing by itself, it gets what others sample. */
export const reports = (trace: TracePlan | undefined): boolean =>
  trace !== undefined && trace.tracer !== 'none' && tracesNew(trace);

/** Whether traces may begin here. */
export const tracesNew = ({ random, overall }: TracePlan): boolean => random > 0 && overall > 0;

interface Around {
  readonly listener: JsonObject;
  readonly bootstrap: JsonObject;
  readonly clusters: readonly JsonObject[];
  /** a runtime layer may change how much is sampled */
  readonly runtime: boolean;
}

/** `http://host/path` as Envoy takes it apart. */
function placeOf(uri: string, cluster: string): { host: string; path: string } {
  const [, host, path] = /^[^:]*:\/\/([^/]*)(\/.*)?$/s.exec(uri) ?? [];
  return host === undefined ? { host: cluster, path: uri } : { host: host || cluster, path: path ?? '/' };
}

function httpCollector(service: JsonObject): Collector {
  const uri = obj(service, 'http_uri') ?? {};
  const cluster = str(uri, 'cluster');
  const headers = list(service, 'request_headers_to_add').map((option) => {
    const header = obj(option, 'header') ?? {};
    return [str(header, 'key').toLowerCase(), str(header, 'value')] as const;
  });
  return { cluster, protocol: 'http', ...placeOf(str(uri, 'uri'), cluster), headers };
}

type Tracer = Pick<TracePlan, 'tracer' | 'long' | 'shared' | 'service'> & { readonly collector?: Collector };

function zipkin(notes: Notes, config: JsonObject, at: string, service: string): Tracer | undefined {
  onlyFields(notes, config, at, [
    'collector_cluster',
    'collector_endpoint',
    'collector_hostname',
    'collector_endpoint_version',
    'collector_service',
    'trace_id_128bit',
    'shared_span_context',
    'trace_context_option',
  ]);
  const own = obj(config, 'collector_service');
  const version = str(config, 'collector_endpoint_version');
  const context = str(config, 'trace_context_option') || 'USE_B3';
  if (!/^(HTTP_JSON|)$/.test(version)) notes.add('tracing', `spans are sent as ${version}`, at, config);
  if (context !== 'USE_B3') notes.add('tracing', 'servers are told in two ways', at, config, 'trace_context_option');
  const cluster = str(config, 'collector_cluster');
  const collector: Collector = own
    ? httpCollector(own)
    : {
        cluster,
        protocol: 'http',
        host: str(config, 'collector_hostname') || cluster,
        path: str(config, 'collector_endpoint'),
        headers: [],
      };
  const shared = bool(config, 'shared_span_context', true);
  return { tracer: 'zipkin', long: bool(config, 'trace_id_128bit'), shared, service, collector };
}

function openTelemetry(notes: Notes, config: JsonObject, at: string): Tracer | undefined {
  onlyFields(notes, config, at, ['grpc_service', 'http_service', 'service_name']);
  const http = obj(config, 'http_service');
  const grpc = obj(config, 'grpc_service') ?? {};
  const own = obj(grpc, 'envoy_grpc');
  const service = str(config, 'service_name') || 'unknown_service:envoy';
  const made = { tracer: 'opentelemetry', long: true, shared: false, service } as const;
  if (http) return { ...made, collector: httpCollector(http) };
  if (!own) {
    notes.add('tracing', 'spans are sent by a client of gRPC’s own, or to nobody', at, config);
    return undefined;
  }
  onlyFields(notes, grpc, join(at, 'grpc_service'), ['envoy_grpc', 'timeout']);
  onlyFields(notes, own, join(at, 'grpc_service.envoy_grpc'), ['cluster_name', 'authority']);
  const cluster = str(own, 'cluster_name');
  const path = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';
  return {
    ...made,
    collector: { cluster, protocol: 'grpc', host: str(own, 'authority') || cluster, path, headers: [] },
  };
}

function tracerOf(notes: Notes, provider: JsonObject | undefined, at: string, service: string): Tracer | undefined {
  if (!provider) return { tracer: 'none', long: false, shared: false, service };
  const config = obj(provider, 'typed_config') ?? {};
  const type = anyType(config);
  if (type === `${TRACE}ZipkinConfig`) return zipkin(notes, config, at, service);
  if (type === `${TRACE}OpenTelemetryConfig`) return openTelemetry(notes, config, at);
  notes.add('tracing', `requests are traced by ${type.replace(TRACE, '') || str(provider, 'name')}`, at, provider);
  return undefined;
}

/** How many of 10,000 requests are meant, as Envoy counts. */
const share = (tracing: JsonObject, key: string): number =>
  Math.min(SHARES, Math.trunc(SHARES * (num(obj(tracing, key) ?? { value: 100 }, 'value') / 100)));

function customTags(notes: Notes, tracing: JsonObject, at: string): CustomTag[] {
  return list(tracing, 'custom_tags').flatMap((custom, i): CustomTag[] => {
    const own = join(at, `custom_tags[${i}]`);
    onlyFields(notes, custom, own, ['tag', 'literal', 'request_header', 'environment']);
    const tag = str(custom, 'tag');
    const header = obj(custom, 'request_header');
    if (header) return [{ tag, header: str(header, 'name').toLowerCase(), value: str(header, 'default_value') }];
    const variable = obj(custom, 'environment');
    if (!variable) return [{ tag, value: str(obj(custom, 'literal'), 'value') }];
    const value = notes.environment?.[str(variable, 'name')] ?? str(variable, 'default_value');
    return [{ tag, value }];
  });
}

/** Reads `tracing` of a connection manager; undefined: there is none, or, with a reason, it is the proxy's. */
export function tracingOf(notes: Notes, hcm: JsonObject, path: string, around: Around): TracePlan | undefined {
  const tracing = obj(hcm, 'tracing');
  if (!tracing) return undefined;
  const at = join(path, 'tracing');
  const own = new Notes(notes.provenance, notes.environment);
  onlyFields(own, tracing, at, [
    'client_sampling',
    'random_sampling',
    'overall_sampling',
    'max_path_tag_length',
    'custom_tags',
    'provider',
  ]);
  const { listener, bootstrap, clusters, runtime } = around;
  const node = obj(bootstrap, 'node');
  const provider = obj(tracing, 'provider') ?? obj(obj(bootstrap, 'tracing'), 'http');
  const tracer = tracerOf(own, provider, join(at, 'provider.typed_config'), str(node, 'cluster') || UNNAMED);
  const extension = obj(obj(hcm, 'request_id_extension'), 'typed_config');
  const ids = bool(extension, 'pack_trace_reason', true) && bool(extension, 'use_request_id_for_trace_sampling', true);
  if (!ids) own.add('tracing', 'whether a request is traced is not noted in its id', at, hcm, 'request_id_extension');
  const shares = { random: share(tracing, 'random_sampling'), overall: share(tracing, 'overall_sampling') };
  if (runtime) own.add('tracing', 'the runtime may change which requests are traced', at, tracing);
  if (!notes.environment && shares.random > 0 && shares.overall > 0 && tracer?.tracer !== 'none')
    own.add('tracing', 'spans cannot be sent by way of somebody else’s proxy', at, tracing);
  const collector = tracer?.collector;
  if (collector && !clusters.some((cluster) => str(cluster, 'name') === collector.cluster))
    own.add('tracing', `the collector’s cluster ${collector.cluster} is not known`, at, tracing);
  const tags = customTags(own, tracing, at);
  const plain = str(node, 'id') + str(node, 'cluster') + JSON.stringify(tags);
  if (!/^[\x20-\x7e]*$/.test(plain)) own.add('tracing', 'tags are not plain ASCII', at, tracing);
  notes.reasons.push(...own.reasons);
  if (!own.clean || !tracer) return undefined;
  const renamed = clusters.flatMap((cluster) => {
    const alternative = str(cluster, 'alt_stat_name');
    return alternative === '' ? [] : [[str(cluster, 'name'), alternative] as const];
  });
  return {
    ...tracer,
    ...shares,
    egress: str(listener, 'traffic_direction') === 'OUTBOUND',
    node: { id: str(node, 'id') || UNNAMED, zone: str(obj(node, 'locality'), 'zone') },
    maxPath: num(tracing, 'max_path_tag_length', DEFAULT_PATH_LENGTH),
    tags,
    statNames: Object.fromEntries(renamed),
  };
}

/** How the route calls its spans, and whether the other side is told. */
export interface Decoration {
  readonly request: readonly HeaderEdit[];
  readonly answer: readonly AnswerEdit[];
  readonly operation?: string;
}

/** Reads Route.decorator. */
export function decorationOf(notes: Notes, trace: TracePlan | undefined, route: JsonObject, path: string): Decoration {
  if (!trace) return { request: [], answer: [] };
  const decorator = obj(route, 'decorator');
  const operation = str(decorator, 'operation');
  if (decorator) onlyFields(notes, decorator, join(path, 'decorator'), ['operation', 'propagate']);
  if (/[^\x20-\x7e]/.test(operation) || operation.trim() !== operation)
    notes.add('tracing', 'the name of spans is not plain ASCII', join(path, 'decorator'), route, 'decorator');
  const told = operation !== '' && bool(decorator, 'propagate', true);
  const named = operation === '' ? {} : { operation };
  if (trace.egress)
    return {
      request: told ? [{ op: 'overwrite', name: OPERATION, value: operation }] : [],
      answer: [{ op: 'remove', name: OPERATION, value: [] }],
      ...named,
    };
  const answer: AnswerEdit[] = told
    ? [{ op: 'overwrite', name: OPERATION, value: [{ kind: 'literal', value: operation }] }]
    : [];
  return { request: [], answer, ...named };
}
