import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { netEdits } from '../../src/compile/edits.js';
import type { HeaderEdit } from '../../src/plan/ir.js';
import { compile, decide, forward, listener, output, path, plan, route, text, UUID } from './helpers.js';

/** The header list after the edits, one at a time. */
function apply(headers: readonly [string, string][], edits: readonly HeaderEdit[]): [string, string][] {
  let list = [...headers];
  for (const edit of edits) {
    const there = list.some(([name]) => name === edit.name);
    const without = list.filter(([name]) => name !== edit.name);
    if (edit.op === 'remove') list = without;
    else if (typeof edit.value !== 'string') throw new RangeError('computed');
    else if (edit.op === 'append' || (edit.op === 'add_if_absent' && !there)) list = [...list, [edit.name, edit.value]];
    else if (edit.op === 'overwrite' || (edit.op === 'overwrite_if_present' && there))
      list = [...without, [edit.name, edit.value]];
  }
  return list;
}

const byName = (list: readonly [string, string][]) => {
  const names = [...new Set(list.map(([name]) => name))].sort();
  return names.map((name) => [name, list.filter(([n]) => n === name).map(([, value]) => value)]);
};

describe('header edits', () => {
  it('have the effect of applying them in order', () => {
    const name = fc.constantFrom('x-a', 'x-b', 'x-c');
    const value = fc.constantFrom('1', '2', '3');
    const edit: fc.Arbitrary<HeaderEdit> = fc.oneof(
      name.map((n) => ({ op: 'remove' as const, name: n })),
      fc.record({
        op: fc.constantFrom(
          'append' as const,
          'overwrite' as const,
          'add_if_absent' as const,
          'overwrite_if_present' as const,
        ),
        name,
        value,
      }),
    );
    const headers = fc.uniqueArray(fc.tuple(name, value), { maxLength: 3, selector: ([n]) => n });
    fc.assert(
      fc.property(fc.array(edit, { maxLength: 8 }), headers, (edits, list) => {
        const compiled = compile(
          plan(listener([route('r', path(text('prefix', '/')), { action: forward({ edits }) })])),
        );
        const head = `GET / HTTP/1.1\nhost: a\n${list.map(([n, v]) => `${n.toUpperCase()}: ${v}\n`).join('')}\n`;
        const lines = output(decide(compiled, head)).trimEnd().split('\n').slice(1);
        const got = lines.map((l) => [l.slice(0, l.indexOf(':')).toLowerCase(), l.slice(l.indexOf(':') + 2)]) as [
          string,
          string,
        ][];
        assert.deepEqual(byName(got), byName(apply([['host', 'a'], ...list], edits)));
      }),
      { numRuns: 150 },
    );
  });

  it('come after what the proxy adds by itself', () => {
    const make = (edits: HeaderEdit[]) => {
      const action = forward({ edits });
      const l = listener([route('r', path(text('prefix', '/')), { action })], {
        generateRequestId: true,
        forwardedProto: 'http',
      });
      return compile(plan(l));
    };
    const send = (edits: HeaderEdit[], more = '') => output(decide(make(edits), `GET / HTTP/1.1\nhost: a\n${more}\n`));
    const start = 'GET / HTTP/1.1\nhost: a\n';
    assert.equal(send([]), `${start}x-request-id: ${UUID}\nx-forwarded-proto: http\n\n`);
    assert.equal(
      send([], 'x-request-id: 1\nX-Forwarded-Proto: https\n'),
      `${start}x-request-id: 1\nX-Forwarded-Proto: https\n\n`,
    );
    assert.equal(
      send([{ op: 'remove', name: 'x-request-id' }], 'x-request-id: 1\n'),
      `${start}x-forwarded-proto: http\n\n`,
    );
    assert.equal(
      send([{ op: 'add_if_absent', name: 'x-request-id', value: '2' }]),
      `${start}x-request-id: ${UUID}\nx-forwarded-proto: http\n\n`,
    );
    assert.equal(
      send([{ op: 'overwrite_if_present', name: 'x-forwarded-proto', value: 'z' }]),
      `${start}x-request-id: ${UUID}\nx-forwarded-proto: z\n\n`,
    );
  });

  it('drops hop-by-hop headers', () => {
    const compiled = compile(plan(listener([route('r', path(text('prefix', '/')))])));
    const head = 'GET / HTTP/1.1\nconnection: keep-alive\nHost: a\nKeep-Alive: 1\nx: y\n\n';
    assert.equal(output(decide(compiled, head)), 'GET / HTTP/1.1\nHost: a\nx: y\n\n');
  });

  it('refuses what the kernel must not do', () => {
    const none = { requestId: false, forwardedProto: '', traced: false };
    const refused: HeaderEdit[] = [
      { op: 'remove', name: 'content-length' },
      { op: 'overwrite', name: 'host', value: 'x' },
      { op: 'append', name: 'connection', value: 'x' },
      { op: 'append', name: 'user-agent', value: 'x' },
      { op: 'append', name: 'x', value: 'a\r\nb: c' },
      { op: 'append', name: 'x y', value: '1' },
    ];
    for (const edit of refused) assert.equal(typeof netEdits([edit], none), 'string', JSON.stringify(edit));
    assert.equal(typeof netEdits([{ op: 'append', name: 'x-a', value: '1' }], none), 'object');
  });
});
