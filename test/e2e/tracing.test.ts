/** Traced requests: what servers are told and the spans that collectors get are those of Envoy, decided in the kernel. */
import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Driver } from '../../src/lab/driver.js';
import { nodeScript } from '../../src/lab/paths.js';
import { freePort } from '../../src/lab/ports.js';
import { Lab } from '../../src/lab/processes.js';
import type { JobResult } from '../../src/lab/raw-client.js';
import type { HeaderList } from '../../src/lab/wire.js';
import { type Collected, Collectors } from './collector.js';
import { eventually } from './eventually.js';
import { untilKernel } from './in-kernel.js';
import type { Received } from './istio-server.js';
import { sideBySide } from './side-by-side.js';
import { CASES, type Case, LISTENERS, SOME, tracingBootstrap } from './tracing-config.js';
import { ALONE, MESH, request, skip } from './world.js';

const HERE = dirname(fileURLToPath(import.meta.url));

async function ask(driver: Driver, address: string, port: number, c: Case, id: string): Promise<JobResult> {
  const method = c.method ?? 'GET';
  const length: HeaderList = c.body === undefined ? [] : [['Content-Length', String(c.body.length)]];
  const line = `${method} ${c.path.replace('ID', id)}?x HTTP/1.1`;
  const gone = c.abandonMs === undefined ? {} : { abandon: 'fin' as const, abandonAfterMs: c.abandonMs };
  return driver.run({
    ...{ address, port },
    exchanges: [
      {
        pieces: [request(line, [...(c.headers ?? []), ['User-Agent', id], ...length], c.body)],
        methods: [method],
        ...gone,
      },
    ],
  });
}

const RANDOM = /[0-9a-f]{16,32}/g;

/** Ids by the order in which they are first seen, so that what is the same stays the same. */
class Ids {
  readonly #seen: string[] = [];

  plain(value: string): string {
    return value
      .replace(/[0-9a-f]{8}-[0-9a-f]{4}-(.)[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}/g, '<id of version $1>')
      .replace(RANDOM, (digits) => {
        if (!this.#seen.includes(digits)) this.#seen.push(digits);
        return `<${digits.length} digits, the ${this.#seen.indexOf(digits)}th>`;
      });
  }
}

const IGNORED = new Set(['date', 'server', 'x-envoy-upstream-service-time', 'content-length', 'connection']);

/** What a request led to: the answer, what the server was told, the spans; random numbers by the order of their appearance. */
function seen(result: JobResult, spans: readonly Collected[], port: number): unknown {
  const answer = result.answers[0];
  const ids = new Ids();
  const lines = (headers: readonly (readonly [string, string])[]) =>
    headers
      .map(([name, value]) => [name.toLowerCase(), value] as const)
      .filter(([name]) => !IGNORED.has(name))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, value]) => `${name}: ${ids.plain(value)}`);
  const body = Buffer.from(answer?.body ?? '', 'base64').toString();
  const received = body.startsWith('{') ? (JSON.parse(body) as Received) : undefined;
  const server = received && { target: received.target, headers: lines(received.headers) };
  return {
    status: answer?.status,
    headers: lines(answer?.headers ?? []),
    body: received ? '' : body,
    server,
    spans: spans.map(({ tags, traceId, id, parentId, ...span }) => ({
      ...span,
      name: span.name.replace(`:${port}`, ''),
      ids: [traceId, id, parentId ?? ''].map((value) => ids.plain(value)),
      tags: Object.fromEntries(
        Object.entries(tags)
          .sort(([a], [b]) => (a < b ? -1 : 1))
          .map(([name, value]) => [name, ids.plain(value)]),
      ),
    })),
  };
}

/** Whether the kernel is to decide it: it can go by what it says of its trace. */
function isKernels(listener: string, { path, kernel, proxyAt }: Case): boolean {
  // only what is made of one random number is told once more, and only of a trace that begins
  if (path === '/told' && !['zipkin', 'outbound', 'never', 'some', 'at-most'].includes(listener)) return false;
  return kernel !== false && !proxyAt?.includes(listener);
}

const DRAWN = ['some', 'otel-some', 'at-most'];
/** Whether it is sent to a listener: what becomes of it must be no matter of chance. */
const isSent = (listener: string, { headers, at }: Case): boolean =>
  at?.includes(listener) !== false &&
  (!DRAWN.includes(listener) || headers?.some(([name]) => name === 'X-Request-Id') === true);

/** Whether it says that it is not sampled. */
const isUnsampled = (listener: string, { headers = [] }: Case): boolean =>
  headers.some(([name, value]) =>
    listener.startsWith('otel')
      ? name === 'traceparent' && value.endsWith('-00')
      : name === 'X-B3-Sampled' && value === '0',
  );

const DRAWS = 300;
/** So many may be traced of them: five standard deviations around what is expected. */
const EXPECTED = (DRAWS * SOME) / 10_000;
const MOST_OFF = 5 * Math.sqrt(EXPECTED * (1 - SOME / 10_000));

interface Draw {
  readonly id: string;
  readonly result: JobResult;
}

/** Requests that say nothing of a trace: which are traced is drawn. */
async function draw(driver: Driver, address: string, port: number, what: string): Promise<Draw[]> {
  const exchanges = Array.from({ length: DRAWS }, (_, n) => ({
    pieces: [request('GET /plain HTTP/1.1', [['User-Agent', `${what}-${100 + n}`]])],
    methods: ['GET'],
  }));
  const { answers, ...rest } = await driver.run({ address, port, exchanges });
  assert.equal(answers.length, DRAWS, `answers for ${what}`);
  return answers.map((answer, n) => ({ id: `${what}-${100 + n}`, result: { ...rest, answers: [answer] } }));
}

/** Whether the server was told that the request is sampled; its id must say so, and its digits. */
function isSampled({ result }: Draw): boolean {
  const { headers } = JSON.parse(Buffer.from(result.answers[0]!.body, 'base64').toString()) as Received;
  const find = (wanted: string) => headers.find(([name]) => name.toLowerCase() === wanted)?.[1];
  const id = find('x-request-id') ?? '';
  const wanted = Number.parseInt(id.slice(0, 8), 16) % 10_000 < SOME;
  const told = (find('x-b3-sampled') ?? find('traceparent') ?? '').slice(-1);
  assert.deepEqual([id.charAt(14), told], wanted ? ['9', '1'] : ['4', '0'], `what the server was told: ${id} ${told}`);
  return wanted;
}

test('traced requests: servers and collectors are told what Envoy tells them', { skip, timeout: 280_000 }, async () => {
  const lab = await Lab.open('tracing');
  const collectors = { mesh: new Collectors(), alone: new Collectors() };
  try {
    const up = await freePort();
    const ports = new Map<string, number>();
    for (const name of Object.keys(LISTENERS)) ports.set(name, await freePort());
    const server = lab.start('server', [...nodeScript(join(HERE, 'istio-server.ts')), `up=127.0.0.1:${up}`]);
    await server.waitFor(/listening/);
    const at = new Map([[MESH, await collectors.mesh.open()], [ALONE, await collectors.alone.open()]]); // biome-ignore format: short
    const { sidestep, mesh, alone } = await sideBySide(lab, join(lab.dir, 'bootstrap.json'), (address) =>
      tracingBootstrap(address, ports, up, at.get(address)!),
    );
    const wrong: string[] = [];
    const exchanges: { what: string; id: string; port: number; traced: boolean; own: JobResult; envoys: JobResult }[] =
      [];
    for (const [name, { spans: traced }] of Object.entries(LISTENERS)) {
      const port = ports.get(name)!;
      for (const [n, c] of CASES.entries()) {
        if (!isSent(name, c)) continue;
        let [own, tries]: [JobResult | undefined, number] = [undefined, 0];
        const send = async () => {
          own = await ask(mesh, MESH, port, c, `${name}-${n}-${++tries}`);
        };
        const wanted = isKernels(name, c);
        const what = `${name} ${c.path}`;
        if ((await untilKernel(sidestep, send, wanted)) !== wanted)
          wrong.push(`${what} is ${wanted ? 'not ' : ''}the kernel's`);
        const id = `${name}-${n}-${tries}`;
        const envoys = await ask(alone, ALONE, port, c, id);
        exchanges.push({ what, id, port, traced: traced && !isUnsampled(name, c), own: own!, envoys });
      }
    }
    const draws: { what: string; port: number; own: Draw[]; envoys: Draw[] }[] = [];
    for (const what of DRAWN) {
      const port = ports.get(what)!;
      const before = (await sidestep.status()).requests.kernel;
      const own = await draw(mesh, MESH, port, `${what}-drawn`);
      const kernels = (await sidestep.status()).requests.kernel - before;
      assert.equal(kernels, DRAWS, `the kernel's requests at ${what}`);
      draws.push({ what, port, own, envoys: await draw(alone, ALONE, port, `${what}-drawn`) });
    }
    const find = (of: Collectors, id: string) => of.spans.filter(({ tags }) => tags.user_agent === id);
    for (const { what, id, port, traced, own, envoys } of exchanges) {
      const sampled = (of: Collectors) => find(of, id).length > 0;
      await eventually(async () => {
        const [envoysSpan, ownSpan] = [sampled(collectors.alone), sampled(collectors.mesh)];
        assert.ok(envoysSpan || !traced, `Envoy alone has no span about ${what} (${id})`);
        assert.equal(ownSpan, envoysSpan, `there is a span about ${what} (${id})`);
      });
      try {
        const wanted = seen(envoys, find(collectors.alone, id), port);
        assert.deepEqual(seen(own, find(collectors.mesh, id), port), wanted);
      } catch (error) {
        wrong.push(`${what} (${id}): ${(error as Error).message}`);
      }
    }
    for (const { what, port, own, envoys } of draws) {
      const all = [
        { of: collectors.mesh, draws: own },
        { of: collectors.alone, draws: envoys },
      ];
      const kinds = all.map(({ of, draws }) => {
        const sampled = draws.filter(isSampled);
        assert.ok(Math.abs(sampled.length - EXPECTED) < MOST_OFF, `${what}: ${sampled.length} of ${DRAWS} are sampled`);
        return { of, sampled, rest: draws.filter((one) => !sampled.includes(one)) };
      });
      await eventually(async () => {
        for (const { of, sampled, rest } of kinds) {
          assert.ok(
            sampled.every(({ id }) => find(of, id).length === 1),
            `there are spans of ${what}`,
          );
          assert.ok(
            rest.every(({ id }) => find(of, id).length === 0),
            `there are spans of ${what} that is not sampled`,
          );
        }
      });
      for (const outcome of ['sampled', 'rest'] as const) {
        const [mine, theirs] = kinds.map((kind) => {
          const { id, result } = kind[outcome][0]!;
          return JSON.parse(JSON.stringify(seen(result, find(kind.of, id), port)).replaceAll(id, '<id>')) as unknown;
        });
        assert.deepEqual(mine, theirs, `${outcome} at ${what}`);
      }
    }
    assert.deepEqual(wrong, []);
    const { spans: counts } = (await sidestep.status()) as unknown as { spans: { sent: number; lost: number } };
    assert.ok(counts.sent > 50 && counts.lost === 0, JSON.stringify(counts));
  } finally {
    collectors.mesh.close();
    collectors.alone.close();
    await lab.close();
  }
});
