import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { createMap, MAP_FLAG, MAP_TYPE } from '../../src/kernel/libbpf.js';
import { loadLibrary } from '../../src/kernel/libc.js';
import { Arena } from '../../src/kernel/memory.js';
import { needsRoot } from './compile-bpf.js';

const ROUNDS = 5_000_000;

/** Adds to the first word of a map from a thread of its own, through a mapping of its own. */
const ADDER = `
  const { workerData } = require('node:worker_threads');
  const koffi = require('koffi');
  const mmap = koffi.load('libc.so.6').func('void *mmap(void *, size_t, int, int, int, int64_t)');
  const words = new BigUint64Array(koffi.view(mmap(null, 4096, 3, 1, workerData.fd, 0), 4096));
  for (let i = 0; i < workerData.rounds; i++) Atomics.add(words, 0, 1n);
`;

describe('memory shared with the kernel', () => {
  it('loses no update of Atomics from two mappings at once', { skip: needsRoot }, async () => {
    const shape = { name: 'atomics', type: MAP_TYPE.ARRAY, keySize: 4, valueSize: 8, maxEntries: 1 };
    const map = createMap(shape, MAP_FLAG.MMAPABLE);
    const memory = map.mmap();
    const workers = [1, 2].map(
      () => new Worker(ADDER, { eval: true, execArgv: [], workerData: { fd: map.fd, rounds: ROUNDS } }),
    );
    await Promise.all(workers.map((worker) => once(worker, 'exit')));
    assert.equal(memory.view.getBigUint64(0, true), BigInt(2 * ROUNDS));
    memory.unmap();
    map.close();
  });

  it('keeps a buffer in its place', () => {
    const arena = new Arena(64);
    assert.ok(arena.bytes.every((b) => b === 0));
    assert.equal(arena.at(8) - arena.at(), 8n);
  });
});

describe('a library that is not installed', () => {
  it('is named in one sentence, with its package', () => {
    assert.throws(() => loadLibrary('libnothing.so.1', 'libnothing1'), {
      message: 'cannot load the library libnothing.so.1 (install the package libnothing1; script/bootstrap does)',
    });
  });
});
