import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BreakerQueue } from '../../src/agent/breaker-queue.js';
import { bounded, PoolBounds } from '../../src/agent/pool-bounds.js';

describe('requests that wait for a place', () => {
  const said: string[] = [];
  const request = (name: string, timeoutMs = 0) => {
    const state = { alive: true, complete: true };
    const waiting = {
      end: name,
      timeoutMs,
      alive: () => state.alive,
      complete: () => state.complete,
      count: () => void said.push(`${name} counts`),
      answer: (advice?: { refusal?: { status: number }; headers?: readonly (readonly [string, string])[] }) =>
        void said.push(`${name} ${advice?.refusal?.status ?? advice?.headers?.[0]?.[1] ?? 'passes'}`),
    };
    return { state, waiting };
  };
  const since = (): string[] => said.splice(0);

  it('first come, first served, without those that have gone', () => {
    const queue = new BreakerQueue();
    const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((name) => request(name)) as [
      ReturnType<typeof request>,
      ...ReturnType<typeof request>[],
    ];
    for (const { waiting } of [a, b!, c!, d!]) queue.add(waiting);
    queue.admit(0, () => false);
    assert.deepEqual(since(), []);
    a.state.alive = false;
    queue.drop('c');
    let places = 1;
    queue.admit(1, () => places-- > 0);
    assert.deepEqual(since(), ['b counts', 'b passes']);
    queue.release(2);
    assert.deepEqual(since(), ['d passes']);
    assert.equal(queue.length, 0);
  });

  it('their time runs from when they were sent to their end', () => {
    const queue = new BreakerQueue();
    const [slow, late, kept] = [request('slow', 100), request('late', 100), request('kept', 100)];
    slow.state.complete = false;
    for (const { waiting } of [slow, late]) queue.add(waiting);
    queue.admit(0, () => false);
    queue.add(kept.waiting);
    queue.admit(90, () => false);
    slow.state.complete = true;
    queue.admit(100, () => false);
    assert.deepEqual(since(), ['late 504']);
    queue.admit(150, () => true);
    assert.deepEqual(since(), ['slow counts', 'slow 50', 'kept counts', 'kept 40']);
  });
});

describe('how many connections there may be', () => {
  const most = (cluster: string, n: number) => ({ cluster, most: n, waiting: 1 });

  it('for all endpoints of a cluster together, and one for each', () => {
    const bounds = new PoolBounds();
    const a = bounded(undefined, most('a', 3));
    bounds.use(
      new Map([
        [1, a],
        [2, a],
        [3, bounded(a, undefined)],
        [4, bounded(bounded(undefined, most('b', 1)), most('c', 2))],
      ]),
    );
    const open = new Map([
      [1, 3],
      [4, 1],
    ]);
    const allows = (endpoint: number) => bounds.allows(endpoint, (id) => open.get(id) ?? 0);
    assert.equal(allows(1), false);
    assert.equal(allows(2), true, 'the first');
    open.set(2, 1);
    assert.equal(allows(2), false);
    assert.equal(allows(3), true, 'another cluster leads there without a limit');
    assert.equal(allows(4), true, 'another cluster has room');
    open.set(4, 2);
    assert.equal(allows(4), false);
    assert.equal(allows(5), true);
    assert.equal(bounds.together(1, 2), true);
    assert.equal(bounds.together(1, 4), false);
    assert.equal(bounded(undefined, { cluster: 'd', most: 1 }).get(''), Number.POSITIVE_INFINITY, 'requests alone');
  });
});
