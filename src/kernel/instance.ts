/** A running instance as other processes find it: the state file that the agent writes. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';

/** Contents of /run/sidestep/NAME/state.json. */
export const InstanceState = z.looseObject({
  /** process id of the agent */
  pid: z.number().int().positive(),
  /** its start time as processStartTime gives it: with the pid it names one process for ever */
  startTime: z.coerce.number(),
  name: z.string(),
  /** directory of the instance's cgroup (the parent of `apps` and `agent`) */
  cgroup: z.string(),
  /** file to be seen as /etc/hosts; the agent rewrites it in place, since a bind mount follows the inode */
  hostsFile: z.string(),
  /** host:port of the admin address */
  admin: z.string().optional(),
  /** path of the control socket */
  control: z.string().optional(),
});
export type InstanceState = z.infer<typeof InstanceState>;

/** Folder of an instance's state. */
export function instanceFolder(name: string): string {
  return join('/run/sidestep', name);
}

/** Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat); undefined when it does not run. */
export function processStartTime(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The second field is the command's name in parentheses and may contain anything, so count from its end.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : Number(fields[19]);
  } catch {
    return undefined;
  }
}

/** What is known about an instance. */
export type InstanceStatus =
  | { readonly kind: 'running'; readonly state: InstanceState }
  /** its agent ended without cleaning up */
  | { readonly kind: 'stale'; readonly state: InstanceState }
  | { readonly kind: 'unreadable'; readonly path: string; readonly problem: string }
  | { readonly kind: 'none' };

/** Reads an instance's state file and asks whether the process that wrote it still runs. */
export function readInstance(name: string, folder: string = instanceFolder(name)): InstanceStatus {
  const path = join(folder, 'state.json');
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    return code === 'ENOENT' ? { kind: 'none' } : { kind: 'unreadable', path, problem: String(code) };
  }
  try {
    const state = InstanceState.parse(JSON.parse(text));
    return { kind: processStartTime(state.pid) === state.startTime ? 'running' : 'stale', state };
  } catch {
    return { kind: 'unreadable', path, problem: 'not a state file' };
  }
}
