/**
 * Regular expressions as the proxy reads them (RE2, https://github.com/google/re2/wiki/Syntax), by way of re2js, which
 * differs in a few places. Envoy has RE2 match in Latin-1: patterns and inputs are bytes.
 *
 * Unicode classes and case folding come from tables: re2js has those of Unicode 17, the proxy those of 15.1. They agree on
 * ASCII, and nothing else is ever matched in the kernel, because the scanner leaves heads with other bytes to the proxy.
 */
import { compileProgram, type Program } from './program.js';
import { programSize, sizeBound } from './program-size.js';
import { UNICODE_NAMES } from './unicode-names.js';

export type ParsedRegex =
  | { readonly kind: 'valid'; readonly program: Program; readonly groups: number }
  /** the proxy refuses it */
  | { readonly kind: 'invalid'; readonly message: string }
  /** the proxy takes it, and only the proxy */
  | { readonly kind: 'unsupported'; readonly message: string };

/** Parts of a pattern: escapes with the character behind the backslash, and everything else one by one. */
function* tokens(pattern: string): Generator<{ at: number; escaped: boolean; inClass: boolean; text: string }> {
  let inClass = false;
  for (let i = 0; i < pattern.length; i++) {
    const c = pattern[i]!;
    if (c !== '\\') {
      if (inClass) {
        if (c === '[' && pattern[i + 1] === ':') {
          const end = pattern.indexOf(':]', i + 2);
          if (end > 0) {
            yield { at: i, escaped: false, inClass, text: pattern.slice(i, end + 2) };
            i = end + 1;
            continue;
          }
        }
        if (c === ']') inClass = false;
      } else if (c === '[') {
        inClass = true;
        // A bracket right after the opening one, or its caret, is a member.
        const caret = pattern[i + 1] === '^' ? 1 : 0;
        const text = pattern.slice(i, i + 1 + caret + (pattern[i + 1 + caret] === ']' ? 1 : 0));
        yield { at: i, escaped: false, inClass: false, text };
        i += text.length - 1;
        continue;
      }
      yield { at: i, escaped: false, inClass, text: c };
      continue;
    }
    const next = pattern[i + 1] ?? '';
    if (next === 'Q' && !inClass) {
      const end = pattern.indexOf('\\E', i + 2);
      const text = pattern.slice(i, end < 0 ? undefined : end + 2);
      yield { at: i, escaped: false, inClass, text };
      i += text.length - 1;
      continue;
    }
    const name = 'pP'.includes(next || '-') && pattern[i + 2] === '{' ? pattern.indexOf('}', i) : -1;
    const text = pattern.slice(i, name > 0 ? name + 1 : i + ('pP'.includes(next || '-') ? 3 : 2));
    yield { at: i, escaped: true, inClass, text };
    i += text.length - 1;
  }
}

/** The same pattern with groups that have no names: RE2 allows names that appear twice, re2js does not. */
export function withoutNames(pattern: string): string {
  let out = '';
  for (const { at, escaped, inClass, text } of tokens(pattern)) {
    out += text;
    if (escaped || inClass || text !== '(') continue;
    const name = /^\?P?<\w+>/.exec(pattern.slice(at + 1));
    if (name) out += '\0';
  }
  return out.replace(/\0\?P?<\w+>/g, '');
}

function parse(pattern: string): ParsedRegex {
  for (const { at, escaped, text } of tokens(pattern)) {
    if (!escaped) continue;
    if (text === '\\C') return { kind: 'unsupported', message: '\\C is left to the proxy' };
    if (text === '\\x') {
      const wide = /^\\x\{([0-9a-fA-F]+)\}/.exec(pattern.slice(at));
      if (wide && Number.parseInt(wide[1]!, 16) > 0xff)
        return { kind: 'invalid', message: `${wide[0]} is no byte, and the proxy matches bytes` };
    }
    const name = /^\\[pP](?:\{\^?(.*)\}|(.))$/su.exec(text);
    const wanted = name?.[1] ?? name?.[2];
    if (wanted !== undefined && !UNICODE_NAMES.has(wanted))
      return { kind: 'invalid', message: `the proxy knows no Unicode class ${text}` };
  }
  const attempt = (text: string): ParsedRegex => {
    const { program, groups } = compileProgram(text);
    if (program.numLb) return { kind: 'unsupported', message: 'look-behind is left to the proxy' };
    return { kind: 'valid', program, groups };
  };
  try {
    return attempt(pattern);
  } catch (error) {
    const message = (error as Error).message;
    if (/duplicate capture group/.test(message)) {
      try {
        return attempt(withoutNames(pattern));
      } catch {
        // the first message says more
      }
    }
    return { kind: 'invalid', message: message.replace(/^error parsing regexp: /, '') };
  }
}

const CACHE_ENTRIES = 20_000;
const cache = new Map<string, ParsedRegex>();

/** Reads a pattern. Never throws. */
export function parseRegex(pattern: string): ParsedRegex {
  let parsed = cache.get(pattern);
  if (!parsed) {
    parsed = parse(pattern);
    if (cache.size >= CACHE_ENTRIES) cache.clear();
    cache.set(pattern, parsed);
  }
  return parsed;
}

/** By how much programSize may be wrong. */
const SIZE_SLACK = 25;

/**
 * Why the proxy would not take a pattern, or undefined when it would.
 * @param maxSize largest program that it takes (`re2.max_program_size.error_level`).
 */
export function refusal(pattern: string, maxSize: number): string | undefined {
  const parsed = parseRegex(pattern);
  if (parsed.kind === 'invalid') return `not a regex that RE2 takes: ${parsed.message}`;
  if (parsed.kind !== 'valid' || sizeBound(parsed.program) <= maxSize) return undefined;
  const size = programSize(parsed.program);
  return size > maxSize + SIZE_SLACK
    ? `the regex makes a program of about ${size} instructions, over the proxy's limit of ${maxSize}`
    : undefined;
}
