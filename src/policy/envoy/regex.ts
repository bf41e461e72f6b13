/** Regular expressions that Envoy would refuse. */

import { refusal } from '../../regex/syntax.js';
import type { Position } from '../diagnostics.js';
import type { JsonObject } from '../resources.js';
import { asObject, asObjects } from './walk.js';

/** The largest program of a regex that Envoy takes unless its runtime says otherwise. */
const DEFAULT_MAX_SIZE = 100;
const KEY = 're2.max_program_size.error_level';

/** A regex whose program is over the default limit. */
export interface LargeRegex {
  readonly at: Position;
  readonly field: string;
  readonly pattern: string;
}

/** Why Envoy would not compile a regex (RE2 syntax), or undefined when it would if its program is not too large. */
export function regexProblem(pattern: string): string | undefined {
  return refusal(pattern, Number.POSITIVE_INFINITY);
}

/** Whether Envoy refuses the regex unless its runtime allows larger programs. */
export function isLarge(pattern: string): boolean {
  return refusal(pattern, DEFAULT_MAX_SIZE) !== undefined;
}

/** A static runtime layer may hold the key whole, or as objects within each other; the last layer decides. */
function configured(bootstrap: JsonObject): number {
  let limit = DEFAULT_MAX_SIZE;
  for (const layer of asObjects(asObject(bootstrap.layered_runtime)?.layers)) {
    // what these hold is not in the files
    if (layer.static_layer === undefined) limit = Number.POSITIVE_INFINITY;
    const values = asObject(layer.static_layer);
    const nested = asObject(asObject(values?.re2)?.max_program_size)?.error_level;
    const value = Number(values?.[KEY] ?? nested ?? Number.NaN);
    if (value >= 0) limit = value;
  }
  return limit;
}

/** Those of `large` that are over the limit that `bootstrap` configures, with what Envoy would say. */
export function tooLarge(large: readonly LargeRegex[], bootstrap: JsonObject): (LargeRegex & { message: string })[] {
  const limit = configured(bootstrap);
  return large.flatMap((regex) => {
    const message = refusal(regex.pattern, limit);
    return message === undefined ? [] : [{ ...regex, message }];
  });
}
