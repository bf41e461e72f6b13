/** The image's bytes while they are put together. */
import { ImageHeader } from '../layout/image.js';
import { type StructSpec, set } from '../layout/struct.js';
import { type Dfa, stateCount } from './dfa.js';

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

  /** Stores numbers as u32, returns their offset. */
  words(values: readonly number[]): number {
    return this.intern(new Uint8Array(Uint32Array.from(values).buffer));
  }

  /**
   * Stores an automaton as rows.
   * @param accept what stands in the accept member of the rows, by label.
   * @throws ImageFull also when the automaton has more classes than a map can tell apart
   */
  rows(dfa: Dfa, accept: (label: readonly number[]) => number): Rows {
    if (dfa.width > MAX_CLASSES) throw new ImageFull();
    const values = dfa.labels.map((label) => accept(label));
    const n = stateCount(dfa);
    const size = 4 * (dfa.width + 1);
    // Small automata are often the same for many hosts.
    const key =
      n <= 4096 ? `rows:${dfa.width},${dfa.start},${dfa.classes},${dfa.next},${dfa.accept.map((a) => values[a]!)}` : '';
    const known = key ? this.#pieces.get(key) : undefined;
    const classes = this.classes(dfa.classes);
    if (known !== undefined) return { start: known + dfa.start * size, classes };
    const base = this.allocate(n * size);
    if (key) this.#remember(key, base);
    const cells = new Uint32Array(this.#bytes.buffer, base, (n * size) / 4);
    let i = 0;
    for (let s = 0; s < n; s++) {
      cells[i++] = values[dfa.accept[s]!]!;
      for (let c = 0; c < dfa.width; c++) cells[i++] = base + dfa.next[s * dfa.width + c]! * size;
    }
    return { start: base + dfa.start * size, classes };
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
    const key = `actions:${width},${table.start},${table.classes},${table.next},${table.action},${table.accept}`;
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
          cells[i++] = (((base + table.next[at]! * size) / 4) | (table.action[at]! << 24)) >>> 0;
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
