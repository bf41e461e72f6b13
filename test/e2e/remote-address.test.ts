/** What the proxy says about the client (use_remote_address, addresses in header values), by Envoy alone and by Sidestep. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startEnvoy } from '../../src/lab/envoy.js';
import { nodeScript } from '../../src/lab/paths.js';
import { freePort, freePorts } from '../../src/lab/ports.js';
import { startSidestep } from '../../src/lab/sidestep.js';
import type { HeaderList } from '../../src/lab/wire.js';
import type { Json, JsonObject } from '../../src/policy/resources.js';
import type { Echo } from '../differential/echo-server.js';
import { ALONE, bodyOf, MESH, one, skip, World } from './world.js';

const ECHO = join(dirname(fileURLToPath(import.meta.url)), '../differential/echo-server.ts');
const TYPE = 'type.googleapis.com/envoy.extensions';
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

const added = (key: string, value: string, append_action: string): JsonObject => ({
  header: { key, value },
  append_action,
});
/** Connection managers, each on a port of its own. */
const MANAGERS: Record<string, { readonly hcm?: JsonObject; readonly add?: JsonObject[]; readonly rbac?: true }> = {
  plain: {},
  edge: { hcm: { use_remote_address: true } },
  'no append': { hcm: { use_remote_address: true, skip_xff_append: true } },
  'one hop': { hcm: { use_remote_address: true, xff_num_trusted_hops: 1 } },
  'ids kept': { hcm: { use_remote_address: true, preserve_external_request_id: true } },
  'no ids': { hcm: { use_remote_address: true, generate_request_id: false } },
  'hops without edge': { hcm: { xff_num_trusted_hops: 1 } },
  agent: { hcm: { add_user_agent: true } },
  rules: { hcm: { use_remote_address: true }, rbac: true },
  values: {
    add: [
      added('x-client', '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%', 'OVERWRITE_IF_EXISTS_OR_ADD'),
      added(
        'x-direct',
        'from %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% by %PROTOCOL%, 100%%',
        'APPEND_IF_EXISTS_OR_ADD',
      ),
      added('x-path', '%%%ENVIRONMENT(PATH):9%', 'OVERWRITE_IF_EXISTS_OR_ADD'),
      added('x-unset', '%PROTOCOL%%ENVIRONMENT(SIDESTEP_UNSET)%', 'APPEND_IF_EXISTS_OR_ADD'),
      added('x-absent', '<%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%>', 'ADD_IF_ABSENT'),
      added('x-present', '<%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%>', 'OVERWRITE_IF_EXISTS'),
    ],
  },
};

const REQUESTS: readonly HeaderList[] = [
  [],
  [['X-Forwarded-For', '192.0.2.1']],
  [['X-Forwarded-For', '10.0.0.1, 192.0.2.9']],
  [['X-Forwarded-For', 'nonsense']],
  [['X-Forwarded-Proto', 'http']],
  [['X-Forwarded-Proto', 'https']],
  [['X-Request-Id', '11111111-2222-4333-8444-555555555555']],
  [['X-Envoy-External-Address', '192.0.2.3']],
  [['User-Agent', 'me/1.0']],
  [['User-Agent', '']],
  [['X-Client', 'me'], ['X-Direct', 'a'], ['X-Absent', 'b'], ['X-Present', 'c']], // biome-ignore format: short
];
const CLIENTS = ['127.0.0.1', '127.0.0.7', '127.123.45.6'];

function bootstrap(address: string, ports: readonly number[], upstream: number, log: string): JsonObject {
  const format =
    '%REQ(X-N)% %REQ(X-FORWARDED-FOR)% %REQ(X-FORWARDED-PROTO)% %REQ(X-ENVOY-EXTERNAL-ADDRESS)% %RESPONSE_CODE% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%\n';
  const listener = ([name, m]: [string, (typeof MANAGERS)[string]], i: number): JsonObject => ({
    name,
    address: { socket_address: { address, port_value: ports[i]! } },
    filter_chains: [
      {
        filters: [
          {
            name: 'envoy.filters.network.http_connection_manager',
            typed_config: {
              '@type': `${TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager`,
              stat_prefix: 'test',
              ...m.hcm,
              access_log: [
                {
                  name: 'file',
                  typed_config: {
                    '@type': `${TYPE}.access_loggers.file.v3.FileAccessLog`,
                    path: log,
                    log_format: { text_format_source: { inline_string: format } },
                  },
                },
              ],
              route_config: {
                name: 'routes',
                virtual_hosts: [
                  {
                    name: 'all',
                    domains: ['*'],
                    routes: [
                      { match: { path: '/direct' }, direct_response: { status: 418, body: { inline_string: 'x' } } },
                      { match: { prefix: '/' }, route: { cluster: 'up' }, request_headers_to_add: m.add ?? [] },
                    ],
                  },
                ],
              },
              http_filters: [
                ...(m.rbac
                  ? [
                      {
                        name: 'envoy.filters.http.rbac',
                        typed_config: {
                          '@type': `${TYPE}.filters.http.rbac.v3.RBAC`,
                          rules: {
                            policies: {
                              p: {
                                permissions: [{ any: true }],
                                principals: [{ remote_ip: { address_prefix: '127.0.0.0', prefix_len: 24 } }],
                              },
                            },
                          },
                        } as Json,
                      },
                    ]
                  : []),
                {
                  name: 'envoy.filters.http.router',
                  typed_config: { '@type': `${TYPE}.filters.http.router.v3.Router` },
                },
              ],
            },
          },
        ],
      },
    ],
  });
  const endpoint = { endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: upstream } } } };
  return {
    node: { id: 'here', cluster: 'shop' },
    static_resources: {
      listeners: Object.entries(MANAGERS).map(listener),
      clusters: [
        {
          name: 'up',
          type: 'STATIC',
          load_assignment: { cluster_name: 'up', endpoints: [{ lb_endpoints: [endpoint] }] },
        },
      ],
    },
  };
}

/** Headers by name, what is random as a pattern. */
function received(echo: Echo): string[] {
  return echo.headers
    .map(
      ([name, value]) => `${name.toLowerCase()}: ${UUID.test(value) && !value.startsWith('1111') ? 'random' : value}`,
    )
    .sort();
}

async function lines(path: string): Promise<Map<string, string>> {
  const text = (await readFile(path, 'utf8')).trimEnd();
  return new Map(text.split('\n').map((line) => [line.split(' ')[0]!, line]));
}

test('addresses of clients are told as by Envoy', { skip, timeout: 200_000 }, async () => {
  const world = await World.open('remote-address');
  try {
    const ports = await freePorts(Object.keys(MANAGERS).length);
    const upstream = await freePort();
    const echo = world.lab.start('echo', [...nodeScript(ECHO), `up=${upstream}`]);
    await echo.waitFor(/listening/);
    const [aloneLog, meshLog] = [join(world.lab.dir, 'alone.log'), join(world.lab.dir, 'mesh.log')];
    await world.writeText(JSON.stringify(bootstrap(MESH, ports, upstream, meshLog)));
    const alone = await startEnvoy(world.lab, 'envoy alone', bootstrap(ALONE, ports, upstream, aloneLog));
    const sidestep = await startSidestep(world.lab, [world.file]);
    const inside = await world.driver(sidestep);
    const outside = await world.driver();
    for (const from of CLIENTS)
      for (const port of ports) await inside.run({ ...one(MESH, port, 'GET', '/', [['X-N', 'warm']]), from });
    const different: string[] = [];
    let n = 0;
    for (const [i, name] of Object.keys(MANAGERS).entries())
      for (const from of CLIENTS)
        for (const headers of REQUESTS)
          for (const path of ['/', '/direct']) {
            const more: HeaderList = [...headers, ['X-N', `n${n++}`]];
            const [a, s] = [
              await outside.run({ ...one(ALONE, ports[i]!, 'GET', path, more), from }),
              await inside.run({ ...one(MESH, ports[i]!, 'GET', path, more), from }),
            ];
            const seen = (r: typeof a) =>
              r.answers[0]?.status === 200
                ? received(bodyOf<Echo>(r)).join('\n')
                : String(r.answers[0]?.status ?? r.error);
            if (seen(a) !== seen(s))
              different.push(`${name}, ${from}, ${JSON.stringify(headers)}, ${path}\n-- ${seen(a)}\n++ ${seen(s)}`);
          }
    assert.equal(different.length, 0, different.slice(0, 3).join('\n\n'));
    const { requests } = await sidestep.status();
    assert.ok(requests.kernel > n * 0.5, `only ${requests.kernel} of ${n} were the kernel's`);
    assert.equal(await sidestep.stop(), 0);
    await alone.process.stop();
    const [a, s] = [await lines(aloneLog), await lines(meshLog)];
    for (let k = 0; k < n; k++) assert.equal(s.get(`n${k}`), a.get(`n${k}`));
  } finally {
    await world.close();
  }
});
