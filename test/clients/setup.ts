/** Builds what has to be built and starts the servers of the clients test. */
import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onPath, packageRoot } from '../../src/lab/paths.js';
import { plainBootstrap } from '../../src/lab/plain-bootstrap.js';
import { freePorts, waitForPort } from '../../src/lab/ports.js';
import { type Lab, type LabProcess, runCommand } from '../../src/lab/processes.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { hyperServer, type Made, nettyServer, pythonServer } from './registries.js';

const PROGRAMS = join(dirname(fileURLToPath(import.meta.url)), 'programs');

/** A client's command line without the `NAME=URL` arguments, or why it is not there. */
export interface ClientProgram {
  readonly name: string;
  readonly argv?: readonly string[];
  readonly missing?: string;
}

function goProgram(): string | undefined {
  return onPath('go') ?? ['/usr/local/go/bin/go', '/usr/lib/go/bin/go'].find((p) => existsSync(p));
}

async function goBuild(lab: Lab, name: string): Promise<string | undefined> {
  const go = goProgram();
  if (!go) return undefined;
  const binary = join(lab.dir, name);
  const r = await runCommand([go, 'build', '-o', binary, join(PROGRAMS, name, 'main.go')], { timeoutMs: 180_000 });
  if (r.code !== 0) throw new Error(`go build ${name}: ${r.stderr}`);
  return binary;
}

/** A virtual environment with `requests`, made once in .cache. */
async function pythonWithRequests(): Promise<string | undefined> {
  const venv = join(packageRoot(), '.cache/clients-venv');
  const python = join(venv, 'bin/python');
  const has = async (): Promise<boolean> => (await runCommand([python, '-c', 'import requests'])).code === 0;
  if (await has()) return python;
  await runCommand(['python3', '-m', 'venv', venv], { timeoutMs: 60_000 });
  await runCommand([python, '-m', 'pip', 'install', '-q', 'requests==2.32.5'], { timeoutMs: 120_000 });
  return (await has()) ? python : undefined;
}

/** All clients, built. */
export async function clients(lab: Lab): Promise<ClientProgram[]> {
  const go = await goBuild(lab, 'go-client');
  const python = await pythonWithRequests();
  const available = (name: string, argv: readonly string[] | undefined, missing: string): ClientProgram =>
    argv ? { name, argv } : { name, missing };
  return [
    available('curl', onPath('curl') ? ['bash', join(PROGRAMS, 'curl-client.sh')] : undefined, 'curl is not installed'),
    { name: 'Node fetch', argv: [process.execPath, join(PROGRAMS, 'client.mjs')] },
    available(
      'Python http.client',
      onPath('python3') ? ['python3', join(PROGRAMS, 'client_http.py')] : undefined,
      'python3 is not installed',
    ),
    available(
      'Python requests',
      python ? [python, join(PROGRAMS, 'client_requests.py')] : undefined,
      'requests could not be installed',
    ),
    available('Go net/http', go ? [go] : undefined, 'go is not installed'),
    available(
      'Java HttpClient',
      onPath('java') ? ['java', join(PROGRAMS, 'Client.java')] : undefined,
      'java is not installed',
    ),
  ];
}

/** What comes from package registries. */
const FROM_REGISTRIES: Readonly<Record<string, (address: string, port: number) => Promise<Made>>> = {
  uvicorn: (address, port) => pythonServer('uvicorn', address, port),
  gunicorn: (address, port) => pythonServer('gunicorn', address, port),
  netty: nettyServer,
  hyper: hyperServer,
};

export interface Servers {
  /** free ports at 127.0.0.1 for the servers that can be started here, by name */
  readonly ports: Readonly<Record<string, number>>;
  /** why the others cannot */
  readonly missing: Readonly<Record<string, string>>;
}

/** Which servers there are; fetches and builds what has to be. */
export async function findServers(): Promise<Servers> {
  const names = ['nginx', 'node', 'python', ...(onPath('java') ? ['java'] : []), ...(goProgram() ? ['go'] : [])];
  const missing: Record<string, string> = {};
  for (const [name, make] of Object.entries(FROM_REGISTRIES)) {
    const made = await make('127.0.0.1', 0);
    if ('missing' in made) missing[name] = made.missing;
    else names.push(name);
  }
  const ports = await freePorts(names.length);
  return { ports: Object.fromEntries(names.map((name, i) => [name, ports[i]!])), missing };
}

/** Starts the servers; `run` starts one process (inside a mesh, or just so). */
export async function startServers(
  lab: Lab,
  ports: Readonly<Record<string, number>>,
  run: (name: string, argv: readonly string[]) => LabProcess = (name, argv) => lab.start(name, argv),
): Promise<void> {
  const { nginx, node, python, java, go } = ports;

  const dir = join(lab.dir, 'nginx');
  await mkdir(join(dir, 'www'), { recursive: true });
  // nginx's worker is another user
  await chmod(lab.dir, 0o755);
  await writeFile(join(dir, 'www/large'), '0123456789'.repeat(30_000));
  await writeFile(join(dir, 'www/chunked'), 'abcdefghij'.repeat(2000));
  const template = await readFile(join(PROGRAMS, 'nginx.conf'), 'utf8');
  const config = join(dir, 'nginx.conf');
  await writeFile(config, template.replaceAll('@DIR@', dir).replaceAll('@PORT@', String(nginx)));
  run('nginx', ['nginx', '-c', config, '-e', 'stderr', '-p', dir]);
  await waitForPort('127.0.0.1', nginx!);

  const start = async (name: string, argv: readonly string[], port: number | undefined): Promise<void> => {
    if (port) await run(name, [...argv, '127.0.0.1', String(port)]).waitFor(/listening/, 60_000);
  };
  await start('node server', [process.execPath, join(PROGRAMS, 'server.mjs')], node);
  await start('python server', ['python3', join(PROGRAMS, 'server.py')], python);
  await start('java server', ['java', join(PROGRAMS, 'Server.java')], java);
  if (go) await start('go server', [(await goBuild(lab, 'go-server'))!], go);

  for (const [name, make] of Object.entries(FROM_REGISTRIES)) {
    const port = ports[name];
    const made = port && (await make('127.0.0.1', port));
    if (!made || 'missing' in made) continue;
    run(`${name} server`, made.argv);
    await waitForPort('127.0.0.1', port, 60_000);
  }
}

/** A listener for each server at `address` and its own port; the only policy adds a header. */
export function bootstrapFor(
  address: string,
  listenPorts: Readonly<Record<string, number>>,
  servers: Readonly<Record<string, number>>,
): JsonObject {
  const routes = (cluster: string): JsonObject[] => [
    {
      match: { prefix: '/' },
      route: { cluster },
      request_headers_to_add: [{ header: { key: 'x-mesh', value: 'yes' } }],
    },
  ];
  const all = Object.entries(servers);
  return plainBootstrap(
    all.map(([name]) => ({ name, address, port: listenPorts[name]!, routes: routes(name) })),
    all.map(([name, port]) => ({ name, ports: [port] })),
  );
}
