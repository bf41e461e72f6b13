/** Lines of access logs (access-log-config.ts) as values that can be compared. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { OPERATORS, TIMES } from './access-log-config.js';
import { ALONE, MESH } from './world.js';

/** Values that differ by nature, in a form that does not: ports of one's own, random numbers, durations. */
export function settled(id: string, name: string, value: unknown): unknown {
  const text = String(value);
  if (value === null || text === '-' || text === '') return value;
  if (TIMES.includes(name)) {
    assert.match(text, /^\d+$/, name);
    return id.startsWith('slow') ? Number(text) > 450 : 'short';
  }
  if (/LOCAL_ADDRESS\b/.test(name) && name.startsWith('UPSTREAM')) return text.replace(/:\d+$/, ':port');
  if (name.includes('REMOTE_ADDRESS') && !text.endsWith(':0')) return text.replace(/:\d+$/, ':port');
  if (/LOCAL_(ADDRESS|PORT)/.test(name)) return text.replace(MESH, ALONE);
  if (name === 'REQ(X-REQUEST-ID)')
    return text.replace(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/, 'random');
  if (name.startsWith('START_TIME')) return text.replace(/\d/g, '9');
  return value;
}

export type Lines = Map<string, Record<string, unknown>>;

/** Lines of the text format, by id. */
export async function textLines(file: string): Promise<Lines> {
  const lines: Lines = new Map();
  for (const line of (await readFile(file, 'utf8')).trimEnd().split('\n')) {
    const values = line.split(' | ');
    assert.equal(values.length, OPERATORS.length + 1, line);
    assert.ok(!lines.has(values[0]!), `${values[0]} was logged twice: ${line}`);
    lines.set(values[0]!, Object.fromEntries(OPERATORS.map((o, i) => [o, settled(values[0]!, o, values[i + 1])])));
  }
  return lines;
}

/** What two lines say differently, in words. */
export function differ(what: string, own: unknown, envoys: unknown): string[] {
  if (typeof own !== 'object' || typeof envoys !== 'object' || !own || !envoys)
    return Object.is(own, envoys) ? [] : [`${what} is ${JSON.stringify(own)}, not ${JSON.stringify(envoys)}`];
  const [a, b] = [own as Record<string, unknown>, envoys as Record<string, unknown>];
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].flatMap((k) => differ(`${what}: ${k}`, a[k], b[k]));
}
