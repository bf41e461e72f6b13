/** Odd traffic: exchanges of every kind, each on one connection. */
import type { Exchange, JobResult } from '../../src/lab/raw-client.js';
import { chunkedBytes } from '../../src/lab/wire.js';
import { request } from './world.js';

const base64 = (...parts: (string | Buffer)[]): string =>
  Buffer.concat(parts.map((p) => Buffer.from(p))).toString('base64');

/** Splits a request into single bytes (its first `n`) and the rest. */
function bytewise(whole: string, n: number): string[] {
  const bytes = Buffer.from(whole, 'base64');
  const pieces = Array.from({ length: n }, (_, i) => bytes.subarray(i, i + 1).toString('base64'));
  return [...pieces, bytes.subarray(n).toString('base64')];
}

export const get = (path: string, headers: [string, string][] = []): Exchange => ({
  pieces: [request(`GET ${path} HTTP/1.1`, headers)],
  methods: ['GET'],
});
const exchange = (methods: string[], ...pieces: string[]): Exchange => ({ pieces, methods });
const post = (path: string, body: Buffer, headers: [string, string][] = []): string =>
  request(`POST ${path} HTTP/1.1`, [...headers, ['Content-Length', String(body.length)]], body);

const LARGE = Buffer.alloc(200_000, 'abcdefghij');

/** name -> exchanges on one connection */
export const CASES: Readonly<Record<string, readonly Exchange[]>> = {
  'a head in single bytes': [
    exchange(['GET'], ...bytewise(request('GET /echo HTTP/1.1', [['x-token', 't']]), 60)),
    get('/echo'),
  ],
  'a head cut before its last line feed': [
    exchange(['GET'], base64('GET /echo HTTP/1.1\r\nHost: a\r\n\r'), base64('\n')),
    get('/echo'),
  ],
  'head and body apart': [
    exchange(
      ['POST'],
      base64('POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n'),
      base64('01234'),
      base64('56789'),
    ),
    get('/echo'),
  ],
  'two requests in one segment': [
    exchange(['GET', 'GET'], base64('GET /echo?1 HTTP/1.1\r\nHost: a\r\n\r\nGET /echo?2 HTTP/1.1\r\nHost: a\r\n\r\n')),
    get('/echo'),
  ],
  'ten requests in one segment': [
    exchange(
      Array(10).fill('GET'),
      base64(
        Array.from({ length: 10 }, (_, i) => `GET /echo?${i} HTTP/1.1\r\nHost: a\r\nx-token: ${i}\r\n\r\n`).join(''),
      ),
    ),
    get('/echo'),
  ],
  'a request and a half': [
    exchange(
      ['GET', 'GET'],
      base64('GET /echo?1 HTTP/1.1\r\nHost: a\r\n\r\nGET /ec'),
      base64('ho?2 HTTP/1.1\r\nHost: a\r\n\r\n'),
    ),
    get('/echo'),
  ],
  'a body with the next request behind it': [
    exchange(
      ['POST', 'GET'],
      base64('POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbodyGET /echo HTTP/1.1\r\nHost: a\r\n\r\n'),
    ),
    get('/echo'),
  ],
  'the second request while the first is held': [
    { pieces: [request('GET /hold/200 HTTP/1.1'), request('GET /echo HTTP/1.1')], methods: ['GET', 'GET'] },
    get('/echo'),
  ],
  'policy and upstream answers in turn': Array.from({ length: 8 }, (_, i) => get(i % 2 ? '/denied' : '/echo')),
  'Expect: 100-continue, body after a pause': [
    exchange(
      ['POST'],
      base64('POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n'),
      base64('hello'),
    ),
    get('/echo'),
  ],
  'a chunked request': [
    exchange(
      ['POST'],
      base64('POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n', chunkedBytes(LARGE, 7001)),
    ),
    get('/echo'),
  ],
  'a chunked request in pieces': [
    exchange(
      ['POST'],
      base64('POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r'),
      base64('\nhel'),
      base64('lo\r\n0\r\n'),
      base64('\r\n'),
    ),
    get('/echo'),
  ],
  'a large body': [exchange(['POST'], post('/echo', LARGE)), get('/echo')],
  'a large body in pieces': [
    exchange(
      ['POST'],
      ...[0, 1, 2, 3].map((i) =>
        Buffer.from(post('/echo', LARGE), 'base64')
          .subarray(i * 60_000, i === 3 ? undefined : (i + 1) * 60_000)
          .toString('base64'),
      ),
    ),
    get('/echo'),
  ],
  'HTTP/1.0': [exchange(['GET'], base64('GET /echo HTTP/1.0\r\nHost: a\r\n\r\n'))],
  'HTTP/1.0 keep-alive': [exchange(['GET'], base64('GET /echo HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n'))],
  CONNECT: [exchange(['CONNECT'], base64('CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n'))],
  'an upgrade that is not allowed': [
    get('/echo', [
      ['Connection', 'Upgrade'],
      ['Upgrade', 'websocket'],
    ]),
  ],
  'Connection: close': [get('/echo', [['Connection', 'close']])],
  'not HTTP': [exchange(['GET'], base64('\x16\x03\x01\x02\x00hello'))],
  // Envoy takes it for HTTP/2 and sends its settings
  'an HTTP/2 preface': [
    {
      pieces: [base64('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', Buffer.from('000000040000000000', 'hex'))],
      methods: [],
      rawBytes: 9,
    },
  ],
  'no Host': [exchange(['GET'], base64('GET /echo HTTP/1.1\r\n\r\n'))],
  'bare line feeds': [exchange(['GET'], base64('GET /echo HTTP/1.1\nHost: a\n\n'))],
  'a folded header': [exchange(['GET'], base64('GET /echo HTTP/1.1\r\nHost: a\r\nx-token: a\r\n b\r\n\r\n'))],
  'a space before the colon': [exchange(['GET'], base64('GET /echo HTTP/1.1\r\nHost: a\r\nx-token : a\r\n\r\n'))],
  'two lengths': [
    exchange(['POST'], base64('POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd')),
  ],
  'length and chunked': [
    exchange(
      ['POST'],
      base64(
        'POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n',
      ),
    ),
  ],
  'a length with a sign': [
    exchange(['POST'], base64('POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc')),
  ],
  'a head of 70 KB': [get('/echo', [['x-long', 'x'.repeat(70_000)]])],
  'a head of 20 KB': [get('/echo', [['x-long', 'x'.repeat(20_000)]]), get('/echo')],
  'a target of 9 KB': [get(`/echo?${'x'.repeat(9000)}`), get('/echo')],
  'empty lines before the request': [exchange(['GET'], base64('\r\n\r\nGET /echo HTTP/1.1\r\nHost: a\r\n\r\n'))],
  'HEAD, then GET': [exchange(['HEAD'], request('HEAD /echo HTTP/1.1')), get('/echo')],
  'HEAD of a large answer': [exchange(['HEAD'], request('HEAD /bytes/100000 HTTP/1.1')), get('/echo')],
  'an answer that ends with the connection': [get('/close'), get('/echo')],
  '1xx answers': [get('/interim'), get('/echo')],
  'an answer in chunks of one byte': [get('/chunks/1/500'), get('/echo')],
  'an answer in large chunks': [get('/chunks/65536/16'), get('/echo')],
  'an answer with chunk extension and trailers': [get('/trailers'), get('/echo')],
  'an answer byte by byte': [get('/dribble'), get('/echo')],
  'an answer of 1 MB': [get('/bytes/1048576'), get('/echo')],
  'an answer of 1 MB and a byte': [get('/bytes/1048577'), get('/echo')],
  'an answer of 5 MB': [get('/bytes/5000000'), get('/echo')],
  'an empty answer': [get('/bytes/0'), get('/echo')],
  'upstream closes without an answer': [get('/vanish'), get('/echo')],
  'HEAD, and the upstream closes without an answer': [
    exchange(['HEAD'], request('HEAD /vanish HTTP/1.1')),
    get('/echo'),
  ],
  'upstream closes inside the head': [get('/vanish-head'), get('/echo')],
  'upstream closes inside a body of known length': [get('/vanish-length')],
  'upstream closes inside a chunk': [get('/vanish-chunked')],
  'upstream resets before the answer': [get('/reset'), get('/echo')],
  'upstream resets inside the body': [get('/reset-body')],
  'upstream answers before the body was sent': [
    exchange(
      ['POST'],
      base64('POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n', LARGE.subarray(0, 1000)),
    ),
  ],
  'upstream speaks something else': [get('/garbage'), get('/echo')],
};

/** Headers whose values no two answers share, or that are given by configuration only. */
const IGNORED = new Set(['date', 'server', 'x-envoy-upstream-service-time']);

/** What of a job's result a client can see and rely on. */
export function visible(r: JobResult): unknown {
  const ended = r.error === 'closed' || r.error === 'ECONNRESET' || r.error === 'EPIPE';
  return {
    answers: r.answers.map((a) => ({
      ...{ status: a.status, version: a.version, framing: a.framing, interim: a.interim, trailers: a.trailers },
      headers: a.headers
        .map(([n, v]) => `${n.toLowerCase()}: ${v}`)
        .filter((h) => !IGNORED.has(h.split(':')[0]!))
        .sort(),
      body:
        a.body.length > 2000
          ? `${a.body.length} ${a.body.slice(0, 50)} ${a.body.slice(-50)}`
          : Buffer.from(a.body, 'base64').toString(),
    })),
    raw: r.raw,
    error: ended ? 'connection ended' : r.error,
  };
}
