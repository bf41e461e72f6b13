import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { scan } from '../../src/compile/head.js';
import { ImageHeader, SLOT } from '../../src/layout/image.js';
import { get } from '../../src/layout/struct.js';
import type { PathRules } from '../../src/plan/ir.js';
import { compile, decide, header, listener, path, plan, route, text } from './helpers.js';

const PLAIN: PathRules = { normalize: false, mergeSlashes: false, escapedSlashes: false };
const images = new Map<string, ReturnType<typeof compile>>();
function image(paths: PathRules) {
  const key = JSON.stringify(paths);
  const found = images.get(key) ?? compile(plan(listener([route('r', path(text('prefix', '/')))], { paths })));
  images.set(key, found);
  return found;
}
const result = (head: string, paths: PathRules = PLAIN) => decide(image(paths), head).result;
const target = (t: string, paths: PathRules = PLAIN) => result(`GET ${t} HTTP/1.1\nhost: a\n\n`, paths);
const line = (l: string) => result(`GET / HTTP/1.1\nhost: a\n${l}\n\n`);

describe('request heads', () => {
  it('takes the known methods only', () => {
    for (const m of ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE'])
      assert.equal(result(`${m} / HTTP/1.1\nhost: a\n\n`), 'decided', m);
    for (const m of ['CONNECT', 'get', 'GETT', 'GE', 'PRI', 'PROPFIND', ''])
      assert.equal(result(`${m} / HTTP/1.1\nhost: a\n\n`), 'odd', m);
  });

  it('takes the strict form only', () => {
    const odd = [
      'GET  / HTTP/1.1\nhost: a\n\n',
      'GET /  HTTP/1.1\nhost: a\n\n',
      'GET / HTTP/1.0\nhost: a\n\n',
      'GET / HTTP/1.1 \nhost: a\n\n',
      '\nGET / HTTP/1.1\nhost: a\n\n',
      'GET * HTTP/1.1\nhost: a\n\n',
      'GET http://a/ HTTP/1.1\nhost: a\n\n',
      'GET //a HTTP/1.1\nhost: a\n\n',
      'GET / HTTP/1.1\nhost: a\n b\n\n',
      'GET / HTTP/1.1\n host: a\n\n',
      'GET / HTTP/1.1\n\n',
    ];
    for (const head of odd) assert.equal(result(head), 'odd', head);
  });

  it('refuses bare line feeds and carriage returns', () => {
    for (const head of [
      'GET / HTTP/1.1\nhost: a\r\n\r\n',
      'GET / HTTP/1.1\r\nhost: a\n\r\n',
      'GET / HTTP/1.1\r\nhost: a\rb\r\n\r\n',
    ]) {
      const compiled = image(PLAIN);
      const bytes = Buffer.from(head);
      const view = new DataView(compiled.image.buffer);
      const at = view.getUint32(get(view, 0, ImageHeader, 'listeners'), true);
      assert.equal(scan(view, view.getUint32(at, true), view.getUint32(at + 4, true), bytes), 'odd');
    }
  });

  it('says when a head is not complete, wherever it is cut', () => {
    const head = 'GET /a?b HTTP/1.1\nhost: a.b:80\nX: y\n\n'.replaceAll('\n', '\r\n');
    for (let i = 0; i < head.length; i++)
      assert.equal(decide(image(PLAIN), head.slice(0, i).replaceAll('\r\n', '\n')).result, 'partial', `${i}`);
  });

  it('leaves lines to the proxy that mean more than they say', () => {
    const odd = [
      'x y: 1',
      ': 1',
      'x : 1',
      'x',
      'x: a\x80',
      'x: a\x7f',
      'x: a\x00',
      'te: trailers',
      'TE: x',
      'upgrade: websocket',
      'expect: 100-continue',
      'trailer: x',
      'proxy-connection: close',
      'transfer-encoding: chunked',
      'connection: close',
      'connection: x',
      'connection: keep-alive, x',
      'content-length: 1\ncontent-length: 1',
      'content-length: 1, 1',
      'content-length: +1',
      'content-length:',
      'content-length: 1234567890123456789',
      'host: b',
      'x-envoy-foo: 1',
      'X-Envoy-Retry-On: 5xx',
      'x-forwarded-proto: ftp',
      'x-forwarded-proto:',
      'x-request-id:',
      'referer: https://a/#b',
      'referer: about:blank',
      'referer: http://a/\nreferer: http://a/',
      `x: a${' '.repeat(16)}`,
    ];
    for (const l of odd) assert.equal(line(l), 'odd', l);
    const fine = [
      'x:',
      'x: ',
      'x:\ta b\t ',
      'x_y: "é"'.replace('é', 'e'),
      'connection: Keep-Alive',
      'content-length: 0',
      'keep-alive: 5',
      'x-envo: 1',
      'x-forwarded-proto: https',
      'x: 1\nx: 2',
      'referer: http://a.b/c?d',
      'referer: https://a:8080',
      'tea: 1',
    ];
    for (const l of fine) assert.equal(line(l), 'decided', l);
    const hosts = ['a b', 'a/b', '', 'a:x', 'a:', 'a@b', 'a:123456', '[::1', '[::g]', 'a,b', '%41'];
    for (const h of hosts) assert.equal(result(`GET / HTTP/1.1\nhost: ${h}\n\n`), 'odd', h);
    for (const h of ['a', 'A_b.c-d:80', '[::1]', '[::1]:80', '10.0.0.1:1'])
      assert.equal(result(`GET / HTTP/1.1\nhost: ${h}\n\n`), 'decided', h);
  });

  it('knows no names that no message can have, though policies ask for them', () => {
    const names = ['{{name}}', 'a b', 'x:y', '\u0141'];
    const routes = names.map((name, i) => route(`r${i}`, header(name, text('prefix', ''))));
    const asked = compile(plan(listener(routes)));
    for (const name of ['{{name}}', 'a b']) {
      assert.equal(decide(asked, `GET / HTTP/1.1\nhost: a\n${name}: 1\n\n`).result, 'odd', name);
    }
    const decision = decide(asked, 'GET / HTTP/1.1\nhost: a\nA: 1\nx: y: 1\n\n');
    assert.equal(decision.result, 'decided');
    assert.equal(decision.rule, -1);
  });

  it('counts lines and bytes', () => {
    const lines = (n: number) => result(`GET / HTTP/1.1\nhost: a\n${'x: y\n'.repeat(n)}\n`);
    assert.equal(lines(63), 'decided');
    assert.equal(lines(64), 'odd');
    assert.equal(target(`/${'a'.repeat(8100)}`), 'decided');
    assert.equal(target(`/${'a'.repeat(8192)}`), 'odd');
    assert.equal(result(`GET /${'a'.repeat(8187)}`), 'odd');
    assert.equal(result(`GET /${'a'.repeat(8186)}`), 'partial');
  });

  it('leaves to the proxy what it would normalise, and nothing else', () => {
    const normalize = { ...PLAIN, normalize: true };
    for (const t of [
      '/a/../b',
      '/./',
      '/..',
      '/a/.',
      '/.;a',
      '/..;',
      '/a/..?x',
      '/%41',
      '/a\\b',
      '/{x}',
      '/a|b',
      '/"',
      '/..?',
      '/<',
    ])
      assert.equal(target(t, normalize), 'odd', t);
    for (const t of ['/.well-known', '/a.b', '/..a/b..', '/a...', '/...', '/a?/../%2e\\', '/a//b', '/;x', '/a./b'])
      assert.equal(target(t, normalize), 'decided', t);
    assert.equal(target('/a/../b'), 'decided');
    assert.equal(target('/%2f'), 'decided');
    assert.equal(target('/a#b'), 'odd');
    assert.equal(target('/a?b#c'), 'odd');
    assert.equal(target('/a//b', { ...PLAIN, mergeSlashes: true }), 'odd');
    assert.equal(target('/a?b//c', { ...PLAIN, mergeSlashes: true }), 'decided');
    assert.equal(target('/%2f', { ...PLAIN, escapedSlashes: true }), 'odd');
  });
});

describe('response heads', () => {
  const { image: bytes } = image(PLAIN);
  const view = new DataView(bytes.buffer);
  const read = (head: string) =>
    scan(
      view,
      get(view, 0, ImageHeader, 'response_scan'),
      get(view, 0, ImageHeader, 'response_classes'),
      Buffer.from(head.replaceAll('\n', '\r\n'), 'latin1'),
    );
  it('takes status lines with and without a reason', () => {
    for (const h of ['HTTP/1.1 200 OK\n\n', 'HTTP/1.0 404\n\n', 'HTTP/1.1 200 \nContent-Length: 1\nx: \xe9\n\n'])
      assert.equal(typeof read(h), 'object', h);
    for (const h of [
      'HTTP/1.2 200 OK\n\n',
      'HTTP/1.1 20 OK\n\n',
      'HTTP/1.1 2000\n\n',
      'HTTP/1.1 200 OK\nx\n\n',
      'ICY 200 OK\n\n',
    ])
      assert.equal(read(h), 'odd', h);
    assert.equal(read('HTTP/1.1 200 OK\n'), 'partial');
  });
});

describe('where a request ends, whatever it means', () => {
  const { image: bytes } = image(PLAIN);
  const view = new DataView(bytes.buffer);
  const read = (head: string) =>
    scan(
      view,
      get(view, 0, ImageHeader, 'framing_scan'),
      get(view, 0, ImageHeader, 'framing_classes'),
      Buffer.from(head.replaceAll('\n', '\r\n'), 'latin1'),
    );
  const headOf = (text: string) => {
    const found = read(text);
    assert.equal(typeof found, 'object', JSON.stringify(text));
    return found as Exclude<typeof found, string>;
  };
  it('takes targets and values of any kind', () => {
    for (const h of [
      'GET //a/../b%2e?c"d#e HTTP/1.1\nHost: a_b:x\n\n',
      'POST / HTTP/1.1\nHost: a\nReferer: #\nCookie: \xe9\nx-request-id:\nContent-Length: 5\n\n',
      'DELETE /{} HTTP/1.1\nx-envoy-retry-on: 5xx\nTE: trailers\n\n',
    ])
      assert.equal(headOf(h).bytes.length, Buffer.from(h.replaceAll('\n', '\r\n'), 'latin1').length);
  });
  it('knows each header that says where it ends', () => {
    const { lines } = headOf(
      'POST / HTTP/1.1\nhOST: a\ncontent-Length: 1\nTransfer-Encoding: chunked\nConnection: x\nExpect: y\nUpgrade: z\nTrailer: t\nProxy-Connection: p\n\n',
    );
    const names = [
      'HOST',
      'CONTENT_LENGTH',
      'TRANSFER_ENCODING',
      'CONNECTION',
      'EXPECT',
      'UPGRADE',
      'TRAILER',
    ] as const;
    assert.deepEqual(
      lines.map(({ slot }) => slot),
      [...names.map((name) => SLOT[name]), SLOT.PROXY_CONNECTION],
    );
  });
  it('leaves what another parser could read otherwise', () => {
    for (const h of [
      'CONNECT a:1 HTTP/1.1\nHost: a\n\n',
      'BREW / HTTP/1.1\nHost: a\n\n',
      'GET http://a/ HTTP/1.1\nHost: a\n\n',
      'GET * HTTP/1.1\nHost: a\n\n',
      'GET / HTTP/1.0\nHost: a\n\n',
      'GET /\xe9 HTTP/1.1\nHost: a\n\n',
      'GET / HTTP/1.1\nHost : a\n\n',
      'GET / HTTP/1.1\nHost: a\n x\n\n',
      'GET / HTTP/1.1\nHost: a\x00\n\n',
      'GET / HTTP/1.1\nHost: a\x0b\n\n',
      'GET / HTTP/1.1\nContent\xadLength: 5\n\n',
    ])
      assert.equal(read(h), 'odd', JSON.stringify(h));
    for (const h of ['GET / HTTP/1.1\r\nHost: a\n\r\n', 'GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n'])
      assert.equal(
        scan(
          view,
          get(view, 0, ImageHeader, 'framing_scan'),
          get(view, 0, ImageHeader, 'framing_classes'),
          Buffer.from(h, 'latin1'),
        ),
        'odd',
        JSON.stringify(h),
      );
  });
});
