import { isMap } from 'yaml';
import { type JsonObject, Provenance, type Resources } from '../resources.js';
import { Converter, type EnvoySource } from './convert.js';
import { envoyMessage, fieldsOf } from './descriptors.js';
import { type LargeRegex, tooLarge } from './regex.js';
import { checkSemantics, hasFields } from './semantics.js';
import { interceptsOf, sourceRules } from './source-rules.js';
import { asObject, asObjects, asString, TYPE, tcpAddress } from './walk.js';

export type { EnvoySource } from './convert.js';
export type { Syntax } from './scalars.js';

const BOOTSTRAP = 'envoy.config.bootstrap.v3.Bootstrap';

/** Whether a document's keys are those of Envoy's configuration: a bootstrap, a resource, or a list of resources. */
export function isEnvoyDocument(keys: readonly string[]): boolean {
  // an empty bootstrap is one, too
  if (keys.length === 0) return true;
  if (keys.includes('@type') || keys.includes('resources')) return true;
  const known = fieldsOf(envoyMessage(BOOTSTRAP));
  return keys.some((key) => known.has(key));
}

/**
 * Translates documents of Envoy's own configuration: bootstraps, discovery responses (`resources: [...]`) and single
 * resources with "@type". Follows Envoy 1.40's API; problems are in the `diagnostics` of what is returned.
 *
 * @param parts for checking: files that only hold discovered listeners and routes need not come with their clusters
 */
export function translateEnvoy(sources: readonly EnvoySource[], parts = false): Resources {
  const resources: Resources = {
    listeners: [],
    routeConfigs: [],
    clusters: [],
    endpoints: [],
    bootstrap: {},
    intercepts: [],
    hosts: [],
    rules: [],
    documents: sources.length,
    provenance: new Provenance(),
    diagnostics: [],
  };
  const large = sources.flatMap((source) => readDocument(source, resources));
  for (const { at, field, message } of tooLarge(large, resources.bootstrap))
    resources.diagnostics.push({ severity: 'error', code: 'invalid-regex', message, position: at, field });
  for (const listener of resources.listeners) nameListener(listener);
  resources.intercepts.push(...resources.listeners.flatMap(interceptsOf));
  resources.rules.push(...sourceRules(resources));
  // what is half read would only give errors that follow from others
  if (!resources.diagnostics.some((d) => d.severity === 'error'))
    checkSemantics(resources, parts && onlyRoutes(resources));
  return resources;
}

/** True for resources without any cluster or bootstrap: a part of a configuration. */
function onlyRoutes(resources: Resources): boolean {
  return resources.clusters.length === 0 && Object.keys(resources.bootstrap).length === 0;
}

/** Envoy names listeners that have none by chance; they need a stable name to be updated. */
function nameListener(listener: JsonObject): void {
  if (asString(listener.name)) return;
  const address = tcpAddress(listener.address);
  listener.name = address ? `${address.address}:${address.port}` : 'listener';
}

function readDocument(source: EnvoySource, resources: Resources): readonly LargeRegex[] {
  const converter = new Converter(source, resources.provenance, resources.diagnostics);
  addDocument(source, converter, resources);
  return converter.large;
}

function addDocument(source: EnvoySource, converter: Converter, resources: Resources): void {
  const root = source.doc.contents;
  if (!isMap(root)) {
    converter.error(root, '', 'unknown-document', 'expected an object');
    return;
  }
  if (converter.lookup(root, '@type') !== undefined) {
    const object = converter.any(root, '');
    if (object) addResource(object, converter, resources, '');
    return;
  }
  if (converter.lookup(root, 'resources') !== undefined) {
    const response = converter.message(envoyMessage('envoy.service.discovery.v3.DiscoveryResponse'), root, '');
    for (const [i, object] of asObjects(response?.resources).entries()) {
      addResource(object, converter, resources, `resources[${i}]`);
    }
    return;
  }
  const bootstrap = converter.message(envoyMessage(BOOTSTRAP), root, '');
  if (bootstrap) addBootstrap(bootstrap, converter, resources);
}

function addResource(object: JsonObject, converter: Converter, resources: Resources, path: string): void {
  const type = object['@type'];
  const at = resources.provenance.get(object) ?? converter.position(null);
  // its place in Resources says what it is
  delete object['@type'];
  if (type === TYPE.LISTENER) resources.listeners.push(object);
  else if (type === TYPE.ROUTES) resources.routeConfigs.push(object);
  else if (type === TYPE.CLUSTER) resources.clusters.push(object);
  else if (type === TYPE.ENDPOINTS) resources.endpoints.push(object);
  else if (type === TYPE.SECRET) addSecrets([object], resources);
  else {
    const hint = 'listeners, route configurations, clusters, load assignments and secrets are';
    converter.error(at, `${path ? `${path}.` : ''}@type`, 'unknown-type', `${type} is not read here`, hint);
  }
}

/** Secrets have no place of their own in Resources: they stay where the bootstrap has them. */
function addSecrets(secrets: readonly JsonObject[], resources: Resources): void {
  if (secrets.length === 0) return;
  const holder = asObject(resources.bootstrap.static_resources) ?? {};
  holder.secrets = [...asObjects(holder.secrets), ...secrets];
  resources.bootstrap.static_resources = holder;
}

function addBootstrap(bootstrap: JsonObject, converter: Converter, resources: Resources): void {
  const { provenance } = resources;
  const fixed = asObject(bootstrap.static_resources);
  resources.listeners.push(...asObjects(fixed?.listeners));
  resources.clusters.push(...asObjects(fixed?.clusters));
  addSecrets(asObjects(fixed?.secrets), resources);
  for (const [key, value] of Object.entries(bootstrap)) {
    if (key === 'static_resources') continue;
    const at = provenance.get(bootstrap, key) ?? converter.position(null);
    if (key === 'dynamic_resources') {
      if (!hasFields(value)) continue;
      const hint = 'put listeners and clusters into static_resources';
      converter.error(at, key, 'unsupported', 'resources that a control plane supplies are not read', hint);
      continue;
    }
    if (resources.bootstrap[key] !== undefined) {
      converter.error(at, key, 'duplicate-bootstrap', 'another bootstrap among the files sets this too');
      continue;
    }
    resources.bootstrap[key] = value;
    provenance.set(resources.bootstrap, at, key);
  }
}
