/** YAML as Kubernetes' tools read it (sigs.k8s.io/yaml: YAML 1.1's scalars and merge keys), to the JSON that they send. */
import { isAlias, isMap, isNode, isScalar, isSeq, Scalar, type Document as YamlDocument } from 'yaml';
import { resolveAliases } from './envoy/nodes.js';
import type { Json, JsonObject } from './resources.js';

/** Nodes that aliases may multiply into; hostile files reach billions. */
const MAX_NODES = 5_000_000;
const MAX_DEPTH = 500;

/** A document that no tool would send. */
export class Malformed extends Error {
  constructor(
    readonly code: 'too-large' | 'too-deep' | 'syntax',
    message: string,
    /** where in the text */
    readonly offset: number,
  ) {
    super(message);
  }
}

const TRUE = /^(?:yes|Yes|YES|on|On|ON)$/;
const FALSE = /^(?:no|No|NO|off|Off|OFF)$/;

/** The value of a scalar; YAML 1.1 has more words for booleans than YAML 1.2, and octal numbers. */
function scalar(node: Scalar): Json {
  const { value, source = '' } = node;
  if (typeof value === 'string') {
    if (node.type !== Scalar.PLAIN || node.tag !== undefined) return value;
    return TRUE.test(value) ? true : FALSE.test(value) ? false : value;
  }
  if (typeof value === 'number' && /^[-+]?0[0-7]+$/.test(source)) return Number.parseInt(source, 8);
  if (typeof value === 'number' || typeof value === 'boolean') return value;
  return typeof value === 'bigint' ? Number(value) : null;
}

/** The text of a key. */
export function keyOf(key: unknown): string {
  return isScalar(key) ? String(key.value ?? '') : String(key);
}

/**
 * What a document says. Nulls of objects are dropped as the API server does; those of lists stay, so that indexes keep their meaning.
 * @throws Malformed
 */
export function documentJson(doc: YamlDocument): Json {
  const offset = (node: unknown): number => (isNode(node) ? (node.range?.[0] ?? 0) : 0);
  const aliases = resolveAliases(doc, (alias) => {
    const message = `the alias *${alias.source} has no anchor &${alias.source} before it`;
    throw new Malformed('syntax', message, offset(alias));
  });
  let nodes = 0;
  let depth = 0;

  const merge = (into: JsonObject, node: unknown): void => {
    const source = isAlias(node) ? aliases.get(node) : node;
    if (isSeq(source)) {
      // the first one that has a key wins
      for (const item of source.items) merge(into, item);
      return;
    }
    if (!isMap(source)) throw new Malformed('syntax', 'what << merges is an object, or a list of them', offset(node));
    const found = convert(source, source) as JsonObject;
    for (const [key, value] of Object.entries(found)) if (!Object.hasOwn(into, key)) into[key] = value;
  };

  const convert = (node: unknown, place: unknown): Json => {
    if (++nodes > MAX_NODES)
      throw new Malformed('too-large', 'aliases multiply this file beyond five million values', offset(place));
    if (isScalar(node)) return scalar(node);
    if (isAlias(node)) return convert(aliases.get(node), node);
    if (!isSeq(node) && !isMap(node)) return null;
    if (depth >= MAX_DEPTH) throw new Malformed('too-deep', `nested more than ${MAX_DEPTH} levels deep`, offset(place));
    depth++;
    let json: Json;
    if (isSeq(node)) json = node.items.map((item) => convert(item, item));
    else {
      json = {};
      // an object's own keys win over what it merges, wherever that stands
      const merges: unknown[] = [];
      for (const { key, value } of node.items) {
        const name = isAlias(key) ? keyOf(aliases.get(key)) : keyOf(key);
        // no library keeps it, and a condition that is lost is a wrong decision
        if (name === '__proto__') throw new Malformed('syntax', 'a key of this name is not supported', offset(key));
        if (name === '<<' && isScalar(key) && key.type === Scalar.PLAIN) merges.push(value);
        else {
          const child = convert(value, value);
          if (child !== null) json[name] = child;
        }
      }
      for (const value of merges) merge(json, value);
    }
    depth--;
    return json;
  };
  return convert(doc.contents, doc.contents);
}
