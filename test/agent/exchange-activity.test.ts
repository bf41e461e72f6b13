import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ExchangeActivity, idleStrikes } from '../../src/agent/exchange-activity.js';
import { PHASE } from '../../src/layout/exchanges.js';

test('until the head of the answer, the last piece of the request counts', () => {
  const activity = new ExchangeActivity();
  assert.equal(activity.quietFor(130n, { started: 100n, phase: PHASE.AWAIT, body: 0n }), 30n);
  assert.equal(activity.quietFor(150n, { started: 140n, phase: PHASE.AWAIT, body: 0n }), 10n);
  // an answer that the agent is to carry has not begun yet
  assert.equal(activity.quietFor(190n, { started: 140n, phase: PHASE.AGENT, body: 0n }), 50n);
});

test('each piece of the answer counts, and the hand-over of the rest does not', () => {
  const activity = new ExchangeActivity();
  assert.equal(activity.quietFor(200n, { started: 100n, phase: PHASE.AWAIT, body: 0n }), 100n);
  assert.equal(activity.quietFor(220n, { started: 100n, phase: PHASE.CHUNKED, body: 0n }), 0n);
  assert.equal(activity.quietFor(240n, { started: 100n, phase: PHASE.CHUNKED, body: 0n }), 20n);
  assert.equal(activity.quietFor(260n, { started: 100n, phase: PHASE.CHUNKED, body: 7n }), 0n);
  assert.equal(activity.quietFor(280n, { started: 100n, phase: PHASE.HANDOVER, body: 7n }), 20n);
  activity.wrote(290n);
  assert.equal(activity.quietFor(300n, { started: 100n, phase: PHASE.HANDOVER, body: 7n }), 10n);
});

test('the next exchange on the slot begins anew', () => {
  const activity = new ExchangeActivity();
  activity.quietFor(200n, { started: 100n, phase: PHASE.BODY, body: 7n });
  activity.wrote(210n);
  assert.equal(activity.quietFor(330n, { started: 300n, phase: PHASE.BODY, body: 7n }), 0n);
  assert.equal(activity.quietFor(450n, { started: 400n, phase: PHASE.AWAIT, body: 0n }), 50n);
});

test('a timeout that is not longer strikes first', () => {
  assert.ok(idleStrikes(0, 300_000));
  assert.ok(idleStrikes(30_000, 10_000));
  assert.ok(!idleStrikes(15_000, 300_000));
  assert.ok(!idleStrikes(0, 0));
});
