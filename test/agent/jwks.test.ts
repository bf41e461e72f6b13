/** Key sets that are fetched: as long as they may be kept, no longer; what goes wrong is tried again. */
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { KeySets } from '../../src/agent/jwks.js';
import { sleep } from '../../src/lab/processes.js';
import type { TokenKeys } from '../../src/plan/tokens.js';

const asked: string[] = [];
let answer: (request: IncomingMessage, response: ServerResponse) => void;
const server = createServer((request, response) => {
  asked.push(`${request.headers.host} ${request.url}`);
  answer(request, response);
});
let port: number;
before(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ({ port } = server.address() as AddressInfo);
});
after(() => {
  server.closeAllConnections();
  server.close();
});

const keys = (...kids: string[]) => JSON.stringify({ keys: kids.map((kid) => ({ kty: 'oct', kid })) });
const give = (text: string, status = 200) => {
  answer = (_, response) => response.writeHead(status).end(text);
};
const from = (path: string, cacheMs: number): TokenKeys => ({
  kind: 'remote',
  uri: `http://keys.example:1${path}`,
  cluster: 'keys',
  cacheMs,
});
const sets = () => new KeySets((cluster) => (cluster === 'keys' ? { address: '127.0.0.1', port } : undefined));
const kids = async (found: ReturnType<KeySets['keys']>) => (await found)?.map(({ kid }) => kid);

test('a set is fetched from the cluster, with the name of the address, and kept', async () => {
  const own = sets();
  const source = from('/kept?x=1', 60_000);
  give(keys('a'));
  assert.deepEqual(await Promise.all([kids(own.keys(source)), kids(own.keys(source))]), [['a'], ['a']]);
  give(keys('b'));
  assert.deepEqual(await kids(own.keys(source)), ['a']);
  assert.deepEqual(asked.splice(0), ['keys.example:1 /kept?x=1']);
  const left = own.until(source) - Date.now();
  assert.ok(left > 50_000 && left <= 60_000, String(left));
});

test('rotated keys are seen when the set is out of date', async () => {
  const own = sets();
  const source = from('/rotated', 150);
  give(keys('old'));
  assert.deepEqual(await kids(own.keys(source)), ['old']);
  give(keys('new', 'old'));
  await sleep(200);
  assert.deepEqual(await kids(own.keys(source)), ['new', 'old']);
  assert.equal(asked.splice(0).length, 2);
});

test('what is no key set gives no keys', async () => {
  for (const [name, wrong] of [
    ['status', () => give(keys('a'), 503)],
    ['redirect', () => give('', 302)],
    ['text', () => give('<html>')],
    ['shape', () => give('{"keys":{}}')],
    ['size', () => give(`{"keys":[${' '.repeat(1_100_000)}]}`)],
    [
      'cut',
      () => {
        answer = (_, response) => {
          response.writeHead(200, { 'content-length': 1000 }).write(keys('a'));
          setTimeout(() => response.destroy(), 20);
        };
      },
    ],
    [
      'reset',
      () => {
        answer = (request) => request.socket.resetAndDestroy();
      },
    ],
  ] as const) {
    wrong();
    const own = sets();
    const source = from(`/${name}`, 60_000);
    assert.equal(await own.keys(source), undefined, name);
    // not again at once, but before the set would have been out of date
    give(keys('a'));
    assert.equal(await own.keys(source), undefined, name);
    assert.ok(own.until(source) - Date.now() <= 5000, name);
  }
  asked.length = 0;
});

test('nobody there', async () => {
  const own = new KeySets(() => ({ address: '127.0.0.1', port: 1 }));
  assert.equal(await own.keys(from('/x', 1000)), undefined);
});
