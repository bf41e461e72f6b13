/** What a matcher says about a value: used to fold constants, by the reference evaluator, and by tests. */
import net from 'node:net';
import { RE2JS } from 're2js';
import { byteText } from '../regex/program.js';
import { parseRegex, withoutNames } from '../regex/syntax.js';
import type { Matcher } from './ir.js';

const compiled = new Map<string, RE2JS>();

/** The compiled regex (RE2 syntax). Throws re2js' own error on bad syntax. */
export function compileRegex(pattern: string): RE2JS {
  let regex = compiled.get(pattern);
  if (!regex) {
    // names may appear twice in RE2, and nobody asks for them here
    regex = RE2JS.compile(byteText(withoutNames(pattern)));
    if (compiled.size > 10_000) compiled.clear();
    compiled.set(pattern, regex);
  }
  return regex;
}

/** Why this regex cannot be taken into the kernel, or undefined. */
export function regexProblem(pattern: string): string | undefined {
  const parsed = parseRegex(pattern);
  if (parsed.kind === 'valid') return undefined;
  return parsed.kind === 'invalid' ? `not RE2 syntax: ${parsed.message}` : parsed.message;
}

const INT64_MAX = (1n << 63n) - 1n;

/** absl::SimpleAtoi into an int64: optional white space and sign, decimal digits; undefined otherwise. */
function parseInt64(value: string): bigint | undefined {
  const m = /^[ \t\n\v\f\r]*([+-]?)(\d+)[ \t\n\v\f\r]*$/.exec(value);
  if (!m) return undefined;
  const n = BigInt(m[2]!) * (m[1] === '-' ? -1n : 1n);
  return n > INT64_MAX || n < -INT64_MAX - 1n ? undefined : n;
}

/** ASCII lower case: what absl::AsciiStrToLower does, other letters stay. */
export function asciiLower(s: string): string {
  return s.replace(/[A-Z]/g, (c) => c.toLowerCase());
}

/** True if the address (IPv4 or IPv6 literal) lies in the range. */
export function inCidr(address: string, range: string, prefixLength: number): boolean {
  const family = net.isIPv6(address) ? 'ipv6' : 'ipv4';
  if ((net.isIPv6(range) ? 'ipv6' : 'ipv4') !== family) return false;
  const block = new net.BlockList();
  block.addSubnet(range, prefixLength, family);
  return block.check(address, family);
}

/** Whether a value that is there matches. Values are byte strings (latin1), also to regexes, as in Envoy. */
export function matchesValue(matcher: Matcher, value: string): boolean {
  switch (matcher.kind) {
    case 'present':
      return true;
    case 'regex':
      return compileRegex(matcher.pattern).matches(value);
    case 'range': {
      const n = parseInt64(value);
      return n !== undefined && n >= matcher.start && n < matcher.end;
    }
    case 'addresses':
      return matcher.addresses.some((a) => inCidr(value, a, net.isIPv6(a) ? 128 : 32));
    case 'cidr':
      return inCidr(value, matcher.address, matcher.prefixLength);
    default: {
      const wanted = Buffer.from(matcher.value, 'utf8').toString('latin1');
      const v = matcher.ignoreCase ? asciiLower(value) : value;
      const w = matcher.ignoreCase ? asciiLower(wanted) : wanted;
      if (matcher.kind === 'exact') return v === w;
      if (matcher.kind === 'prefix') return v.startsWith(w);
      if (matcher.kind === 'suffix') return v.endsWith(w);
      return v.includes(w);
    }
  }
}
