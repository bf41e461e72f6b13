/** The private /etc/hosts of an instance. */
import { readFileSync, writeFileSync } from 'node:fs';
import type { HostEntry } from '../policy/resources.js';

/** Writes this host's entries and the services' to `path`, in place: bind mounts follow the inode. */
export function writeHosts(path: string, hosts: readonly HostEntry[]): void {
  let own = '';
  try {
    own = readFileSync('/etc/hosts', 'utf8');
  } catch {
    own = '127.0.0.1 localhost\n::1 localhost\n';
  }
  const services = new Set(hosts.flatMap((entry) => entry.names));
  // A name of the mesh means the mesh's address, whatever this host calls by it.
  const kept = own.split('\n').filter(
    (line) =>
      !line
        .replace(/#.*/, '')
        .trim()
        .split(/\s+/)
        .slice(1)
        .some((name) => services.has(name)),
  );
  const added = hosts.map((entry) => `${entry.address} ${entry.names.join(' ')}`);
  writeFileSync(path, `${kept.join('\n').trimEnd()}\n# services of the mesh\n${added.join('\n')}\n`);
}
