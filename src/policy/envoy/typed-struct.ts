/** TypedStruct (xds.type.v3, udpa.type.v1): an extension of which the type and the fields stand one level below. */
import type { DescMessage } from '@bufbuild/protobuf';
import { isMap, isScalar, type Pair } from 'yaml';
import { envoyRegistry, typeOfUrl } from './descriptors.js';

const TYPED_STRUCT = /\/(?:xds\.type\.v3|udpa\.type\.v1)\.TypedStruct$/;

/** Whether a type URL is that of a TypedStruct. */
export const isTypedStruct = (url: unknown): boolean => typeof url === 'string' && TYPED_STRUCT.test(url);

/**
 * What a TypedStruct holds, which is what Envoy takes it for (`Config::Utility::translateOpaqueConfig`).
 *
 * @param resolve follows aliases
 * @returns undefined if the type is not known here, or the struct has other fields: then it stays what it is
 */
export function opened(
  items: readonly Pair[],
  resolve: (node: unknown) => unknown,
): { desc: DescMessage; fields: Pair[] } | undefined {
  const found = new Map(items.map((item) => [isScalar(item.key) ? String(item.key.value) : '', item.value]));
  const url = resolve(found.get('type_url') ?? found.get('typeUrl'));
  const value = resolve(found.get('value'));
  const other = [...found.keys()].some((key) => !['@type', 'type_url', 'typeUrl', 'value'].includes(key));
  if (other || !isScalar(url) || !(value === undefined || isMap(value))) return undefined;
  const text = String(url.value);
  const desc = text.includes('/') ? envoyRegistry().getMessage(typeOfUrl(text)) : undefined;
  if (!desc || desc.typeName.startsWith('google.protobuf.')) return undefined;
  return { desc, fields: isMap(value) ? (value.items as Pair[]) : [] };
}
