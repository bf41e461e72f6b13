/** Which intake is chosen when a kernel fault is found, and that this kernel has none. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseIntake, type IntakeProbes } from '../../src/agent/choose-intake.js';

const answer = (name: string, ok: boolean) => () =>
  Promise.resolve({ name, ok, detail: `${name} says ${ok}`, hint: '' });
const probes = (nativeData: boolean, earlyData: boolean): IntakeProbes => ({
  nativeData: answer('native', nativeData),
  earlyData: answer('early', earlyData),
});

test('the wanted intake where the kernel can do it', async () => {
  assert.deepEqual(await chooseIntake('socket', false, probes(true, false)), { intake: 'socket', why: undefined });
  assert.deepEqual(await chooseIntake('listener', false, probes(false, true)), { intake: 'listener', why: undefined });
});

test('the safe one where data would be lost, saying so', async () => {
  const { intake, why } = await chooseIntake('socket', false, probes(false, true));
  assert.equal(intake, 'listener');
  assert.match(why ?? '', /may lose data .*native says false.*at the listener instead/);
});

test('none where neither works, or inbound cannot', async () => {
  assert.equal((await chooseIntake('socket', false, probes(false, false))).intake, undefined);
  assert.equal((await chooseIntake('listener', false, probes(true, false))).intake, undefined);
  assert.equal((await chooseIntake('socket', true, probes(true, false))).intake, undefined);
});

test('this kernel can do both', { skip: process.getuid?.() !== 0 && 'needs root' }, async () => {
  assert.deepEqual(await chooseIntake('socket', true), { intake: 'socket', why: undefined });
});
