/** Where commands and people talk to an instance, and where they find that. */
import { writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import { processStartTime } from '../kernel/instance.js';
import { type ControlHandlers, serveControl } from './control-server.js';
import type { InstanceOptions, InstancePaths } from './instance-options.js';

export interface AdminServers {
  readonly servers: readonly Server[];
  /** HOST:PORT */
  readonly address: string;
}

/**
 * Opens the control socket and the admin address; another port, if that is taken.
 * @param join what only commands on this host may ask for
 */
export async function serveAdmin(
  handlers: Omit<ControlHandlers, 'join'>,
  join: NonNullable<ControlHandlers['join']>,
  { admin: { host, port }, log }: Pick<InstanceOptions, 'admin' | 'log'>,
  paths: InstancePaths,
): Promise<AdminServers> {
  const control = await serveControl({ ...handlers, join }, { path: paths.control });
  const portOf = (server: Server) => (server.address() as { port: number }).port;
  try {
    const server = await serveControl(handlers, { host, port }).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EADDRINUSE') throw error;
      const other = await serveControl(handlers, { host, port: 0 });
      log(`${host}:${port} is taken, the admin address is ${host}:${portOf(other)}`);
      return other;
    });
    return { servers: [control, server], address: `${host}:${portOf(server)}` };
  } catch (error) {
    control.close();
    throw error;
  }
}

/** Tells other commands where an instance is. */
export function writeState(
  { name }: Pick<InstanceOptions, 'name'>,
  paths: InstancePaths,
  state: { readonly cgroup: string; readonly admin: string; readonly proxy?: number; readonly holder?: number },
): void {
  const { pid } = process;
  const { cgroup, admin, proxy, holder } = state;
  const all = {
    pid,
    startTime: processStartTime(pid),
    name,
    cgroup,
    hostsFile: paths.hosts,
    admin,
    control: paths.control,
    proxy,
    holder,
  };
  writeFileSync(paths.state, `${JSON.stringify(all, null, 2)}\n`);
}
