import { type DescEnum, ScalarType } from '@bufbuild/protobuf';
import type { Scalar } from 'yaml';

/** A scalar of the user's file before its type is known. Numbers keep their decimal text. */
export type Raw = null | boolean | string | { readonly number: string };

/** How scalars are written: as Envoy's YAML reader (yaml-cpp) takes them, or as its JSON reader does. */
export type Syntax = 'yaml' | 'json';

/** A converted value, or why it cannot be converted. */
export type Converted = { readonly value: boolean | number | string } | { readonly error: string };

const NULL = /^(~|null|Null|NULL|)$/;
const TRUE = /^(y|Y|yes|Yes|YES|true|True|TRUE|on|On|ON)$/;
const FALSE = /^(n|N|no|No|NO|false|False|FALSE|off|Off|OFF)$/;
const INTEGER = /^([-+]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)$/;
const JSON_NUMBER = /^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$/;
const DECIMAL = /^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$/;
const HEX_FLOAT = /^([-+]?)0[xX]([0-9a-fA-F]*)(?:\.([0-9a-fA-F]*))?(?:[pP]([-+]?[0-9]+))?$/;
const MAX_EXACT = 2n ** 53n;

/**
 * What Envoy makes of a YAML scalar: `yes` and `on` are true, `010` is octal, everything that is not a boolean or an
 * integer stays a string (so `1.20` is the string "1.20"). Quoted and block scalars are strings. In JSON the usual
 * literals. Envoy's source: `parseYamlNode` in source/common/protobuf/yaml_utility.cc.
 */
export function rawScalar(node: Scalar, syntax: Syntax): Raw {
  const text = node.source ?? String(node.value ?? '');
  if (node.type !== undefined && node.type !== 'PLAIN') return String(node.value ?? '');
  // the non-specific tag `!` is what yaml-cpp gives quoted scalars
  if (node.tag === '!') return text;
  if (syntax === 'json') {
    if (text === 'null') return null;
    if (text === 'true' || text === 'false') return text === 'true';
    return JSON_NUMBER.test(text) ? { number: text } : text;
  }
  if (NULL.test(text)) return null;
  if (TRUE.test(text)) return true;
  if (FALSE.test(text)) return false;
  const match = INTEGER.exec(text);
  if (match) {
    const [, sign, digits] = match as unknown as [string, string, string];
    const octal = digits.length > 1 && digits[0] === '0' && !/[xX]/.test(digits);
    const magnitude = BigInt(octal ? `0o${digits.slice(1)}` : digits);
    const value = sign === '-' ? -magnitude : magnitude;
    if (value >= -MAX_EXACT && value <= MAX_EXACT) return { number: value.toString() };
    if (value >= -(2n ** 63n) && value < 2n ** 63n) return value.toString();
  }
  return text;
}

/** How a raw scalar is called in messages. */
export function describeRaw(raw: Raw): string {
  if (raw === null) return 'null';
  if (typeof raw === 'boolean') return `the boolean ${raw}`;
  if (typeof raw === 'string') return `the string ${JSON.stringify(raw.length > 60 ? `${raw.slice(0, 60)}…` : raw)}`;
  return `the number ${raw.number}`;
}

/** The number that `absl::SimpleAtod` reads, NaN when it reads none. */
function parseDouble(text: string): number {
  if (DECIMAL.test(text)) return Number(text);
  const hex = HEX_FLOAT.exec(text);
  if (!hex || !(hex[2] || hex[3])) return Number.NaN;
  const fraction = hex[3] ?? '';
  const mantissa = Number.parseInt((hex[2] ?? '') + fraction, 16);
  const value = mantissa * 2 ** (Number(hex[4] ?? 0) - 4 * fraction.length);
  return hex[1] === '-' ? -value : value;
}

const RANGES: { readonly [type: number]: readonly [bigint, bigint] } = {
  [ScalarType.INT32]: [-(2n ** 31n), 2n ** 31n - 1n],
  [ScalarType.SINT32]: [-(2n ** 31n), 2n ** 31n - 1n],
  [ScalarType.SFIXED32]: [-(2n ** 31n), 2n ** 31n - 1n],
  [ScalarType.UINT32]: [0n, 2n ** 32n - 1n],
  [ScalarType.FIXED32]: [0n, 2n ** 32n - 1n],
  [ScalarType.INT64]: [-(2n ** 63n), 2n ** 63n - 1n],
  [ScalarType.SINT64]: [-(2n ** 63n), 2n ** 63n - 1n],
  [ScalarType.SFIXED64]: [-(2n ** 63n), 2n ** 63n - 1n],
  [ScalarType.UINT64]: [0n, 2n ** 64n - 1n],
  [ScalarType.FIXED64]: [0n, 2n ** 64n - 1n],
};
const WIDE = new Set([ScalarType.INT64, ScalarType.SINT64, ScalarType.SFIXED64, ScalarType.UINT64, ScalarType.FIXED64]);

function toInteger(raw: Raw, type: ScalarType): Converted {
  if (raw === null || typeof raw === 'boolean') return { error: `expected an integer, found ${describeRaw(raw)}` };
  const text = typeof raw === 'string' ? raw : raw.number;
  let value: bigint;
  if (/^[-+]?[0-9]+$/.test(text)) value = BigInt(text.replace(/^\+/, ''));
  else {
    const double = parseDouble(text);
    if (!Number.isFinite(double)) return { error: `expected an integer, found ${describeRaw(raw)}` };
    if (!Number.isInteger(double)) return { error: `expected an integer, found the fraction ${text}` };
    value = BigInt(double);
  }
  const [low, high] = RANGES[type]!;
  if (value < low || value > high) return { error: `${text} is out of range, must be from ${low} to ${high}` };
  return { value: WIDE.has(type) ? value.toString() : Number(value) };
}

function toFloat(raw: Raw, type: ScalarType): Converted {
  if (raw === 'NaN' || raw === 'Infinity' || raw === '-Infinity') return { value: raw };
  const text = raw === null || typeof raw === 'boolean' ? '' : typeof raw === 'string' ? raw : raw.number;
  const value = parseDouble(text);
  if (Number.isNaN(value)) return { error: `expected a number, found ${describeRaw(raw)}` };
  const limit = type === ScalarType.FLOAT ? 3.4028234663852886e38 : Number.MAX_VALUE;
  if (Math.abs(value) > limit) return { error: `${text} is out of range` };
  return { value };
}

function toBoolean(raw: Raw): Converted {
  if (typeof raw === 'boolean') return { value: raw };
  if (typeof raw === 'string') {
    if (/^(true|t|yes|y|1)$/i.test(raw)) return { value: true };
    if (/^(false|f|no|n|0)$/i.test(raw)) return { value: false };
  }
  return { error: `expected true or false, found ${describeRaw(raw)}` };
}

function toBytes(raw: Raw): Converted {
  if (typeof raw !== 'string') return { error: `expected base64 text, found ${describeRaw(raw)}` };
  const plain = raw.replaceAll('-', '+').replaceAll('_', '/').replace(/=+$/, '');
  if (!/^[A-Za-z0-9+/]*$/.test(plain) || plain.length % 4 === 1) return { error: 'not valid base64' };
  return { value: Buffer.from(plain, 'base64').toString('base64') };
}

/**
 * Converts a scalar to a field's type by the rules of Envoy's JSON reader (protobuf's, with its legacy leniency), which
 * were checked against Envoy 1.40. Returns the value in canonical proto3 JSON (64-bit integers as strings, bytes as
 * padded base64).
 */
export function convertScalar(raw: Raw, type: ScalarType): Converted {
  switch (type) {
    case ScalarType.STRING:
      if (typeof raw === 'string') return { value: raw };
      return {
        error: `expected a string, found ${describeRaw(raw)}${raw === null ? '' : '; put it in quotes'}`,
      };
    case ScalarType.BOOL:
      return toBoolean(raw);
    case ScalarType.BYTES:
      return toBytes(raw);
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return toFloat(raw, type);
    default:
      return toInteger(raw, type);
  }
}

/** Converts an enum value: its name in any case, or its number. Returns the canonical name (number if it has none). */
export function convertEnum(raw: Raw, desc: DescEnum): Converted {
  if (typeof raw === 'string' && !/^[-+]?[0-9]+$/.test(raw)) {
    const name = raw.toUpperCase();
    const found = desc.values.find((v) => v.name === raw) ?? desc.values.find((v) => v.name.toUpperCase() === name);
    if (found) return { value: found.name };
    const names = desc.values.map((v) => v.name);
    return {
      error: `${JSON.stringify(raw)} is none of ${names.slice(0, 12).join(', ')}${names.length > 12 ? ', …' : ''}`,
    };
  }
  if (raw === null || typeof raw === 'boolean') return { error: `expected an enum name, found ${describeRaw(raw)}` };
  const number = toInteger(raw, ScalarType.INT32);
  if ('error' in number) return number;
  return { value: desc.value[number.value as number]?.name ?? number.value };
}

const DURATION = /^(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?s$/;
/** What fits into 64 bits of nanoseconds; protobuf's limit is higher, but Envoy's code refuses more. */
const MAX_SECONDS = 9_223_372_035n;

/** Canonical text of a duration: no fraction, or one of 3, 6 or 9 digits. */
export function formatDuration(seconds: bigint, nanos: number): string {
  const sign = seconds < 0n || nanos < 0 ? '-' : '';
  const whole = seconds < 0n ? -seconds : seconds;
  let fraction = nanos === 0 ? '' : `.${String(Math.abs(nanos)).padStart(9, '0')}`;
  if (fraction.endsWith('000000')) fraction = fraction.slice(0, -6);
  else if (fraction.endsWith('000')) fraction = fraction.slice(0, -3);
  return `${sign}${whole}${fraction}s`;
}

/** Converts a `google.protobuf.Duration` written as text, e.g. `1.5s`. */
export function convertDuration(raw: Raw): Converted {
  if (typeof raw !== 'string') {
    const hint = raw !== null && typeof raw === 'object' ? `; write ${raw.number}s for seconds` : '';
    return { error: `expected a duration such as "1.5s", found ${describeRaw(raw)}${hint}` };
  }
  const match = DURATION.exec(raw);
  if (!match) return { error: `${JSON.stringify(raw)} is not a duration: seconds with a final "s", such as "0.25s"` };
  const seconds = BigInt(match[2]!);
  if (seconds > MAX_SECONDS) return { error: `the duration ${raw} is out of range` };
  const nanos = Number((match[3] ?? '').padEnd(9, '0'));
  return match[1] ? { value: formatDuration(-seconds, -nanos) } : { value: formatDuration(seconds, nanos) };
}

/** Nanoseconds of a canonical duration. */
export function durationNanos(text: string): bigint {
  const match = DURATION.exec(text);
  if (!match) return 0n;
  const nanos = BigInt(match[2]!) * 1_000_000_000n + BigInt((match[3] ?? '').padEnd(9, '0'));
  return match[1] ? -nanos : nanos;
}
