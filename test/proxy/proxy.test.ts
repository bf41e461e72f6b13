import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, Agent as HttpAgent, request, type Server } from 'node:http';
import { type AddressInfo, createServer as createTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../../src/lab/ports.js';
import { loadFiles } from '../../src/policy/load.js';
import type { Resources } from '../../src/policy/resources.js';
import {
  envoyVersion,
  findEnvoy,
  ProxyError,
  prepareProxy,
  processStartTime,
  startProxy,
  stopStaleProxy,
} from '../../src/proxy/index.js';

const dir = mkdtempSync(join(tmpdir(), 'sidestep-proxy-'));
const envoyPath = findEnvoy();
let upstream: Server;
let port = 0;

interface Config {
  readonly port: number;
  readonly routes?: string;
  readonly clusters?: string;
  readonly extra?: string;
  readonly filters?: string;
}

async function resources(config: Config): Promise<Resources> {
  const file = join(dir, 'bootstrap.yaml');
  writeFileSync(
    file,
    `
static_resources:
  listeners:
  - name: web
    address: {socket_address: {address: 127.0.0.1, port_value: ${config.port}}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          route_config:
            name: main:routes
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
${config.routes ?? '              - {match: {prefix: /}, route: {cluster: a}}'}
          http_filters:
${config.filters ?? ''}
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: a
    load_assignment: &endpoints
      cluster_name: a
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: ${port}}}}}]}]
${config.clusters ?? ''}
${config.extra ?? ''}
`,
  );
  const loaded = await loadFiles([file]);
  assert.deepEqual(loaded.diagnostics, []);
  return loaded;
}

interface Reply {
  readonly status: number;
  readonly body: string;
  readonly headers: NodeJS.Dict<string | string[]>;
}

function get(port: number, path: string, agent?: HttpAgent): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const req = request({ host: '127.0.0.1', port, path, ...(agent ? { agent } : { agent: false }) }, (res) => {
      let body = '';
      res.on('data', (chunk) => {
        body += chunk;
      });
      res.on('end', () => resolve({ status: res.statusCode ?? 0, body, headers: res.headers }));
      res.on('error', reject);
    });
    req.on('error', reject);
    req.end();
  });
}

before(async () => {
  upstream = createServer((req, res) => {
    const delay = /slow=(\d+)/.exec(req.url ?? '');
    setTimeout(() => res.end(`upstream ${req.url}`), Number(delay?.[1] ?? 0));
  });
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
  port = (upstream.address() as AddressInfo).port;
});

after(() => {
  upstream.close();
  upstream.closeAllConnections();
  rmSync(dir, { recursive: true, force: true });
});

describe('the slow path', { timeout: 120_000 }, () => {
  test('a real Envoy serves what was read, takes changes on living connections, and drains', async () => {
    assert.match(await envoyVersion(envoyPath), /^1\.\d+\.\d+$/);
    const listen = await freePort();
    const proxy = await startProxy({
      envoyPath,
      prepared: prepareProxy(await resources({ port: listen }), join(dir, 'serve')),
      concurrency: 1,
    });
    try {
      const agent = new HttpAgent({ keepAlive: true, maxSockets: 1 });
      const first = await get(listen, '/hello', agent);
      assert.equal(first.status, 200);
      assert.equal(first.body, 'upstream /hello');

      // a changed route applies to the next request of the same connection
      const sockets = () => [...Object.values(agent.freeSockets)].flat().map((s) => s?.localPort);
      const before = sockets();
      const changed = await resources({
        port: listen,
        routes: '              - {match: {prefix: /}, direct_response: {status: 418, body: {inline_string: "tea"}}}',
      });
      assert.deepEqual(await proxy.update(prepareProxy(changed, proxy.dir)), []);
      const second = await get(listen, '/hello', agent);
      assert.deepEqual([second.status, second.body], [418, 'tea']);
      assert.deepEqual(sockets(), before);

      // a new cluster and a route to it, then both gone again
      const b = '  - name: b\n    load_assignment: {<<: *endpoints}\n'.replace('{<<: *endpoints}', '*endpoints');
      const two = await resources({
        port: listen,
        clusters: b,
        routes: '              - {match: {prefix: /}, route: {cluster: b}}',
      });
      assert.deepEqual(await proxy.update(prepareProxy(two, proxy.dir)), []);
      assert.equal((await get(listen, '/b', agent)).body, 'upstream /b');
      assert.deepEqual(await proxy.update(prepareProxy(changed, proxy.dir)), []);
      assert.equal((await get(listen, '/b', agent)).status, 418);
      assert.equal(
        (await proxy.admin.stats('^cluster_manager.active_clusters$')).get('cluster_manager.active_clusters'),
        1,
      );

      // a filter added: the listener changes
      const filter = `
          - name: rbac
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
              rules: {action: DENY, policies: {all: {permissions: [{url_path: {path: {prefix: /no}}}], principals: [{any: true}]}}}`;
      assert.deepEqual(
        await proxy.update(prepareProxy(await resources({ port: listen, filters: filter }), proxy.dir)),
        [],
      );
      assert.equal((await get(listen, '/no')).status, 403);
      assert.equal((await get(listen, '/yes')).status, 200);
      agent.destroy();

      // a clean stop lets requests in flight end
      const slow = get(listen, '/?slow=600');
      await sleep(150);
      await proxy.stop(5000);
      assert.equal((await slow).status, 200);
      assert.equal(proxy.running, false);
      await assert.rejects(get(listen, '/'), /ECONNREFUSED/);
    } finally {
      await proxy.stop();
    }
  });

  test('an update under load fails no request and is refused whole when Envoy does not take it', async () => {
    const listen = await freePort();
    const proxy = await startProxy({
      envoyPath,
      prepared: prepareProxy(await resources({ port: listen }), join(dir, 'load')),
    });
    try {
      let stop = false;
      const statuses = new Map<number | string, number>();
      const client = async () => {
        const agent = new HttpAgent({ keepAlive: true, maxSockets: 1 });
        while (!stop) {
          const status = await get(listen, '/x', agent).then(
            (r) => r.status,
            (e) => String(e),
          );
          statuses.set(status, (statuses.get(status) ?? 0) + 1);
        }
        agent.destroy();
      };
      const clients = Array.from({ length: 4 }, client);
      for (let i = 0; i < 4; i++) {
        const cluster = i % 2 ? 'a' : 'b';
        const next = await resources({
          port: listen,
          clusters: i % 2 ? '' : '  - {name: b, load_assignment: *endpoints}\n',
          routes: `              - {match: {prefix: /}, route: {cluster: ${cluster}}}`,
        });
        assert.deepEqual(await proxy.update(prepareProxy(next, proxy.dir)), []);
      }
      const bad = await resources({ port: listen });
      const route = JSON.stringify({ match: { safe_regex: { regex: '(' } }, route: { cluster: 'a' } });
      bad.listeners[0] = JSON.parse(JSON.stringify(bad.listeners[0]).replace('"routes":[', `"routes":[${route},`));
      const refused = await proxy.update(prepareProxy(bad, proxy.dir));
      assert.equal(refused.length, 1);
      assert.match(refused[0]!.message, /missing \)/);
      stop = true;
      await Promise.all(clients);
      assert.deepEqual([...statuses.keys()], [200]);
      assert.ok(statuses.get(200)! > 50, `${statuses.get(200)} requests`);
    } finally {
      await proxy.stop();
    }
  });

  test('what only running shows is reported too, and the old configuration is back in force', async () => {
    const listen = await freePort();
    const taken = createTcp().listen(0, '127.0.0.1');
    await new Promise((resolve) => taken.once('listening', resolve));
    const proxy = await startProxy({
      envoyPath,
      prepared: prepareProxy(await resources({ port: listen }), join(dir, 'refuse')),
    });
    try {
      const next = await resources({ port: (taken.address() as AddressInfo).port });
      const errors = await proxy.update(prepareProxy(next, proxy.dir));
      assert.equal(errors.length, 1);
      assert.match(errors[0]!.message, /cannot bind|Address already in use/);
      assert.equal((await get(listen, '/still')).status, 200);
      const admin = await resources({ port: listen, extra: 'node: {id: other}' });
      assert.match((await proxy.update(prepareProxy(admin, proxy.dir)))[0]!.message, /cannot change node/);
    } finally {
      await proxy.stop();
      taken.close();
    }
  });

  test('an Envoy that cannot start says why', async () => {
    const taken = createTcp().listen(0, '127.0.0.1');
    await new Promise((resolve) => taken.once('listening', resolve));
    const busy = await resources({ port: (taken.address() as AddressInfo).port });
    await assert.rejects(startProxy({ envoyPath, prepared: prepareProxy(busy, join(dir, 'busy')) }), (error: Error) => {
      assert.ok(error instanceof ProxyError);
      assert.match(error.message, /Address already in use|cannot bind/);
      return true;
    });
    taken.close();
    await assert.rejects(
      startProxy({ envoyPath: '/nonexistent', prepared: prepareProxy(busy, join(dir, 'none')) }),
      /cannot be started.*ENOENT/,
    );
    assert.throws(() => findEnvoy({ SIDESTEP_ENVOY: '/nonexistent' }), /no executable file/);
    assert.throws(() => findEnvoy({ SIDESTEP_ENVOY: '/etc/passwd' }), /no executable file/);
    await assert.rejects(envoyVersion('/bin/true'), /does not answer as Envoy does/);
  });

  test('it survives its starter, keeps descriptors open, and a later one finds and stops it', async () => {
    const listen = await freePort();
    const home = join(dir, 'orphan');
    const loaded = await resources({ port: listen });
    const plain = { ...loaded, provenance: undefined, rules: [] };
    writeFileSync(join(dir, 'resources.json'), JSON.stringify(plain));
    writeFileSync(join(dir, 'kept.txt'), 'kept');
    const script = `
      import { openSync, readFileSync } from 'node:fs';
      import { prepareProxy, startProxy } from ${JSON.stringify(new URL('../../src/proxy/index.ts', import.meta.url).href)};
      const resources = JSON.parse(readFileSync(${JSON.stringify(join(dir, 'resources.json'))}, 'utf8'));
      const fd = openSync(${JSON.stringify(join(dir, 'kept.txt'))}, 'r');
      const proxy = await startProxy({ envoyPath: ${JSON.stringify(envoyPath)}, prepared: prepareProxy(resources, ${JSON.stringify(home)}), inheritFds: [fd] });
      console.log('pid ' + proxy.pid);
      setInterval(() => {}, 1000);
    `;
    writeFileSync(join(dir, 'starter.mts'), script);
    const starter = spawn(process.execPath, ['--import', 'tsx', join(dir, 'starter.mts')], {
      cwd: new URL('../..', import.meta.url),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const pid = await new Promise<number>((resolve, reject) => {
      starter.stdout.on('data', (chunk) => {
        const match = /pid (\d+)/.exec(String(chunk));
        if (match) resolve(Number(match[1]));
      });
      starter.on('exit', (code) => reject(new Error(`the starter ended with ${code}`)));
    });
    starter.removeAllListeners('exit');
    const gone = new Promise((resolve) => starter.once('exit', resolve));
    starter.kill('SIGKILL');
    await gone;
    assert.equal((await get(listen, '/orphan')).body, 'upstream /orphan');
    assert.equal(readlinkSync(`/proc/${pid}/fd/3`), join(dir, 'kept.txt'));

    assert.equal(await stopStaleProxy(home), pid);
    assert.equal(processStartTime(pid), undefined);
    assert.equal(await stopStaleProxy(home), undefined);
    // a process that got the same id later is left alone
    writeFileSync(join(home, 'proxy.json'), JSON.stringify({ pid: process.pid, startTime: 1 }));
    assert.equal(await stopStaleProxy(home), undefined);
  });
});
