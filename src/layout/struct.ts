/**
 * Descriptions of C structures, from which both the header that the BPF programs include and the accessors that
 * TypeScript uses are made, so that the two cannot drift apart. Little-endian only: BPF runs in the host's order and
 * every kernel that this project supports is little-endian.
 */
export type Scalar = 'u8' | 'u16' | 'u32' | 'u64';

const SIZES: Record<Scalar, number> = { u8: 1, u16: 2, u32: 4, u64: 8 };

/** One member: a scalar, or an array of `count` scalars. */
export interface FieldSpec {
  readonly name: string;
  readonly type: Scalar;
  readonly count: number;
  readonly offset: number;
  readonly doc: string;
}

/** A structure with its members' byte offsets and its size, laid out by the rules of the C ABI (natural alignment). */
export interface StructSpec {
  readonly name: string;
  readonly doc: string;
  readonly size: number;
  readonly fields: readonly FieldSpec[];
  readonly at: Readonly<Record<string, FieldSpec>>;
}

/** What a file of this folder contributes to the header: `#define`s, `#define`s with a prefix, structures. */
export interface Layout {
  readonly constants: Readonly<Record<string, number>>;
  readonly enums: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly structs: readonly StructSpec[];
}

type FieldInput = [name: string, type: Scalar | `${Scalar}[${number}]`, doc: string];

/**
 * Lays out a structure.
 * @param name the C tag; @param doc one sentence for the header; @param inputs members in order.
 * @throws Error when a member would need padding: padding is written out, so that no byte of a map is undefined.
 */
export function struct(name: string, doc: string, inputs: readonly FieldInput[]): StructSpec {
  let offset = 0;
  let align = 1;
  const fields = inputs.map(([fieldName, spec, fieldDoc]): FieldSpec => {
    const match = /^(u8|u16|u32|u64)(?:\[(\d+)\])?$/.exec(spec);
    if (!match) throw new Error(`${name}.${fieldName}: bad type ${spec}`);
    const type = match[1] as Scalar;
    const count = match[2] ? Number(match[2]) : 1;
    const size = SIZES[type];
    if (offset % size !== 0) throw new Error(`${name}.${fieldName}: unaligned at ${offset}; add explicit padding`);
    align = Math.max(align, size);
    const field = { name: fieldName, type, count, offset, doc: fieldDoc };
    offset += size * count;
    return field;
  });
  if (offset % align !== 0)
    throw new Error(`${name}: size ${offset} is not a multiple of ${align}; add explicit padding`);
  return { name, doc, size: offset, fields, at: Object.fromEntries(fields.map((f) => [f.name, f])) };
}

function field(spec: StructSpec, name: string): FieldSpec {
  const found = spec.at[name];
  if (!found) throw new Error(`${spec.name} has no member ${name}`);
  return found;
}

/** Reads member `name` (element `index` of an array) of the structure at byte `base`; u64 as a bigint. */
export function getBig(view: DataView, base: number, spec: StructSpec, name: string, index = 0): bigint {
  const f = field(spec, name);
  return view.getBigUint64(base + f.offset + index * 8, true);
}

/** Reads member `name` of at most 32 bits of the structure at byte `base` of `view`. */
export function get(view: DataView, base: number, spec: StructSpec, name: string, index = 0): number {
  const f = field(spec, name);
  const at = base + f.offset + index * SIZES[f.type];
  if (f.type === 'u8') return view.getUint8(at);
  if (f.type === 'u16') return view.getUint16(at, true);
  if (f.type === 'u32') return view.getUint32(at, true);
  return Number(view.getBigUint64(at, true));
}

/** Writes member `name` (element `index`) of the structure at byte `base` of `view`. */
export function set(
  view: DataView,
  base: number,
  spec: StructSpec,
  name: string,
  value: number | bigint,
  index = 0,
): void {
  const f = field(spec, name);
  const at = base + f.offset + index * SIZES[f.type];
  if (f.type === 'u8') view.setUint8(at, Number(value));
  else if (f.type === 'u16') view.setUint16(at, Number(value), true);
  else if (f.type === 'u32') view.setUint32(at, Number(value), true);
  else view.setBigUint64(at, BigInt(value), true);
}

/** The C definition of a structure, with a static assertion for its size and every offset. */
export function toC(spec: StructSpec): string {
  const lines = spec.fields.map((f) => {
    const suffix = f.count > 1 ? `[${f.count}]` : '';
    return `  __${f.type} ${f.name}${suffix}; /* ${f.doc} */`;
  });
  const asserts = spec.fields.map(
    (f) =>
      `_Static_assert(__builtin_offsetof(struct ${spec.name}, ${f.name}) == ${f.offset}, "${spec.name}.${f.name}");`,
  );
  return [
    `/* ${spec.doc} */`,
    `struct ${spec.name} {`,
    ...lines,
    '};',
    `_Static_assert(sizeof(struct ${spec.name}) == ${spec.size}, "${spec.name}");`,
    ...asserts,
    '',
  ].join('\n');
}
