/** What an agent holds in the kernel, found without its help: through /proc and bpftool. */
import { readdirSync, readFileSync } from 'node:fs';
import { output } from './world.js';

export interface Held {
  /** ids */
  readonly maps: Set<number>;
  readonly programs: Set<number>;
  readonly links: Set<number>;
  readonly descriptors: number;
}

/** The eBPF objects that a process has descriptors of. */
export function heldBy(pid: number): Held {
  const held = { maps: new Set<number>(), programs: new Set<number>(), links: new Set<number>(), descriptors: 0 };
  for (const fd of readdirSync(`/proc/${pid}/fdinfo`)) {
    let text: string;
    try {
      text = readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8');
    } catch {
      continue; // closed since
    }
    held.descriptors++;
    const link = /^link_id:\s+(\d+)/m.exec(text);
    const map = /^map_id:\s+(\d+)/m.exec(text);
    const program = /^prog_id:\s+(\d+)/m.exec(text);
    if (link) held.links.add(Number(link[1]));
    else if (map) held.maps.add(Number(map[1]));
    else if (program) held.programs.add(Number(program[1]));
  }
  return held;
}

export interface Shown {
  readonly id: number;
  readonly type: string;
  readonly name?: string;
  readonly pinned?: readonly string[];
  readonly prog_id?: number;
  readonly attach_type?: string;
}

/** All maps, programs or links of this machine, with the paths where they are pinned. */
export async function show(kind: 'map' | 'prog' | 'link'): Promise<Shown[]> {
  return JSON.parse(await output(['bpftool', '-j', '-f', kind, 'show'])) as Shown[];
}

/** The agent's map of this name. */
export async function mapId(pid: number, name: string): Promise<number> {
  const { maps } = heldBy(pid);
  const found = (await show('map')).find((m) => maps.has(m.id) && m.name === name);
  if (!found) throw new Error(`process ${pid} has no map ${name}`);
  return found.id;
}

interface Dumped {
  readonly formatted?: { readonly key: unknown; readonly value: unknown };
}

/** Entries of a map, decoded by its BTF. */
async function entries<T>(pid: number, name: string): Promise<{ key: number; value: T }[]> {
  const text = await output(['bpftool', '-j', 'map', 'dump', 'id', String(await mapId(pid, name))]);
  // JSON's numbers would lose the low bits of long ones
  return (JSON.parse(text.replace(/:\s*(\d{16,})/g, ':"$1"')) as Dumped[]).map(
    (e) => e.formatted as { key: number; value: T },
  );
}

/** How many entries a map has. */
export async function size(pid: number, name: string): Promise<number> {
  return (JSON.parse(await output(['bpftool', '-j', 'map', 'dump', 'id', String(await mapId(pid, name))])) as [])
    .length;
}

interface UpstreamEntry {
  readonly owner: number | string;
  readonly phase: number;
}

export interface PoolState {
  /** slots with a connection */
  readonly connected: number;
  /** bits set in the blocks */
  readonly idle: number;
  /** slots that have an owner */
  readonly owned: number;
  /** idle slots of which something is not as it must be */
  readonly broken: string[];
}

/** The pool as the programs see it. Quiet pools have no owners, and every idle slot is a connection without one. */
export async function poolState(pid: number): Promise<PoolState> {
  const upstreams = await entries<UpstreamEntry>(pid, 'upstreams');
  const words = await entries<number | string>(pid, 'blocks');
  const slots = new Set((await entries<number>(pid, 'slots')).map((e) => e.value));
  const broken: string[] = [];
  let idle = 0;
  for (const { key, value } of words) {
    const word = BigInt(value);
    for (let bit = 0; bit < 64; bit++) {
      if (!((word >> BigInt(bit)) & 1n)) continue;
      idle++;
      const slot = key * 64 + bit;
      const u = upstreams[slot]!.value;
      if (u.owner !== 0 || u.phase !== 0) broken.push(`idle slot ${slot}: owner ${u.owner}, phase ${u.phase}`);
      if (!slots.has(slot)) broken.push(`idle slot ${slot} has no connection`);
    }
  }
  const owned = upstreams.filter((u) => u.value.owner !== 0).length;
  return { connected: slots.size, idle, owned, broken };
}
