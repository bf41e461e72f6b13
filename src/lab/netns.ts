/** Network namespaces of a lab, joined by veth pairs: other hosts, as far as the network can tell. */
import { existsSync } from 'node:fs';
import { type Lab, runCommand } from './processes.js';

let serial = 0;

export interface Host {
  readonly name: string;
  readonly ipv4: string;
  readonly ipv6: string;
  /** command line that runs `argv` there */
  command(argv: readonly string[]): string[];
}

async function ip(...args: string[]): Promise<void> {
  const r = await runCommand(['ip', ...args], { timeoutMs: 10_000 });
  if (r.code !== 0) throw new Error(`ip ${args.join(' ')}: ${r.stderr.trim()}`);
}

/**
 * Two hosts on one wire, 10.88.N.1 and 10.88.N.2 (fd88:N::1 and fd88:N::2). Removed with the lab.
 * @throws Error with ip's words (no privilege, no namespaces)
 */
export async function twoHosts(lab: Lab): Promise<[Host, Host]> {
  const number = (process.pid + 97 * serial++) % 250;
  const hosts = ['a', 'b'].map((letter, i): Host => {
    const name = `sidestep-${process.pid}-${serial}${letter}`;
    return {
      name,
      ipv4: `10.88.${number}.${i + 1}`,
      ipv6: `fd88:${number.toString(16)}::${i + 1}`,
      // `ip netns exec` would hide the cgroups behind a /sys of its own
      command: (argv) => ['nsenter', `--net=/run/netns/${name}`, ...argv],
    };
  }) as [Host, Host];
  for (const host of hosts) {
    lab.onClose(`namespace ${host.name}`, () => ip('netns', 'del', host.name));
    await ip('netns', 'add', host.name);
  }
  const wire = (host: Host) => ['netns', host.name] as const;
  const [a, b] = hosts;
  await ip('link', 'add', 'eth0', ...wire(a), 'type', 'veth', 'peer', 'name', 'eth0', ...wire(b));
  for (const host of hosts) {
    await ip('-n', host.name, 'addr', 'add', `${host.ipv4}/24`, 'dev', 'eth0');
    await ip('-n', host.name, 'addr', 'add', `${host.ipv6}/64`, 'dev', 'eth0', 'nodad');
    for (const link of ['lo', 'eth0']) await ip('-n', host.name, 'link', 'set', link, 'up');
  }
  return hosts;
}

/** A node and its pods: each pod's only link is to the node, which forwards. */
export interface Node {
  readonly node: Host;
  readonly pods: readonly Host[];
}

/**
 * A node, 10.89.N.1 (fd89:N::1), with pods 10.89.N.10, .11 ... Removed with the lab.
 * @throws Error with ip's words (no privilege, no namespaces)
 */
export async function nodeWithPods(lab: Lab, count: number): Promise<Node> {
  const number = (process.pid + 89 * serial++) % 250;
  const hostAt = (letter: string, last: number): Host => {
    const name = `sidestep-${process.pid}-${serial}${letter}`;
    return {
      name,
      ipv4: `10.89.${number}.${last}`,
      ipv6: `fd89:${number.toString(16)}::${last.toString(16)}`,
      command: (argv) => ['nsenter', `--net=/run/netns/${name}`, ...argv],
    };
  };
  const node = hostAt('n', 1);
  const pods = Array.from({ length: count }, (_, i) => hostAt(`p${i}`, 10 + i));
  const at = (host: Host, ...args: string[]) => ip('-n', host.name, ...args);
  for (const host of [node, ...pods]) {
    lab.onClose(`namespace ${host.name}`, () => removeNamespace(host.name));
    await ip('netns', 'add', host.name);
    await at(host, 'link', 'set', 'lo', 'up');
  }
  await at(node, 'addr', 'add', `${node.ipv4}/32`, 'dev', 'lo');
  await at(node, 'addr', 'add', `${node.ipv6}/128`, 'dev', 'lo', 'nodad');
  for (const [i, pod] of pods.entries()) {
    const link = `pod${i}`;
    await ip('link', 'add', link, 'netns', node.name, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', pod.name);
    await at(node, 'link', 'set', link, 'up');
    await at(pod, 'link', 'set', 'eth0', 'up');
    // IPv6 neighbours are only told of addresses that the link itself has
    await at(node, 'addr', 'add', `${node.ipv6}/128`, 'dev', link, 'nodad');
    for (const [own, other, length] of [
      [pod.ipv4, node.ipv4, 32],
      [pod.ipv6, node.ipv6, 128],
    ] as const) {
      await at(pod, 'addr', 'add', `${own}/${length}`, 'dev', 'eth0', ...(length === 128 ? ['nodad'] : []));
      await at(pod, 'route', 'add', other, 'dev', 'eth0');
      await at(pod, 'route', 'add', 'default', 'via', other, 'dev', 'eth0');
      await at(node, 'route', 'add', own, 'dev', link);
    }
  }
  const forwarding = ['sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1'];
  const done = await runCommand(node.command(forwarding));
  if (done.code !== 0) throw new Error(`forwarding: ${done.stderr.trim()}`);
  return { node, pods };
}

/** A test may have removed it already. */
async function removeNamespace(name: string): Promise<void> {
  if (existsSync(`/run/netns/${name}`)) await ip('netns', 'del', name);
}
