/** Reading resources strictly: JSON accessors, and the collection of reasons for which something goes to the proxy. */
import type { Json, JsonObject, Provenance } from '../policy/resources.js';
import type { Environment } from './environment.js';
import type { Reason } from './ir.js';
import type { ReasonCode } from './reasons.js';

/** Collects reasons; one for each scope (listener, virtual host, route, cluster ...). */
export class Notes {
  readonly reasons: Reason[] = [];
  constructor(
    readonly provenance: Provenance,
    /** the proxy's environment, which formats of values may name */
    readonly environment?: Environment,
  ) {}

  /** Adds a reason. `object` and `key` say where in the resources (for the position in the user's file). */
  add(code: ReasonCode, message: string, field: string, object?: JsonObject, key?: string): void {
    if (this.reasons.some((r) => r.code === code && r.field === field && r.message === message)) return;
    const position = object === undefined ? undefined : this.provenance.get(object, key);
    this.reasons.push({ code, message, field, ...(position ? { position } : {}) });
  }

  /** An empty collection with the same provenance. */
  fork(): Notes {
    return new Notes(this.provenance, this.environment);
  }

  get clean(): boolean {
    return this.reasons.length === 0;
  }
}

/** True for an object (not null, not an array). */
export function isObject(v: Json | undefined): v is JsonObject {
  return typeof v === 'object' && v !== null && !Array.isArray(v);
}

/** The object in field `key`, or undefined. */
export function obj(o: JsonObject | undefined, key: string): JsonObject | undefined {
  const v = o?.[key];
  return isObject(v) ? v : undefined;
}

/** The objects in the repeated field `key`; empty if it is not there. */
export function list(o: JsonObject | undefined, key: string): JsonObject[] {
  const v = o?.[key];
  return Array.isArray(v) ? v.filter(isObject) : [];
}

/** The strings in the repeated field `key`; empty if it is not there. */
export function strings(o: JsonObject | undefined, key: string): string[] {
  const v = o?.[key];
  return Array.isArray(v) ? v.filter((s): s is string => typeof s === 'string') : [];
}

/** The string in field `key`; '' if it is not there. */
export function str(o: JsonObject | undefined, key: string): string {
  const v = o?.[key];
  return typeof v === 'string' ? v : '';
}

/** The boolean in field `key`; `absent` if it is not there. */
export function bool(o: JsonObject | undefined, key: string, absent = false): boolean {
  const v = o?.[key];
  return typeof v === 'boolean' ? v : absent;
}

/** The number in field `key` (64-bit integers may be strings); `absent` if it is not there. */
export function num(o: JsonObject | undefined, key: string, absent = 0): number {
  const v = o?.[key];
  if (typeof v === 'number') return v;
  if (typeof v === 'string' && v.trim() !== '' && Number.isFinite(Number(v))) return Number(v);
  return absent;
}

/** True if the field is there with a value (null, empty lists and undefined are not). */
export function has(o: JsonObject | undefined, key: string): boolean {
  const v = o?.[key];
  return v !== undefined && v !== null && !(Array.isArray(v) && v.length === 0);
}

/** A google.protobuf.Duration (`"1.5s"`) in field `key`, in milliseconds; undefined if it is not there. */
export function durationMs(o: JsonObject | undefined, key: string): number | undefined {
  const v = o?.[key];
  if (typeof v !== 'string') return undefined;
  const m = /^(-?\d+(?:\.\d+)?)s$/.exec(v);
  return m ? Math.trunc(Number(m[1]) * 1000) : undefined;
}

/** The type name of an Any (`{"@type": "type.googleapis.com/x.y.Z"}`) without its prefix; '' if there is none. */
export function anyType(o: JsonObject | undefined): string {
  const type = str(o, '@type');
  return type.slice(type.lastIndexOf('/') + 1);
}

/**
 * Strictness: every field of `o` that has a value and is not in `known` becomes a reason. A default (`false`, `0`, `""`)
 * in a field that is not known counts as absent, as in proto3.
 */
export function onlyFields(notes: Notes, o: JsonObject, path: string, known: readonly string[]): void {
  for (const key of Object.keys(o)) {
    if (key === '@type' || known.includes(key) || !has(o, key)) continue;
    const v = o[key];
    if (v === false || v === 0 || v === '') continue;
    notes.add('unsupported-field', `the fast path does not know the field ${key}`, join(path, key), o, key);
  }
}

/** `path.key`, or `key` at the root. */
export function join(path: string, key: string): string {
  return path === '' ? key : `${path}.${key}`;
}
