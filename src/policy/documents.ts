/**
 * Kubernetes documents: what the API server would see of a YAML or JSON text, with the positions of every field.
 */
import {
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  type LineCounter,
  type Node,
  type Document as YamlDocument,
} from 'yaml';
import type { Position } from './diagnostics.js';
import type { Json, JsonObject } from './resources.js';

/** One Kubernetes object as it was written. */
export interface Document {
  readonly file: string;
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  /** `default` where the document names none */
  readonly namespace: string;
  readonly json: JsonObject;
  /** Position of the key (of a list item: of the item) at `path`; the nearest ancestor's if there is none. */
  at(path: readonly (string | number)[]): Position;
}

function text(value: Json | undefined, fallback: string): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : fallback;
}

/** Nulls of objects are dropped as the API server does; those of lists stay, so that indexes keep their meaning. */
function prune(value: unknown): Json {
  if (Array.isArray(value)) return value.map(prune);
  if (value === null || value === undefined) return null;
  if (typeof value === 'object') {
    const out: JsonObject = {};
    for (const [key, child] of Object.entries(value)) {
      if (child !== null && child !== undefined) out[key] = prune(child);
    }
    return out;
  }
  if (typeof value === 'bigint') return Number(value);
  return value as Json;
}

function resolve(node: unknown, doc: YamlDocument): Node | undefined {
  if (isAlias(node)) return node.resolve(doc) as Node | undefined;
  return isNode(node) ? node : undefined;
}

function make(json: JsonObject, file: string, at: Document['at']): Document {
  const metadata = json.metadata;
  const meta: JsonObject = metadata && typeof metadata === 'object' && !Array.isArray(metadata) ? metadata : {};
  return {
    file,
    json,
    at,
    apiVersion: text(json.apiVersion, ''),
    kind: text(json.kind, ''),
    name: text(meta.name, ''),
    namespace: text(meta.namespace, 'default'),
  };
}

/**
 * Reads a parsed YAML document as a Kubernetes object.
 *
 * @param doc the parsed document, its `errors` already reported by the caller
 * @param lineCounter the counter the text was parsed with
 * @param file the name to show in diagnostics
 * @returns the object; a document that is no mapping has no kind and an empty `json`
 */
export function kubernetesDocument(doc: YamlDocument, lineCounter: LineCounter, file: string): Document {
  const value = prune(doc.toJS());
  const json = value !== null && typeof value === 'object' && !Array.isArray(value) ? value : {};
  const position = (offset: number): Position => {
    const { line, col } = lineCounter.linePos(offset);
    return { file, line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  const at = (path: readonly (string | number)[]): Position => {
    let node = resolve(doc.contents, doc);
    let offset = node?.range?.[0] ?? 0;
    for (const step of path) {
      if (isMap(node)) {
        const pair = node.items.find((item) => String(isScalar(item.key) ? item.key.value : item.key) === String(step));
        if (!pair) break;
        const key = pair.key;
        if (isNode(key) && key.range) offset = key.range[0];
        node = resolve(pair.value, doc);
      } else if (isSeq(node)) {
        const item = node.items[Number(step)];
        if (item === undefined) break;
        // An alias stands where it is written, not where its anchor is.
        if (isNode(item) && item.range) offset = item.range[0];
        node = resolve(item, doc);
      } else break;
    }
    return position(offset);
  };
  return make(json, file, at);
}

/** Replaces `List` documents (`kind: List`, `ServiceList` ...) by their items, which keep their positions. */
export function flattenLists(documents: readonly Document[]): Document[] {
  return documents.flatMap((document) => {
    const items = document.json.items;
    if (!document.kind.endsWith('List') || !Array.isArray(items)) return [document];
    const children = items.flatMap((item, index): Document[] => {
      if (item === null || typeof item !== 'object' || Array.isArray(item)) return [];
      // Items of a typed list carry neither kind nor apiVersion.
      const kind = document.kind === 'List' ? '' : document.kind.slice(0, -'List'.length);
      const json = { ...(kind ? { apiVersion: document.apiVersion, kind } : {}), ...item };
      return [make(json, document.file, (path) => document.at(['items', index, ...path]))];
    });
    return flattenLists(children);
  });
}
