/** Rules 7, 10, 11, 12 and 14: the order of bytes, and what the socket tells its application. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { heldBy, mapId, show } from './kernel-state.js';
import { assertNoFailures, output, type Report, RulesWorld, skip } from './world.js';

describe('bytes on application sockets', { skip, timeout: 240_000 }, () => {
  let world: RulesWorld;
  const agent = (): number => world.sidestep.process.pid;

  before(async () => {
    world = await RulesWorld.open('bytes');
  });
  after(() => world?.close());

  /** Runs a client; what it reports (no failures), and how the counters changed meanwhile. */
  const observed = async (program: string, args: (string | number)[], timeoutMs?: number) => {
    const before = await world.status();
    const report: Report = await world.client(program, args, timeoutMs);
    const after = await world.status();
    assertNoFailures(report);
    const counters: Record<string, number> = {};
    for (const [name, n] of Object.entries(after.counters ?? {})) counters[name] = n - (before.counters?.[name] ?? 0);
    const requests = {
      kernel: after.requests.kernel - before.requests.kernel,
      proxy: after.requests.proxy - before.requests.proxy,
      agent: after.requests.agent - before.requests.agent,
    };
    return { report, counters, requests };
  };

  test('rule 7: no verdict on application sockets; poll, epoll, select, FIONREAD and peeks tell the truth', async (t) => {
    const id = await mapId(agent(), 'clients');
    const text = await output(['python3', '-c', QUERY, String(id)]);
    // parser, stream verdict, message verdict, verdict
    assert.deepEqual(JSON.parse(text), [0, 0, 1, 0], 'programs of the map of client sockets');
    const { report } = await observed('rule07.py', []);
    t.diagnostic(JSON.stringify(report));
    assert.ok(Number(report.proxied) >= 60);
    assert.ok(Number(report.kernel) >= 50);
  });

  test('rule 10: a client that ended its side still gets the whole answer', async (t) => {
    const { report, requests } = await observed('rule10.py', [15]);
    t.diagnostic(JSON.stringify({ report, requests }));
    assert.ok(Number(report.answers) > 150);
    assert.ok(requests.kernel > 100);
  });

  // What steers there must not fail open: test/inbound kills the agent, and the proxy, too.
  test('rule 11: nothing is steered by sk_lookup where no inbound listener is configured', async () => {
    const { programs, links } = heldBy(agent());
    const loaded = (await show('prog')).filter((p) => programs.has(p.id)).map((p) => p.type);
    assert.ok(loaded.includes('sk_msg') && loaded.includes('sk_skb'), loaded.join());
    const attached = (await show('link')).filter((l) => links.has(l.id)).map((l) => `${l.type} ${l.attach_type}`);
    assert.ok(attached.length > 0);
    for (const link of attached) assert.doesNotMatch(link, /netns|sk_lookup/);
  });

  test('rule 12: long chunked streams are carried natively, and a blocking recv never sees EAGAIN', async (t) => {
    const { report, counters, requests } = await observed('rule12.py', [6, 300_000, 60], 60_000);
    t.diagnostic(JSON.stringify({ report, requests, counters }));
    assert.equal(report.streams, 12);
    assert.ok(Number(report.recvs) > 1000, 'the chunks must arrive in small pieces');
    // one that finds no idle upstream connection is streamed by the proxy, natively, too
    assert.ok(requests.agent >= 9, `${requests.agent} of 12 carried by the agent`);
    assert.equal(counters.answers_agent, requests.agent);
  });

  test('rule 14: large answers in order under load, small ones soon; RPS stays off', async (t) => {
    const rps = (): string => readFileSync('/sys/class/net/lo/queues/rx-0/rps_cpus', 'utf8').replace(/[0,\s]/g, '');
    assert.equal(rps(), '', 'RPS was on before');
    const { report, requests } = await observed('rule14.py', [6, 40, 700_000]);
    t.diagnostic(JSON.stringify({ report, requests }));
    const answers = Number(report.words) / (700_000 / 8);
    assert.ok(answers >= 6 * 40);
    assert.ok(requests.kernel >= answers * 0.9, 'the answers must come through the kernel');
    assert.ok(Number(report.samples) >= 60);
    // 63 us on an idle machine; here everything competes for the processors, and a lost wake-up takes seconds
    assert.ok(Number(report.p50_us) < 50_000 && Number(report.p99_us) < 500_000);
    assert.equal(rps(), '');
  });
});

/** Asks the kernel (BPF_MAP_GET_FD_BY_ID, BPF_PROG_QUERY) how many programs of each kind a socket map has. */
const QUERY = `
import ctypes, json, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\\0"), 128)
    result = libc.syscall(321 if os.uname().machine == "x86_64" else 280, command, buffer, 128)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result, buffer.raw
fd, _ = bpf(14, struct.pack("I", int(sys.argv[1])))
counts = []
for kind in (4, 5, 7, 38):
    ids = ctypes.create_string_buffer(64)
    _, out = bpf(16, struct.pack("IIIIQI", fd, kind, 0, 0, ctypes.addressof(ids), 16))
    counts.append(struct.unpack_from("I", out, 24)[0])
print(json.dumps(counts))
`;
