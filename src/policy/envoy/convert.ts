import { isIP } from 'node:net';
import { type DescEnum, type DescField, type DescMessage, fromJson, ScalarType, toJson } from '@bufbuild/protobuf';
import { TimestampSchema } from '@bufbuild/protobuf/wkt';
import {
  type Alias,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  type LineCounter,
  type Node,
  type Pair,
  type Document as YamlDoc,
} from 'yaml';
import type { Diagnostic, Position } from '../diagnostics.js';
import type { Json, JsonObject, Provenance } from '../resources.js';
import { closest } from '../suggest.js';
import { envoyRegistry, fieldsOf, isDisallowed, typeOfUrl } from './descriptors.js';
import { isDefault, isNothing, isPosition, put, resolveAliases, takesNull, typeName } from './nodes.js';
import { isLarge, type LargeRegex, regexProblem } from './regex.js';
import { checkRules } from './rules.js';
import {
  type Converted,
  convertDuration,
  convertEnum,
  convertScalar,
  describeRaw,
  formatDuration,
  type Raw,
  rawScalar,
  type Syntax,
} from './scalars.js';
import { isTypedStruct, unwrapTypedStruct, type Written } from './typed-struct.js';

/** One parsed document of an Envoy file. */
export interface EnvoySource {
  readonly file: string;
  readonly doc: YamlDoc.Parsed;
  readonly lineCounter: LineCounter;
  readonly syntax: Syntax;
}

/** protobuf's own limit on nested messages, which Envoy has too. */
const MAX_DEPTH = 100;
/** Nodes that aliases may multiply into; hostile files reach billions. */
const MAX_NODES = 5_000_000;
const WRAPPER = /^google\.protobuf\.(Double|Float|U?Int(?:32|64)|Bool|String|Bytes)Value$/;

/**
 * Converts one document's YAML tree to canonical proto3 JSON with proto names, walking beside the message's
 * descriptor. Every problem becomes a diagnostic at its line and column; positions of what is converted go to
 * `provenance`.
 */
export class Converter {
  #depth = 0;
  #nodes = 0;
  #bomb = false;
  #aliases: Map<Alias, Node> | undefined;
  /** fields that could not be converted, by object */
  readonly #broken = new WeakMap<object, Set<string>>();
  /** regexes that Envoy refuses unless its runtime allows larger programs */
  readonly large: LargeRegex[] = [];

  constructor(
    readonly source: EnvoySource,
    readonly provenance: Provenance,
    readonly diagnostics: Diagnostic[],
    /** the message is to be merged into another one: what must be set may be missing */
    readonly partial = false,
    /** reads a google.protobuf.Duration */
    readonly duration: typeof convertDuration = convertDuration,
  ) {}

  /** Position of a node's first character. */
  position(node: unknown): Position {
    const offset = (node as Node | null)?.range?.[0] ?? 0;
    const { line, col } = this.source.lineCounter.linePos(offset);
    return { file: this.source.file, line: Math.max(line, 1), column: Math.max(col, 1) };
  }

  /** Collects an error. */
  error(where: unknown, field: string, code: string, message: string, hint?: string): void {
    const position = isPosition(where) ? where : this.position(where);
    const extra = { ...(field ? { field } : {}), ...(hint ? { hint } : {}) };
    this.diagnostics.push({ severity: 'error', code, message, position, ...extra });
  }

  /** The node that an alias stands for. */
  resolve(node: unknown): unknown {
    this.#nodes++;
    if (!isAlias(node)) return node;
    this.#aliases ??= resolveAliases(this.source.doc, (alias) => {
      this.error(alias, '', 'unknown-alias', `there is no anchor &${alias.source} before this`);
    });
    return this.#aliases.get(node);
  }

  /** The value of a plain key of a map, e.g. to classify a document. */
  lookup(node: unknown, key: string): unknown {
    const map = this.resolve(node);
    if (!isMap(map)) return undefined;
    return (map.items as Pair[]).findLast((item) => this.key(item) === key)?.value;
  }

  /** Text of a map entry's key. */
  key(item: Pair): string {
    const key = this.resolve(item.key);
    return isScalar(key) ? (key.source ?? String(key.value ?? '')) : String(key);
  }

  /**
   * Converts a message. `at` is where it is said to stand (a field's key, else its first character). Returns undefined
   * when it is no object at all; parts that are wrong are left out.
   */
  message(desc: DescMessage, from: unknown, path: string, at: Position = this.position(from)): JsonObject | undefined {
    const node = this.resolve(from);
    const object: JsonObject = {};
    this.provenance.set(object, at);
    if (isScalar(node) && this.raw(node) === null) return this.finish(desc, object, new Map(), path, at);
    if (!isMap(node)) {
      this.error(from, path, 'wrong-type', `expected an object (${desc.typeName}), found ${this.describe(node)}`);
      return undefined;
    }
    if (!this.enter(from, path)) return undefined;
    const keys = this.fields(desc, object, node.items as Pair[], path);
    this.#depth--;
    return this.finish(desc, object, keys, path, at);
  }

  /** Converts the entries of a map to fields of `object`; returns where each field's key stands. */
  private fields(desc: DescMessage, object: JsonObject, items: readonly Pair[], path: string): Map<string, unknown> {
    const known = fieldsOf(desc);
    const keys = new Map<string, unknown>();
    const spelled = new Map<string, string>();
    const oneofs = new Map<string, string>();
    for (const item of this.lastOfEach(items, path)) {
      // `!ignore key:` is Envoy's way to have a place for anchors
      if ((item.key as Node | null)?.tag === '!ignore') continue;
      const key = this.key(item);
      const at = path ? `${path}.${key}` : key;
      const field = known.get(key);
      if (!field) {
        const similar = closest(
          key,
          desc.fields.map((f) => f.name),
        );
        const hint = similar ? `did you mean ${similar}?` : undefined;
        this.error(item.key, at, 'unknown-field', `unknown field of ${desc.typeName}`, hint);
        continue;
      }
      if (isDisallowed(field)) this.error(item.key, at, 'removed-field', 'Envoy does not take this field any more');
      const before = spelled.get(field.name);
      if (before !== undefined) {
        this.error(item.key, at, 'duplicate-field', `the same field is already set as ${before}`);
      }
      spelled.set(field.name, key);
      keys.set(field.name, item.key);
      const position = this.position(item.key);
      this.provenance.set(object, position, field.name);
      const value = this.resolve(item.value);
      if (isNothing(value) || (isScalar(value) && this.raw(value) === null && !takesNull(field))) {
        delete object[field.name];
        continue;
      }
      if (field.oneof) {
        const other = oneofs.get(field.oneof.name);
        if (other !== undefined && other !== field.name) {
          this.error(item.key, at, 'oneof-conflict', `${other} is already set, only one of them may be`);
        }
        oneofs.set(field.oneof.name, field.name);
      }
      const converted = this.field(field, item.value, at, position);
      if (converted !== undefined && !isDefault(field, converted)) object[field.name] = converted;
      else delete object[field.name];
      if (converted === undefined) this.#broken.set(object, (this.#broken.get(object) ?? new Set()).add(field.name));
    }
    return keys;
  }

  /** The entries of a map without those whose key appears again further down: Envoy takes the last of equal keys. */
  private lastOfEach(items: readonly Pair[], path: string): readonly Pair[] {
    const last = new Map<string, Pair>();
    for (const item of items) {
      const key = this.key(item);
      const before = last.get(key);
      last.set(key, item);
      if (!before) continue;
      this.diagnostics.push({
        severity: 'warning',
        code: 'duplicate-key',
        message: 'the key appears again further down, Envoy takes the last',
        position: this.position(before.key),
        field: path ? `${path}.${key}` : key,
      });
    }
    return last.size === items.length ? items : [...last.values()];
  }

  private finish(
    desc: DescMessage,
    object: JsonObject,
    keys: ReadonlyMap<string, unknown>,
    path: string,
    at: Position,
  ): JsonObject {
    if (this.partial) return object;
    const broken = this.#broken.get(object);
    checkRules(desc, object, ({ field, element, message }) => {
      const key = field === undefined ? undefined : keys.get(field);
      // what is there but was wrong was reported already
      if (broken && (field === undefined || broken.has(field))) return;
      const list = field === undefined ? undefined : object[field];
      const spot = Array.isArray(list) ? this.provenance.get(list, String(element)) : undefined;
      const suffix = element === undefined ? '' : typeof element === 'number' ? `[${element}]` : `["${element}"]`;
      const name = field === undefined ? path : `${path ? `${path}.` : ''}${field}${suffix}`;
      this.error(spot ?? key ?? at, name, 'invalid-value', message);
    });
    if (desc.typeName === 'envoy.type.matcher.v3.RegexMatcher' && typeof object.regex === 'string') {
      const problem = regexProblem(object.regex);
      const spot = keys.get('regex') ?? at;
      if (problem) this.error(spot, `${path}.regex`, 'invalid-regex', problem);
      else if (isLarge(object.regex)) {
        const position = isPosition(spot) ? spot : this.position(spot);
        this.large.push({ at: position, field: `${path}.regex`, pattern: object.regex });
      }
    }
    if (desc.typeName === 'envoy.config.core.v3.CidrRange' && isIP(String(object.address_prefix)) === 0) {
      const message = `${object.address_prefix} is not an IP address`;
      this.error(keys.get('address_prefix') ?? at, `${path}.address_prefix`, 'invalid-address', message);
    }
    return object;
  }

  private field(field: DescField, node: unknown, path: string, at: Position): Json | undefined {
    if (field.fieldKind === 'map') return this.map(field, node, path, at);
    if (field.fieldKind !== 'list') return this.value(field, node, path, at);
    const value = this.resolve(node);
    // protobuf's lenient reader takes a single value for a list of one, and so does Envoy
    const items = isSeq(value) ? value.items : [node];
    const list: Json[] = [];
    this.provenance.set(list, at);
    for (const [i, item] of items.entries()) {
      const position = isSeq(value) ? this.position(item) : at;
      const converted = this.value(field, item, `${path}[${i}]`, position);
      if (converted === undefined) continue;
      if (!(converted !== null && typeof converted === 'object')) this.provenance.set(list, position, `${list.length}`);
      list.push(converted);
    }
    return list;
  }

  private map(field: DescField & { fieldKind: 'map' }, node: unknown, path: string, at: Position): Json | undefined {
    const value = this.resolve(node);
    if (!isMap(value)) {
      this.error(node, path, 'wrong-type', `expected an object, found ${this.describe(value)}`);
      return undefined;
    }
    const object: JsonObject = {};
    this.provenance.set(object, at);
    for (const item of this.lastOfEach(value.items as Pair[], path)) {
      const text = this.key(item);
      const entry = `${path}["${text}"]`;
      const key = convertScalar(text, field.mapKey);
      if ('error' in key) {
        this.error(item.key, entry, 'wrong-type', key.error);
        continue;
      }
      const position = this.position(item.key);
      const converted = this.value(field, item.value, entry, position);
      if (converted === undefined) continue;
      put(object, String(key.value), converted);
      this.provenance.set(object, position, String(key.value));
    }
    return object;
  }

  /** A singular value, or one element. */
  private value(field: DescField, node: unknown, path: string, at: Position): Json | undefined {
    if (field.message) return this.submessage(field.message, node, path, at);
    const value = this.resolve(node);
    if (!isScalar(value) && !isNothing(value)) {
      this.error(node, path, 'wrong-type', `expected ${typeName(field)}, found ${this.describe(value)}`);
      return undefined;
    }
    const raw = isScalar(value) ? this.raw(value) : null;
    const converted = field.enum
      ? convertEnum(raw, field.enum as DescEnum)
      : convertScalar(raw, field.scalar ?? ScalarType.STRING);
    if ('error' in converted && isScalar(value) && typeof raw === 'boolean' && value.source !== `${raw}`) {
      const meaning = `${value.source}, which means ${raw}`;
      return this.leaf({ error: converted.error.replace(describeRaw(raw), meaning) }, node, path);
    }
    return this.leaf(converted, node, path);
  }

  private leaf(converted: Converted, node: unknown, path: string): Json | undefined {
    if ('value' in converted) return converted.value;
    this.error(node, path, 'wrong-type', converted.error);
    return undefined;
  }

  /** A message, with the special forms that JSON has for google.protobuf's own ones. */
  private submessage(desc: DescMessage, node: unknown, path: string, at: Position): Json | undefined {
    const value = this.resolve(node);
    const type = desc.typeName;
    if (!type.startsWith('google.protobuf.')) return this.message(desc, node, path, at);
    if (type === 'google.protobuf.Value') return this.dynamic(node, path);
    if (type === 'google.protobuf.Struct') {
      if (isMap(value)) return this.dynamic(node, path);
      if (isNothing(value) || (isScalar(value) && this.raw(value) === null)) return {};
      this.error(node, path, 'wrong-type', `expected an object, found ${this.describe(value)}`);
      return undefined;
    }
    if (type === 'google.protobuf.ListValue' && isSeq(value)) return this.dynamic(node, path);
    if (type === 'google.protobuf.Any') return this.any(node, path, at);
    if (isMap(value)) return this.spelledOut(desc, node, path, at);
    const raw = isScalar(value) ? this.raw(value) : undefined;
    if (raw === undefined) {
      this.error(node, path, 'wrong-type', `expected ${type}, found ${this.describe(value)}`);
      return undefined;
    }
    if (WRAPPER.test(type)) return this.leaf(convertScalar(raw, desc.fields[0]!.scalar!), node, path);
    if (type === 'google.protobuf.Duration') {
      const duration = this.duration(raw);
      // no field of Envoy's takes a negative one
      const negative = 'value' in duration && String(duration.value).startsWith('-');
      return this.leaf(negative ? { error: 'a duration must not be negative' } : duration, node, path);
    }
    if (type === 'google.protobuf.Timestamp' && typeof raw === 'string') {
      try {
        return toJson(TimestampSchema, fromJson(TimestampSchema, raw)) as Json;
      } catch {
        this.error(node, path, 'wrong-type', `${JSON.stringify(raw)} is not a time such as 2030-01-31T12:00:00Z`);
        return undefined;
      }
    }
    if (type === 'google.protobuf.FieldMask' && typeof raw === 'string') return raw;
    return this.message(desc, node, path, at);
  }

  /** `{value: 3}` for a wrapper, `{seconds: 1}` for a duration: protobuf's lenient reader takes them. */
  private spelledOut(desc: DescMessage, node: unknown, path: string, at: Position): Json | undefined {
    const object = this.message(desc, node, path, at);
    if (object === undefined) return undefined;
    if (WRAPPER.test(desc.typeName)) {
      const zero = desc.typeName.endsWith('BoolValue') ? false : /(String|Bytes)Value$/.test(desc.typeName) ? '' : 0;
      return object.value ?? (/64Value$/.test(desc.typeName) ? '0' : zero);
    }
    if (desc.typeName === 'google.protobuf.Duration') {
      return formatDuration(BigInt(String(object.seconds ?? 0)), Number(object.nanos ?? 0));
    }
    if (desc.typeName === 'google.protobuf.Empty') return object;
    this.error(node, path, 'wrong-type', `write ${desc.typeName} as text`);
    return undefined;
  }

  /** Converts an extension, `{"@type": URL, ...fields}`; undefined when its type is missing or unknown. */
  any(node: unknown, path: string, at: Position = this.position(node)): JsonObject | undefined {
    const value = this.resolve(node);
    if (!isMap(value)) {
      this.error(node, path, 'wrong-type', `expected an object with "@type", found ${this.describe(value)}`);
      return undefined;
    }
    const items = value.items as Pair[];
    const typeItem = items.findLast((item) => this.key(item) === '@type');
    const object: JsonObject = {};
    this.provenance.set(object, at);
    if (!typeItem) {
      if (items.length > 0) this.error(node, path, 'missing-type', 'an extension needs "@type"');
      return items.length > 0 ? undefined : object;
    }
    let url = this.text(typeItem.value);
    let written: Written = {
      type: typeItem.value ?? typeItem.key,
      items: items.filter((item) => this.key(item) !== '@type'),
      path,
    };
    if (isTypedStruct(url)) {
      written = unwrapTypedStruct(this, written.items, path);
      // of this URL, Envoy asks for no slash
      const type = typeOfUrl(this.text(written.type));
      if (type === '') {
        this.error(node, path, 'missing-type', 'a TypedStruct needs a type_url');
        return undefined;
      }
      url = isTypedStruct(type) ? type : `type.googleapis.com/${type}`;
    }
    const desc = url.includes('/') ? envoyRegistry().getMessage(typeOfUrl(url)) : undefined;
    if (!desc) {
      const hint = url.includes('/') ? undefined : 'it begins with type.googleapis.com/';
      this.error(written.type, `${path}.@type`, 'unknown-type', `unknown type ${url}`, hint);
      return undefined;
    }
    object['@type'] = `type.googleapis.com/${desc.typeName}`;
    this.provenance.set(object, this.position(typeItem.key), '@type');
    const rest = written.items;
    if (desc.typeName.startsWith('google.protobuf.') && desc.typeName !== 'google.protobuf.Empty') {
      for (const item of rest) {
        const key = this.key(item);
        if (key !== 'value')
          this.error(item.key, `${path}.${key}`, 'unknown-field', `unknown field of ${desc.typeName}`);
        else {
          const inner = this.submessage(desc, item.value, `${path}.value`, this.position(item.key));
          if (inner !== undefined) object.value = inner;
        }
      }
      return object;
    }
    if (!this.enter(node, path)) return undefined;
    const keys = this.fields(desc, object, rest, written.path);
    this.#depth--;
    return this.finish(desc, object, keys, written.path, at);
  }

  private text(node: unknown): string {
    const value = this.resolve(node);
    return isScalar(value) ? String(value.source ?? value.value) : '';
  }

  /** google.protobuf.Value: whatever stands there. */
  private dynamic(node: unknown, path: string): Json {
    const value = this.resolve(node);
    if (isMap(value)) {
      const object: JsonObject = {};
      if (!this.enter(node, path)) return object;
      for (const item of value.items as Pair[]) {
        put(object, this.key(item), this.dynamic(item.value, `${path}.${this.key(item)}`));
      }
      this.#depth--;
      this.provenance.set(object, this.position(node));
      return object;
    }
    if (isSeq(value)) {
      if (!this.enter(node, path)) return [];
      const list = value.items.map((item, i) => this.dynamic(item, `${path}[${i}]`));
      this.#depth--;
      return list;
    }
    const raw = isScalar(value) ? this.raw(value) : null;
    return raw !== null && typeof raw === 'object' ? Number(raw.number) : raw;
  }

  private raw(node: unknown): Raw {
    return isScalar(node) ? rawScalar(node, this.source.syntax) : null;
  }

  private describe(node: unknown): string {
    if (isMap(node)) return 'an object';
    if (isSeq(node)) return 'a list';
    return describeRaw(this.raw(node));
  }

  /** Goes one level down; refuses what is nested or multiplied beyond reason. */
  private enter(node: unknown, path: string): boolean {
    if (this.#nodes > MAX_NODES) {
      if (!this.#bomb) this.error(node, path, 'too-large', 'aliases multiply this file beyond five million values');
      this.#bomb = true;
      return false;
    }
    if (this.#depth >= MAX_DEPTH) {
      this.error(node, path, 'too-deep', `nested more than ${MAX_DEPTH} levels deep`);
      return false;
    }
    this.#depth++;
    return true;
  }
}
