/**
 * Kubernetes documents: what the API server would see of a YAML or JSON text, with the positions of every field.
 */
import { isAlias, isMap, isNode, isSeq, type LineCounter, type Node, type Document as YamlDocument } from 'yaml';
import type { Position } from './diagnostics.js';
import { resolveAliases } from './envoy/nodes.js';
import { documentJson, keyOf } from './kubernetes-json.js';
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
 * @throws Malformed
 */
export function kubernetesDocument(doc: YamlDocument, lineCounter: LineCounter, file: string): Document {
  const value = documentJson(doc);
  let aliases: ReadonlyMap<unknown, Node> | undefined;
  const resolve = (node: unknown): Node | undefined => {
    if (!isAlias(node)) return isNode(node) ? node : undefined;
    aliases ??= resolveAliases(doc, () => {});
    return aliases.get(node);
  };
  const json = value !== null && typeof value === 'object' && !Array.isArray(value) ? value : {};
  const position = (offset: number): Position => {
    const { line, col } = lineCounter.linePos(offset);
    return { file, line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  const at = (path: readonly (string | number)[]): Position => {
    let node = resolve(doc.contents);
    let offset = node?.range?.[0] ?? 0;
    for (const step of path) {
      if (isMap(node)) {
        const pair = node.items.find((item) => keyOf(item.key) === String(step));
        if (!pair) break;
        const key = pair.key;
        if (isNode(key) && key.range) offset = key.range[0];
        node = resolve(pair.value);
      } else if (isSeq(node)) {
        const item = node.items[Number(step)];
        if (item === undefined) break;
        // An alias stands where it is written, not where its anchor is.
        if (isNode(item) && item.range) offset = item.range[0];
        node = resolve(item);
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
      const at: Document['at'] = (path) => document.at(['items', index, ...path]);
      if (item === null || typeof item !== 'object' || Array.isArray(item)) return [make({}, document.file, at)];
      // Items of a typed list carry neither kind nor apiVersion.
      const kind = document.kind === 'List' ? '' : document.kind.slice(0, -'List'.length);
      const json = { ...(kind ? { apiVersion: document.apiVersion, kind } : {}), ...item };
      return [make(json, document.file, at)];
    });
    return flattenLists(children);
  });
}
