/** One entry of an EnvoyFilter's configPatches, with its value as a message of Envoy's. */
import { LineCounter, parseDocument, type Document as YamlDocument } from 'yaml';
import type { Diagnostic } from '../../diagnostics.js';
import type { Document } from '../../documents.js';
import { Converter } from '../../envoy/convert.js';
import { envoyMessage } from '../../envoy/descriptors.js';
import { convertDuration } from '../../envoy/scalars.js';
import { isTypedStruct } from '../../envoy/typed-struct.js';
import { asObject } from '../../envoy/walk.js';
import { type Json, type JsonObject, Provenance } from '../../resources.js';
import type { Context, Path, RuleBuilder } from '../context.js';
import { parseDuration, protoDuration } from '../duration.js';
import type { ConfigPatch } from '../schema/extensions.js';

const HCM = 'envoy.extensions.filters.network.http_connection_manager.v3';

/** What is patched -> the message that a patch's value is. */
export const TARGETS: Readonly<Record<string, string>> = {
  LISTENER: 'envoy.config.listener.v3.Listener',
  NETWORK_FILTER: 'envoy.config.listener.v3.Filter',
  HTTP_FILTER: `${HCM}.HttpFilter`,
  ROUTE_CONFIGURATION: 'envoy.config.route.v3.RouteConfiguration',
  VIRTUAL_HOST: 'envoy.config.route.v3.VirtualHost',
  HTTP_ROUTE: 'envoy.config.route.v3.Route',
  CLUSTER: 'envoy.config.cluster.v3.Cluster',
};

/** Operations that only these targets have; istiod reads them as ADD elsewhere. */
const INSERTABLE = new Set(['HTTP_FILTER', 'NETWORK_FILTER', 'HTTP_ROUTE', 'LISTENER_FILTER']);

const OPERATIONS =
  'INVALID MERGE MERGE_AND_REPLACE_LIST ADD REMOVE REPLACE INSERT_BEFORE INSERT_AFTER INSERT_FIRST'.split(' ');

/** The release of Istio whose proxies are stood for: what `proxyVersion` is compared with. */
export const ISTIO_VERSION = '1.31.0';

export interface Patch {
  readonly rule: RuleBuilder;
  readonly document: Document;
  readonly path: Path;
  readonly applyTo: string;
  readonly operation: string;
  readonly match: NonNullable<ConfigPatch['match']>;
  /** canonical; {} where there is none */
  readonly value: JsonObject;
  /** why the value cannot be used */
  readonly problem?: string;
}

/** istiod reads durations in patches as Go does: `50ms` and `1m30s`, too. */
const goDuration: typeof convertDuration = (raw) => {
  const nanoseconds = typeof raw === 'string' ? parseDuration(raw) : undefined;
  return convertDuration(nanoseconds === undefined ? raw : protoDuration(nanoseconds));
};

/**
 * Converts a value of Kubernetes' JSON to a message of Envoy's. Fields that are not known are left out with a warning, as
 * istiod does.
 */
function message(context: Context, patch: Patch, written: unknown): { value: JsonObject; problem?: string } {
  const type = TARGETS[patch.applyTo];
  if (type === undefined || patch.operation === 'REMOVE') return { value: {} };
  const lineCounter = new LineCounter();
  const doc = parseDocument(JSON.stringify(written ?? {}), { lineCounter }) as YamlDocument.Parsed;
  const found: Diagnostic[] = [];
  const source = { file: patch.document.file, doc, lineCounter, syntax: 'json' as const };
  const converter = new Converter(source, new Provenance(), found, /^MERGE/.test(patch.operation), goDuration);
  const value = converter.message(envoyMessage(type), doc.contents, '') ?? {};
  const at = [...patch.path, 'patch', 'value'];
  for (const { code, message: text, field = '' } of found) {
    if (code === 'unknown-field') context.warn(patch.document, at, code, `${field}: ${text}: it is ignored`);
  }
  const config = asObject(asObject(written as Json)?.typed_config);
  // istiod merges extensions of one type
  if (/^MERGE/.test(patch.operation) && /_FILTER$/.test(patch.applyTo) && isTypedStruct(config?.['@type']))
    return { value, problem: 'a TypedStruct is merged' };
  const wrong = found.find(({ code, severity }) => severity === 'error' && code !== 'unknown-field');
  return { value, ...(wrong ? { problem: `${wrong.field ?? 'the value'}: ${wrong.message}` } : {}) };
}

/** Whether the value's lists take the place of those before. */
export const replacesLists = ({ operation }: Patch): boolean => operation === 'MERGE_AND_REPLACE_LIST';

/** What a `match` may hold; a field that is not known here would make the patch be about less. */
const MATCH: Readonly<Record<string, readonly string[]>> = {
  '': ['context', 'proxy', 'listener', 'routeConfiguration', 'cluster', 'waypoint'],
  proxy: ['proxyVersion', 'metadata'],
  listener: ['portNumber', 'portName', 'name', 'listenerFilter', 'filterChain'],
  'listener.filterChain': [
    ...['name', 'sni', 'transportProtocol', 'applicationProtocols', 'destinationPort', 'filter'],
  ],
  'listener.filterChain.filter': ['name', 'subFilter'],
  'listener.filterChain.filter.subFilter': ['name'],
  routeConfiguration: ['portNumber', 'portName', 'name', 'gateway', 'vhost'],
  'routeConfiguration.vhost': ['name', 'domainName', 'route'],
  'routeConfiguration.vhost.route': ['name', 'action'],
  cluster: ['portNumber', 'service', 'subset', 'name'],
};

/** The first field of a match that is not known; undefined: all are. */
function unknownField(match: unknown, at = ''): string | undefined {
  if (match === null || typeof match !== 'object' || MATCH[at] === undefined) return undefined;
  for (const [key, value] of Object.entries(match)) {
    const path = at === '' ? key : `${at}.${key}`;
    if (!MATCH[at].includes(key)) return path;
    const inner = unknownField(value, path);
    if (inner !== undefined) return inner;
  }
  return undefined;
}

/** Reads one patch. */
export function readPatch(context: Context, rule: RuleBuilder, index: number, entry: ConfigPatch): Patch {
  const { document } = rule;
  const { applyTo = '' } = entry;
  const written = entry.patch?.operation ?? '';
  const operation = /^INSERT_/.test(written) && !INSERTABLE.has(applyTo) ? 'ADD' : written;
  const path = ['spec', 'configPatches', index];
  const patch: Patch = { rule, document, path, applyTo, operation, match: entry.match ?? {}, value: {} };
  const field = unknownField(entry.match);
  const unknown =
    field !== undefined
      ? `the match has a field that is not known: ${field}`
      : written !== '' && !OPERATIONS.includes(written)
        ? `${written} is no operation`
        : undefined;
  return {
    ...{ ...patch, ...message(context, patch, entry.patch?.value) },
    ...(unknown !== undefined && { problem: unknown }),
  };
}
