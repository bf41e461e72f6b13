/**
 * Generated routes and requests of HTTP/2: through the kernel's programs, and through a real Envoy alone.
 * SIDESTEP_STREAM_PAIRS says how many pairs, SIDESTEP_SEED which.
 */
import assert from 'node:assert/strict';
import type http2 from 'node:http2';
import { test } from 'node:test';
import type { H2Plane } from '../../../src/agent/h2/plane.js';
import { Tries } from '../../e2e/h2-tries.js';
import { ask, H2World, loadPlane } from '../../e2e/h2-world.js';
import { findEnvoy } from '../../plan/envoy-oracle.js';
import { Draw } from '../../wild/damage.js';
import { chanceless } from '../chanceless.js';
import { record } from '../table/record.js';
import { streamPolicies, streamRequest } from './streams.js';

const PAIRS = Number(process.env.SIDESTEP_STREAM_PAIRS ?? 120);
const SEED = Number(process.env.SIDESTEP_SEED ?? 3);
/** Of one set of routes. */
const REQUESTS = 60;
const AT_ONCE = 12;
/** Of the pairs, at least this share is decided in the kernel. */
const SHARE = 0.2;
const skip = process.getuid?.() !== 0 ? 'needs root' : findEnvoy() === undefined ? 'no Envoy was found' : false;

/** What Envoy says of itself in answers is not the kernel's to say. */
const IGNORED = new Set(['date', 'server', 'x-envoy-upstream-service-time', 'x-saw']);

/** With the default of three, the proxy makes all tries. */
const MANY_RETRIES = { circuit_breakers: { thresholds: [{ max_retries: 4096 }] } };

type Request = ReturnType<typeof streamRequest>;

/** What a client gets, and what servers saw of it. */
async function outcome(session: http2.ClientHttp2Session, { headers, body }: Request, id: string, tries: Tries) {
  const asked = JSON.stringify(headers);
  const lines = (all: http2.IncomingHttpHeaders) =>
    Object.entries(all)
      .filter(([name]) => !IGNORED.has(name))
      .map(([name, value]) => chanceless(`${name}: ${value}`, asked).replace(/127\.0\.0\.1:\d+/, 'here'))
      .filter((line) => !line.startsWith('x-id: '))
      .sort();
  try {
    const answer = await ask(session, { ...headers, 'x-id': id }, body);
    const saw = JSON.parse(String(answer.headers['x-saw'] ?? '[]')) as [string, string][];
    const told = lines(Object.fromEntries(saw));
    return {
      ...{ told, answer: lines(answer.headers), trailers: lines(answer.trailers) },
      // whether a server sees what is over at once is chance
      ...{ length: answer.length, tries: String(answer.headers[':status']) === '504' ? [] : tries.of(id) },
    };
  } catch (error) {
    return { error: (error as Error).message, tries: tries.of(id) };
  }
}

/** Waits until the kernel takes streams, if it takes any. */
async function settled(world: H2World, session: http2.ClientHttp2Session, draw: Draw): Promise<void> {
  const before = world.decided();
  for (let i = 0; i < 40 && world.decided() === before; i++) {
    const { headers, body } = streamRequest(draw);
    await ask(session, headers, body).catch(() => undefined);
  }
}

test('requests of HTTP/2 are decided alike by the kernel and Envoy', { skip, timeout: 3_600_000 }, async (t) => {
  const plane = await loadPlane();
  let [pairs, decided] = [0, 0];
  try {
    for (let set = 0; pairs < PAIRS; set++) {
      const draw = new Draw(SEED * 1000 + set);
      decided += await trySet(plane, draw, `seed ${SEED}, set ${set}`);
      pairs += REQUESTS;
    }
  } finally {
    plane.close();
  }
  record('streams', pairs, decided);
  t.diagnostic(`seed ${SEED}: ${pairs} pairs, ${decided} decided in the kernel`);
  assert.ok(decided >= SHARE * pairs, `only ${decided} of ${pairs} were decided in the kernel`);
});

/** Tries one set of routes. @returns how many requests the kernel has decided */
async function trySet(plane: H2Plane, draw: Draw, which: string): Promise<number> {
  const { routes, hcm, host } = streamPolicies(draw);
  const tries = new Tries();
  const world = await H2World.open(routes, {}, hcm, { host, cluster: MANY_RETRIES, script: tries.script, plane });
  try {
    const [ours, theirs] = [await world.connect(), await world.connect('envoy')];
    await settled(world, ours, draw);
    const before = world.decided();
    for (let i = 0; i < REQUESTS; i += AT_ONCE) {
      const requests = Array.from({ length: AT_ONCE }, () => streamRequest(draw));
      const through = (session: http2.ClientHttp2Session, by: string) =>
        Promise.all(requests.map((request, k) => outcome(session, request, `${i + k} ${by}`, tries)));
      const [own, envoys] = await Promise.all([through(ours, 'own'), through(theirs, 'envoy')]);
      for (const [k, { headers, body }] of requests.entries()) {
        const said = `${which}: ${JSON.stringify(headers)}, a body of ${body?.length}\n`;
        assert.deepEqual(own[k], envoys[k], `${said}${JSON.stringify({ hcm, host, routes })}`);
      }
    }
    for (const session of [ours, theirs]) session.destroy();
    return world.decided() - before;
  } finally {
    await world.close();
  }
}
