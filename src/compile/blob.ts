/** The image's bytes while they are put together. */
import { ImageHeader, NodeSpec, STATE } from '../layout/image.js';
import { type StructSpec, set } from '../layout/struct.js';
import type { Dfa } from './dfa.js';
import { forms, isSink, type Node } from './forms.js';
import { pack } from './pack.js';
import { type Sparse, sparse, sparseStates } from './sparse.js';

/** Thrown when the image would be larger than it may be; caught by compileImage. */
export class ImageFull extends Error {}

/** Offsets of a start row and of the class map that goes with it. */
export interface Rows {
  readonly start: number;
  readonly classes: number;
}

/** Most classes: entry b of a class map is the class plus one, in a byte. */
const MAX_CLASSES = 255;

/** Grows from the header on; equal pieces are stored once. */
export class Blob {
  readonly #limit: number;
  #bytes = new Uint8Array(1 << 16);
  #view = new DataView(this.#bytes.buffer);
  #used = ImageHeader.size;
  readonly #pieces = new Map<string, number>();
  /** keys of tables, which take as long as the tables are */
  readonly #tables = new WeakMap<object, string>();
  readonly #journal: string[] = [];

  /** @param limit most bytes. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  get used(): number {
    return this.#used;
  }

  /** Room for `size` bytes, zero; returns its offset. @throws ImageFull */
  allocate(size: number, align: 4 | 8 = 4): number {
    const at = Math.ceil(this.#used / align) * align;
    if (at + size > this.#limit) throw new ImageFull();
    if (at + size > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#bytes.length * 2, at + size));
      grown.set(this.#bytes);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#used = at + size;
    return at;
  }

  /** Takes back everything that was added after `mark` (a value of `used`). */
  rollback(mark: number): void {
    this.#bytes.fill(0, mark, this.#used);
    this.#used = mark;
    for (let key = this.#journal.at(-1); key !== undefined; key = this.#journal.at(-1)) {
      if (this.#pieces.get(key)! < mark) break;
      this.#pieces.delete(key);
      this.#journal.pop();
    }
  }

  /** Writes a structure's members at `at`. */
  write(at: number, spec: StructSpec, values: Readonly<Record<string, number | bigint>>): void {
    for (const [name, value] of Object.entries(values)) set(this.#view, at, spec, name, value);
  }

  /** Stores bytes (once), returns their offset. */
  intern(bytes: Uint8Array, align: 4 | 8 = 4): number {
    const key = `${align}:${Buffer.from(bytes).toString('latin1')}`;
    let at = this.#pieces.get(key);
    if (at === undefined) {
      at = this.allocate(bytes.length, align);
      this.#bytes.set(bytes, at);
      this.#remember(key, at);
    }
    return at;
  }

  /** Stores structures one after the other (once), returns the offset of the first. */
  structs(spec: StructSpec, list: readonly Readonly<Record<string, number | bigint>>[], prefix?: Uint8Array): number {
    const head = prefix?.length ?? 0;
    const bytes = new Uint8Array(head + spec.size * list.length);
    if (prefix) bytes.set(prefix);
    const view = new DataView(bytes.buffer);
    list.forEach((values, i) => {
      for (const [name, value] of Object.entries(values)) set(view, head + i * spec.size, spec, name, value);
    });
    return this.intern(bytes, 8);
  }

  /** Stores numbers as u32, returns their offset, a multiple of 8. */
  words(values: readonly number[]): number {
    return this.intern(new Uint8Array(Uint32Array.from(values).buffer), 8);
  }

  /**
   * Stores a matching automaton (src/layout/image.ts says how).
   * @param accept what acceptance means to the automaton's user, by label: 0 or the offset, a multiple of 8, of what was
   * stored before.
   * @throws ImageFull also when the automaton has more classes than a map can tell apart
   */
  rows(automaton: Dfa | Sparse, accept: (label: readonly number[]) => number): Rows {
    const table = 'next' in automaton ? sparse(automaton) : automaton;
    if (table.width > MAX_CLASSES) throw new ImageFull();
    const values = table.labels.map((label) => accept(label));
    const classes = this.classes(table.classes);
    // Small automata are often the same for many hosts.
    const key =
      sparseStates(table) <= 4096
        ? `rows:${table.width},${table.start},${table.classes},${table.other},${table.first},${table.on},${table.to},${table.accept.map((a) => values[a]!)}`
        : '';
    const known = key ? this.#pieces.get(key) : undefined;
    if (known !== undefined) return { start: known, classes };
    const start = this.#states(table, values);
    if (key) this.#remember(key, start);
    return { start, classes };
  }

  /** Stores the states of an automaton, returns the reference to its start. */
  #states(table: Sparse, values: readonly number[]): number {
    const { first, on, to, other, accept } = table;
    const { of, order } = forms(table, values);
    const rows = order.filter((state) => of[state] === 'row');
    const nodes = order.filter((state) => of[state] !== 'row');
    const { places, size } = pack(table, rows);
    const base = this.allocate(8 * size, 8);
    // each in a cache line of its own
    const room = this.allocate(NodeSpec.size * (nodes.length + 1));
    const line = Math.ceil(room / NodeSpec.size);
    const nodeAt = new Map(nodes.map((state, i) => [state, (line + i) * NodeSpec.size]));
    const refer = (state: number): number => {
      if (isSink(table, state)) return values[accept[state]!]! + STATE.SINK;
      const node = nodeAt.get(state);
      return node === undefined ? base + 8 * places[state]! : node + STATE.NODE;
    };
    const words = new Uint32Array(this.#bytes.buffer, base, 2 * size);
    for (const s of rows) {
      const place = places[s]!;
      words[2 * place] = values[accept[s]!]!;
      words[2 * place + 1] = refer(other[s]!);
      for (let i = first[s]!; i < first[s + 1]!; i++) {
        const cell = place + on[i]! + 1;
        words[2 * cell] = base + 8 * place;
        words[2 * cell + 1] = refer(to[i]!);
      }
    }
    const word = (bytes: readonly number[]) =>
      bytes.reduce((sum, byte, i) => sum | (BigInt(byte) << BigInt(8 * i)), 0n);
    for (const [state, at] of nodeAt) {
      const { chain, fail, end, branches } = of[state] as Node;
      const [from, count] = branches ? [first[end]!, first[end + 1]! - first[end]!] : [0, 0];
      this.write(at, NodeSpec, {
        accept: values[accept[state]!]!,
        fail: fail < 0 ? 0 : refer(fail),
        end: values[accept[end]!]!,
        length: chain.length,
        on: branches ? 0 : 1,
        want: word(chain.map(({ want }) => want)),
        mask: word(chain.map(({ mask }) => mask)),
        keys: word(Array.from({ length: count }, (_, i) => on[from + i]! + 1)),
        other: refer(branches ? other[end]! : end),
      });
      for (let i = 0; i < count; i++) set(this.#view, at, NodeSpec, 'to', refer(to[from + i]!), i);
    }
    return refer(table.start);
  }

  /**
   * Stores an automaton whose cells carry an 8-bit action beside the next row.
   * @param action per state and class: SCAN values, or masks of capture registers. @param accept per state.
   */
  actionRows(table: {
    readonly classes: Uint8Array;
    readonly width: number;
    readonly start: number;
    readonly next: Int32Array;
    readonly action: Uint8Array;
    readonly accept: Int32Array;
  }): Rows {
    if (table.width > MAX_CLASSES) throw new ImageFull();
    const { width } = table;
    const n = table.accept.length;
    const key =
      this.#tables.get(table) ??
      `actions:${width},${table.start},${table.classes},${table.next},${table.action},${table.accept}`;
    this.#tables.set(table, key);
    const classes = this.classes(table.classes);
    const size = 4 * (width + 1);
    let base = this.#pieces.get(key);
    if (base === undefined) {
      base = this.allocate(n * size);
      this.#remember(key, base);
      const cells = new Uint32Array(this.#bytes.buffer, base, (n * size) / 4);
      let i = 0;
      for (let s = 0; s < n; s++) {
        cells[i++] = table.accept[s]!;
        for (let c = 0; c < width; c++) {
          const at = s * width + c;
          cells[i++] = ((base + table.next[at]! * size) | (table.action[at]! << 24)) >>> 0;
        }
      }
    }
    return { start: base + table.start * size, classes };
  }

  /** Stores a class map (classes from 0), returns its offset. */
  classes(classes: Uint8Array): number {
    return this.intern(classes.map((c) => c + 1));
  }

  /** The finished bytes. */
  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#used);
  }

  #remember(key: string, at: number): void {
    this.#pieces.set(key, at);
    this.#journal.push(key);
  }
}
