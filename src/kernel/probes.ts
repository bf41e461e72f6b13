/** What this kernel and this process can do, found out by doing it. Nothing that a probe makes outlives it. */
import { readFileSync } from 'node:fs';
import { type BpfMap, createMap, u32, u64 } from './bpf-map.js';
import { attachLink, attachSockmap, detachSockmap, loadInstructions } from './bpf-program.js';
import { closeCgroup, createCgroups, openCgroup, removeCgroups } from './cgroups.js';
import { ATTACH, MAP_FLAG, MAP_TYPE, PROGRAM_TYPE } from './constants.js';
import { KernelError } from './errors.js';
import { addImm, call, exit, loadMap, movImm, movReg, returnValue, storeZero } from './instructions.js';
import { BpfObject } from './libbpf.js';
import { bpfObjectPath } from './object-path.js';
import { loopbackPair, readExactly } from './probe-sockets.js';
import { announceData, fdOf, unreadBytes } from './syscalls.js';

export interface Check {
  readonly name: string;
  readonly ok: boolean;
  /** what was tried and what came of it */
  readonly detail: string;
  /** what the user can do; empty when ok */
  readonly hint: string;
}

type Probe = () => string | Promise<string>;

/** Runs every probe, in order of dependence; a failing one does not stop the others. */
export async function probeAll(objectPath: string = bpfObjectPath()): Promise<Check[]> {
  const root = 'run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN';
  const config = 'needs a kernel with CONFIG_BPF_SYSCALL, CONFIG_CGROUP_BPF and CONFIG_BPF_STREAM_PARSER';
  return [
    await check('privilege', root, privilege),
    await check('cgroup2', 'mount it: mount -t cgroup2 none /sys/fs/cgroup/unified; and run as root', cgroup2),
    await check('btf', 'needs a kernel with CONFIG_DEBUG_INFO_BTF', btf),
    await check('mmap', 'needs Linux 5.5 or newer', mmapable),
    await check('inner-maps', 'needs Linux 5.10 or newer', innerMaps),
    await check('test-run', config, testRun),
    await check('cgroup-link', 'needs Linux 5.7 or newer with CONFIG_CGROUP_BPF', cgroupLink),
    await check('sockmap', config, () => redirect(false)),
    await probeNativeData(),
    await probeEarlyData(),
    await check('object', 'build it with script/build-bpf; if it is refused, the kernel is too old', () =>
      shippedObject(objectPath),
    ),
  ];
}

/** Whether ordinary data arrives after redirected data: without this, requests cannot be decided at applications' sockets. */
export function probeNativeData(): Promise<Check> {
  return check(
    'sockmap-native-data',
    'this kernel loses data on a socket after a redirect into it; run uses listener intake here',
    () => redirect(true),
  );
}

/** Whether a verdict can be made to see what had come before it: without this there is no listener intake. */
export function probeEarlyData(): Promise<Check> {
  return check(
    'sockmap-early-data',
    'a verdict does not see what came before a connection was accepted; without listener intake and --inbound it works',
    earlyData,
  );
}

async function check(name: string, hint: string, probe: Probe): Promise<Check> {
  try {
    return { name, ok: true, detail: await probe(), hint: '' };
  } catch (error) {
    return { name, ok: false, detail: error instanceof Error ? error.message : String(error), hint };
  }
}

function privilege(): string {
  createMap({ name: 'probe', type: MAP_TYPE.ARRAY, keySize: 4, valueSize: 8, maxEntries: 1 }).close();
  const program = loadInstructions(PROGRAM_TYPE.SK_MSG, 'probe', returnValue(1));
  program.close();
  return 'may create maps and load networking programs';
}

function withCgroup<T>(use: (fd: number) => T): T {
  const name = `doctor-${process.pid}`;
  const groups = createCgroups(name);
  try {
    const fd = openCgroup(groups.apps);
    try {
      return use(fd);
    } finally {
      closeCgroup(fd);
    }
  } finally {
    removeCgroups(name);
  }
}

function cgroup2(): string {
  return withCgroup(() => 'made and removed a cgroup');
}

function btf(): string {
  const bytes = readFileSync('/sys/kernel/btf/vmlinux');
  if (bytes.readUInt16LE(0) !== 0xeb9f) throw new KernelError('read /sys/kernel/btf/vmlinux (not BTF)', 0);
  return `the kernel describes its types (${(bytes.length / 1e6).toFixed(1)} MB)`;
}

function mmapable(): string {
  const map = createMap(
    { name: 'probe', type: MAP_TYPE.ARRAY, keySize: 4, valueSize: 8, maxEntries: 1 },
    MAP_FLAG.MMAPABLE,
  );
  try {
    const memory = map.mmap();
    memory.view.setUint32(0, 42, true);
    const seen = map.lookup(u32(0))?.[0];
    memory.unmap();
    if (seen !== 42) throw new KernelError('see mapped memory through the map', 0);
    return 'map memory is shared with this process';
  } finally {
    map.close();
  }
}

function innerMaps(): string {
  const flags = MAP_FLAG.MMAPABLE | MAP_FLAG.INNER_MAP;
  createMap({ name: 'probe', type: MAP_TYPE.ARRAY, keySize: 4, valueSize: 64, maxEntries: 1 }, flags).close();
  return 'policy generations may differ in size';
}

function testRun(): string {
  const program = loadInstructions(PROGRAM_TYPE.SCHED_CLS, 'probe', returnValue(42));
  try {
    const { retval } = program.testRun(new Uint8Array(64));
    if (retval !== 42) throw new KernelError(`run a program (it returned ${retval} instead of 42)`, 0);
    return 'ran a program on request';
  } finally {
    program.close();
  }
}

function cgroupLink(): string {
  const program = loadInstructions(PROGRAM_TYPE.SOCK_OPS, 'probe', returnValue(1));
  try {
    withCgroup((fd) => attachLink(program, fd, ATTACH.CGROUP_SOCK_OPS).close());
    return 'attached a program to a cgroup, by a link that dies with the process';
  } finally {
    program.close();
  }
}

/**
 * Sends on a socket whose sk_msg program redirects to the same socket's own receive queue, as a local reply does.
 * @param native also let the peer send ordinary data afterwards: kernels before 2026 may lose it
 */
async function redirect(native: boolean): Promise<string> {
  const map = createMap({ name: 'probe', type: MAP_TYPE.SOCKHASH, keySize: 8, valueSize: 8, maxEntries: 2 });
  const program = loadInstructions(PROGRAM_TYPE.SK_MSG, 'probe', redirectToSelf(map));
  const pair = await loopbackPair();
  try {
    attachSockmap(program, map, ATTACH.SK_MSG_VERDICT);
    map.update(u64(0n), u64(BigInt(fdOf(pair.client)!)));
    for (let round = 0; round < 3; round++) {
      pair.client.write(`reply ${round}`);
      await expectBytes(pair, `reply ${round}`);
      if (!native) continue;
      pair.server.write(`native ${round}`);
      await expectBytes(pair, `native ${round}`);
    }
    return native ? 'ordinary data arrives after redirected data' : 'a socket answered itself, unseen by its peer';
  } finally {
    pair.close();
    detachSockmap(program, map, ATTACH.SK_MSG_VERDICT);
    program.close();
    map.close();
  }
}

/** The verdict of an accepted socket sends everything back, also what waits there already when the socket enters the map. */
async function earlyData(): Promise<string> {
  const map = createMap({ name: 'probe', type: MAP_TYPE.SOCKHASH, keySize: 8, valueSize: 8, maxEntries: 2 });
  const program = loadInstructions(PROGRAM_TYPE.SK_SKB, 'probe', redirectToSelf(map, 72 /* sk_redirect_hash */, 0));
  const pair = await loopbackPair(true);
  try {
    attachSockmap(program, map, ATTACH.SK_SKB_STREAM_VERDICT);
    pair.client.write('early');
    const fd = fdOf(pair.server)!;
    for (let i = 0; i < 100 && unreadBytes(fd) < 5; i++) await new Promise((resolve) => setTimeout(resolve, 1));
    map.update(u64(0n), u64(BigInt(fd)));
    announceData(fd);
    await expectBytes(pair, 'early');
    pair.client.write('later');
    await expectBytes(pair, 'later');
    return 'a verdict sees what came before it';
  } finally {
    pair.close();
    detachSockmap(program, map, ATTACH.SK_SKB_STREAM_VERDICT);
    program.close();
    map.close();
  }
}

async function expectBytes(pair: { client: Parameters<typeof readExactly>[0] }, text: string): Promise<void> {
  const got = await readExactly(pair.client, text.length, 1000);
  if (got !== text) throw new KernelError(`read "${text}" after a redirect (got "${got}")`, 0);
}

/** `return bpf_msg_redirect_hash(msg, map, &(u64){0}, BPF_F_INGRESS)`, or another helper with other flags. */
function redirectToSelf(map: BpfMap, helper = 71, flags = 1): BigUint64Array {
  return BigUint64Array.from([
    storeZero(-8),
    movReg(3, 10),
    addImm(3, -8),
    ...loadMap(2, map.fd),
    movImm(4, flags),
    call(helper),
    exit(),
  ]);
}

function shippedObject(path: string): string {
  const object = BpfObject.open(path);
  try {
    object.load();
    return `loaded ${object.programNames().length} programs`;
  } finally {
    object.close();
  }
}
