import type { Diagnostic, Position } from './diagnostics.js';
import { asObject, asObjects, asString } from './envoy/walk.js';
import { type JsonObject, Provenance, type Resources } from './resources.js';

/** Looks an object up in each of several provenances. */
class JoinedProvenance extends Provenance {
  constructor(private readonly parts: readonly Provenance[]) {
    super();
  }

  override get(object: object, key?: string): Position | undefined {
    const own = super.get(object, key);
    if (own) return own;
    for (const part of this.parts) {
      const found = part.get(object, key);
      if (found) return found;
    }
    return undefined;
  }
}

/**
 * One bootstrap of several: of fields that more than one has, the last part's counts, but layers of the runtime are kept
 * from all, in order (Envoy lets later ones override), also when two have the same name, which Envoy would refuse.
 */
function mergeBootstraps(parts: readonly JsonObject[]): JsonObject {
  const merged: JsonObject = Object.assign({}, ...parts);
  const runtimes = parts.map((part) => asObject(part.layered_runtime)).filter((runtime) => runtime !== undefined);
  if (runtimes.length < 2) return merged;
  const taken = new Set<string>();
  const layers = runtimes
    .flatMap((runtime) => asObjects(runtime.layers))
    .map((layer): JsonObject => {
      const wanted = asString(layer.name);
      let name = wanted;
      for (let i = 2; taken.has(name); i++) name = `${wanted}~${i}`;
      taken.add(name);
      return name === wanted ? layer : { ...layer, name };
    });
  // Envoy takes one layer of its admin interface only, and it is the same for all.
  const admin = layers.filter((layer) => layer.admin_layer !== undefined);
  merged.layered_runtime = {
    ...Object.assign({}, ...runtimes),
    layers: layers.filter((layer) => layer.admin_layer === undefined || layer === admin.at(-1)),
  };
  return merged;
}

/**
 * Joins what several translators made. The objects stay the same, so rules and provenance keep their identity.
 * `diagnostics` come before those of the parts.
 */
export function mergeResources(parts: readonly Resources[], diagnostics: readonly Diagnostic[] = []): Resources {
  return {
    listeners: parts.flatMap((p) => p.listeners),
    routeConfigs: parts.flatMap((p) => p.routeConfigs),
    clusters: parts.flatMap((p) => p.clusters),
    endpoints: parts.flatMap((p) => p.endpoints),
    bootstrap: mergeBootstraps(parts.map((p) => p.bootstrap)),
    intercepts: parts.flatMap((p) => p.intercepts),
    hosts: parts.flatMap((p) => p.hosts),
    identities: parts.flatMap((p) => p.identities ?? []),
    rules: parts.flatMap((p) => p.rules),
    otherClients: parts.flatMap((p) => p.otherClients ?? []),
    issuers: parts.flatMap((p) => p.issuers ?? []),
    left: new Map(parts.flatMap((p) => [...(p.left ?? [])])),
    documents: parts.reduce((sum, p) => sum + p.documents, 0),
    provenance: new JoinedProvenance(parts.map((p) => p.provenance)),
    diagnostics: [...diagnostics, ...parts.flatMap((p) => p.diagnostics)],
  };
}
