/** The places in which decisions are remembered (bpf/recall.h), state by state. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { compileImage } from '../../src/compile/image.js';
import { u32 } from '../../src/kernel/libbpf.js';
import { DECISION_WORDS, DecisionSpec, MAX_DECISIONS } from '../../src/layout/decisions.js';
import { get, set } from '../../src/layout/struct.js';
import { listener, path, plan, route, text } from '../compile/helpers.js';
import { Kernel } from './kernel.js';

const SOURCE = Uint8Array.of(127, 0, 0, 1);

/** An image whose route to a path answers with this path; routes in other numbers lie elsewhere in it. */
function imageOf(paths: readonly string[]): Uint8Array {
  const routes = paths.map((value) =>
    route(value, path(text('exact', value)), {
      action: { kind: 'reply', status: 200, headers: [], body: value },
    }),
  );
  const options = { generation: 1, endpointId: () => 1, proxyEndpointId: () => 9, remembers: true };
  return compileImage(plan(listener(routes)), options).image;
}

describe('what is remembered of a host and a path', { skip: process.getuid?.() !== 0 ? 'needs root' : false }, () => {
  let kernel: Kernel;
  before(() => {
    kernel = new Kernel();
  });
  after(() => kernel.close());

  /** Asks once; whether it was remembered. The answer must be right in any case. */
  const asks = (target: string, host = 'a.test', answer = target): boolean => {
    const recalled = kernel.recalled();
    const head = `GET ${target} HTTP/1.1\r\nhost: ${host}\r\n\r\n`;
    const { action, output } = kernel.decideOnce(0, Buffer.from(head), SOURCE);
    assert.equal(action, 'reply');
    assert.match(output.toString(), answer ? new RegExp(`\r\n\r\n${answer}$`) : /^HTTP\/1.1 404/);
    return kernel.recalled() > recalled;
  };
  /** The texts of the paths that have a place, by place. */
  const places = (): Map<number, string> => {
    const found = new Map<number, string>();
    for (let key = 0; key < MAX_DECISIONS; key++) {
      const bytes = kernel.decisions.lookup(u32(key))!;
      const words = Buffer.from(bytes.subarray(bytes.length - 8 * DECISION_WORDS)).toString('latin1');
      if (words[0] === '/') found.set(key, words.slice(0, words.indexOf('\0')));
    }
    return found;
  };
  const placeOf = (target: string): number => [...places()].find(([, of]) => of === target)![0];

  it('is found the second time, by host and path, in one generation alone', () => {
    kernel.install(imageOf(['/x', '/y']));
    assert.deepEqual([asks('/x'), asks('/x'), asks('/x')], [false, true, true]);
    assert.deepEqual([asks('/x', 'b.test'), asks('/x', 'b.test')], [false, true]);
    assert.deepEqual([asks('/y'), asks('/y'), asks('/x')], [false, true, true]);
    // the same size, but what was the list of /x is now that of /w
    kernel.install(imageOf(['/w', '/x']));
    assert.deepEqual([asks('/x'), asks('/x'), asks('/w'), asks('/w')], [false, true, false, true]);
  });

  it('has nothing of the query in it, and the lack of a route, too', () => {
    kernel.install(imageOf(['/x', '/y']));
    assert.deepEqual([asks('/x?a=1', 'a.test', '/x'), asks('/x?b=/y', 'a.test', '/x')], [false, true]);
    assert.deepEqual([asks('/none', 'a.test', ''), asks('/none', 'a.test', '')], [false, true]);
  });

  it('is about short hosts and paths', () => {
    const long = `/${'p'.repeat(56)}`;
    const fits = `/${'p'.repeat(55)}`;
    kernel.install(imageOf([long, fits]));
    assert.deepEqual([asks(long), asks(long), asks(fits), asks(fits)], [false, false, false, true]);
    const host = 'h'.repeat(41);
    assert.deepEqual([asks(fits, host), asks(fits, host)], [false, false]);
    assert.deepEqual([asks(fits, host.slice(1)), asks(fits, host.slice(1))], [false, true]);
  });

  it('gives its place to what is asked for twice in a row', () => {
    const paths = Array.from({ length: 700 }, (_, i) => `/path-${i}`);
    kernel.install(imageOf(paths));
    for (const target of paths) asks(target);
    const once = places();
    const texts = new Set(once.values());
    const second = paths.find((target) => !texts.has(target))!;
    assert.equal(asks(second), false);
    const first = once.get(placeOf(second))!;
    assert.deepEqual([asks(second), asks(first), asks(second)], [true, false, true], 'once is not enough');
    assert.deepEqual(
      [asks(first), asks(first), asks(second)],
      [false, true, false],
      'asked for twice, with none between',
    );
  });

  it('is left alone while somebody writes it', () => {
    kernel.install(imageOf(['/x', '/y']));
    assert.deepEqual([asks('/x'), asks('/x')], [false, true]);
    const key = placeOf('/x');
    const bytes = Uint8Array.from(kernel.decisions.lookup(u32(key))!);
    const view = new DataView(bytes.buffer);
    const version = get(view, 0, DecisionSpec, 'version');
    assert.equal(version % 2, 0);
    set(view, 0, DecisionSpec, 'version', version + 1);
    kernel.decisions.update(u32(key), bytes);
    assert.deepEqual([asks('/x'), asks('/x'), asks('/x')], [false, false, false]);
    assert.deepEqual(
      get(new DataView(kernel.decisions.lookup(u32(key))!.slice().buffer), 0, DecisionSpec, 'version'),
      version + 1,
    );
    set(view, 0, DecisionSpec, 'version', version);
    kernel.decisions.update(u32(key), bytes);
    assert.equal(asks('/x'), true);
  });
});
