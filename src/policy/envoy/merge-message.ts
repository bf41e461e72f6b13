/**
 * Merging of protobuf messages in their canonical JSON form, as istiod does it for EnvoyFilters
 * (pkg/proto/merge): messages field by field, lists one after the other, maps by key, durations as a whole.
 */
import type { DescField, DescMessage } from '@bufbuild/protobuf';
import type { Json, JsonObject } from '../resources.js';
import { envoyRegistry, fieldsOf, typeOfUrl } from './descriptors.js';
import { put } from './nodes.js';

const WRAPPER = /^google\.protobuf\.(Double|Float|U?Int(?:32|64)|Bool|String|Bytes)Value$/;

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isZero = (value: Json): boolean => value === false || value === 0 || value === '0' || value === '';

/** The descriptor of what an Any holds; undefined for types that nobody here knows. */
export function descriptorOf(any: JsonObject): DescMessage | undefined {
  return envoyRegistry().getMessage(typeOfUrl(String(any['@type'] ?? '')));
}

/** A field's value after a merge; `before` is not changed. */
function merged(field: DescField, before: Json | undefined, value: Json, replaceLists: boolean): Json {
  if (field.fieldKind === 'list') {
    const [old, added] = [(before as Json[] | undefined) ?? [], value as Json[]];
    return replaceLists && added.length > 0 ? added : [...old, ...added];
  }
  if (field.fieldKind === 'map') {
    const out: JsonObject = { ...(before as JsonObject | undefined) };
    for (const [key, entry] of Object.entries(value as JsonObject)) put(out, key, entry);
    return out;
  }
  const type = field.message?.typeName;
  if (type === undefined || before === undefined) return value;
  // a wrapper's zero is a field that is not set
  if (WRAPPER.test(type)) return isZero(value) ? before : value;
  if (type === 'google.protobuf.Struct') return { ...(before as JsonObject), ...(value as JsonObject) };
  if (type.startsWith('google.protobuf.')) return value;
  if (!isObject(before) || !isObject(value)) return value;
  return mergeMessage(field.message!, before, value, replaceLists);
}

/**
 * `from` merged into `into`; neither is changed. Both are canonical (see `Converter`), without fields that are not known.
 * @param replaceLists lists take the place of those before, instead of following them
 */
export function mergeMessage(
  message: DescMessage,
  into: JsonObject,
  from: JsonObject,
  replaceLists = false,
): JsonObject {
  const out: JsonObject = { ...into };
  const known = fieldsOf(message);
  for (const [key, value] of Object.entries(from)) {
    const field = known.get(key);
    if (!field) continue;
    // one of a oneof replaces the others
    for (const other of field.oneof?.fields ?? []) if (other.name !== field.name) delete out[other.name];
    out[field.name] = merged(field, into[field.name], value, replaceLists);
  }
  return out;
}

/**
 * The contents of an Any merged into those of another one. Undefined where the types differ, or are not known: then istiod
 * leaves the first as it is.
 */
export function mergeAny(into: JsonObject, from: JsonObject): JsonObject | undefined {
  const message = descriptorOf(into);
  if (!message || message !== descriptorOf(from)) return undefined;
  const out = mergeMessage(message, into, from);
  return { '@type': into['@type']!, ...out };
}
