import assert from 'node:assert/strict';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import {
  cgroupProcesses,
  createCgroups,
  currentCgroup,
  joinCgroup,
  openCgroup,
  removeCgroups,
} from '../../src/kernel/cgroups.js';
import {
  ATTACH,
  BpfObject,
  createMap,
  KernelError,
  MAP_FLAG,
  MAP_TYPE,
  UPDATE,
  u32,
  u64,
} from '../../src/kernel/libbpf.js';
import { closeFd, fdOf, socketCookie } from '../../src/kernel/syscalls.js';
import { compileBpf, needsRoot } from './compile-bpf.js';

const listen = (server: Server): Promise<number> =>
  new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port)));

const tryConnect = (port: number): Promise<string> =>
  new Promise((resolve) => {
    const socket: Socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve('connected');
    });
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'error'));
  });

describe('a BPF object', { skip: needsRoot }, () => {
  let object: BpfObject;
  before(() => {
    object = BpfObject.open(compileBpf('probe'));
    object.setConst('answer', 77);
    object.setConst('wide', 0x1_0000_0001n);
    object.setMapMaxEntries('table', 3);
    object.load();
  });
  after(() => object.close());

  it('lists what it holds', () => {
    assert.deepEqual(object.programNames(), ['packet', 'control', 'message', 'refuse']);
    assert.ok(object.mapNames().includes('cells'));
    assert.throws(() => object.map('nothing'), RangeError);
    assert.throws(() => object.program('nothing'), RangeError);
  });

  it('runs a tc program; constants, the packet and mapped memory are what the program saw', () => {
    const memory = object.map('cells').mmap();
    assert.equal(object.map('cells').stride, 16);
    const before = memory.view.getUint8(0);
    const { retval, dataOut } = object.program('packet').testRun(new Uint8Array(64).fill(1));
    assert.equal(retval, 77);
    assert.equal(dataOut.length, 64);
    assert.deepEqual([dataOut[0], dataOut[1]], [0x5a, 1]);
    assert.equal(memory.view.getUint8(0), before + 1);
    // and the other way round: what JavaScript writes, the program sees
    memory.view.setUint8(0, 200);
    object.program('packet').testRun(new Uint8Array(64));
    assert.equal(object.map('cells').lookup(u32(0))?.[0], 201);
    memory.unmap();
    assert.equal(memory.view.getUint8(0), 0);
    assert.equal(object.map('cells').lookup(u32(0))?.[0], 201);
  });

  it('reads a per-CPU map: one value for each possible CPU', () => {
    const value = object.map('counters').lookup(u32(0))!;
    const view = new DataView(value.buffer);
    let sum = 0;
    for (let at = 0; at < value.length; at += 8) sum += view.getUint32(at, true);
    assert.ok(sum >= 2);
  });

  it('updates, looks up, walks and deletes', () => {
    const table = object.map('table');
    assert.equal(table.lookup(u64(1n)), undefined);
    for (const key of [1n, 2n, 3n]) table.update(u64(key), u32(Number(key) * 10));
    assert.deepEqual(table.lookup(u64(2n)), u32(20));
    assert.equal([...table.keys()].length, 3);
    assert.throws(() => table.update(u64(4n), u32(0)), { code: 'E2BIG' });
    assert.throws(() => table.update(u64(1n), u32(0), UPDATE.NOEXIST), { code: 'EEXIST' });
    assert.equal(table.delete(u64(1n)), true);
    assert.equal(table.delete(u64(1n)), false);
    assert.throws(() => table.lookup(u32(1)), RangeError);
  });

  it('switches inner maps under a running syscall program', () => {
    const shape = { name: 'inner', type: MAP_TYPE.ARRAY, keySize: 4, valueSize: 8, maxEntries: 1 };
    const run = (): bigint[] => {
      const { contextOut } = object.program('control').testRun(new Uint8Array(), new Uint8Array(16));
      return [...new BigUint64Array(contextOut.buffer)];
    };
    assert.deepEqual(run(), [0x1_0000_0001n, 0n]);
    for (const value of [7n, 8n]) {
      const inner = createMap(shape, MAP_FLAG.MMAPABLE | MAP_FLAG.INNER_MAP);
      const memory = inner.mmap();
      memory.view.setBigUint64(0, value, true);
      object.map('generations').update(u32(0), u32(inner.fd));
      inner.close();
      assert.deepEqual(run(), [0x1_0000_0001n, value]);
      memory.unmap();
    }
  });

  it('sees the messages of a socket in a socket map', async () => {
    object.attachSockmap('message', 'sockets', ATTACH.SK_MSG_VERDICT);
    const server = createServer((s) => s.pipe(s));
    const port = await listen(server);
    const client = connect(port, '127.0.0.1');
    await new Promise((resolve) => client.once('connect', resolve));
    const fd = fdOf(client)!;
    object.map('sockets').update(u64(socketCookie(fd)), u64(BigInt(fd)));
    const runs = object.map('.bss').mmap(false);
    const before = runs.view.getBigUint64(0, true);
    const echoed = new Promise((resolve) => client.once('data', resolve));
    client.write('hello');
    assert.equal(String(await echoed), 'hello');
    assert.equal(runs.view.getBigUint64(0, true), before + 1n);
    runs.unmap();
    client.destroy();
    server.close();
  });

  it('attaches to a cgroup by link, touches nothing outside it, and detaches with the link', async () => {
    const server = createServer();
    const port = await listen(server);
    const home = currentCgroup();
    const groups = createCgroups(`test-${process.pid}`);
    const fd = openCgroup(groups.apps);
    const link = object.attachCgroup('refuse', fd);
    assert.equal(await tryConnect(port), 'connected');
    joinCgroup(groups.apps);
    assert.deepEqual(cgroupProcesses(groups.apps), [process.pid]);
    assert.equal(await tryConnect(port), 'EPERM');
    link.close();
    link.close();
    assert.equal(await tryConnect(port), 'connected');
    assert.deepEqual(removeCgroups(groups.name), [process.pid]);
    joinCgroup(home);
    closeFd(fd);
    server.close();
  });
});

describe('a BPF object that cannot be used', { skip: needsRoot }, () => {
  it('names the missing file in one sentence', () => {
    assert.throws(
      () => BpfObject.open('/nowhere/x.bpf.o'),
      (error) => error instanceof KernelError && /^cannot open \/nowhere\/x\.bpf\.o: ENOENT/.test(error.message),
    );
  });

  it("quotes the verifier's reason and keeps its whole log", () => {
    const object = BpfObject.open(compileBpf('refused'));
    assert.throws(
      () => object.load(),
      (error) => {
        assert.ok(error instanceof KernelError);
        assert.equal(error.code, 'EACCES');
        assert.match(error.message, /the verifier says of packet: .*map_value_or_null/);
        assert.ok(!error.message.includes('\n'));
        assert.match(error.log, /BEGIN PROG LOAD LOG/);
        return true;
      },
    );
    object.close();
  });
});
