/**
 * The decoder of header blocks in the kernel, against the examples of RFC 7541, what nghttp2 (in Node) encodes, and what
 * nghttp2 makes of blocks that were damaged.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import net, { type AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { FLAG, FRAME, FrameReader, frame, NO_TABLE, PREFACE } from '../../src/agent/h2/frames.js';
import { BpfObject } from '../../src/kernel/libbpf.js';
import { HUFFMAN_CODES, STATIC_TABLE } from '../../src/layout/hpack.js';
import { compileBpf, needsRoot } from './compile-bpf.js';

const RESULTS = ['ok', 'odd', 'bad'] as const;
interface Decoded {
  readonly result: (typeof RESULTS)[number];
  readonly te: boolean;
  readonly text: string;
}

let object: BpfObject;
let outcome: Buffer;

before(() => {
  if (needsRoot) return;
  object = BpfObject.open(compileBpf('hpack'));
  object.load();
  const { bytes } = object.map('outcomes').mmap();
  outcome = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
});
after(() => object?.close());

function decode(block: Uint8Array): Decoded {
  const packet = Buffer.alloc(20 + block.length);
  packet.writeUInt32LE(block.length, 16);
  packet.set(block, 20);
  const { retval } = object.program('decode_one').testRun(packet);
  assert.equal(retval, 0, 'the test program failed');
  const text = outcome.toString('latin1', 16, 16 + outcome.readUInt32LE(8));
  return { result: RESULTS[outcome.readUInt32LE(0)]!, te: outcome.readUInt32LE(4) === 1, text };
}

/** What the kernel makes of the text that it has decoded last. */
function encodeAgain(): Buffer {
  const { retval } = object.program('encode_one').testRun(Buffer.alloc(16));
  assert.equal(retval, 0, 'the test program failed');
  return Buffer.from(outcome.subarray(16, 16 + outcome.readUInt32LE(8)));
}

const hex = (text: string): Buffer => Buffer.from(text.replace(/\s/g, ''), 'hex');

type Field = readonly [name: string, value: string];

/** The text that a list of fields must become. */
function textOf(fields: readonly Field[]): string {
  const pseudo = new Map(fields.filter(([name]) => name.startsWith(':')));
  const lines = fields.filter(([name]) => !name.startsWith(':') && name !== 'te').map(([n, v]) => `${n}: ${v}\r\n`);
  const { ':method': method, ':path': path, ':authority': host } = Object.fromEntries(pseudo);
  return `${method} ${path} HTTP/1.1\r\nhost: ${host}\r\n${lines.join('')}\r\n`;
}

function integer(value: number, bits: number, first: number): Buffer {
  const most = 2 ** bits - 1;
  if (value < most) return Buffer.of(first | value);
  const out = [first | most];
  let rest = value - most;
  for (; rest >= 128; rest = Math.floor(rest / 128)) out.push((rest % 128) | 128);
  return Buffer.from([...out, rest]);
}

function string(value: string, huffman: boolean): Buffer {
  const bytes = Buffer.from(value, 'latin1');
  if (!huffman) return Buffer.concat([integer(bytes.length, 7, 0), bytes]);
  let bits = '';
  for (const byte of bytes) {
    const { code, bits: length } = HUFFMAN_CODES[byte]!;
    bits += code.toString(2).padStart(length, '0');
  }
  bits = bits.padEnd(Math.ceil(bits.length / 8) * 8, '1');
  const packed = Buffer.from((bits.match(/.{8}/g) ?? []).map((eight) => Number.parseInt(eight, 2)));
  return Buffer.concat([integer(packed.length, 7, 128), packed]);
}

/** One of the ways to write a field; `way` chooses. */
function encode([name, value]: Field, way: number): Buffer {
  const whole = STATIC_TABLE.findIndex(([n, v]) => n === name && v === value && v !== '');
  if (whole >= 0 && way & 1) return integer(whole + 1, 7, 128);
  const index = STATIC_TABLE.findIndex(([n]) => n === name) + 1;
  const [bits, first] = (
    [
      [6, 64],
      [4, 0],
      [4, 16],
    ] as const
  )[way % 3]!; // prettier-ignore
  const named = index && (way & 8 || name.startsWith(':')) ? integer(index, bits, first) : undefined;
  const head = named ?? Buffer.concat([integer(0, bits, first), string(name, (way & 16) > 0)]);
  return Buffer.concat([head, string(value, (way & 32) > 0)]);
}

const PSEUDO: readonly Field[] = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/helloworld.Greeter/SayHello'],
  [':authority', 'greeter.example:8080'],
];
const block = (fields: readonly Field[], way = 41): Buffer => Buffer.concat(fields.map((field) => encode(field, way)));

const skip = needsRoot;

test('the code is complete, and the one of RFC 7541', () => {
  const room = HUFFMAN_CODES.reduce((sum, { bits }) => sum + 2 ** -bits, 0);
  assert.equal(room, 1);
  assert.deepEqual(HUFFMAN_CODES[48], { code: 0, bits: 5 });
  assert.deepEqual(HUFFMAN_CODES[122], { code: 0x7b, bits: 7 });
  assert.deepEqual(HUFFMAN_CODES[249], { code: 0xffffffe, bits: 28 });
  assert.deepEqual(HUFFMAN_CODES[256], { code: 0x3fffffff, bits: 30 });
});

test('the examples of RFC 7541, appendix C, that need no dynamic table', { skip }, () => {
  const text = 'GET / HTTP/1.1\r\nhost: www.example.com\r\n\r\n';
  for (const example of ['828684410f7777772e6578616d706c652e636f6d', '828684418cf1e3c2e5f23a6ba0ab90f4ff'])
    assert.deepEqual(decode(hex(example)), { result: 'ok', te: false, text });
  // C.2.1 to C.2.3 behind the fields that a request must have
  const more = `400a637573746f6d2d6b65790d637573746f6d2d686561646572 040c2f73616d706c652f70617468`;
  assert.equal(decode(hex(`828684410f7777772e6578616d706c652e636f6d ${more}`)).result, 'odd', ':path twice');
  const custom = `8286 040c2f73616d706c652f70617468 410f7777772e6578616d706c652e636f6d
    400a637573746f6d2d6b65790d637573746f6d2d686561646572 100870617373776f726406736563726574`;
  assert.equal(
    decode(hex(custom)).text,
    'GET /sample/path HTTP/1.1\r\nhost: www.example.com\r\ncustom-key: custom-header\r\npassword: secret\r\n\r\n',
  );
  // C.3.2 refers to the dynamic table
  assert.equal(decode(hex('828684be58086e6f2d6361636865')).result, 'bad');
});

test('every way to write a field leads to the same text', { skip }, () => {
  const name = fc.stringMatching(/^[a-z][a-z0-9_.!#$&'*+^`|~-]{0,30}$/).filter((n) => n !== 'host' && n !== 'te');
  const value = fc.stringMatching(/^([!-~]([ -~]{0,60}[!-~])?)?$/);
  const known = fc
    .constantFrom(...STATIC_TABLE.slice(14).map(([n, v]): Field => [n, v || 'x']))
    .filter(([n]) => n !== 'host');
  const fields = fc.array(fc.oneof(fc.tuple(name, value), known), { maxLength: 20 });
  const ways = fc.array(fc.nat(63), { minLength: 24, maxLength: 24 });
  fc.assert(
    fc.property(fields, ways, fc.boolean(), (list, way, update) => {
      const all: Field[] = [...PSEUDO, ...list];
      const parts = all.map((field, i) => encode(field, way[i]!));
      const got = decode(Buffer.concat([...(update ? [Buffer.of(0x20)] : []), ...parts]));
      assert.deepEqual(got, { result: 'ok', te: false, text: textOf(all) });
    }),
    { numRuns: 500 },
  );
});

test('what has no text of its own is odd, what RFC 7541 forbids is bad', { skip }, () => {
  const with_ = (...fields: Field[]) => decode(block([...PSEUDO, ...fields]));
  const without = (name: string) => decode(block(PSEUDO.filter(([n]) => n !== name)));
  const instead = (name: string, value: string) =>
    decode(block(PSEUDO.map((f) => (f[0] === name ? [name, value] : f))));
  const odd: [string, Decoded][] = [
    ['a line break in a value', with_(['a', 'b\r\nc: d'])],
    ['NUL', with_(['a', 'b\0'])],
    ['a byte beyond ASCII', with_(['a', 'b\xe9'])],
    ['a tabulator', with_(['a', 'b\tc'])],
    ['a colon in a name', with_(['a:b', 'c'])],
    ['upper case', with_(['Name', 'c'])],
    ['a space in a name', with_(['a b', 'c'])],
    ['a line break in a name', with_(['a\r\nb', 'c'])],
    ['no name', with_(['', 'c'])],
    ['white space in front', with_(['a', ' c'])],
    ['white space behind', with_(['a', 'c '])],
    ['te', with_(['te', 'gzip'])],
    ['a longer te', with_(['te', 'trailers, x'])],
    ['host', with_(['host', 'a'])],
    ['an unknown pseudo-header field', with_([':protocol', 'websocket'])],
    ['a pseudo-header field behind a header', with_(['a', 'b'], [':path', '/x'])],
    ['too many fields', with_(...Array.from({ length: 80 }, (_, i): Field => [`a${i}`, 'b']))],
    ['CONNECT', without(':path')],
    ['no authority', without(':authority')],
    ['no method', without(':method')],
    ['no scheme', without(':scheme')],
    ['https', instead(':scheme', 'https')],
    ['OPTIONS *', instead(':path', '*')],
    ['an empty path', instead(':path', '')],
    ['a space in a path', instead(':path', '/a b')],
    ['a space in an authority', instead(':authority', 'a b')],
    ['a line break in a path', instead(':path', '/a\r\nb')],
  ];
  for (const [what, { result, text }] of odd) {
    assert.equal(result, 'odd', what);
    assert.equal(text, '', what);
  }
  const good = block(PSEUDO).toString('hex');
  const bad: [string, string][] = [
    ['index 0', '80'],
    ['an index beyond the static table', 'be'],
    ['the name of an index beyond it', '7f0001 61'],
    ['a table size that is not 0', '3fe11f'],
    ['a table size behind a field', `${good}20`],
    ['a string that is cut off', `${good}00016105 6162`],
    ['a length that is cut off', `${good}0001617f`],
    ['an integer that is cut off', 'ff'],
    ['padding of more than seven bits', `${good}00016182 1fff`],
    ['padding that is not ones', `${good}00016181 18`],
    ['EOS', `${good}00016184 ffffffff`],
  ];
  for (const [what, bytes] of bad) assert.equal(decode(hex(bytes)).result, 'bad', what);
  const te = with_(['te', 'trailers'], ['grpc-timeout', '1S']);
  assert.deepEqual(te, { result: 'ok', te: true, text: textOf([...PSEUDO, ['grpc-timeout', '1S']]) });
});

/** Header blocks as nghttp2 writes them when there is no dynamic table. */
async function encodedByNghttp2(lists: readonly (readonly Field[])[]): Promise<Buffer[]> {
  const blocks: Buffer[] = [];
  const server = net.createServer((socket) => {
    const reader = new FrameReader(PREFACE);
    socket.on('error', () => {});
    socket.write(frame(FRAME.SETTINGS, 0, 0, NO_TABLE));
    socket.on('data', (chunk) => {
      for (const { type, flags, stream, payload } of reader.push(chunk)) {
        if (type === FRAME.SETTINGS && !(flags & FLAG.ACK)) socket.write(frame(FRAME.SETTINGS, FLAG.ACK, 0));
        if (type !== FRAME.HEADERS) continue;
        blocks.push(Buffer.from(payload));
        socket.write(frame(FRAME.HEADERS, FLAG.END_HEADERS | FLAG.END_STREAM, stream, Buffer.of(0x88)));
      }
    });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const client = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  await once(client, 'remoteSettings');
  for (const list of lists) {
    const headers: http2.OutgoingHttpHeaders = {};
    for (const [name, value] of list) headers[name] = value;
    const request = client.request(headers, { endStream: true });
    request.resume();
    await once(request, 'close');
  }
  client.close();
  server.close();
  return blocks;
}

const metadata: fc.Arbitrary<Field[]> = fc
  .uniqueArray(fc.tuple(fc.stringMatching(/^x-[a-z0-9-]{1,20}$/), fc.stringMatching(/^[!-~]([ -~]{0,60}[!-~])?$/)), {
    maxLength: 12,
    selector: ([name]) => name,
  })
  .map((list) => [...PSEUDO, ['content-type', 'application/grpc'], ['te', 'trailers'], ...list]);

test('what nghttp2 encodes', { skip }, async () => {
  const lists = fc.sample(metadata, { seed: 1, numRuns: 200 });
  const blocks = await encodedByNghttp2(lists);
  assert.equal(blocks.length, lists.length);
  for (const [i, list] of lists.entries())
    assert.deepEqual(decode(blocks[i]!), { result: 'ok', te: true, text: textOf(list) });
});

/** What nghttp2 makes of a block: its fields; undefined when it refuses it. */
class Nghttp2 {
  readonly #server = http2.createServer({ settings: { headerTableSize: 0 } });
  #fields: Field[] | undefined;

  constructor() {
    this.#server.on('sessionError', () => {});
    this.#server.on('stream', (...[stream, , , raw]: [http2.ServerHttp2Stream, unknown, unknown, string[]]) => {
      const list = raw;
      this.#fields = Array.from({ length: list.length / 2 }, (_, i) => [list[2 * i]!, list[2 * i + 1]!]);
      stream.on('error', () => {});
      stream.respond();
      stream.end();
    });
  }

  async decode(bytes: Buffer): Promise<Field[] | undefined> {
    if (!this.#server.listening) await once(this.#server.listen(0, '127.0.0.1'), 'listening');
    this.#fields = undefined;
    const socket = net.connect((this.#server.address() as AddressInfo).port, '127.0.0.1');
    socket.on('error', () => {});
    const reader = new FrameReader();
    const head = frame(FRAME.HEADERS, FLAG.END_HEADERS | FLAG.END_STREAM, 1, bytes);
    socket.write(Buffer.concat([PREFACE, frame(FRAME.SETTINGS, 0, 0), frame(FRAME.SETTINGS, FLAG.ACK, 0), head]));
    socket.write(frame(FRAME.PING, 0, 0, Buffer.alloc(8)));
    // an answer to the ping comes behind everything that the block led to
    await new Promise<void>((done) => {
      socket.on('close', () => done());
      socket.on('data', (chunk) => {
        if (reader.push(chunk).some(({ type }) => type === FRAME.PING || type === FRAME.GOAWAY)) done();
      });
    });
    socket.destroy();
    return this.#fields;
  }

  close(): void {
    this.#server.close();
  }
}

const SCANNED =
  /^[!#$%&'*+.^_`|~\w-]+ [!-~]+ HTTP\/1\.1\r\nhost: [\w.:-]+\r\n([!#$%&'*+.^_`|~0-9a-z-]+: [ -~]*\r\n)+\r\n$/;

test('damaged blocks: what the kernel takes, nghttp2 reads in the same way', { skip }, async () => {
  const nghttp2 = new Nghttp2();
  const damage = fc.array(fc.tuple(fc.nat(), fc.nat(255), fc.nat(3)), { minLength: 1, maxLength: 3 });
  const ways = fc.array(fc.nat(63), { minLength: 20, maxLength: 20 });
  let taken = 0;
  let refused = 0;
  try {
    for (const [list, way, changes] of fc.sample(fc.tuple(metadata, ways, damage), { seed: 7, numRuns: 600 })) {
      let bytes = Buffer.concat(list.map((field, i) => encode(field, way[i]!)));
      for (const [at, byte, how] of changes) {
        const i = at % bytes.length;
        if (how === 0) bytes = Buffer.concat([bytes.subarray(0, i), bytes.subarray(i + 1)]);
        else if (how === 1) bytes = Buffer.concat([bytes.subarray(0, i), Buffer.of(byte), bytes.subarray(i)]);
        else bytes[i] = how === 2 ? byte : bytes[i]! ^ (1 << (byte & 7));
      }
      const { result, text } = decode(bytes);
      if (result !== 'ok') {
        refused++;
        continue;
      }
      // an encoder has to say first that it has made its table smaller
      const theirs = await nghttp2.decode(Buffer.concat([Buffer.of(0x20), bytes]));
      // method, authority and names are looked at when the text is scanned
      if (!SCANNED.test(text)) continue;
      assert.equal(theirs && textOf(theirs), text, bytes.toString('hex'));
      assert.equal(decode(bytes).result, 'ok');
      const again = await nghttp2.decode(Buffer.concat([Buffer.of(0x20), encodeAgain()]));
      // the length of a body is not among them, and pseudo-header fields are in another order
      assert.deepEqual([...again!].sort(), [...theirs!].sort());
      taken++;
    }
  } finally {
    nghttp2.close();
  }
  assert.ok(taken > 50 && refused > 50, `${taken} taken, ${refused} refused`);
});
