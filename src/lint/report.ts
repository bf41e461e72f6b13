/** Collecting warnings: one for each place and code, and only where all resources made of a place agree. */
import type { Diagnostic, Position } from '../policy/diagnostics.js';
import type { LintCode } from './codes.js';

function key(position: Position): string {
  return `${position.file}:${position.line}:${position.column}`;
}

/** One warning, before it is known whether it holds everywhere. */
export interface Finding {
  readonly code: LintCode;
  readonly message: string;
  readonly field: string;
  readonly hint?: string | undefined;
  /** where it is shown, if not at its place */
  readonly at?: Position | undefined;
}

/**
 * One place in a file may become many routes (of several hosts and ports), and what is true of one of them need not be
 * true of another. `look` counts how many there are, `hold` those for which a warning holds.
 */
export class Findings {
  readonly #seen = new Map<string, number>();
  readonly #held = new Map<string, { count: number; place: string; first: Diagnostic }>();

  /** One more resource of this place is looked at. */
  look(place: Position): void {
    this.#seen.set(key(place), (this.#seen.get(key(place)) ?? 0) + 1);
  }

  /** The warning holds for one resource of this place. `what` tells apart several of one code and field. */
  hold(place: Position, { code, message, field, hint, at }: Finding, what = ''): void {
    const id = [code, key(place), field, what].join('\0');
    const held = this.#held.get(id);
    if (held) {
      held.count++;
      return;
    }
    const first: Diagnostic = {
      severity: 'warning',
      code,
      message,
      position: at ?? place,
      field,
      ...(hint ? { hint } : {}),
    };
    this.#held.set(id, { count: 1, place: key(place), first });
  }

  /** The warnings that hold for every resource of their place. */
  diagnostics(): Diagnostic[] {
    return [...this.#held.values()]
      .filter(({ count, place }) => count >= (this.#seen.get(place) ?? 1))
      .map(({ first }) => first);
  }
}
