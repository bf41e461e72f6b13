/** Pieces that the documents' schemas share. */
import { RE2JS } from 're2js';
import { z } from 'zod';
import { parseDuration } from '../duration.js';

// Checks run even if another part of the object is wrong: all errors are to be reported at once.
const always = { when: () => true };

/** A Go duration of at least `minimum` nanoseconds. */
export const duration = (minimum = 0n) =>
  z.string().superRefine((text, context) => {
    const value = parseDuration(text);
    let message: string | undefined;
    if (value === undefined) message = 'is not a duration (such as 5s, 250ms or 1h30m)';
    else if (value < minimum) message = minimum > 0n ? 'must be at least 1ms' : 'must not be negative';
    if (message) context.addIssue({ code: 'custom', message });
  });

export const positiveDuration = () => duration(1_000_000n);

/** An RE2 regular expression; `star` allows Istio's `*`, which is none and means "present". */
export const regex = (star = false) =>
  z.string().superRefine((value, context) => {
    if (star && value === '*') return;
    if (value === '') context.addIssue({ code: 'custom', message: 'must not be empty' });
    try {
      RE2JS.compile(value);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      context.addIssue({ code: 'custom', message: `is not an RE2 regular expression: ${reason}` });
    }
  });

const INT32_MAX = 2147483647;
/** What Istio's protos call int32, where less than 0 makes no sense. */
export const count = () => z.int().min(0, 'must not be negative').max(INT32_MAX, `must be at most ${INT32_MAX}`);

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what headers must not contain
const CONTROL = /[\0-\x08\x0a-\x1f\x7f]/;
/** Text that may stand in a request's head. */
export const headerText = () => z.string().refine((v) => !CONTROL.test(v), 'must not contain control characters');
/** Text with Envoy's command operators (`%REQ(name)%`), a percent sign doubled. */
export const formatText = () =>
  headerText().refine(
    (v) =>
      !v
        .replace(/%%/g, '')
        .replace(/%[A-Z][A-Z0-9_]*(\([^)]*\))?(:\d+)?%/g, '')
        .includes('%'),
    'has a "%" that begins no command: double it',
  );

export const port = () => z.int().min(1, 'must be a port (1 to 65535)').max(65535, 'must be a port (1 to 65535)');
export const uint32 = () => z.int().min(0, 'must not be negative').max(4294967295);
export const percent = () =>
  z.object({ value: z.number().min(0, 'must be 0 to 100').max(100, 'must be 0 to 100').optional() });
export const labels = () => z.record(z.string(), z.string());
export const nonEmpty = () => z.string().min(1, 'must not be empty');

function present(value: unknown, keys: readonly string[]): string[] {
  if (value === null || typeof value !== 'object') return [];
  return keys.filter((key) => (value as Record<string, unknown>)[key] !== undefined);
}

/** At most one of `keys` may be set. */
export function atMostOne<T extends z.ZodType>(schema: T, keys: readonly string[]): T {
  return schema.refine((v) => present(v, keys).length <= 1, {
    ...always,
    error: `only one of ${keys.join(', ')} may be set`,
  }) as T;
}

/** Exactly one of `keys` must be set. */
export function exactlyOne<T extends z.ZodType>(schema: T, keys: readonly string[]): T {
  return atMostOne(schema, keys).refine((v) => present(v, keys).length >= 1, {
    ...always,
    error: `one of ${keys.join(', ')} is required`,
  }) as T;
}

/** A condition on a whole object, checked whatever else is wrong with it. */
export function rule<T extends z.ZodType>(
  schema: T,
  test: (v: Record<string, unknown>) => boolean,
  error: string,
  path?: string[],
): T {
  return schema.refine((v) => v === null || typeof v !== 'object' || test(v as Record<string, unknown>), {
    ...always,
    error,
    ...(path ? { path } : {}),
  }) as T;
}

const kinds = ['exact', 'prefix', 'regex'];
/** Istio's StringMatch: exact, prefix or regex; none of them means present, and so does the regex `*`. */
export const stringMatch = () =>
  atMostOne(
    z.object({ exact: z.string().optional(), prefix: nonEmpty().optional(), regex: regex(true).optional() }),
    kinds,
  );
/** A StringMatch of something that is always there, where `*` is no regex. */
export const uriMatch = () =>
  atMostOne(
    z.object({ exact: z.string().optional(), prefix: z.string().optional(), regex: regex().optional() }),
    kinds,
  );
export const originMatch = () =>
  atMostOne(
    z.object({ exact: z.string().optional(), prefix: nonEmpty().optional(), regex: regex().optional() }),
    kinds,
  );
export type StringMatch = z.infer<ReturnType<typeof stringMatch>>;

export const selector = () => z.object({ matchLabels: labels().optional() });
export const targetRef = () =>
  z.object({
    group: z.string().optional(),
    kind: nonEmpty(),
    name: nonEmpty(),
    namespace: z.string().optional(),
    sectionName: z.string().optional(),
  });
