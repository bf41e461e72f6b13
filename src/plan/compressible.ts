/** Which answers a compressor (envoy.extensions.filters.http.compressor.v3) would compress for clients that take it. */
import type { Named } from './answers.js';
import type { Matcher } from './ir.js';

export interface Compressible {
  /** shortest Content-Length; an answer without one is long enough */
  readonly minimum: number;
  /** media types in lower case; an answer without Content-Type has any */
  readonly types: readonly string[];
  /** answers with an ETag are left alone */
  readonly sparesEtags: boolean;
}

/** Headers of answers that the compressor looks at, or changes. */
export const COMPRESSOR_HEADERS: readonly string[] = [
  'content-length',
  'content-type',
  'content-encoding',
  'cache-control',
  'etag',
  'vary',
];

const quoted = (text: string): string => text.replace(/[^0-9A-Za-z/-]/g, '\\$&');

/** Content-Type is one of these, whatever its parameters. */
export function ofTypes(types: readonly string[]): Matcher {
  return { kind: 'regex', pattern: `(?is)[ \\t]*(?:${types.map(quoted).join('|')})[ \\t]*(?:;.*)?` };
}

/** A list, separated by commas, that has this element. */
export function listWith(element: string, ignoreCase: boolean): Matcher {
  return { kind: 'regex', pattern: `(?s${ignoreCase ? 'i' : ''})(?:.*,)?[ \\t]*${quoted(element)}[ \\t]*(?:,.*)?` };
}

export const NO_TRANSFORM = 'no-transform';

const elements = (value: string): string[] => value.split(',').map((e) => e.trim());

/** Whether a list, separated by commas, has this element, as it is written. */
export function hasElement(value: string, element: string): boolean {
  return elements(value).includes(element);
}

/** Whether an answer with these headers (names in lower case, joined where Envoy joins them) is such a one. */
export function isCompressible(
  headers: readonly Named<string>[],
  { minimum, types, sparesEtags }: Compressible,
): boolean {
  const value = (name: string) => headers.find(([n]) => n === name)?.[1];
  const length = value('content-length');
  const type = value('content-type');
  return (
    (length === undefined || (/^[0-9]+$/.test(length) && Number(length) >= minimum)) &&
    (type === undefined || types.includes(type.split(';')[0]!.trim().toLowerCase())) &&
    !elements(value('cache-control')?.toLowerCase() ?? '').includes(NO_TRANSFORM) &&
    !(sparesEtags && value('etag') !== undefined) &&
    value('content-encoding') === undefined
  );
}
