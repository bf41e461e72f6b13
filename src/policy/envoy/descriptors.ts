import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import {
  createFileRegistry,
  type DescField,
  type DescMessage,
  type FileRegistry,
  fromBinary,
  getOption,
} from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';

const ASSET = 'assets/envoy-v1.40.descriptors.binpb.gz';

let cached: FileRegistry | undefined;

/** The asset's bytes; the package's root is as far up as the first directory that holds `assets/`. */
function readAsset(): Buffer {
  for (const up of ['../../..', '../../../..']) {
    try {
      return readFileSync(new URL(`${up}/${ASSET}`, import.meta.url));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  throw new Error(`${ASSET} is missing from the package`);
}

/**
 * The descriptors of every message, enum and extension of Envoy 1.40's v3 configuration API. Loaded at the first call
 * (about 0.1 s). Throws when the package is damaged.
 */
export function envoyRegistry(): FileRegistry {
  cached ??= createFileRegistry(fromBinary(FileDescriptorSetSchema, gunzipSync(readAsset())));
  return cached;
}

/** The descriptor of a message by its full name, e.g. `envoy.config.route.v3.Route`. Throws when there is none. */
export function envoyMessage(typeName: string): DescMessage {
  const found = envoyRegistry().getMessage(typeName);
  if (!found) throw new Error(`no descriptor of ${typeName}`);
  return found;
}

const fieldsByKey = new WeakMap<DescMessage, Map<string, DescField>>();

/** The fields of a message by both of their JSON keys: the proto name (`virtual_hosts`) and `virtualHosts`. */
export function fieldsOf(message: DescMessage): ReadonlyMap<string, DescField> {
  let map = fieldsByKey.get(message);
  if (!map) {
    map = new Map();
    for (const field of message.fields) {
      map.set(field.jsonName, field);
      map.set(field.name, field);
    }
    fieldsByKey.set(message, map);
  }
  return map;
}

/** Full name of the message that an `Any`'s `@type` stands for: what follows the last slash. */
export function typeOfUrl(url: string): string {
  return url.slice(url.lastIndexOf('/') + 1);
}

const disallowed = new WeakMap<DescField, boolean>();

/** Whether Envoy refuses a field unless its runtime allows it: deprecated for so long that it is as good as removed. */
export function isDisallowed(field: DescField): boolean {
  if (!field.deprecated) return false;
  let value = disallowed.get(field);
  if (value === undefined) {
    const option = envoyRegistry().getExtension('envoy.annotations.disallowed_by_default');
    value = option !== undefined && getOption(field, option) === true;
    disallowed.set(field, value);
  }
  return value;
}
