/** Network namespaces of a lab, joined by veth pairs: other hosts, as far as the network can tell. */
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
