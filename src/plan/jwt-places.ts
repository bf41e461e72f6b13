/** Requests that carry no token, as conditions on the places where one may be. */
import { all, headerPresent, NEVER, not, test } from './conditions.js';
import { headerCondition, queryCondition } from './header-match.js';
import type { Condition } from './ir.js';
import type { Notes } from './notes.js';
import type { TokenPlace, TokenProvider } from './tokens.js';

/** Names of parameters and cookies that are written in one way only, but for escapes. */
const PLAIN_NAME = /^[A-Za-z0-9_.~-]+$/;

/** Requests in which tokens may be hidden: names of parameters may be written with escapes, too. */
export function mayHide(places: readonly TokenPlace[]): Condition {
  if (!places.some(({ kind }) => kind === 'param')) return NEVER;
  return test({ kind: 'target' }, { kind: 'regex', pattern: '[^?]*[?](.*&)?[^=&]*%.*' });
}

/** No token in query parameters and cookies, unless it is hidden; undefined where only the proxy can tell. */
export function elsewhereEmpty(notes: Notes, providers: readonly TokenProvider[], path: string): Condition | undefined {
  const parts: (Condition | undefined)[] = [];
  for (const name of new Set(providers.flatMap((p) => p.params))) {
    const present = queryCondition(notes, { name, present_match: true }, path);
    parts.push(present && PLAIN_NAME.test(name) ? not(present) : undefined);
  }
  for (const name of new Set(providers.flatMap((p) => p.cookies)))
    parts.push(
      PLAIN_NAME.test(name)
        ? not(test({ kind: 'header', name: 'cookie' }, { kind: 'contains', value: name, ignoreCase: false }))
        : undefined,
    );
  return parts.every((p) => p !== undefined) ? all(parts as Condition[]) : undefined;
}

/** No token in headers; undefined where only the proxy can tell. */
export function headersEmpty(notes: Notes, providers: readonly TokenProvider[], path: string): Condition | undefined {
  const parts: (Condition | undefined)[] = [];
  for (const { name, prefix } of providers.flatMap((p) => p.headers)) {
    // a managed header is not what the client sent
    if (!headerCondition(notes, { name, present_match: true }, path) || name.startsWith(':')) parts.push(undefined);
    else if (prefix === '') parts.push(not(headerPresent(name)));
    else parts.push(not(test({ kind: 'header', name }, { kind: 'contains', value: prefix, ignoreCase: false })));
  }
  return parts.every((p) => p !== undefined) ? all(parts as Condition[]) : undefined;
}
