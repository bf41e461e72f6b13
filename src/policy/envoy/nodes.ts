import { type DescField, ScalarType } from '@bufbuild/protobuf';
import { type Alias, isAlias, type Node, visit, type Document as YamlDoc } from 'yaml';
import type { Position } from '../diagnostics.js';
import type { Json, JsonObject } from '../resources.js';

/** Fields whose default cannot be told from their absence (`FeatureSet.FieldPresence.IMPLICIT`). */
const IMPLICIT = 2;

/** What each alias stands for: the last node before it that has its anchor. One pass, unlike `Alias.resolve`. */
export function resolveAliases(doc: YamlDoc, missing: (alias: Alias) => void): Map<Alias, Node> {
  const anchors = new Map<string, Node>();
  const found = new Map<Alias, Node>();
  visit(doc, {
    Node(_, node) {
      if (isAlias(node)) {
        const target = anchors.get(node.source);
        if (target) found.set(node, target);
        else missing(node);
      } else if (node.anchor) anchors.set(node.anchor, node);
    },
  });
  return found;
}

/** Whether a place is already a position, and no node. */
export function isPosition(where: unknown): where is Position {
  return typeof where === 'object' && where !== null && 'line' in where && 'column' in where;
}

/** Whether there is no node at all, as after `key:` in flow style. */
export function isNothing(node: unknown): node is null | undefined {
  return node === null || node === undefined;
}

/** Fields for which `null` is a value of its own. */
export function takesNull(field: DescField): boolean {
  return field.fieldKind === 'message' && field.message.typeName === 'google.protobuf.Value';
}

/** Values that canonical JSON leaves out: defaults of fields without presence, empty lists and maps. */
export function isDefault(field: DescField, value: Json): boolean {
  if (field.fieldKind === 'list') return (value as Json[]).length === 0;
  if (field.fieldKind === 'map') return Object.keys(value as object).length === 0;
  if (field.fieldKind === 'message' || field.presence !== IMPLICIT) return false;
  if (field.fieldKind === 'enum') return value === field.enum.values.find((v) => v.number === 0)?.name;
  // 64-bit integers are strings in JSON; a string "0" is none of them
  const isText = field.scalar === ScalarType.STRING || field.scalar === ScalarType.BYTES;
  return value === '' || value === false || value === 0 || (value === '0' && !isText);
}

/** Sets a key that may be called `__proto__`. */
export function put(object: JsonObject, key: string, value: Json): void {
  if (key === '__proto__') Object.defineProperty(object, key, { value, enumerable: true, writable: true });
  else object[key] = value;
}

/** How the type of a scalar field is called in messages. */
export function typeName(field: DescField): string {
  if (field.enum) return `one of ${field.enum.typeName}`;
  return ScalarType[field.scalar ?? ScalarType.STRING].toLowerCase();
}
