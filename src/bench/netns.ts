/**
 * Suite `netns`: client and server in network namespaces of their own, as two pods of a node are, which the bench makes
 * and joins by veth pairs.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startEnvoy } from '../lab/envoy.js';
import { type Host, nodeWithPods } from '../lab/netns.js';
import { type Lab, runCommand, sleep } from '../lab/processes.js';
import { startSidestep } from '../lab/sidestep.js';
import { type Config, startNginx, type Target } from './http1.js';
import { onePolicyPoint, REQUEST, twoSidecars } from './http1-config.js';

/** In namespaces of the bench's own all ports are free. */
const PORTS = { server: 9080, inside: 9081, mesh: 8080, inner: 8081, bypass: 8082, one: 8083 } as const;
const WAIT_MS = 10_000;

async function waitForPortOn(host: Host, address: string, port: number): Promise<void> {
  const argv = host.command(['bash', '-c', `exec 3<>/dev/tcp/${address}/${port}`]);
  const end = Date.now() + WAIT_MS;
  while ((await runCommand(argv)).code !== 0) {
    if (Date.now() > end) throw new Error(`nothing listens at ${address}:${port} after ${WAIT_MS} ms`);
    await sleep(20);
  }
}

/** Starts what `configs` need; the client of each is in the first pod, the server in the second. */
export async function startNetnsTargets(lab: Lab, configs: readonly Config[]): Promise<Target[]> {
  const { node, pods } = await nodeWithPods(lab, 2);
  const [client, server] = pods as [Host, Host];
  const open = (port: number) => () => waitForPortOn(server, server.ipv4, port);
  const everywhere = '0.0.0.0';
  const plain = (name: string, argv: readonly string[]) => lab.start(name, server.command(argv));
  const nginx = await startNginx(lab, PORTS.server, plain, everywhere, open(PORTS.server));
  const url = (address: string, port: number): string => `http://${address}:${port}${REQUEST.path}`;
  const wrap = (argv: readonly string[]): string[] => client.command(argv);
  const withSidestep = async (config: Config, port: number, upstream: number): Promise<Target> => {
    const policies = join(lab.dir, `${config}.json`);
    // at the node's address, which pods can reach; the agent takes their connections in their own namespace
    await writeFile(policies, JSON.stringify(onePolicyPoint(node.ipv4, port, upstream, server.ipv4)));
    const sidestep = await startSidestep(lab, [policies], { prefix: node.command([]) });
    return {
      ...{ config, url: url(node.ipv4, port), mesh: [sidestep.process.pid], server: nginx.pid, sidestep },
      wrap: (argv) => sidestep.execCommand(argv, ['--netns', client.name]),
    };
  };
  const targets: Target[] = [];
  for (const config of configs) {
    if (config === 'direct')
      targets.push({ config, url: url(server.ipv4, PORTS.server), mesh: [], server: nginx.pid, wrap });
    if (config === 'envoy1') {
      const policies = onePolicyPoint('127.0.0.1', PORTS.one, PORTS.server, server.ipv4);
      const { process } = await startEnvoy(lab, 'envoy', policies, 1, client.command([]));
      targets.push({ config, url: url('127.0.0.1', PORTS.one), mesh: [process.pid], server: nginx.pid, wrap });
    }
    if (config === 'envoy2') {
      const sidecars = twoSidecars('127.0.0.1', PORTS.mesh, PORTS.inner, PORTS.server, server.ipv4);
      const b = await startEnvoy(lab, 'server sidecar', sidecars.server, 1, server.command([]));
      const a = await startEnvoy(lab, 'client sidecar', sidecars.client, 1, client.command([]));
      const mesh = [a.process.pid, b.process.pid];
      targets.push({ config, url: url('127.0.0.1', PORTS.mesh), mesh, server: nginx.pid, wrap });
    }
    if (config === 'sidestep') targets.push(await withSidestep(config, PORTS.mesh, PORTS.server));
    if (config === 'sidestep-bypass') {
      const target = await withSidestep(config, PORTS.bypass, PORTS.inside);
      const start = (name: string, argv: readonly string[]) =>
        target.sidestep!.start(name, argv, {}, ['--netns', server.name]);
      const inside = await startNginx(lab, PORTS.inside, start, everywhere, open(PORTS.inside));
      targets.push({ ...target, server: inside.pid });
    }
  }
  return targets;
}
