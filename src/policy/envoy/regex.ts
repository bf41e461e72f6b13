import { RE2JS } from 're2js';

const cache = new Map<string, string | undefined>();

/** Why Envoy would not compile a regex (RE2 syntax), or undefined when it would. */
export function regexProblem(pattern: string): string | undefined {
  if (cache.has(pattern)) return cache.get(pattern);
  // \C (any byte) is RE2's, re2js does not know it
  let problem: string | undefined;
  if (!/\\C/.test(pattern)) {
    try {
      RE2JS.compile(pattern);
    } catch (error) {
      problem = `not a regex that RE2 takes: ${(error as Error).message.replace(/^error parsing regexp: /, '')}`;
    }
  }
  if (cache.size > 50_000) cache.clear();
  cache.set(pattern, problem);
  return problem;
}
