/** TypedStructs, and runtime keys that no layer speaks of: the real Envoy takes them as the plan does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { freePorts } from '../../src/lab/ports.js';
import { buildPlan } from '../../src/plan/build.js';
import { loadFiles } from '../../src/policy/load.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { echoServer, findEnvoy, sendRaw, startEnvoy } from './envoy-oracle.js';
import { clusterOf, hostOf, listenerOf, to } from './resources.js';

const envoy = findEnvoy();
const GOOGLE = 'type.googleapis.com/';
const FILTERS = `${GOOGLE}envoy.extensions.filters.http`;
type Write = (type: string, fields: JsonObject) => JsonObject;

const FORMS: Readonly<Record<string, Write>> = {
  'written out': (type, fields) => ({ '@type': `${FILTERS}.${type}`, ...fields }),
  udpa: (type, value) => ({ '@type': `${GOOGLE}udpa.type.v1.TypedStruct`, type_url: `${FILTERS}.${type}`, value }),
  xds: (type, value) => ({ '@type': `${GOOGLE}xds.type.v3.TypedStruct`, value, type_url: `${FILTERS}.${type}` }),
};
const edit = (value: string): JsonObject => ({
  mutations: { request_mutations: [{ append: { header: { key: 'x-edit', value } } }] },
});
const share = (runtime_key: string): JsonObject => ({
  runtime_key,
  default_value: { numerator: 100, denominator: 'HUNDRED' },
});
const LIMIT: JsonObject = {
  stat_prefix: 'limit',
  token_bucket: { max_tokens: 2, tokens_per_fill: 2, fill_interval: '600s' },
  filter_enabled: share('limit_on'),
  filter_enforced: share('limit.enforced'),
};

function listener(write: Write, port: number): JsonObject {
  const filters = [
    { name: 'edits', typed_config: write('header_mutation.v3.HeaderMutation', edit('all')) },
    { name: 'limit', typed_config: write('local_ratelimit.v3.LocalRateLimit', { stat_prefix: 'limit' }) },
  ];
  const limited = { typed_per_filter_config: { limit: write('local_ratelimit.v3.LocalRateLimit', LIMIT) } };
  const edited = {
    typed_per_filter_config: { edits: write('header_mutation.v3.HeaderMutationPerRoute', edit('one')) },
  };
  return listenerOf([hostOf([to('a', '/edited', edited), to('a', '/limited', limited), to('a')])], { port, filters });
}

const layers = (layer: JsonObject): JsonObject => ({
  layered_runtime: { layers: [{ name: 'one', static_layer: layer }] },
});

async function planned(listeners: JsonObject[], clusters: JsonObject[], layer: JsonObject) {
  const text = JSON.stringify({ ...layers(layer), static_resources: { listeners, clusters } });
  const resources = await loadFiles(['one.json'], { texts: new Map([['one.json', text]]) });
  assert.deepEqual(resources.diagnostics, []);
  const routes = buildPlan(resources).listeners.flatMap((l) => l.virtualHosts.flatMap((v) => v.routes));
  // what stands before the routes leaves requests of gRPC to the proxy
  const codes = routes.flatMap((route) => route.reasons.map(({ code }) => code)).filter((code) => code !== 'grpc');
  return { resources, codes };
}

test('TypedStructs are what they hold', { skip: envoy ? false : 'no Envoy was found', timeout: 60_000 }, async () => {
  const upstream = await echoServer('a');
  const ports = await freePorts(3);
  const forms = Object.values(FORMS);
  const clusters = [clusterOf('a', [upstream.port])];
  const listeners = ports.map((port, i) => ({ ...listener(forms[i]!, port), name: `listener-${port}` }));
  const { resources, codes } = await planned(listeners, clusters, { other: true });
  const plain = resources.listeners.map((json, i) => JSON.stringify(json).replaceAll(String(ports[i]), 'PORT'));
  assert.equal(new Set(plain).size, 1, plain.join('\n'));
  assert.deepEqual(codes, []);
  const changed = await planned(listeners.slice(0, 1), clusters, { limit: { enforced: 0 } });
  assert.deepEqual(changed.codes, ['runtime-fraction']);

  const running = await startEnvoy(envoy!, { listeners, clusters }, ports, layers({ other: true }));
  try {
    for (const port of ports) {
      const ask = async (path: string) => {
        const { status, seen } = await sendRaw(port, [`GET ${path} HTTP/1.1`, 'host: a']);
        return `${status} ${seen?.headers
          .filter(([name]) => name === 'x-edit')
          .map(([, value]) => value)
          .join()}`;
      };
      assert.equal(await ask('/'), '200 all');
      assert.equal(await ask('/edited'), '200 all,one');
      const limited = [await ask('/limited'), await ask('/limited'), await ask('/limited')];
      assert.deepEqual(limited, ['200 all', '200 all', '429 undefined']);
    }
  } finally {
    await running.stop();
    upstream.close();
  }
});
