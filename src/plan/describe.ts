/** Conditions, predicates and forwarding in words, for people. */
import type { Condition, Field, ForwardAction, Predicate } from './ir.js';

/** e.g. `header x-user`. */
export function describeField(f: Field): string {
  if (f.kind === 'query') return `query parameter ${f.name}`;
  if (f.kind === 'header') return `header ${f.name}`;
  if (f.kind === 'token') return `verified token (fact ${f.fact})`;
  return f.kind.replace('_', ' ');
}

/** e.g. `header x-user has prefix "a"`. */
export function describePredicate({ field: f, matcher: m }: Predicate): string {
  const name = describeField(f);
  switch (m.kind) {
    case 'present':
      return `${name} is present`;
    case 'regex':
      return `${name} matches /${m.pattern}/`;
    case 'range':
      return `${name} is in [${m.start}, ${m.end})`;
    case 'addresses': {
      const shown = m.addresses.slice(0, 4).join(', ');
      return `${name} is ${m.addresses.length > 4 ? `one of ${m.addresses.length} (${shown} ...)` : `one of ${shown}`}`;
    }
    case 'cidr':
      return `${name} is in ${m.address}/${m.prefixLength}`;
    default: {
      const verb = { exact: 'is', prefix: 'has prefix', suffix: 'has suffix', contains: 'contains' }[m.kind];
      return `${name} ${verb} ${JSON.stringify(m.value)}${m.ignoreCase ? ' (in any case)' : ''}`;
    }
  }
}

/** e.g. `path has prefix "/a" and not (header x is present)`. */
export function describeCondition(c: Condition): string {
  switch (c.op) {
    case 'const':
      return c.value ? 'always' : 'never';
    case 'test':
      return describePredicate(c.predicate);
    case 'not':
      return `not (${describeCondition(c.of)})`;
    default:
      return c.of
        .map((p) => (p.op === 'and' || p.op === 'or' ? `(${describeCondition(p)})` : describeCondition(p)))
        .join(` ${c.op} `);
  }
}

/** `500-503, 505` */
function ranges(numbers: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < numbers.length; ) {
    let last = i;
    while (numbers[last + 1] === numbers[last]! + 1) last++;
    parts.push(last === i ? `${numbers[i]}` : `${numbers[i]}-${numbers[last]}`);
    i = last + 1;
  }
  return parts.join(', ');
}

/** What is done when a try fails, and how an endpoint is chosen: label and text, where the action says something. */
export function describeForwarding(a: ForwardAction): [label: string, text: string][] {
  const lines: [string, string][] = [];
  if (a.timeoutMs > 0) lines.push(['timeout', `${a.timeoutMs} ms`]);
  if (a.perTryTimeoutMs) lines.push(['per try', `${a.perTryTimeoutMs} ms`]);
  if (a.retry) {
    const { statuses, resets, streams, retries } = a.retry;
    const on = [
      ...(statuses.length > 0 ? [ranges(statuses)] : []),
      ...(streams?.grpc.length ? [`gRPC's ${ranges(streams.grpc)}`] : []),
      ...(resets ? ['resets'] : streams?.refused ? ['refused streams'] : []),
    ];
    lines.push(['retries', `at most ${retries}, by the proxy, on ${on.join(' and ')}`]);
  }
  if (a.hash) {
    const sources = a.hash.map(({ of }) => ('name' in of ? `${of.kind} ${of.name}` : of.kind.replace('_', ' ')));
    lines.push(['endpoint', `by the hash of ${sources.join(', ')}`]);
  }
  return lines;
}
