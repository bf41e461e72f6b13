/** Answers of servers that say odd things: what a client gets of each must be what it gets from Envoy. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Driver } from '../../src/lab/driver.js';
import type { Exchange } from '../../src/lab/raw-client.js';
import type { SidestepHandle } from '../../src/lab/sidestep.js';
import { get, visible } from './odd-cases.js';
import { ALONE, MESH, request, skip, World } from './world.js';

const OK = 'HTTP/1.1 200 OK\r\n';
const LENGTH = 'Content-Length: 3\r\n';
const CHUNKED = `${OK}Transfer-Encoding: chunked\r\n\r\n`;
const PLAIN = `${OK}${LENGTH}\r\nabc`;
const many = (n: number): string => Array.from({ length: n }, (_, i) => `h${i}: v\r\n`).join('');

/** what it is -> the server's bytes */
const ANSWERS: Readonly<Record<string, string>> = {
  'no content, in chunks': 'HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n',
  'no content, of no length': 'HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n',
  'no content, of some length': 'HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n',
  'not modified, with a length': 'HTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\n',
  'not modified, in chunks': 'HTTP/1.1 304 N\r\nTransfer-Encoding: chunked\r\n\r\n',
  'an interim answer with a length': `HTTP/1.1 103 E\r\nContent-Length: 5\r\n\r\n${PLAIN}`,
  'an interim answer of no length': `HTTP/1.1 103 E\r\nContent-Length: 0\r\n\r\n${PLAIN}`,
  'an interim answer in chunks': `HTTP/1.1 103 E\r\nTransfer-Encoding: chunked\r\n\r\n${PLAIN}`,
  'another protocol that nobody asked for': 'HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: foo\r\nX: y\r\n\r\n',
  'another protocol, with a body': `HTTP/1.1 101 S\r\n${LENGTH}\r\nabc`,
  'lines that end with a line feed alone': 'HTTP/1.1 200 OK\nContent-Length: 3\nX: y\n\nabc',
  'a head that ends with a line feed alone': `${OK}${LENGTH}\nabc`,
  'one line that ends with a line feed alone': `${OK}X: y\n${LENGTH}\r\nabc`,
  'a carriage return within a value': `${OK}X: a\rb\r\n${LENGTH}\r\nabc`,
  'a folded line': `${OK}X: a\r\n b\r\n\tc\r\n${LENGTH}\r\nabc`,
  'a folded length': `${OK}Content-Length:\r\n 3\r\n\r\nabc`,
  'a head that begins with a folded line': `${OK} x\r\n${LENGTH}\r\nabc`,
  'a zero byte in a value': `${OK}X: a\0b\r\n${LENGTH}\r\nabc`,
  'a control character in a value': `${OK}X: a\x01b\r\n${LENGTH}\r\nabc`,
  'a delete character in a value': `${OK}X: a\x7fb\r\n${LENGTH}\r\nabc`,
  'bytes beyond ASCII in a value': `${OK}X: \xc3\xa9\r\n${LENGTH}\r\nabc`,
  'a control character in the reason': `HTTP/1.1 200 a\x01b\r\n${LENGTH}\r\nabc`,
  'no reason': `HTTP/1.1 200\r\n${LENGTH}\r\nabc`,
  'white space in the first line': `HTTP/1.1 \t200\tOK\r\n${LENGTH}\r\nabc`,
  'version 1.2': `HTTP/1.2 200 OK\r\n${LENGTH}\r\nabc`,
  'version 2.0': `HTTP/2.0 200 OK\r\n${LENGTH}\r\nabc`,
  'version 1.10': `HTTP/1.10 200 OK\r\n${LENGTH}\r\nabc`,
  'te in an answer': `${OK}TE: trailers\r\n${LENGTH}\r\nabc`,
  'a hundred header lines': `${OK}${LENGTH}${many(99)}\r\nabc`,
  'more than a hundred': `${OK}${LENGTH}${many(100)}\r\nabc`,
  'a head of 60 KB': `${OK}${LENGTH}x: {60000}\r\n\r\nabc`,
  'a head of 90 KB': `${OK}${LENGTH}x: {90000}\r\n\r\nabc`,
  'two lengths': `${OK}${LENGTH}${LENGTH}\r\nabc`,
  'a name with a space': `${OK}${LENGTH}x y: z\r\n\r\nabc`,
  'a line without a colon': `${OK}${LENGTH}nothing\r\n\r\nabc`,
  'chunks: a size that ends with a line feed alone': `${CHUNKED}3\nabc\r\n0\r\n\r\n`,
  'chunks: data that ends with a line feed alone': `${CHUNKED}3\r\nabc\n0\r\n\r\n`,
  'chunks: bytes behind the data': `${CHUNKED}3\r\nabcdef\r\n0\r\n\r\n`,
  'chunks: white space behind the size': `${CHUNKED}3 \t\r\nabc\r\n0\r\n\r\n`,
  'chunks: a carriage return within an extension': `${CHUNKED}3;a\rb\r\nabc\r\n0\r\n\r\n`,
  'chunks: a size of many digits': `${CHUNKED}00000000000000000003;a\r\nabc\r\n0\r\n\r\n`,
  'chunks: a trailer without a colon': `${CHUNKED}3\r\nabc\r\n0\r\nnothing\r\n\r\n`,
  'chunks: a trailer with a control character': `${CHUNKED}3\r\nabc\r\n0\r\nX: \x01\r\n\r\n`,
  'chunks: a folded trailer': `${CHUNKED}3\r\nabc\r\n0\r\nX: a\r\n b\n\r\n`,
};

/** The target that asks for them. */
const asked = (bytes: string): string => `/raw/${Buffer.from(bytes, 'latin1').toString('base64url')}`;

describe('odd answers', { skip, timeout: 240_000 }, () => {
  let world: World;
  let sidestep: SidestepHandle;
  let inside: Driver;
  let outside: Driver;

  before(async () => {
    world = await World.open('odd-answers');
    await world.writePolicy();
    await world.startEnvoy();
    sidestep = await world.startSidestep();
    inside = await world.driver(sidestep);
    outside = await world.driver();
  });
  after(() => world?.close());

  /** Both ways; an answer of the kernel's is asked for before, so that there are connections. */
  const same = async (exchange: Exchange): Promise<void> => {
    const exchanges = [get('/echo'), exchange, get('/echo')];
    const [expected, actual] = await Promise.all([
      outside.run({ address: ALONE, port: world.port, exchanges }),
      inside.run({ address: MESH, port: world.port, exchanges }),
    ]);
    assert.notEqual(expected.error, 'timeout', 'the case itself hangs');
    assert.deepEqual(visible(actual), visible(expected));
  };

  for (const [name, bytes] of Object.entries(ANSWERS)) {
    test(name, async () => {
      await same(get(asked(bytes)));
    });
  }

  test('to HEAD', async () => {
    for (const head of [
      OK,
      `${OK}${LENGTH}`,
      `${OK}Transfer-Encoding: chunked\r\n`,
      `${OK}${LENGTH}${LENGTH}`,
      `${OK}X: a\n`,
    ]) {
      const pieces = [request(`HEAD ${asked(`${head}\r\n`)} HTTP/1.1`)];
      await same({ pieces, methods: ['HEAD'] });
    }
  });

  test('the kernel decided what was asked', async () => {
    const { requests } = await sidestep.status();
    assert.ok(requests.kernel + requests.agent > requests.proxy, JSON.stringify(requests));
  });
});
