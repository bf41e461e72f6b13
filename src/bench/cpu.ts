/** CPU time of process trees and of the kernel's threads, from /proc. */
import { readdirSync, readFileSync } from 'node:fs';

/** USER_HZ is 100 on every Linux architecture that Node supports. */
const MICROS_PER_TICK = 10_000;

/** Fields of /proc/PID/stat after the command's name, which may hold spaces and parentheses; undefined if it is gone. */
function statFields(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

/** `roots` and all that descend from them, as the process table stands now. */
export function processTree(roots: readonly number[]): number[] {
  const children = new Map<number, number[]>();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const parent = Number(statFields(Number(entry))?.[1]);
    if (parent) children.set(parent, [...(children.get(parent) ?? []), Number(entry)]);
  }
  const all: number[] = [];
  const queue = [...roots];
  for (let pid = queue.pop(); pid !== undefined; pid = queue.pop()) {
    if (all.includes(pid)) continue;
    all.push(pid);
    queue.push(...(children.get(pid) ?? []));
  }
  return all;
}

/** The kernel's own threads, which descend from process 2. */
export function kernelThreads(): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => statFields(pid)?.[1] === '2');
}

/**
 * CPU time that living processes have used so far, all threads together.
 * @returns microseconds; the scheduler's own nanosecond count where the kernel keeps it, else ticks of 10 ms
 */
export function processMicros(pids: readonly number[]): number {
  let sum = 0;
  for (const pid of pids) {
    try {
      for (const task of readdirSync(`/proc/${pid}/task`)) {
        sum += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]) / 1000;
      }
    } catch {
      const fields = statFields(pid);
      if (fields) sum += (Number(fields[11]) + Number(fields[12])) * MICROS_PER_TICK;
    }
  }
  return sum;
}
