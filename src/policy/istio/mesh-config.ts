/** What MeshConfig, where it is among the documents, says of providers (meshconfig.extensionProviders). */
import { parse } from 'yaml';
import type { Document } from '../documents.js';
import type { Json, JsonObject } from '../resources.js';
import type { Context } from './context.js';

/** Logs to the proxy's standard output; every mesh has it. */
const BUILT_IN: readonly (readonly [string, JsonObject])[] = [
  ['envoy', { envoyFileAccessLog: { path: '/dev/stdout' } }],
];

const object = (value: Json | undefined): JsonObject =>
  value !== null && typeof value === 'object' && !Array.isArray(value) ? value : {};

function meshConfig({ kind, name, namespace, json }: Document, rootNamespace: string): JsonObject {
  if (kind === 'IstioOperator') return object(object(json.spec).meshConfig);
  if (kind !== 'ConfigMap' || name !== 'istio' || namespace !== rootNamespace) return {};
  try {
    return object(parse(String(object(json.data).mesh ?? '')) as Json);
  } catch {
    return {};
  }
}

/**
 * The providers of a mesh by name in lower case (istiod compares so), with what each is configured with: those that
 * every mesh has for logs, and those of a ConfigMap `istio` or an IstioOperator. Providers of statistics are left out.
 */
export function meshProviders(context: Context, documents: readonly Document[]): ReadonlyMap<string, JsonObject> {
  const found = new Map(BUILT_IN);
  for (const document of documents) {
    const { extensionProviders } = meshConfig(document, context.rootNamespace);
    for (const provider of Array.isArray(extensionProviders) ? extensionProviders : []) {
      const { name, ...config } = object(provider);
      if (typeof name === 'string' && config.prometheus === undefined) found.set(name.toLowerCase(), config);
    }
  }
  return found;
}
