/**
 * Memory that connections need: many idle ones, and many whose clients read slowly. `script/memory` measures more of them
 * and writes docs/memory.md.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { sleep } from '../../src/lab/processes.js';
import { MESH, RulesWorld, skip } from '../rules/world.js';

const CROWD = join(dirname(fileURLToPath(import.meta.url)), 'crowd.py');
const idle = Number(process.env.SIDESTEP_MEMORY_IDLE ?? 2000);
const slow = Number(process.env.SIDESTEP_MEMORY_SLOW ?? 200);
const page = process.env.SIDESTEP_MEMORY_PAGE;

interface Memory {
  /** of the agent */
  readonly agent: number;
  /** of the proxy */
  readonly proxy: number;
  /** that belongs to no process: the kernel's */
  readonly kernel: number;
}

describe('memory', { skip, timeout: 300_000 }, () => {
  let world: RulesWorld;
  const rows: string[] = [];

  before(async () => {
    world = await RulesWorld.open('memory');
  });
  after(async () => {
    await world?.close();
    if (page) writeFileSync(page, document(rows));
  });

  const residentMb = (pid: number): number =>
    Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;

  const memory = async (): Promise<Memory> => {
    const { proxyPid } = (await world.status()) as unknown as { proxyPid: number };
    const text = readFileSync('/proc/meminfo', 'utf8');
    const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)![1]) / 1024;
    const kernel = of('MemTotal') - of('MemFree') - of('Cached') - of('Buffers') - of('AnonPages');
    return { agent: residentMb(world.sidestep.process.pid), proxy: residentMb(proxyPid), kernel };
  };

  /** What `n` connections need, in KB for each, and whether all their requests were answered. `meshed`: through Sidestep. */
  const crowd = async (
    n: number,
    path: string,
    rate: number,
    meshed = true,
    meanwhile: (connections: number) => Promise<void> = async () => undefined,
  ): Promise<Memory> => {
    await world.settledConnections();
    await sleep(1000); // what the crowd before had is given back
    const before = await memory();
    const [address, port] = meshed ? [MESH, world.port] : ['127.0.0.1', world.upstream];
    const argv = ['python3', CROWD, address, String(port), String(n), path, String(rate)];
    const client = (meshed ? world.sidestep : world.lab).start('crowd', argv, { stdin: true });
    await client.waitFor(/^there$/m, 120_000);
    await sleep(rate ? 3000 : 500);
    const now = await memory();
    await meanwhile(((await world.status()) as unknown as { connections: number }).connections);
    client.child.stdin!.write('\n');
    assert.equal((await client.waitFor(/^done (\d+)$/m, 120_000))[1], '0', client.output.slice(0, 2000));
    const each = (what: keyof Memory): number => Math.max(0, ((now[what] - before[what]) * 1024) / n);
    return { agent: each('agent'), proxy: each('proxy'), kernel: each('kernel') };
  };

  const note = (what: string, n: number, m: Memory): string => {
    const cells = [m.kernel, m.agent, m.proxy].map((kb) => kb.toFixed(1));
    rows.push(`| ${what} | ${n.toLocaleString('en')} | ${cells.join(' | ')} |`);
    return `${n} ${what}: kernel ${cells[0]} KB, agent ${cells[1]} KB, proxy ${cells[2]} KB each`;
  };

  test('idle connections', async (t) => {
    let seen = 0;
    const m = await crowd(idle, '/echo/x', 0, true, async (connections) => {
      seen = connections;
    });
    t.diagnostic(note('idle connections', idle, m));
    assert.equal(seen, idle, 'all of them at once');
    assert.ok(m.kernel < 64, `${m.kernel} KB in the kernel`);
    assert.ok(m.agent < 64, `${m.agent} KB in the agent`);
  });

  test('clients that read 1 KB a second of an answer of 1 MB', async (t) => {
    const m = await crowd(slow, '/size/1000000/x', 1024);
    t.diagnostic(note('readers of 1 KB/s of 1 MB', slow, m));
    const alone = await crowd(slow, '/size/1000000/x', 1024, false);
    t.diagnostic(note('the same without a mesh', slow, alone));
    assert.ok(m.kernel < 4096, `${m.kernel} KB in the kernel`);
    assert.ok(m.agent < 1024, `${m.agent} KB in the agent`);
  });

  test('clients that send 40 requests for 60 KB and read nothing', async (t) => {
    const n = Math.ceil(slow / 4);
    const before = await world.status();
    let now = before;
    const m = await crowd(n, '/size/60000/x', -1, true, async () => {
      now = await world.status();
    });
    t.diagnostic(note('clients with 40 answers of 60 KB unread', n, m));
    // nothing is read, so every answer of the kernel's waits where it was redirected to
    const waiting = (now.requests.kernel - before.requests.kernel) / n;
    const crowded = now.counters!.unread! - before.counters!.unread!;
    t.diagnostic(`${waiting.toFixed(1)} answers of the kernel each; ${crowded} requests held back for that`);
    assert.ok(waiting < 7, `${waiting} answers wait for each client`);
    assert.ok(crowded >= n * 0.9, `only ${crowded} requests were held back`);
    assert.ok(m.agent < 512, `${m.agent} KB in the agent`);
  });

  /** What the buffers of one TCP connection may hold at most, both directions' ends, in KB. */
  const buffersKb = (): number =>
    ['tcp_rmem', 'tcp_wmem'].reduce(
      (sum, name) => sum + Number(readFileSync(`/proc/sys/net/ipv4/${name}`, 'utf8').trim().split(/\s+/)[2]) / 1024,
      0,
    );

  test('clients that read 1 KB a second of an answer of 1 GB', async (t) => {
    const m = await crowd(slow, '/size/1000000000/x', 1024);
    t.diagnostic(note('readers of 1 KB/s of 1 GB', slow, m));
    t.diagnostic(note('the same without a mesh', slow, await crowd(slow, '/size/1000000000/x', 1024, false)));
    // the client's connection and the server's, with their buffers full
    assert.ok(m.kernel < 2 * buffersKb(), `${m.kernel} KB in the kernel, the buffers hold ${buffersKb()}`);
    assert.ok(m.agent < 1024, `${m.agent} KB in the agent`);
  });
});

function document(rows: readonly string[]): string {
  return `# Memory

\`script/memory\` writes this page: what a connection needs, measured as the growth of everything that belongs to no process
(the kernel: sockets of client, agent and server, and what waits in them), of the agent, and of Envoy. Client and server are on
the same machine, so both ends of every connection are counted.

| what | connections | kernel KB | agent KB | Envoy KB |
| --- | ---: | ---: | ---: | ---: |
${rows.join('\n')}

What waits in the kernel for a client that does not read is bounded:

| what | at most, for one client |
| --- | --- |
| an answer that is redirected from a server's connection | three quarters of the receive buffer that Linux gives the client's socket (96 KiB at first, and 1 MiB when it reads fast) |
| one that goes from socket to socket | 256 KiB, or the same if that is more |
| redirected bytes unread when the client sends its next request | 256 KiB; beyond that, the request waits in the agent until the client has read |
| an answer that the agent carries | the buffers of both connections, of which at most 128 KiB are unsent at the client's |
| listener intake | the agent's send buffer, and 1 MiB |

Longer answers are carried by the agent. So a client that reads fast gets them from the kernel, too, from the second on,
because its buffer has grown meanwhile; one that does not read never has more than it had without Sidestep. Linux asks a full
buffer again only every 4 ms (at 250 Hz), so answers beyond it would be slow, too: 69 ms for 1 MB, where 0.7 ms are possible.
`;
}
