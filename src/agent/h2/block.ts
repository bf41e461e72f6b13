/** Header blocks (HPACK, RFC 7541) without a dynamic table, which neither side has by then. */
import { HUFFMAN, huffmanDecoder, STATIC_TABLE } from '../../layout/hpack.js';
import { FLAG, FRAME, type Frame, FrameReader } from './frames.js';

export type Field = readonly [name: string, value: string];

/** An integer with a prefix of seven bits (section 5.1). */
function lengthOf(value: number): number[] {
  if (value < 127) return [value];
  const found = [127];
  let rest = value - 127;
  for (; rest >= 128; rest >>= 7) found.push((rest & 127) | 128);
  return [...found, rest];
}

/** Fields as literals without indexing (section 6.2.2); characters are bytes. */
export function encodeBlock(fields: readonly Field[]): Buffer {
  const text = (value: string): Buffer => {
    const bytes = Buffer.from(value, 'latin1');
    return Buffer.concat([Buffer.from(lengthOf(bytes.length)), bytes]);
  };
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

let cells: Uint32Array | undefined;

function huffman(bytes: Buffer): string | undefined {
  cells ??= huffmanDecoder();
  const found: number[] = [];
  let cell = 0;
  for (const byte of bytes)
    for (const four of [byte >> 4, byte & 15]) {
      cell = cells[(cell & 255) * 16 + four]!;
      if (cell & HUFFMAN.FAIL) return undefined;
      if (cell & HUFFMAN.EMIT) found.push((cell >> 8) & 255);
    }
  return bytes.length === 0 || cell & HUFFMAN.END ? Buffer.from(found).toString('latin1') : undefined;
}

/** @returns the fields of a whole block in their order; undefined: it is malformed, or needs a dynamic table */
export function decodeBlock(block: Buffer): Field[] | undefined {
  let at = 0;
  const integer = (mask: number): number => {
    let value = block[at++]! & mask;
    if (value < mask) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      const byte = block[at++];
      if (byte === undefined) return Number.NaN;
      value += (byte & 127) << shift;
      if (byte < 128) return value;
    }
    return Number.NaN;
  };
  const string = (): string | undefined => {
    const coded = block[at]! & 128;
    const length = integer(127);
    if (!(at + length <= block.length)) return undefined;
    const bytes = block.subarray(at, at + length);
    at += length;
    return coded ? huffman(bytes) : bytes.toString('latin1');
  };
  const fields: Field[] = [];
  while (at < block.length) {
    const first = block[at]!;
    if ((first & 0xe0) === 0x20) {
      if (integer(31) !== 0 || fields.length > 0) return undefined;
      continue;
    }
    const whole = first & 0x80;
    const index = integer(whole ? 127 : first & 0x40 ? 63 : 15);
    const entry = STATIC_TABLE[index - 1];
    if (whole || index !== 0) {
      if (!entry) return undefined;
      if (whole) {
        fields.push(entry);
        continue;
      }
    }
    const name = entry ? entry[0] : at < block.length ? string() : undefined;
    const value = name !== undefined && at < block.length ? string() : undefined;
    if (name === undefined || value === undefined) return undefined;
    fields.push([name, value]);
  }
  return fields;
}

/** What a HEADERS or CONTINUATION frame carries of a block, or one of DATA of a body: without padding and priority. */
export function fragmentOf({ type, flags, payload }: Frame): Buffer {
  if (type > FRAME.HEADERS || payload.length === 0) return payload;
  const pad = flags & FLAG.PADDED ? payload[0]! : 0;
  const skip = (flags & FLAG.PADDED ? 1 : 0) + (type === FRAME.HEADERS && flags & FLAG.PRIORITY ? 5 : 0);
  return payload.subarray(skip, Math.max(skip, payload.length - pad));
}

/** The whole block of a head that may be in several frames. */
export function blockOf({ bytes }: Frame): Buffer {
  return Buffer.concat(new FrameReader().push(bytes).map(fragmentOf));
}
