/** What the mesh itself answers on streams: by a real Envoy alone, and decided in the kernel. */
import assert from 'node:assert/strict';
import type { ClientHttp2Session, IncomingHttpHeaders } from 'node:http2';
import { after, before, describe, test } from 'node:test';
import type { JsonObject } from '../../src/policy/resources.js';
import { TYPE } from '../plan/resources.js';
import { H2World } from './h2-world.js';
import { skip } from './world.js';

const answer = (path: string, status: number, body?: string, more: JsonObject = {}): JsonObject => ({
  match: { path },
  direct_response: { status, ...(body === undefined ? {} : { body: { inline_string: body } }) },
  ...more,
});
const REDIRECTS: Readonly<Record<string, JsonObject>> = {
  '/moved': { path_redirect: '/there' },
  '/secure?q=1': { https_redirect: true },
  '/port': { port_redirect: 8443, scheme_redirect: 'https', response_code: 'PERMANENT_REDIRECT' },
  '/host/x?y': { host_redirect: 'other.test', strip_query: true, response_code: 'SEE_OTHER' },
  '/prefix': { prefix_rewrite: '/to', response_code: 'TEMPORARY_REDIRECT' },
  '/found': { path_redirect: '/there?with=query', response_code: 'FOUND' },
};
const ROUTES: JsonObject[] = [
  ...[200, 204, 301, 400, 401, 403, 404, 418, 429, 500, 502, 503, 504].map((status) => answer(`/${status}`, status)),
  answer('/words', 503, 'a "word" 100% ~ ü\n'),
  answer('/long', 200, 'x'.repeat(3000)),
  answer('/edited', 403, 'no', {
    response_headers_to_add: [
      { header: { key: 'x-long', value: 'v'.repeat(400) } },
      { header: { key: 'content-type', value: 'text/odd' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
    ],
  }),
  ...Object.entries(REDIRECTS).map(([path, redirect]) => ({ match: { prefix: path.split('?')[0]! }, redirect })),
  { match: { prefix: '/', headers: [{ name: 'x-nowhere', present_match: true, invert_match: true }] }, route: { cluster: 'one', timeout: '0s' } },
]; // biome-ignore format: one route a line
const PATHS = ['/words', '/long', '/edited', '/denied', '/nowhere', ...Object.keys(REDIRECTS), '/prefix/a/b?c=d&e'];
const RBAC: JsonObject = {
  name: 'rbac',
  typed_config: {
    '@type': TYPE.rbac,
    rules: {
      action: 'DENY',
      policies: { p: { permissions: [{ url_path: { path: { exact: '/denied' } } }], principals: [{ any: true }] } },
    },
  },
};

interface Seen {
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  readonly reset: number;
}

function ask(session: ClientHttp2Session, path: string, more: Record<string, string>, open: boolean): Promise<Seen> {
  return new Promise((resolve) => {
    const stream = session.request({ ':method': 'POST', ':path': path, ':authority': 'a.test', ...more });
    let [headers, body]: [IncomingHttpHeaders, string] = [{}, ''];
    stream.on('response', ({ date: _, ...found }) => {
      headers = found;
    });
    stream.on('data', (piece: Buffer) => {
      body += piece.toString('latin1');
    });
    stream.on('error', () => undefined);
    stream.on('close', () => resolve({ headers, body, reset: stream.rstCode ?? 0 }));
    if (open) stream.write(Buffer.alloc(20_000));
    else stream.end();
  });
}

describe('what the mesh answers on streams', { skip, timeout: 120_000 }, () => {
  let world: H2World;
  before(async () => {
    world = await H2World.open(
      ROUTES,
      {},
      { http_filters: [RBAC, { name: 'router', typed_config: { '@type': TYPE.router } }] },
    );
  });
  after(() => world?.close());

  const KINDS: Readonly<Record<string, Record<string, string>>> = {
    gRPC: { 'content-type': 'application/grpc', te: 'trailers' },
    'gRPC with a format': { 'content-type': 'application/grpc+proto' },
    others: { 'content-type': 'application/grpc-web' },
    GET: { ':method': 'GET' },
    HEAD: { ':method': 'HEAD' },
  };
  for (const [kind, headers] of Object.entries(KINDS))
    test(`${kind}: as Envoy`, async () => {
      const [alone, mesh] = [await world.connect('envoy'), await world.connect()];
      let kernel = 0;
      let all = 0;
      try {
        for (const path of [...PATHS, ...ROUTES.slice(0, 13).map(({ match }) => (match as { path: string }).path)])
          for (const open of kind === 'GET' || kind === 'HEAD' ? [false] : [false, true]) {
            const own = path === '/nowhere' ? { ...headers, 'x-nowhere': '1' } : headers;
            const expected = await ask(alone, path, own, open);
            const before = world.decided();
            assert.deepEqual(await ask(mesh, path, own, open), expected, `${path} ${open}`);
            all++;
            if (world.decided() > before) kernel++;
            else assert.ok(/301|long/.test(path) || (kind === 'HEAD' && path === '/204'), `${path} is the proxy’s`);
          }
      } finally {
        alone.destroy();
        mesh.destroy();
      }
      assert.ok(kernel > 0, `the kernel decided ${kernel} of ${all}`);
    });

  test('many at once, beside streams that are forwarded', async () => {
    const session = await world.connect();
    try {
      const seen = await Promise.all(
        Array.from({ length: 200 }, (_, i) =>
          ask(session, ['/503', '/words', '/echo?down=3'][i % 3]!, KINDS.gRPC!, false),
        ),
      );
      assert.deepEqual(
        seen.map(({ headers }) => headers['grpc-status'] ?? headers[':status']),
        Array.from({ length: 200 }, (_, i) => ['14', '14', 200][i % 3]),
      );
    } finally {
      session.destroy();
    }
  });
});
