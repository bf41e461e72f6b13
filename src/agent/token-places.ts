/** Finds the token of a request as the kernel does (token_place_step in bpf/token.h): it must be the only one. */
import { cookieFinder, findValue, queryFinder } from '../compile/find.js';
import type { Scanner } from '../compile/scanner.js';
import type { TokenPlan } from '../plan/tokens.js';

/** A token in a request. */
export interface FoundToken {
  /** index among the listener's places */
  readonly place: number;
  /** what is in the place (latin1), without white space around it */
  readonly value: string;
}

const finders = new Map<string, Scanner>();

function finder(kind: 'param' | 'cookie', name: string): Scanner {
  const key = `${kind} ${name}`;
  let found = finders.get(key);
  if (!found) {
    found = kind === 'param' ? queryFinder(name) : cookieFinder(name);
    finders.set(key, found);
  }
  return found;
}

/**
 * @param target the request's, as received
 * @param headers names in lower case, values without white space around them (latin1)
 * @returns undefined when there is none, or more than one
 */
export function findToken(
  plan: TokenPlan,
  target: string,
  headers: readonly (readonly [name: string, value: string])[],
): FoundToken | undefined {
  const mark = target.indexOf('?');
  const query = mark < 0 ? undefined : target.slice(mark + 1);
  const found: FoundToken[] = [];
  for (const [place, { kind, name }] of plan.places.entries()) {
    if (kind === 'header') {
      for (const [own, value] of headers) if (own === name) found.push({ place, value });
      continue;
    }
    const texts = kind === 'cookie' ? headers.flatMap(([own, value]) => (own === 'cookie' ? [value] : [])) : [query];
    for (const text of texts) {
      const value = text === undefined ? undefined : findValue(finder(kind, name), text);
      if (value !== undefined) found.push({ place, value });
    }
  }
  return found.length === 1 ? found[0] : undefined;
}
