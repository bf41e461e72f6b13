/** Automata of the image, as bpf/match.h runs them. */
import { NODE_KEYS, NodeSpec, STATE } from '../layout/image.js';
import { get, getBig } from '../layout/struct.js';

/** Runs a matching automaton, returns the accept value of the state where the input ends. */
export function match(image: DataView, start: number, classes: number, input: Uint8Array): number {
  let state = start;
  for (let at = 0; at < input.length; ) {
    const row = state & ~7;
    if (state & STATE.SINK) return row;
    const entry = image.getUint8(classes + input[at]!);
    if ((state & STATE.NODE) === 0) {
      const cell = row + 8 * entry;
      state = image.getUint32((image.getUint32(cell, true) === row ? cell : row) + 4, true);
      at++;
      continue;
    }
    const member = (name: string, index = 0) => get(image, row, NodeSpec, name, index);
    const length = member('length');
    const word = new DataView(new ArrayBuffer(8));
    input.subarray(at, at + 8).forEach((byte, i) => {
      word.setUint8(i, byte);
    });
    const masked = word.getBigUint64(0, true) & getBig(image, row, NodeSpec, 'mask');
    if (at + length > input.length || masked !== getBig(image, row, NodeSpec, 'want')) {
      state = member('fail');
      continue;
    }
    at += length;
    state = member('other');
    if (member('on')) continue;
    if (at === input.length) return member('end');
    const keys = getBig(image, row, NodeSpec, 'keys');
    for (let i = 0; i < NODE_KEYS; i++)
      if (Number((keys >> BigInt(8 * i)) & 0xffn) === image.getUint8(classes + input[at]!)) state = member('to', i);
    at++;
  }
  return state & STATE.SINK ? state & ~7 : image.getUint32(state & ~7, true);
}
