/** Checks documents against their schemas: every error and every unknown field, each at its place. */
import { z } from 'zod';
import type { Document } from '../documents.js';
import type { Json } from '../resources.js';
import type { Context, Path } from './context.js';

/** Number of single-character edits between two words, up to `limit`. */
function distance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) > limit) return limit + 1;
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      row[j] = Math.min((previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (previous[j - 1] ?? 0) + cost);
    }
    previous = row;
  }
  return previous[b.length] ?? limit + 1;
}

/** The known word that `word` is probably meant to be, if any. */
export function didYouMean(word: string, known: readonly string[]): string | undefined {
  const lower = word.toLowerCase();
  const limit = Math.max(1, Math.floor(word.length / 3));
  let best: string | undefined;
  let least = limit + 1;
  for (const candidate of known) {
    const d = distance(lower, candidate.toLowerCase(), limit);
    if (d < least) {
      least = d;
      best = candidate;
    }
  }
  return best;
}

function unwrap(schema: z.core.$ZodType): z.core.$ZodType {
  let inner = schema;
  while (inner instanceof z.ZodOptional || inner instanceof z.ZodNullable || inner instanceof z.ZodDefault) {
    inner = inner.unwrap() as z.core.$ZodType;
  }
  return inner;
}

function unknownFields(
  context: Context,
  document: Document,
  schema: z.core.$ZodType,
  value: Json | undefined,
  path: Path,
): void {
  if (value === null || typeof value !== 'object') return;
  const inner = unwrap(schema);
  if (inner instanceof z.ZodArray && Array.isArray(value)) {
    value.forEach((item, index) => {
      unknownFields(context, document, inner.element as z.core.$ZodType, item, [...path, index]);
    });
  } else if (inner instanceof z.ZodRecord && !Array.isArray(value)) {
    for (const [key, item] of Object.entries(value)) {
      unknownFields(context, document, inner.valueType as z.core.$ZodType, item, [...path, key]);
    }
  } else if (inner instanceof z.ZodObject && !Array.isArray(value)) {
    const shape = inner.shape as Record<string, z.core.$ZodType>;
    for (const [key, item] of Object.entries(value)) {
      const field = Object.hasOwn(shape, key) ? shape[key] : undefined;
      if (field) unknownFields(context, document, field, item, [...path, key]);
      else {
        const guess = didYouMean(key, Object.keys(shape));
        const hint = guess ? `did you mean "${guess}"?` : undefined;
        context.warn(
          document,
          [...path, key],
          'unknown-field',
          `unknown field "${key}" is ignored, as Istio does`,
          hint,
        );
      }
    }
  }
}

function lookup(json: Json | undefined, path: Path): Json | undefined {
  let value = json;
  for (const step of path) {
    if (value === null || typeof value !== 'object') return undefined;
    value = Array.isArray(value) ? value[Number(step)] : value[String(step)];
  }
  return value;
}

function shown(value: Json | undefined): string {
  if (value === undefined || (typeof value === 'object' && value !== null)) return '';
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function describe(issue: z.core.$ZodIssue, value: Json | undefined): { code: string; message: string; hint?: string } {
  if (issue.code === 'invalid_type') {
    if (value === undefined) return { code: 'missing-field', message: 'is required' };
    const quoting = issue.expected === 'string' && typeof value !== 'object' ? 'put it in quotes' : undefined;
    const expected = issue.expected === 'record' ? 'object' : issue.expected === 'int' ? 'integer' : issue.expected;
    const actual = value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;
    const message =
      `must be ${/^[aio]/.test(expected) ? 'an' : 'a'} ${expected}, not ${actual} ${shown(value)}`.trimEnd();
    return { code: 'wrong-type', message, ...(quoting ? { hint: quoting } : {}) };
  }
  if (issue.code === 'invalid_value') {
    const options = issue.values.map(String);
    const guess = typeof value === 'string' ? didYouMean(value, options) : undefined;
    return {
      code: 'invalid-value',
      message: `${shown(value)} is not one of ${options.join(', ')}`.trimStart(),
      ...(guess ? { hint: `did you mean "${guess}"?` } : {}),
    };
  }
  const text = shown(value);
  return {
    code: 'invalid-value',
    message: text && issue.message.startsWith('is ') ? `${text} ${issue.message}` : issue.message,
  };
}

/**
 * Validates the part of a document at `path` (`spec`, or the root for kinds without one).
 *
 * @param strict report unknown fields (Istio's own kinds; Kubernetes' kinds have many fields that say nothing here)
 * @returns the typed value, or undefined if there was an error
 */
export function validate<T extends z.ZodType>(
  context: Context,
  document: Document,
  schema: T,
  path: Path,
  strict: boolean,
): z.infer<T> | undefined {
  const value = lookup(document.json, path);
  if (strict) unknownFields(context, document, schema, value, path);
  const result = schema.safeParse(value ?? {});
  if (result.success) return result.data;
  for (const issue of result.error.issues) {
    const where = [...path, ...issue.path.map((step) => (typeof step === 'number' ? step : String(step)))];
    const { code, message, hint } = describe(issue, lookup(document.json, where));
    context.error(document, where, code, message, hint);
  }
  return undefined;
}
