/** ISTIO_MUTUAL with `run --certificates`: what the servers of another host see, through Sidestep and through Envoy alone. */
import assert from 'node:assert/strict';
import { copyFile, mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { secretFiles, writeSecrets } from '../../src/agent/mesh-certificates.js';
import { Driver, RAW_CLIENT } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { type Host, twoHosts } from '../../src/lab/netns.js';
import { nodeScript, packageRoot } from '../../src/lab/paths.js';
import { Lab } from '../../src/lab/processes.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import { loadFiles } from '../../src/policy/load.js';
import { buildStaticBootstrap } from '../../src/proxy/bootstrap.js';
import { Authority, type Certificate } from './certificates.js';
import { eventually } from './eventually.js';
import { untilKernel } from './in-kernel.js';
import { service } from './istio-world.js';
import { request, skip } from './world.js';

const SERVICES = { right: '10.96.0.1', wrong: '10.96.0.2', near: '10.96.0.3', strict: '10.96.0.4' } as const;
type Name = keyof typeof SERVICES;
const spiffe = (account: string) => `spiffe://cluster.local/ns/default/sa/${account}`;

let lab: Lab;
let here: Host;
let sidestep: SidestepHandle;
let inside: Driver;
let outside: Driver;
let ca: Authority;
let folder: string;
const alone = new Map<string, number>();

/** Puts a certificate where the mesh's are, as a mount of Kubernetes changes: by renaming. */
async function mount(to: string, { cert, key }: Certificate): Promise<void> {
  await mkdir(to, { recursive: true });
  for (const [from, name] of [
    [ca.cert, 'root-cert.pem'],
    [key, 'key.pem'],
    [cert, 'cert-chain.pem'],
  ] as const) {
    await copyFile(from, join(to, `${name}.new`));
    await rename(join(to, `${name}.new`), join(to, name));
  }
}

const STRICT = `---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: strict }
spec: { mtls: { mode: STRICT } }
`;

function documents(there: Host): string {
  const pod = (name: string, account: string) => `---
apiVersion: v1
kind: Pod
metadata: { name: ${name}, labels: { app: ${name} } }
spec: { serviceAccountName: ${account} }
status: { podIP: ${there.ipv4} }
`;
  const rule = (name: Name, tls: string) => `---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: ${name} }
spec: { host: ${name}, trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN }, tls: ${tls} } }
`;
  const at = (name: Name, address: string, port: number) =>
    service(name, `clusterIP: ${SERVICES[name]}`, [{ name: 'v1', address, port }]);
  return [
    at('right', there.ipv4, 8443),
    at('wrong', there.ipv4, 8443),
    at('near', here.ipv4, 8080),
    at('strict', there.ipv4, 8443),
    pod('right', 'web'),
    rule('right', '{ mode: ISTIO_MUTUAL }'),
    rule('wrong', `{ mode: ISTIO_MUTUAL, subjectAltNames: ["${spiffe('other')}"] }`),
    rule('near', '{ mode: ISTIO_MUTUAL }'),
    STRICT,
  ].join('');
}

before(async () => {
  if (skip) return;
  lab = await Lab.open('mesh-tls');
  let there: Host;
  [here, there] = await twoHosts(lab);
  ca = await Authority.make(lab.dir, 'root');
  folder = join(lab.dir, 'certs');
  await mount(folder, await ca.sign('client', `URI:${spiffe('client')}`));
  const theirs = join(lab.dir, 'theirs');
  await mount(theirs, await ca.sign('web', `URI:${spiffe('web')}`));
  const server = nodeScript(join(packageRoot(), 'test/e2e/mesh-server.ts'));
  await lab.start('server', there.command([...server, there.ipv4, '8443', theirs])).waitFor(/listening/);
  const plain = nodeScript(join(packageRoot(), 'test/e2e/odd-server.ts'));
  await lab.start('plain server', here.command([...plain, here.ipv4, '8080', 'near'])).waitFor(/listening/);

  const file = join(lab.dir, 'mesh.yaml');
  await writeFile(file, documents(there));
  const secrets = secretFiles(lab.dir);
  writeSecrets(secrets, folder);
  const own = (address: string) => address === here.ipv4 || address.startsWith('127.');
  const resources = await loadFiles([file], { mesh: { ...secrets, own } });
  assert.deepEqual(
    resources.diagnostics.filter((d) => d.severity === 'error'),
    [],
  );
  const listeners = resources.listeners.map((listener, i) => {
    const port = 20_000 + i;
    alone.set(String(listener.name), port);
    return { ...listener, address: { socket_address: { address: '127.0.0.2', port_value: port } } };
  });
  const bootstrap = buildStaticBootstrap({ ...resources, listeners });
  const prefix = here.command([]);
  [sidestep, outside] = await Promise.all([
    startSidestep(lab, [file], { args: ['--certificates', folder], prefix }),
    Driver.of(lab.start('client outside', here.command(RAW_CLIENT), { stdin: true })),
    startEnvoy(lab, 'envoy-alone', bootstrap, 1, prefix),
  ]);
  const client = here.command(sidestep.execCommand(RAW_CLIENT));
  inside = await Driver.of(lab.start('client in the mesh', client, { stdin: true }));
});

after(() => lab?.close());

async function ask(driver: Driver, address: string, port: number, host: string, path: string) {
  const pieces = [request(`GET ${path} HTTP/1.1`, [['Host', host]])];
  const { answers, error } = await driver.run({ address, port, exchanges: [{ pieces, methods: ['GET'] }] });
  const answer = answers[0];
  const seen = answer?.headers.find(([name]) => name.toLowerCase() === 'x-seen')?.[1];
  return { error, status: answer?.status, seen, body: Buffer.from(answer?.body ?? '', 'base64').toString() };
}

const mesh = (name: Name, path = '/') => ask(inside, SERVICES[name], 80, name, path);
const envoy = (name: Name, path = '/') =>
  ask(outside, '127.0.0.2', alone.get(`outbound|80||${name}.default.svc.cluster.local`)!, name, path);

test('the server of another host sees the same sidecar', { skip, timeout: 60_000 }, async () => {
  const expected = await envoy('right');
  assert.equal(expected.status, 200, JSON.stringify(expected));
  assert.equal(
    expected.seen,
    `sni=outbound_.80_._.right.default.svc.cluster.local alpn=istio-http/1.1 peer=URI:${spiffe('client')}`,
  );
  const inKernel = await untilKernel(sidestep, async () => {
    const got = await mesh('right');
    assert.equal(got.status, 200);
    // connections that resume a session tell less
    if (!got.seen?.startsWith('sni=false')) assert.deepEqual(got, expected);
  });
  assert.ok(inKernel, 'requests in mutual TLS are never the kernel’s');
});

test('a server that insists on mutual TLS is spoken to in it, without a rule', { skip, timeout: 60_000 }, async () => {
  assert.equal((await envoy('strict')).status, 200);
  const inKernel = await untilKernel(sidestep, async () => assert.equal((await mesh('strict')).status, 200));
  assert.ok(inKernel, 'requests to it are never the kernel’s');
  const { rules } = await sidestep.status();
  assert.equal(rules.proxy, 0, `${rules.proxy} rules are left to the proxy`);
});

test('a server with another account is refused as by Envoy', { skip, timeout: 60_000 }, async () => {
  for (let i = 0; i < 8; i++) {
    const expected = await envoy('wrong');
    assert.equal(expected.status, 503);
    assert.deepEqual(await mesh('wrong'), expected);
  }
});

test('a server of this host is spoken to in plain text', { skip, timeout: 60_000 }, async () => {
  const inKernel = await untilKernel(sidestep, async () => assert.equal((await mesh('near', '/echo')).status, 200));
  assert.ok(inKernel, 'requests to this host are never the kernel’s');
});

test('certificates that are renewed are shown on the next connections', { skip, timeout: 60_000 }, async () => {
  await mount(folder, await ca.sign('renewed', `URI:${spiffe('renewed')}`));
  for (const via of [envoy, mesh])
    await eventually(async () => {
      await via('right', '/close');
      const { seen } = await via('right');
      assert.match(seen ?? '', new RegExp(`peer=URI:${spiffe('renewed')}$`), seen);
    });
  const inKernel = await untilKernel(sidestep, async () => assert.equal((await mesh('right')).status, 200));
  assert.ok(inKernel, 'not the kernel’s any more');
});
