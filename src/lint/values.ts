/** Matchers that no request can meet, and regular expressions that do not mean what they seem to. */
import { matcherDfa } from '../compile/matcher.js';
import type { Matcher } from '../plan/ir.js';
import type { LintCode } from './codes.js';

export interface Problem {
  readonly code: LintCode;
  readonly message: string;
  readonly hint?: string;
}

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'CONNECT'];
const SPECIAL = /[\\^$.|?*+()[\]{}]/;

/** Whether a regex accepts anything; for paths, anything that can be a path. undefined: it cannot be told. */
function regexAccepts(pattern: string, path: boolean): boolean | undefined {
  const dfa = matcherDfa({ kind: 'regex', pattern });
  if (!dfa) return undefined;
  const seen = new Set<number>();
  const queue: number[] = [];
  const add = (state: number) => {
    if (!seen.has(state)) queue.push(state);
    seen.add(state);
  };
  if (path) add(dfa.next[dfa.start * dfa.width + dfa.classes[0x2f]!]!);
  else add(dfa.start);
  // bytes beyond ASCII are no part of a path for the fast path, but Envoy may let them pass
  const may = (byte: number) => !path || (byte > 0x20 && byte !== 0x7f && byte !== 0x3f && byte !== 0x23);
  for (let state = queue.pop(); state !== undefined; state = queue.pop()) {
    if (dfa.accept[state] !== 0) return true;
    for (let byte = 0; byte < 256; byte++) if (may(byte)) add(dfa.next[state * dfa.width + dfa.classes[byte]!]!);
  }
  // OPTIONS may ask for `*`
  return path && dfa.accept[dfa.next[dfa.start * dfa.width + dfa.classes[0x2a]!]!] !== 0;
}

function regexProblems(pattern: string, path: boolean): Problem[] {
  const quoted = JSON.stringify(pattern).replaceAll('\\\\', '\\');
  if (regexAccepts(pattern, path) === false) {
    const relative = path && regexAccepts(pattern, false) === true;
    const message = relative
      ? `no path matches /${pattern}/: paths begin with a slash`
      : `nothing matches /${pattern}/`;
    return [{ code: 'regex-never', message }];
  }
  if (pattern.startsWith('^') && !/(\$|\.\*|\.\+)\)*$/.test(pattern)) {
    const message = `${quoted} must match the whole value, not only its beginning`;
    return [{ code: 'regex-whole', message, hint: 'end it with .* or use a prefix' }];
  }
  if (pattern !== '' && !SPECIAL.test(pattern)) {
    const message = `${quoted} has no special character: only exactly this value matches`;
    return [{ code: 'regex-whole', message, hint: 'use exact, or end it with .*' }];
  }
  return [];
}

/** What is wrong with a matcher of a path (without the query). */
export function pathProblems(matcher: Matcher): Problem[] {
  if (matcher.kind === 'regex') return regexProblems(matcher.pattern, true);
  if (matcher.kind !== 'exact' && matcher.kind !== 'prefix') return [];
  const { value } = matcher;
  if (value === '' || value === '*') return [];
  if (!value.startsWith('/')) {
    const hint = `write ${JSON.stringify(`/${value.replace(/^\*?\/?/, '')}`)}`;
    return [
      {
        code: 'path-never',
        message: `no path begins with ${JSON.stringify(value[0])}: paths begin with a slash`,
        hint,
      },
    ];
  }
  const mark = /[?#]/.exec(value)?.[0];
  if (mark === undefined) return [];
  const hint = mark === '?' ? 'match on query parameters instead' : 'a fragment is never sent';
  return [
    { code: 'path-never', message: `${JSON.stringify(value)} has a ${JSON.stringify(mark)}, which no path has`, hint },
  ];
}

/** What is wrong with a matcher of the method. */
export function methodProblems(matcher: Matcher): Problem[] {
  if (matcher.kind !== 'exact' || matcher.ignoreCase || METHODS.includes(matcher.value)) return [];
  const upper = matcher.value.toUpperCase();
  if (!METHODS.includes(upper)) return [];
  return [{ code: 'method-case', message: `no request has the method ${matcher.value}`, hint: `write ${upper}` }];
}

/** What is wrong with a matcher of a header or query parameter. */
export function valueProblems(matcher: Matcher): Problem[] {
  if (matcher.kind === 'regex') return regexProblems(matcher.pattern, false);
  return [];
}

/** What is wrong with a matcher, by the field that it is about. */
export function problemsOf(field: { readonly kind: string }, matcher: Matcher): Problem[] {
  if (field.kind === 'path') return pathProblems(matcher);
  if (field.kind === 'method') return methodProblems(matcher);
  return valueProblems(matcher);
}
