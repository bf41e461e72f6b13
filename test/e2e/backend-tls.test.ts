/** BackendTLSPolicies: whom a server's certificate must come from, through Sidestep and through Envoy alone. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Driver, RAW_CLIENT } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { freePort } from '../../src/lab/ports.js';
import { Lab } from '../../src/lab/processes.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import { loadFiles } from '../../src/policy/load.js';
import { Authority, readCertificate } from './certificates.js';
import { untilKernel } from './in-kernel.js';
import { moved, service } from './istio-world.js';
import { request, skip } from './world.js';

/** Services of one server: what their policies ask for, and whether the server has it. */
const POLICIES = {
  configmap: { ref: '{ group: "", kind: ConfigMap, name: ours }', hostname: 'server.test', right: true },
  secret: { ref: '{ group: "", kind: Secret, name: ours }', hostname: 'server.test', right: true },
  stranger: { ref: '{ group: "", kind: ConfigMap, name: theirs }', hostname: 'server.test', right: false },
  name: { ref: '{ group: "", kind: ConfigMap, name: ours }', hostname: 'other.test', right: false },
} as const;
type Name = keyof typeof POLICIES;
const NAMES = Object.keys(POLICIES) as Name[];
const addressOf = (name: Name) => `10.96.0.${1 + NAMES.indexOf(name)}`;

let lab: Lab;
let server: Server;
let sidestep: SidestepHandle;
let inside: Driver;
let outside: Driver;
let alone: Map<string, number>;

const block = (text: string) => text.trimEnd().replace(/^/gm, '    ');

before(async () => {
  if (skip) return;
  lab = await Lab.open('backend-tls');
  const [ours, theirs] = [await Authority.make(lab.dir, 'ours'), await Authority.make(lab.dir, 'theirs')];
  const certificate = await readCertificate(await ours.sign('server', 'DNS:server.test'));
  server = createServer(certificate, (_, res) => res.end('ok'));
  server.on('tlsClientError', () => undefined);
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const pem = (authority: Authority) => readFile(authority.cert, 'utf8');
  const authorities = (kind: string, name: string, text: string) => `---
apiVersion: v1
kind: ${kind}
metadata: { name: ${name} }
${kind === 'Secret' ? `data: { ca.crt: ${Buffer.from(text).toString('base64')} }` : `data:\n  ca.crt: |\n${block(text)}`}
`;
  const policies = NAMES.map(
    (name) => `${service(name, `clusterIP: ${addressOf(name)}`, [{ name: 'v1', address: '127.0.0.1', port }])}---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: { name: ${name} }
spec:
  targetRefs: [{ group: "", kind: Service, name: ${name} }]
  validation: { hostname: ${POLICIES[name].hostname}, caCertificateRefs: [${POLICIES[name].ref}] }
`,
  );
  const file = join(lab.dir, 'policies.yaml');
  await writeFile(
    file,
    [
      authorities('ConfigMap', 'ours', await pem(ours)),
      authorities('Secret', 'ours', await pem(ours)),
      authorities('ConfigMap', 'theirs', await pem(theirs)),
      ...policies,
    ].join(''),
  );
  const { bootstrap, at } = await moved(await loadFiles([file]));
  alone = at;
  [sidestep, outside] = await Promise.all([
    startSidestep(lab, [file]),
    Driver.of(lab.start('client outside', RAW_CLIENT, { stdin: true })),
    startEnvoy(lab, 'envoy-alone', bootstrap),
  ]);
  inside = await Driver.of(lab.start('client in the mesh', sidestep.execCommand(RAW_CLIENT), { stdin: true }));
});

after(async () => {
  await lab?.close();
  server?.closeAllConnections();
  server?.close();
});

async function ask(driver: Driver, address: string, port: number, host: string) {
  const pieces = [request('GET / HTTP/1.1', [['Host', host]])];
  const { answers, error } = await driver.run({ address, port, exchanges: [{ pieces, methods: ['GET'] }] });
  const answer = answers[0];
  return { error, status: answer?.status, body: Buffer.from(answer?.body ?? '', 'base64').toString() };
}

const mesh = (name: Name) => ask(inside, addressOf(name), 80, name);
const envoy = (name: Name) =>
  ask(outside, '127.0.0.2', alone.get(`outbound|80||${name}.default.svc.cluster.local`)!, name);

for (const name of NAMES)
  test(`${name}: as Envoy has it`, { skip, timeout: 60_000 }, async () => {
    const { right } = POLICIES[name];
    const expected = await envoy(name);
    assert.equal(expected.status, right ? 200 : 503, JSON.stringify(expected));
    const same = async () => assert.deepEqual(await mesh(name), expected);
    if (!right) for (let i = 0; i < 5; i++) await same();
    else assert.ok(await untilKernel(sidestep, same), 'its requests are never the kernel’s');
  });

test('every policy is the kernel’s', { skip }, async () => {
  const { rules } = await sidestep.status();
  assert.equal(rules.proxy, 0, `${rules.proxy} rules are left to the proxy`);
});
