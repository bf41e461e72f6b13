import type { Diagnostic, Position } from './diagnostics.js';
import { Provenance, type Resources } from './resources.js';

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
 * Joins what several translators made. The objects stay the same, so rules and provenance keep their identity.
 * `diagnostics` come before those of the parts.
 */
export function mergeResources(parts: readonly Resources[], diagnostics: readonly Diagnostic[] = []): Resources {
  return {
    listeners: parts.flatMap((p) => p.listeners),
    routeConfigs: parts.flatMap((p) => p.routeConfigs),
    clusters: parts.flatMap((p) => p.clusters),
    endpoints: parts.flatMap((p) => p.endpoints),
    bootstrap: Object.assign({}, ...parts.map((p) => p.bootstrap)),
    intercepts: parts.flatMap((p) => p.intercepts),
    hosts: parts.flatMap((p) => p.hosts),
    rules: parts.flatMap((p) => p.rules),
    documents: parts.reduce((sum, p) => sum + p.documents, 0),
    provenance: new JoinedProvenance(parts.map((p) => p.provenance)),
    diagnostics: [...diagnostics, ...parts.flatMap((p) => p.diagnostics)],
  };
}
