import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '../../src/compile/address.js';
import { run } from '../../src/compile/dfa.js';
import { hostDfa } from '../../src/compile/host.js';
import { matcherDfa } from '../../src/compile/matcher.js';
import { queryDfa } from '../../src/compile/query.js';
import type { Matcher } from '../../src/plan/ir.js';
import { text } from './helpers.js';

const accepts = (matcher: Matcher, input: string) => run(matcherDfa(matcher)!, Buffer.from(input)).length > 0;

describe('matchers', () => {
  it('compares strings', () => {
    const word = fc.string({ unit: fc.constantFrom('a', 'A', 'b', 'B', 'x'), maxLength: 5 });
    fc.assert(
      fc.property(word, word, word, fc.boolean(), (a, value, b, ignoreCase) => {
        const fold = (s: string) => (ignoreCase ? s.toLowerCase() : s);
        for (const input of [a, a + value, value + b, a + value + b, value]) {
          const [i, v] = [fold(input), fold(value)];
          assert.equal(accepts(text('exact', value, ignoreCase), input), i === v);
          assert.equal(accepts(text('prefix', value, ignoreCase), input), i.startsWith(v));
          assert.equal(accepts(text('suffix', value, ignoreCase), input), i.endsWith(v));
          assert.equal(accepts(text('contains', value, ignoreCase), input), i.includes(v));
        }
      }),
      { numRuns: 300 },
    );
  });

  it('reads integers as absl::SimpleAtoi does', () => {
    const range: Matcher = { kind: 'range', start: -5n, end: 10n };
    for (const yes of ['5', '-5', '9', '+5', '005', '-0', ' \t5', '5\t', '-0005', '0'])
      assert.ok(accepts(range, yes), yes);
    for (const no of ['', '+', '-6', '10', '5 5', '- 5', '5,', '0x5', '99999999999999999999', '--5', '5.0'])
      assert.ok(!accepts(range, no), no);
    const all: Matcher = { kind: 'range', start: -(2n ** 63n), end: 2n ** 63n };
    for (const yes of ['9223372036854775807', '-9223372036854775808']) assert.ok(accepts(all, yes), yes);
    for (const no of ['9223372036854775808', '-9223372036854775809']) assert.ok(!accepts(all, no), no);
  });

  it('agrees with comparison for any range', () => {
    const int = fc.bigInt({ min: -1200n, max: 1200n });
    fc.assert(
      fc.property(int, int, int, fc.nat(2), (start, end, value, zeros) => {
        const sign = value < 0n ? '-' : '';
        const input = `${sign}${'0'.repeat(zeros)}${value < 0n ? -value : value}`;
        assert.equal(accepts({ kind: 'range', start, end }, input), value >= start && value < end);
      }),
      { numRuns: 500 },
    );
  });

  it('compares addresses', () => {
    const within = (address: string, prefixLength: number, input: string) =>
      run(matcherDfa({ kind: 'cidr', address, prefixLength })!, parseAddress(input)!).length > 0;
    assert.ok(within('10.1.0.0', 15, '10.0.255.1'));
    assert.ok(!within('10.1.0.0', 16, '10.0.255.1'));
    assert.ok(within('0.0.0.0', 0, '1.2.3.4'));
    assert.ok(!within('0.0.0.0', 0, '::1'));
    assert.ok(within('2001:db8::', 33, '2001:db8:7fff::1'));
    assert.ok(!within('2001:db8::', 33, '2001:db8:8000::1'));
    assert.ok(within('::ffff:1.2.3.4', 128, '::ffff:102:304'));
  });
});

describe('query parameters', () => {
  // As Envoy 1.40 answered for `a` being "" and "1".
  const CASES: [query: string, value: string | undefined][] = [
    ['a', ''],
    ['a=', ''],
    ['a=1', '1'],
    ['a=1&a=2', '1'],
    ['a=2&a=1', '2'],
    ['b&a=1', '1'],
    ['a=%31', '%31'],
    ['%61=1', undefined],
    ['=&a=1', '1'],
    ['?a=1', undefined],
    ['a==1', '=1'],
    ['a=1?', '1?'],
    ['&&a=1', '1'],
    ['b=a=1', undefined],
    ['a&a=1', ''],
    ['', undefined],
    ['aa=1', undefined],
  ];
  it('follows the first occurrence of the name', () => {
    for (const value of ['', '1', '%31', '=1', '1?', '2']) {
      const dfa = queryDfa('a', matcherDfa(text('exact', value))!, 1000)!;
      for (const [query, got] of CASES)
        assert.equal(run(dfa, Buffer.from(query)).length > 0, got === value, `${query} is ${value}`);
    }
    const present = queryDfa('a', matcherDfa({ kind: 'present' })!, 1000)!;
    for (const [query, got] of CASES)
      assert.equal(run(present, Buffer.from(query)).length > 0, got !== undefined, query);
  });
});

describe('host names', () => {
  /** Envoy's findVirtualHost. */
  function reference(domains: readonly string[][], host: string): number | undefined {
    const name = host.toLowerCase();
    const all = domains.flatMap((list, i) => list.map((domain) => ({ domain, i })));
    const find = (wanted: string) => all.find(({ domain }) => domain === wanted)?.i;
    const exact = find(name);
    if (exact !== undefined) return exact;
    for (let length = name.length - 1; length > 0; length--) {
      const suffix = find(`*${name.slice(name.length - length)}`);
      if (suffix !== undefined) return suffix;
    }
    for (let length = name.length - 1; length > 0; length--) {
      const prefix = find(`${name.slice(0, length)}*`);
      if (prefix !== undefined) return prefix;
    }
    return find('*');
  }

  it('takes the exact domain, the longest suffix, the longest prefix, the rest', () => {
    const label = fc.string({ unit: fc.constantFrom('a', 'b', '.'), minLength: 1, maxLength: 5 });
    const domain = fc.oneof(
      label,
      label.map((s) => `*${s}`),
      label.map((s) => `${s}*`),
      fc.constant('*'),
    );
    fc.assert(
      fc.property(
        fc.uniqueArray(domain, { minLength: 1, maxLength: 8 }),
        fc.array(label, { minLength: 5 }),
        (d, hosts) => {
          const domains = d.map((one) => [one]);
          const dfa = hostDfa(domains, 'none', 1e6)!;
          for (const host of [...hosts, ...d.map((x) => x.replace('*', 'a'))])
            assert.equal(run(dfa, Buffer.from(host.toUpperCase()))[0], reference(domains, host), host);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('ignores ports as it is told', () => {
    const domains = [['a.b'], ['a.b:80'], ['[::1]'], ['*.c']];
    const find = (strip: 'none' | 'any' | number, host: string) =>
      run(hostDfa(domains, strip, 1e6)!, Buffer.from(host))[0];
    assert.equal(find('none', 'a.b:80'), 1);
    assert.equal(find('none', 'a.b:81'), undefined);
    assert.equal(find('any', 'a.b:80'), 0);
    assert.equal(find('any', 'x.c:1'), 3);
    assert.equal(find('any', '[::1]:80'), 2);
    assert.equal(find('any', '[::1]'), 2);
    assert.equal(find(80, 'a.b:80'), 0);
    assert.equal(find(80, 'a.b:8'), undefined);
    assert.equal(find(80, 'x.c:80'), 3);
    assert.equal(find(80, 'x.c:801'), undefined);
  });
});
