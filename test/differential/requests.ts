/** Generated requests, from hints of a generated listener. */
import fc from 'fast-check';
import type { Exchange } from '../../src/lab/raw-client.js';
import { chunkedBytes, formatHead, type HeaderList } from '../../src/lab/wire.js';
import { ORIGINS } from './filters.js';
import { word } from './matchers.js';
import type { Hint, ListenerConfig } from './route-config.js';

/** A request as fast-check prints it when it finds a difference. */
export interface Request {
  readonly method: string;
  readonly target: string;
  readonly version: 'HTTP/1.1' | 'HTTP/1.0';
  readonly headers: HeaderList;
  /** bytes of the body; -1: none */
  readonly body: number;
  readonly chunked: boolean;
  /** bytes at which the request is cut into separately sent pieces */
  readonly cuts: readonly number[];
}

/** Requests that are sent back to back on one connection before the answers are read. */
export type Step = readonly Request[];

const BODY_SIZES = [0, 1, 100, 100, 100, 1500, 1500, 9000, 9000, 70_000] as const;

const ANSWERS = [
  'length',
  'length',
  'length',
  'chunked',
  '204',
  '304',
  '404',
  '503',
  'big:5000',
  'big:100000',
] as const;

const oneIn = (n: number): fc.Arbitrary<boolean> => fc.integer({ min: 1, max: n }).map((k) => k === 1);

function ordinary(hint: Hint): fc.Arbitrary<Request> {
  return fc
    .record({
      host: fc.oneof(
        { weight: 12, arbitrary: fc.constant(hint.host) },
        fc.constantFrom('unknown.example', `${hint.host}:80`),
      ),
      path: fc.oneof(
        { weight: 8, arbitrary: fc.constant(hint.path) },
        fc.constantFrom('/', '/api', '/api/v1/users', '/shop/cart/9', '/nothing', '/items/x', `${hint.path}/tail`),
      ),
      keepHeaders: fc.array(oneIn(8), { minLength: 2, maxLength: 2 }),
      keepQuery: oneIn(6),
      moreQuery: fc.array(fc.constantFrom('q=alpha', 'page=7', 'debug', 'debug=', 'z=1', 'q=beta&q=alpha'), {
        maxLength: 1,
      }),
      more: fc.uniqueArray(
        fc.tuple(fc.constantFrom('x-env', 'x-user', 'x-color', 'x-num', 'x-added', 'Accept', 'X-Other'), word),
        { maxLength: 3, selector: ([n]) => n.toLowerCase() },
      ),
      method: fc.oneof(
        { weight: 14, arbitrary: fc.constant(hint.method) },
        fc.constantFrom('GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS'),
      ),
      body: fc.constantFrom(...BODY_SIZES),
      withBody: oneIn(8),
      answer: fc.constantFrom(...ANSWERS),
      origin: fc.option(fc.constantFrom(...ORIGINS), { freq: 2, nil: undefined }),
      preflight: fc.option(
        fc.record({
          method: fc.constantFrom('PUT', 'GET', ''),
          headers: fc.option(fc.constantFrom('x-user', 'x-user, x-env'), { nil: undefined }),
          network: fc.option(fc.constantFrom('true', 'false'), { freq: 2, nil: undefined }),
        }),
        { freq: 2, nil: undefined },
      ),
      requestId: oneIn(8),
      authorityLast: oneIn(3),
    })
    .map((r) => {
      const headers: HeaderList = [];
      if (!r.authorityLast) headers.push(['Host', r.host]);
      for (const [i, [n, v]] of hint.headers.entries()) {
        if (!r.keepHeaders[i % 2] && !headers.some(([name]) => name === n)) headers.push([n, v]);
      }
      // a repeated header is odd, and comes as such below
      headers.push(...r.more.filter(([n]) => !headers.some(([name]) => name.toLowerCase() === n.toLowerCase())));
      if (r.answer !== 'length') headers.push(['x-answer', r.answer]);
      const preflight = r.origin === undefined ? undefined : r.preflight;
      if (r.origin !== undefined) headers.push(['Origin', r.origin]);
      if (preflight) {
        headers.push(['Access-Control-Request-Method', preflight.method]);
        if (preflight.headers) headers.push(['Access-Control-Request-Headers', preflight.headers]);
        if (preflight.network) headers.push(['Access-Control-Request-Private-Network', preflight.network]);
      }
      const method = preflight ? 'OPTIONS' : r.method;
      if (r.requestId) headers.push(['x-request-id', 'chosen-by-the-client']);
      if (r.authorityLast) headers.push(['Host', r.host]);
      const query = [...(r.keepQuery ? [] : hint.query), ...r.moreQuery];
      const withBody = !preflight && r.withBody && method !== 'GET' && method !== 'HEAD';
      return {
        method,
        target: r.path + (query.length ? `?${query.join('&')}` : ''),
        version: 'HTTP/1.1' as const,
        headers,
        body: withBody || method === 'POST' || method === 'PUT' ? r.body : -1,
        chunked: false,
        cuts: [],
      };
    });
}

/** Single requests of the kind that clients usually send, which must stay in the kernel. */
export function ordinarySteps(config: ListenerConfig): fc.Arbitrary<Step[]> {
  return fc.array(
    ordinaryRequest(config).map((r) => [r]),
    { minLength: 1, maxLength: 5 },
  );
}

/** One request of the usual kind. */
export function ordinaryRequest(config: ListenerConfig): fc.Arbitrary<Request> {
  return fc.nat({ max: config.hints.length - 1 }).chain((i) => ordinary(config.hints[i]!));
}

type Twist = (r: Request) => Request;

function withHeader(name: string, value: string): Twist {
  return (r) => ({ ...r, headers: [...r.headers, [name, value]] });
}

/** What makes a request odd: legal or not, the answer must be Envoy's. */
const TWISTS: Readonly<Record<string, Twist>> = {
  'absolute form': (r) => ({ ...r, target: `http://${hostOf(r)}${r.target}` }),
  'percent escapes': (r) => ({ ...r, target: r.target.replace('/a', '/%61') }),
  'harmless escapes': (r) => ({ ...r, target: r.target.replace(/(?=\?|$)/, '%20x%C3%A9') }),
  'escaped slash': (r) => ({ ...r, target: `/a%2Fb${r.target}` }),
  'dot segments': (r) => ({ ...r, target: `/x/..${r.target}` }),
  'two slashes': (r) => ({ ...r, target: `/${r.target}` }),
  backslash: (r) => ({ ...r, target: `${r.target}\\x` }),
  fragment: (r) => ({ ...r, target: `${r.target}#part` }),
  'empty query': (r) => ({ ...r, target: `${r.target}?` }),
  'query escapes': (r) => ({ ...r, target: `${r.target}?q=%61lpha&page=%37` }),
  asterisk: (r) => ({ ...r, method: 'OPTIONS', target: '*', body: -1 }),
  'lower-case method': (r) => ({ ...r, method: 'get', body: -1 }),
  'unknown method': (r) => ({ ...r, method: 'PURGE', body: -1 }),
  'duplicate header': (r) => withHeader('x-env', 'alpha')(withHeader('x-env', 'beta')(r)),
  'empty header': withHeader('x-user', ''),
  'long header': withHeader('x-color', 'c'.repeat(9000)),
  'many headers': (r) => ({
    ...r,
    headers: [...r.headers, ...Array.from({ length: 60 }, (_, i): [string, string] => [`x-h${i}`, `${i}`])],
  }),
  'two hosts': withHeader('Host', 'shop.test'),
  'no host': (r) => ({ ...r, headers: r.headers.filter(([n]) => n !== 'Host') }),
  'empty host': (r) => ({ ...r, headers: r.headers.map(([n, v]) => (n === 'Host' ? [n, ''] : [n, v])) }),
  expect: (r) => ({ ...withHeader('Expect', '100-continue')(r), method: 'POST', body: 100 }),
  chunked: (r) => ({ ...r, method: 'POST', body: 3000, chunked: true }),
  'length and chunked': (r) => ({ ...withHeader('Content-Length', '5')(r), method: 'POST', body: 3000, chunked: true }),
  'HTTP/1.0': (r) => ({ ...r, version: 'HTTP/1.0' }),
  'connection close': withHeader('Connection', 'close'),
  'keep-alive': withHeader('Connection', 'keep-alive'),
  'hop by hop': (r) => withHeader('Connection', 'x-user')(withHeader('x-user', 'gone')(r)),
  'proxy-connection': withHeader('Proxy-Connection', 'keep-alive'),
  te: withHeader('TE', 'trailers'),
  upgrade: (r) => withHeader('Connection', 'upgrade')(withHeader('Upgrade', 'nothing')(r)),
  forwarded: (r) => withHeader('x-forwarded-for', '10.1.2.3')(withHeader('x-forwarded-proto', 'https')(r)),
  'envoy headers': (r) => withHeader('x-envoy-internal', 'true')(withHeader('x-envoy-original-path', '/lie')(r)),
  'space in value': withHeader('x-user', '  alpha  beta \t'),
  'latin-1 value': withHeader('x-user', 'caf\u00e9'),
  'cut in the head': (r) => ({ ...r, cuts: [1, 20, 50] }),
  'cut in the body': (r) => ({ ...r, method: 'POST', body: 3000, cuts: [400, 1500] }),
  'close-delimited answer': withHeader('x-answer', 'close'),
  'early hints': withHeader('x-answer', 'interim'),
};

function hostOf(r: Request): string {
  return r.headers.find(([n]) => n === 'Host')?.[1] ?? 'shop.test';
}

/** One odd request. */
export function oddRequest(config: ListenerConfig): fc.Arbitrary<Request> {
  return (
    fc
      .tuple(ordinaryRequest(config), fc.constantFrom(...Object.keys(TWISTS)))
      // a twist's own x-answer counts, not the one of the ordinary request
      .map(([r, name]) => TWISTS[name]!({ ...r, headers: r.headers.filter(([n]) => n !== 'x-answer') }))
  );
}

/** Odd requests, alone or as pipelined pairs, among ordinary ones on the same connection. */
export function oddSteps(config: ListenerConfig): fc.Arbitrary<Step[]> {
  const plain = ordinaryRequest(config);
  const odd = oddRequest(config);
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 3, arbitrary: odd.map((r) => [r]) },
    { weight: 1, arbitrary: plain.map((r) => [r]) },
    { weight: 1, arbitrary: fc.tuple(plain, plain) },
  );
  return fc.array(step, { minLength: 1, maxLength: 4 });
}

/** The bytes of one request. */
export function requestBytes(r: Request): Buffer {
  const headers: HeaderList = [...r.headers];
  if (r.body >= 0) headers.push(r.chunked ? ['Transfer-Encoding', 'chunked'] : ['Content-Length', String(r.body)]);
  const head = Buffer.from(formatHead(`${r.method} ${r.target} ${r.version}`, headers), 'latin1');
  if (r.body < 0) return head;
  const body = Buffer.from(Array.from({ length: r.body }, (_, i) => 97 + (i % 26)));
  return Buffer.concat([head, r.chunked ? chunkedBytes(body, 700) : body]);
}

/** What the raw client is told to do. */
export function exchange(step: Step): Exchange {
  const bytes = Buffer.concat(step.map(requestBytes));
  const cuts = [0, ...(step[0]?.cuts ?? []).filter((c) => c < bytes.length), bytes.length];
  const pieces = cuts.slice(1).map((end, i) => bytes.subarray(cuts[i]!, end).toString('base64'));
  return { pieces, methods: step.map((r) => r.method) };
}
