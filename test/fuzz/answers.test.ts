/** Which answers the data plane's C code carries itself, where they end, and which are the agent's. */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { MAX_KERNEL_BODY, MAX_KERNEL_CHUNKED } from '../../src/layout/exchanges.js';
import { buildNative } from './native-build.js';

interface Way {
  readonly way: 'client' | 'agent';
  readonly done: boolean;
  /** bytes seen until it was done, or given to the agent */
  readonly seen: number;
  /** the head as the client gets it, when it was changed */
  readonly head: string;
}
interface Cut {
  readonly toHead?: boolean;
  /** bytes of the first piece, and of the others; default: all in one */
  readonly first?: number;
  readonly step?: number;
}

const head = (...lines: string[]): string => `${lines.join('\r\n')}\r\n\r\n`;
const chunked = head('HTTP/1.1 200 OK', 'Transfer-Encoding: chunked');

describe('answers in the data plane', () => {
  let run: (input: Uint8Array) => Buffer;
  before(() => {
    run = buildNative('answer');
  });

  function give(text: string, cut: Cut = {}): Way {
    const bytes = Buffer.from(text, 'latin1');
    const numbers = Uint32Array.of(cut.toHead ? 1 : 0, cut.first ?? 16000, cut.step ?? 16000, bytes.length);
    const out = run(Buffer.concat([new Uint8Array(numbers.buffer), bytes]));
    return {
      way: out.readUInt32LE(0) === 0 ? 'client' : 'agent',
      done: out.readUInt32LE(4) === 1,
      seen: out.readUInt32LE(8),
      head: out.toString('latin1', 16),
    };
  }
  const carried = (text: string, cut: Cut = {}): Way => {
    const way = give(text, cut);
    assert.deepEqual(
      [way.way, way.done, way.seen],
      ['client', true, text.length],
      JSON.stringify([text.slice(0, 200), cut]),
    );
    return way;
  };
  const agents = (text: string, cut: Cut = {}): void =>
    assert.equal(give(text, cut).way, 'agent', JSON.stringify([text.slice(0, 200), cut]));

  it('carries answers of known length, however the body is cut', () => {
    const start = head('HTTP/1.1 200 OK', 'Content-Length: 10', 'Server: x');
    for (let first = start.length; first <= start.length + 10; first++)
      for (const step of [1, 3, 10]) assert.equal(carried(`${start}0123456789`, { first, step }).head, '');
    carried(head('HTTP/1.1 404 Not Found', 'content-length: 0'));
    carried(`${head('HTTP/1.1 200', 'Content-Length:4')}body`);
  });

  it('carries chunked answers, however the body is cut', () => {
    const body = '3\r\nabc\r\n0010\r\n0123456789abcdef\r\nA\r\n0123456789\r\n0\r\n\r\n';
    for (let first = chunked.length; first <= chunked.length + body.length; first++)
      for (const step of [1, 2, 7, 100]) carried(chunked + body, { first, step });
  });

  it('carries answers without a body', () => {
    carried(head('HTTP/1.1 304 Not Modified', 'Content-Length: 99'));
    carried(head('HTTP/1.1 204 No Content'));
    carried(head('HTTP/1.1 200 OK', 'Content-Length: 99'), { toHead: true });
    carried(head('HTTP/1.1 200 OK', 'Transfer-Encoding: chunked'), { toHead: true });
  });

  it('leaves to the agent bodies where there is none, and where one must be announced', () => {
    agents(head('HTTP/1.1 200 OK'), { toHead: true });
    agents(head('HTTP/1.1 204 No Content', 'Content-Length: 1'));
    agents(head('HTTP/1.1 204 No Content', 'Transfer-Encoding: chunked'));
    agents(head('HTTP/1.1 304 Not Modified', 'Transfer-Encoding: chunked'));
  });

  it('takes out hop-by-hop headers without changing the length', () => {
    const text = head('HTTP/1.0 200 OK', 'Connection: keep-alive', 'Content-Length: 2', 'Keep-Alive: timeout=5');
    const { head: sent } = carried(`${text}ok`);
    assert.equal(sent.length, text.length);
    assert.match(sent, /^HTTP\/1\.1 200 OK\r\nContent-Length: +2\r\n\r\n$/);
  });

  it('leaves to the agent what is not plainly framed', () => {
    agents(`${head('HTTP/1.1 200 OK')}until the end`);
    agents(`${head('HTTP/1.1 200 OK', 'Content-Length: 1', 'Content-Length: 1')}x`);
    agents(`${head('HTTP/1.1 200 OK', 'Content-Length: 1', 'Transfer-Encoding: chunked')}0\r\n\r\n`);
    agents(`${head('HTTP/1.0 200 OK', 'Transfer-Encoding: chunked')}0\r\n\r\n`);
    agents(`${head('HTTP/1.1 200 OK', 'Transfer-Encoding: gzip, chunked')}0\r\n\r\n`);
    agents(`${head('HTTP/1.1 200 OK', 'Content-Length: 2')}too much`);
    agents(head('HTTP/1.1 100 Continue'));
    agents(head('HTTP/1.1 101 Switching Protocols', 'Upgrade: x', 'Connection: upgrade'));
    agents(`${chunked}5;extension\r\nabcde\r\n0\r\n\r\n`);
    agents(`${chunked}0\r\nTrailer: x\r\n\r\n`);
    agents(`${chunked}5\r\nabcdeX`);
    agents(`${chunked}\r\n`);
    agents('garbage\r\n\r\n');
  });

  it('leaves to the agent what is large, what comes in pieces of a head, and what follows the end', () => {
    agents(head('HTTP/1.1 200 OK', `Content-Length: ${MAX_KERNEL_BODY + 1}`));
    assert.deepEqual(give(head('HTTP/1.1 200 OK', `Content-Length: ${MAX_KERNEL_BODY}`)).way, 'client');
    const chunk = `1000\r\n${'x'.repeat(4096)}\r\n`;
    const large = give(chunked + chunk.repeat(40), { step: 4000 });
    assert.equal(large.way, 'agent');
    assert.ok(large.seen <= MAX_KERNEL_CHUNKED + 16000);
    const whole = head('HTTP/1.1 200 OK', 'Content-Length: 2');
    agents(`${whole}ok`, { first: whole.length - 1 });
    agents(`${whole}okHTTP/1.1`, { first: whole.length + 1 });
    agents(`${chunked}0\r\n\r\nHTTP/1.1`, { first: chunked.length + 1 });
  });
});
