/**
 * Targets under every way of normalising paths: what the image decides, a real Envoy forwards unchanged. SIDESTEP_PATHS
 * (default 1500) says how many targets are made, SIDESTEP_SEED which.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { interpret } from '../../src/compile/interpret.js';
import { Driver, RAW_CLIENT } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { freePorts } from '../../src/lab/ports.js';
import { Lab } from '../../src/lab/processes.js';
import { buildPlan } from '../../src/plan/build.js';
import { evaluate } from '../../src/plan/evaluate.js';
import { echoServer, findEnvoy, type Seen } from '../plan/envoy-oracle.js';
import { clusterOf, hostOf, listenerOf, resourcesOf, to } from '../plan/resources.js';
import { compile } from './helpers.js';

const COUNT = Number(process.env.SIDESTEP_PATHS ?? 1500);
const SEED = Number(process.env.SIDESTEP_SEED ?? 31);

/** Istio's NONE, BASE, MERGE_SLASHES and DECODE_AND_MERGE_SLASHES among them. */
const VARIANTS = {
  NONE: {},
  BASE: { normalize_path: true },
  MERGE_SLASHES: { normalize_path: true, merge_slashes: true },
  DECODE_AND_MERGE_SLASHES: {
    normalize_path: true,
    merge_slashes: true,
    path_with_escaped_slashes_action: 'UNESCAPE_AND_FORWARD',
  },
  'merge only': { merge_slashes: true },
  'keep escaped slashes': { normalize_path: true, path_with_escaped_slashes_action: 'KEEP_UNCHANGED' },
  'reject escaped slashes': { normalize_path: true, path_with_escaped_slashes_action: 'REJECT_REQUEST' },
  'redirect escaped slashes': { path_with_escaped_slashes_action: 'UNESCAPE_AND_REDIRECT' },
  'unescape only': { path_with_escaped_slashes_action: 'UNESCAPE_AND_FORWARD' },
};
type Name = keyof typeof VARIANTS;
const NAMES = Object.keys(VARIANTS) as Name[];

const HEX = [...'0123456789abcdefABCDEF'];
const piece = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom('a', 'B', '7', '-', '_', '~', '.', '..', '/', '/', '/.', '/..', ';', '//') },
  { weight: 3, arbitrary: fc.integer({ min: 0x21, max: 0x7e }).map((byte) => String.fromCharCode(byte)) },
  { weight: 4, arbitrary: fc.tuple(fc.constantFrom(...HEX), fc.constantFrom(...HEX)).map((h) => `%${h.join('')}`) },
  { weight: 2, arbitrary: fc.constantFrom('%20', '%2f', '%5C', '%2e', '%2E%2E', '%c3%a9', '%', '%4', '%zz', '%25') },
  { weight: 1, arbitrary: fc.constantFrom('?', '?a=%2f', '?/../x', '?%61') },
);
const generated = fc.array(piece, { maxLength: 7 }).map((parts) => `/${parts.join('')}`);
const EVERY = [
  ...HEX.flatMap((high) => HEX.map((low) => `/a%${high}${low}b`)),
  ...Array.from({ length: 94 }, (_, i) => `/x${String.fromCharCode(0x21 + i)}y`),
];

test('paths', { skip: findEnvoy() === undefined ? 'no Envoy was found' : false, timeout: 600_000 }, async (t) => {
  const lab = await Lab.open('paths');
  const upstream = await echoServer('c');
  try {
    const ports = await freePorts(NAMES.length);
    const listeners = NAMES.map((name, i) =>
      listenerOf([hostOf([to('c')])], { name, port: ports[i]!, hcm: VARIANTS[name] }),
    );
    const clusters = [clusterOf('c', [upstream.port])];
    await startEnvoy(lab, 'oracle', { static_resources: { listeners, clusters } });
    const process = lab.start('client', RAW_CLIENT, { stdin: true });
    const driver = await Driver.of(process);
    const plan = buildPlan(resourcesOf(listeners, clusters));
    const { image } = compile(plan);
    const head = (target: string) => `GET ${target} HTTP/1.1\r\nHost: a\r\n\r\n`;
    /** What the upstream saw of each; undefined: Envoy answered itself. */
    const ask = async (listener: number, targets: readonly string[]): Promise<(string | undefined)[]> => {
      const seen: (string | undefined)[] = [];
      while (seen.length < targets.length) {
        const exchanges = targets
          .slice(seen.length)
          .map((target) => ({ pieces: [Buffer.from(head(target)).toString('base64')], methods: ['GET'] }));
        const { answers } = await driver.run({ address: '127.0.0.1', port: ports[listener]!, exchanges });
        for (const { headers, body } of answers) {
          const own = !headers.some(([name]) => name.toLowerCase() === 'x-upstream');
          seen.push(own ? undefined : (JSON.parse(Buffer.from(body, 'base64').toString()) as Seen).target);
        }
        if (answers.length === 0) seen.push(undefined);
      }
      return seen;
    };
    const targets = [...new Set([...EVERY, ...fc.sample(generated, { seed: SEED, numRuns: COUNT })])];
    for (const [i, name] of NAMES.entries()) {
      let kernel = 0;
      let unchanged = 0;
      for (let from = 0; from < targets.length; from += 200) {
        const some = targets.slice(from, from + 200);
        const seen = await ask(i, some);
        for (const [j, target] of some.entries()) {
          const around = { sourceIp: Uint8Array.of(127, 0, 0, 1), random: 0, uuid: '' };
          const decided = interpret(image, i, Buffer.from(head(target)), around).action === 'forward';
          if (seen[j] === target) unchanged++;
          if (decided) {
            kernel++;
            assert.equal(seen[j], target, `${name}: seed ${SEED}`);
          }
          const trace = evaluate(plan, { listener: name, method: 'GET', target, headers: [['Host', 'a']] });
          // a path that begins with two slashes is the scanner's own concern
          if (!target.startsWith('//'))
            assert.equal(trace.verdict === 'kernel', decided, `explain: ${name}: ${target}`);
        }
      }
      t.diagnostic(
        `${name}: ${targets.length} targets, ${unchanged} unchanged by Envoy, ${kernel} of them in the kernel`,
      );
      // What stays out although Envoy does not change it: half escapes, and two slashes in front.
      assert.ok(kernel > 0.75 * unchanged, `${name}: ${kernel} of ${unchanged}`);
    }
  } finally {
    upstream.close();
    await lab.close();
  }
});
