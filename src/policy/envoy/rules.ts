import {
  type DescEnum,
  type DescField,
  type DescMessage,
  type DescOneof,
  getOption,
  hasOption,
  ScalarType,
  toJson,
} from '@bufbuild/protobuf';
import { RE2JS } from 're2js';
import type { Json, JsonObject } from '../resources.js';
import { envoyRegistry } from './descriptors.js';
import { durationNanos } from './scalars.js';

/** A broken rule: of which field (undefined: of the message), which element of it, and how. */
export interface Violation {
  readonly field?: string;
  readonly element?: number | string;
  readonly message: string;
}

type Check = (value: Json) => string | undefined;
type Rules = { readonly [key: string]: Json };

const HEADER_NAME = /^:?[0-9a-zA-Z!#$%&'*+-.^_|~`]+$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: the rule is about control characters
const HEADER_VALUE = /^[^\u0000-\u0008\u000A-\u001F\u007F]*$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: the rule is about control characters
const LOOSE_HEADER = /^[^\u0000\u000A\u000D]*$/;

/** Bounds of any ordered type; `read` turns a value or a bound into something that compares. */
function bounds<T extends number | bigint>(rules: Rules, read: (value: Json) => T): Check[] {
  const checks: Check[] = [];
  const add = (key: string, text: string, holds: (value: T, bound: T) => boolean) => {
    const bound = rules[key];
    if (bound === undefined) return;
    const limit = read(bound);
    checks.push((value) => (holds(read(value), limit) ? undefined : `must be ${text} ${bound}`));
  };
  add('const', 'equal to', (a, b) => a === b);
  add('lt', 'less than', (a, b) => a < b);
  add('lte', 'at most', (a, b) => a <= b);
  add('gt', 'greater than', (a, b) => a > b);
  add('gte', 'at least', (a, b) => a >= b);
  for (const [key, wanted] of [
    ['in', true],
    ['not_in', false],
  ] as const) {
    const list = rules[key];
    if (!Array.isArray(list)) continue;
    const values = list.map(read);
    checks.push((value) =>
      values.includes(read(value)) === wanted ? undefined : `must ${wanted ? '' : 'not '}be one of ${list.join(', ')}`,
    );
  }
  return checks;
}

function stringChecks(rules: Rules): Check[] {
  const checks: Check[] = [];
  const add = (key: string, check: (value: string, rule: Json) => string | undefined) => {
    const rule = rules[key];
    if (rule !== undefined) checks.push((value) => check(value as string, rule));
  };
  const length = (value: string) => [...value].length;
  add('const', (v, r) => (v === r ? undefined : `must be ${JSON.stringify(r)}`));
  add('len', (v, r) => (length(v) === Number(r) ? undefined : `must have ${r} characters`));
  add('min_len', (v, r) =>
    length(v) >= Number(r) ? undefined : Number(r) === 1 ? 'must not be empty' : `must have at least ${r} characters`,
  );
  add('max_len', (v, r) => (length(v) <= Number(r) ? undefined : `must have at most ${r} characters`));
  add('min_bytes', (v, r) => (Buffer.byteLength(v) >= Number(r) ? undefined : `must have at least ${r} bytes`));
  add('max_bytes', (v, r) => (Buffer.byteLength(v) <= Number(r) ? undefined : `must have at most ${r} bytes`));
  add('prefix', (v, r) => (v.startsWith(String(r)) ? undefined : `must begin with ${JSON.stringify(r)}`));
  add('suffix', (v, r) => (v.endsWith(String(r)) ? undefined : `must end with ${JSON.stringify(r)}`));
  add('contains', (v, r) => (v.includes(String(r)) ? undefined : `must contain ${JSON.stringify(r)}`));
  add('not_contains', (v, r) => (v.includes(String(r)) ? `must not contain ${JSON.stringify(r)}` : undefined));
  add('in', (v, r) => ((r as Json[]).includes(v) ? undefined : `must be one of ${(r as Json[]).join(', ')}`));
  add('not_in', (v, r) => ((r as Json[]).includes(v) ? `must not be one of ${(r as Json[]).join(', ')}` : undefined));
  if (typeof rules.pattern === 'string') {
    const pattern = RE2JS.compile(rules.pattern);
    checks.push((v) => (pattern.matcher(v as string).find() ? undefined : `must match ${rules.pattern}`));
  }
  const known = rules.well_known_regex;
  if (known !== undefined) {
    const name = known === 'HTTP_HEADER_NAME';
    const regex = rules.strict === false ? LOOSE_HEADER : name ? HEADER_NAME : HEADER_VALUE;
    const what = name ? 'name' : 'value';
    checks.push((v) => (regex.test(v as string) ? undefined : `is not a valid HTTP header ${what}`));
  }
  return checks;
}

function bytesChecks(rules: Rules): Check[] {
  const checks: Check[] = [];
  const size = (value: Json) => Buffer.from(String(value), 'base64').length;
  if (rules.min_len !== undefined) {
    checks.push((v) => (size(v) >= Number(rules.min_len) ? undefined : `must have at least ${rules.min_len} bytes`));
  }
  if (rules.max_len !== undefined) {
    checks.push((v) => (size(v) <= Number(rules.max_len) ? undefined : `must have at most ${rules.max_len} bytes`));
  }
  return checks;
}

function enumChecks(rules: Rules, desc: DescEnum): Check[] {
  const number = (value: Json): number =>
    typeof value === 'number' ? value : (desc.values.find((v) => v.name === value)?.number ?? -1);
  const checks = bounds(rules, number);
  if (rules.defined_only) {
    checks.push((value) => (typeof value === 'string' ? undefined : `${value} is not a value of ${desc.typeName}`));
  }
  return checks;
}

/** Checks of one value: a singular field, or an element of a list or map. */
function valueChecks(rules: Rules, enumeration: DescEnum | undefined): Check[] {
  const checks: Check[] = [];
  let ignoreEmpty = false;
  for (const [type, value] of Object.entries(rules)) {
    if (value === null || typeof value !== 'object' || Array.isArray(value)) continue;
    ignoreEmpty ||= value.ignore_empty === true;
    if (type === 'string') checks.push(...stringChecks(value));
    else if (type === 'bytes') checks.push(...bytesChecks(value));
    else if (type === 'duration') checks.push(...bounds(value, (v) => durationNanos(String(v))));
    else if (type === 'bool') {
      if (value.const !== undefined) checks.push((v) => (v === value.const ? undefined : `must be ${value.const}`));
    } else if (type === 'enum') {
      if (enumeration) checks.push(...enumChecks(value, enumeration));
    } else if (/64$/.test(type)) checks.push(...bounds(value, (v) => BigInt(v as string)));
    else if (/^(float|double|u?int32|[su]?fixed32|sint32)$/.test(type)) checks.push(...bounds(value, Number));
  }
  if (!ignoreEmpty) return checks;
  const empty = (v: Json) => v === '' || v === 0 || v === '0' || v === '0s';
  return checks.map((check) => (v) => (empty(v) ? undefined : check(v)));
}

interface FieldCheck {
  readonly field: DescField;
  readonly required: boolean;
  /** value that counts when the field is absent; undefined: nothing is checked then */
  readonly absent: Json | undefined;
  readonly run: (value: Json, report: (element: number | string | undefined, message: string) => void) => void;
}

function zero(field: DescField): Json | undefined {
  if (field.fieldKind === 'list') return [];
  if (field.fieldKind === 'map') return {};
  if (field.oneof || field.fieldKind === 'message' || field.proto.proto3Optional) return undefined;
  if (field.fieldKind === 'enum') return field.enum.values.find((v) => v.number === 0)?.name ?? 0;
  if (field.scalar === ScalarType.STRING || field.scalar === ScalarType.BYTES) return '';
  return field.scalar === ScalarType.BOOL ? false : 0;
}

function compileField(field: DescField, rules: Rules): FieldCheck {
  const section = (name: string): Rules => {
    const value = rules[name];
    return value !== null && typeof value === 'object' && !Array.isArray(value) ? value : {};
  };
  const required =
    section('message').required === true || section('any').required === true || section('duration').required === true;
  const absent = zero(field);
  if (field.fieldKind === 'list') {
    const r = section('repeated');
    const items = valueChecks((r.items ?? {}) as Rules, field.enum);
    return {
      field,
      required: false,
      absent,
      run: (value, report) => {
        const list = value as Json[];
        if (r.min_items !== undefined && list.length < Number(r.min_items)) {
          report(undefined, Number(r.min_items) === 1 ? 'must not be empty' : `needs at least ${r.min_items} items`);
        }
        if (r.max_items !== undefined && list.length > Number(r.max_items)) {
          report(undefined, `must have at most ${r.max_items} items`);
        }
        if (r.unique && new Set(list.map((x) => JSON.stringify(x))).size < list.length) {
          report(undefined, 'must not have the same item twice');
        }
        for (const [i, item] of list.entries()) for (const check of items) reportIf(check(item), i, report);
      },
    };
  }
  if (field.fieldKind === 'map') {
    const r = section('map');
    const keys = valueChecks((r.keys ?? {}) as Rules, undefined);
    const values = valueChecks((r.values ?? {}) as Rules, field.enum);
    return {
      field,
      required: false,
      absent,
      run: (value, report) => {
        const entries = Object.entries(value as JsonObject);
        if (r.min_pairs !== undefined && entries.length < Number(r.min_pairs)) {
          report(undefined, `needs at least ${r.min_pairs} entries`);
        }
        if (r.max_pairs !== undefined && entries.length > Number(r.max_pairs)) {
          report(undefined, `must have at most ${r.max_pairs} entries`);
        }
        for (const [key, entry] of entries) {
          for (const check of keys) reportIf(check(key), key, (e, m) => report(e, `the key ${m}`));
          for (const check of values) reportIf(check(entry), key, report);
        }
      },
    };
  }
  const checks = valueChecks(rules, field.enum);
  return {
    field,
    required,
    absent,
    run: (value, report) => {
      for (const check of checks) reportIf(check(value), undefined, report);
    },
  };
}

function reportIf(
  message: string | undefined,
  element: number | string | undefined,
  report: (element: number | string | undefined, message: string) => void,
): void {
  if (message !== undefined) report(element, message);
}

interface MessageChecks {
  readonly fields: readonly FieldCheck[];
  readonly oneofs: readonly DescOneof[];
}

const compiled = new WeakMap<DescMessage, MessageChecks>();

function compileMessage(desc: DescMessage): MessageChecks {
  const registry = envoyRegistry();
  const fieldRules = registry.getExtension('validate.rules')!;
  const oneofRequired = registry.getExtension('validate.required')!;
  const fields: FieldCheck[] = [];
  for (const field of desc.fields) {
    if (!hasOption(field, fieldRules)) continue;
    const rules = toJson(fieldRules.message!, getOption(field, fieldRules) as never, {
      registry,
      useProtoFieldName: true,
    });
    fields.push(compileField(field, rules as Rules));
  }
  const oneofs = desc.oneofs.filter((oneof) => hasOption(oneof, oneofRequired));
  return { fields, oneofs };
}

/**
 * Evaluates the `validate.rules` (protoc-gen-validate) that Envoy's API puts on the fields of a message; Envoy refuses
 * what breaks one. Takes the message in canonical JSON with proto names; does not descend into messages.
 */
export function checkRules(desc: DescMessage, object: JsonObject, report: (violation: Violation) => void): void {
  let checks = compiled.get(desc);
  if (!checks) {
    checks = compileMessage(desc);
    compiled.set(desc, checks);
  }
  for (const { field, required, absent, run } of checks.fields) {
    const value = object[field.name] ?? absent;
    if (value === undefined) {
      // a member of a oneof is required only when it is the one that is set
      if (required && !field.oneof) report({ field: field.name, message: 'is required' });
      continue;
    }
    run(value, (element, message) =>
      report({ field: field.name, ...(element === undefined ? {} : { element }), message }),
    );
  }
  for (const oneof of checks.oneofs) {
    if (oneof.fields.some((field) => object[field.name] !== undefined)) continue;
    const names = oneof.fields.filter((f) => !f.deprecated).map((field) => field.name);
    report({ message: `one of ${names.join(', ')} is required` });
  }
}
