/**
 * What a plan for requests of HTTP/2 alone (`Assumptions.streams`) leaves to the proxy beyond what one for HTTP/1.1 does: all
 * that the programs of HTTP/2 do not see, or that the agent does not keep by stream.
 */
import type { JsonObject } from '../policy/resources.js';
import { proxied, type Variant } from './actions.js';
import { anyType, has, isObject, join, list, type Notes, obj, onlyFields, str } from './notes.js';
import type { ReasonCode } from './reasons.js';

const FILTERS = /\.(router\.v3\.Router|rbac\.v3\.RBAC|grpc_stats\.v3\.FilterConfig)$/;
/** `te` is in no text that conditions, edits or formats of the kernel could read. */
const NAMES_TE = /"te"|%(REQ|REQUEST_HEADER)\([^)]*\bte\b/i;

/** A listener: notes keep it from the kernel as a whole. */
export function streamNotes(
  notes: Notes,
  hcm: JsonObject | undefined,
  routeConfig: JsonObject | undefined,
  path: string,
): void {
  if (!hcm) return;
  if (str(hcm, 'codec_type') === 'HTTP1') notes.add('codec', 'clients speak HTTP/1.1', join(path, 'codec_type'), hcm);
  for (const key of ['http2_protocol_options', 'tracing'])
    if (has(hcm, key) && JSON.stringify(hcm[key]) !== '{}')
      notes.add('unsupported-field', `${key} of streams`, join(path, key), hcm, key);
  if (has(obj(hcm, 'common_http_protocol_options'), 'idle_timeout'))
    notes.add('idle-timeout', 'idle connections of streams', join(path, 'common_http_protocol_options'), hcm);
  list(hcm, 'http_filters').forEach((filter, i) => {
    if (!FILTERS.test(anyType(obj(filter, 'typed_config'))))
      notes.add('http-filter', 'a filter of streams', join(path, `http_filters[${i}]`), filter);
  });
  if (NAMES_TE.test(JSON.stringify([hcm, routeConfig])))
    notes.add('request-dependent', 'te decides', join(path, 'route_config'), hcm);
}

/**
 * What a cluster says about HTTP/2 to its endpoints, in as many options as it says it in. The deprecated field of the cluster
 * itself counts where there are no options by extension.
 */
function spokenBy(cluster: JsonObject): JsonObject[] {
  const options = Object.values(obj(cluster, 'typed_extension_protocol_options') ?? {}).filter(isObject);
  const owners = options.length > 0 ? options.map((o) => obj(o, 'explicit_http_config')) : [cluster];
  return owners.map((o) => obj(o, 'http2_protocol_options')).filter((o) => o !== undefined);
}

/** Whether the endpoints of a cluster are sent HTTP/2. */
export function speaksHttp2(cluster: JsonObject): boolean {
  return spokenBy(cluster).length > 0;
}

/**
 * A cluster: its servers must speak HTTP/2, without settings that Envoy would keep for each connection or stream.
 * @param watched what is known of its endpoints beside their addresses; @param counted requests to it are
 */
export function serverNotes(
  notes: Notes,
  cluster: JsonObject,
  watched: { readonly checked: boolean; readonly ejected: boolean; readonly relayed: boolean },
  counted: boolean,
): void {
  const spoken = spokenBy(cluster);
  if (spoken.length !== 1)
    notes.add('upstream-protocol', 'the endpoints speak HTTP/1.1', 'explicit_http_config', cluster);
  for (const found of spoken) onlyFields(notes, found, 'http2_protocol_options', []);
  if (counted) notes.add('circuit-breaker', 'requests of streams are not counted', 'circuit_breakers', cluster);
  const note = (message: string, field: string) => notes.add('unsupported-field', message, field, cluster, field);
  if (watched.checked) note('health checks of endpoints of streams', 'health_checks');
  if (watched.ejected) note('outliers among endpoints of streams', 'outlier_detection');
  if (watched.relayed) note('a relay to endpoints of streams', 'transport_socket');
}

/** Why the programs leave an action to the proxy that those of HTTP/1.1 carry out. */
function unkept(action: Variant['action']): readonly [code: ReasonCode, message: string] | undefined {
  if (action.kind !== 'forward') return undefined;
  const { route = [], filters = [], local } = action.answer ?? {};
  if (local) return ['local-reply', 'the mesh’s own answers to streams are rewritten'];
  if ([...route, ...filters].some(({ value }) => value.some(({ kind }) => kind !== 'literal')))
    return ['response-headers', 'answers to streams repeat something of their requests'];
  if (action.mirror) return ['mirror', 'requests of HTTP/2 are copied'];
  if (action.whole) return ['http-filter', 'streams are held until they are whole'];
  return undefined;
}

/** What becomes of a route's variant for streams. */
export function streamVariant(notes: Notes, variant: Variant, path: string): Variant {
  const found = unkept(variant.action);
  if (!found) return variant;
  const own = notes.fork();
  own.add(found[0], found[1], path);
  return { ...proxied(own, variant.when), guard: variant.guard };
}
