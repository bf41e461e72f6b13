import { isMap, isScalar, type Pair } from 'yaml';
import type { Converter } from './convert.js';
import { typeOfUrl } from './descriptors.js';

const TYPED_STRUCT = new Set(['udpa.type.v1.TypedStruct', 'xds.type.v3.TypedStruct']);

/** Where an extension's type and fields are written. */
export interface Written {
  /** the node of the type's URL; undefined where there is none */
  readonly type: unknown;
  readonly items: readonly Pair[];
  readonly path: string;
}

/** Whether an extension's fields are in a `TypedStruct`: Envoy makes the extension that its `type_url` names from its `value`. */
export function isTypedStruct(url: unknown): boolean {
  return typeof url === 'string' && TYPED_STRUCT.has(typeOfUrl(url));
}

/**
 * What a `TypedStruct` says of an extension, from the entries beside its `@type`. Envoy reads its `value` as it would read these
 * fields beside the `@type` itself. Adds diagnostics for other fields, and where `value` is no object.
 */
export function unwrapTypedStruct(converter: Converter, entries: readonly Pair[], path: string): Written {
  const found: { type: unknown; items: readonly Pair[] } = { type: undefined, items: [] };
  for (const item of entries) {
    const key = converter.key(item);
    const value = converter.resolve(item.value);
    if (key === 'type_url' || key === 'typeUrl') found.type = value;
    else if (key !== 'value')
      converter.error(item.key, `${path}.${key}`, 'unknown-field', 'unknown field of a TypedStruct');
    else if (isMap(value)) found.items = value.items as Pair[];
    else if (!isScalar(value) || value.value !== null) {
      converter.error(item.value, `${path}.value`, 'wrong-type', 'expected an object');
    }
  }
  return { ...found, path: `${path}.value` };
}
