import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { processStartTime } from '../kernel/instance.js';

const RECORD = 'proxy.json';

/** Which process serves a directory, and how its admin interface is reached. */
export interface ProxyRecord {
  readonly pid: number;
  /** clock ticks since boot; tells a process from a later one with the same id */
  readonly startTime: number;
  readonly admin?: string;
}

export { processStartTime };

/** Whether the recorded process still runs. */
export function isRunning(record: ProxyRecord): boolean {
  return processStartTime(record.pid) === record.startTime;
}

/** Writes the record of a directory's proxy. */
export async function writeRecord(dir: string, record: ProxyRecord): Promise<void> {
  await writeFile(join(dir, RECORD), JSON.stringify(record));
}

/** The record in a directory, or undefined when there is none that can be read. */
async function readRecord(dir: string): Promise<ProxyRecord | undefined> {
  try {
    const record = JSON.parse(await readFile(join(dir, RECORD), 'utf8'));
    return Number.isInteger(record.pid) && Number.isInteger(record.startTime) ? record : undefined;
  } catch {
    return undefined;
  }
}

/** Removes a directory's record. */
export async function removeRecord(dir: string): Promise<void> {
  await rm(join(dir, RECORD), { force: true });
}

/** Waits until the recorded process is gone; false when it still runs after `timeoutMs`. */
async function waitForExit(record: ProxyRecord, timeoutMs: number): Promise<boolean> {
  const end = Date.now() + timeoutMs;
  while (isRunning(record)) {
    if (Date.now() >= end) return false;
    await sleep(20);
  }
  return true;
}

/** Ends a process: SIGTERM, and SIGKILL if it is still there after `graceMs`. Does nothing when it is gone already. */
export async function endProcess(record: ProxyRecord, graceMs = 5000): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    if (!isRunning(record)) return;
    try {
      process.kill(record.pid, signal);
    } catch {
      return;
    }
    if (await waitForExit(record, graceMs)) return;
  }
}

/**
 * Stops the proxy that an agent which died has left behind in `dir`. Returns its process id, or undefined when there
 * was none.
 */
export async function stopStaleProxy(dir: string): Promise<number | undefined> {
  const record = await readRecord(dir);
  if (!record) return undefined;
  const running = isRunning(record);
  if (running) await endProcess(record);
  await removeRecord(dir);
  return running ? record.pid : undefined;
}
