/** What becomes of answers: compressors, local replies that are rewritten, logs, delays and aborts, edits of answers. */
import type { JsonObject } from '../../../src/policy/resources.js';
import type { Draw } from '../../wild/damage.js';
import { bootstrap, CLUSTERS, type Construct, maybe, several, some, typed } from './construct.js';

const LISTENERS = 6;
const COMPRESSION = 'type.googleapis.com/envoy.extensions.compression';
const FILE_LOG = 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog';
const percent = (numerator: number): JsonObject => ({ numerator });
const flag = (draw: Draw): JsonObject => ({ enabled: { default_value: draw.below(4) > 0, runtime_key: 'none' } });

function compressor(draw: Draw): JsonObject {
  const library = draw.one(['gzip', 'brotli', 'zstd']);
  const type = {
    gzip: 'gzip.compressor.v3.Gzip',
    brotli: 'brotli.compressor.v3.Brotli',
    zstd: 'zstd.compressor.v3.Zstd',
  };
  const common = (): JsonObject => ({
    ...maybe(draw, 2, [flag(draw)]),
    ...maybe(draw, 2, [{ min_content_length: 10 }, { min_content_length: 1000 }, { min_content_length: 1 }]),
    ...maybe(draw, 2, [{ content_type: ['text/html'] }, { content_type: ['application/json', 'text/plain'] }]),
  });
  return typed('compressor.v3.Compressor', {
    compressor_library: { name: library, typed_config: { '@type': `${COMPRESSION}.${type[library as 'gzip']}` } },
    ...maybe(draw, 4, [{ request_direction_config: { common_config: common() } }]),
    ...(draw.below(3) > 0 && {
      response_direction_config: {
        common_config: common(),
        ...maybe(draw, 3, [{ disable_on_etag_header: true }]),
        ...maybe(draw, 3, [{ remove_accept_encoding_header: true }]),
      },
    }),
  });
}

const fault = (draw: Draw): JsonObject =>
  typed('fault.v3.HTTPFault', {
    ...maybe(draw, 2, [
      { abort: { http_status: draw.one([503, 418, 200]), percentage: percent(draw.one([0, 50, 100])) } },
    ]),
    ...maybe(draw, 2, [{ delay: { fixed_delay: '0.005s', percentage: percent(draw.one([0, 50, 100])) } }]),
    ...maybe(draw, 3, [{ headers: [{ name: 'x-user', string_match: { exact: 'alice' } }] }]),
  });

const rbac = (draw: Draw): JsonObject =>
  typed('rbac.v3.RBAC', {
    rules: {
      action: draw.one(['ALLOW', 'DENY']),
      policies: {
        p: { permissions: [{ header: { name: 'x-user', present_match: true } }], principals: [{ any: true }] },
      },
    },
  });

const format = (draw: Draw): JsonObject =>
  draw.one<JsonObject>([
    { text_format_source: { inline_string: 'said: %LOCAL_REPLY_BODY% (%RESPONSE_CODE%)' } },
    { text_format: '%RESPONSE_CODE%' },
    { text_format_source: { inline_string: '%LOCAL_REPLY_BODY%' }, content_type: 'text/html; charset=UTF-8' },
    { text_format_source: { inline_string: '' } },
    { text_format_source: { inline_string: '%REQ(:path)%' } },
    { json_format: { status: '%RESPONSE_CODE%', text: '%LOCAL_REPLY_BODY%' } },
  ]);

const localReplies = (draw: Draw): JsonObject => ({
  local_reply_config: {
    mappers: several(draw.below(3), () => ({
      filter: {
        status_code_filter: {
          comparison: {
            op: draw.one(['EQ', 'GE', 'LE']),
            value: { default_value: draw.one([403, 404, 200, 503, 301, 400]), runtime_key: 'none' },
          },
        },
      },
      ...maybe(draw, 2, [{ status_code: 401 }, { status_code: 200 }, { status_code: 503 }]),
      ...maybe(draw, 2, [{ body: { inline_string: 'mapped' } }]),
      ...maybe(draw, 2, [{ body_format_override: format(draw) }]),
      ...maybe(draw, 5, [{ headers_to_add: [{ header: { key: 'x-local', value: '1' } }] }]),
    })),
    ...maybe(draw, 2, [{ body_format: format(draw) }]),
  },
});

const log = (draw: Draw): JsonObject => ({
  access_log: [
    {
      name: 'file',
      ...maybe(draw, 4, [
        {
          filter: {
            status_code_filter: { comparison: { op: 'GE', value: { default_value: 400, runtime_key: 'none' } } },
          },
        },
      ]),
      typed_config: {
        '@type': FILE_LOG,
        path: '/dev/null',
        ...maybe(draw, 2, [
          { log_format: { text_format_source: { inline_string: '%REQ(X-USER)% %RESPONSE_CODE% %RESP(x-a)%\n' } } },
          { log_format: { json_format: { path: '%REQ(:PATH)%', took: '%DURATION%', flags: '%RESPONSE_FLAGS%' } } },
        ]),
      },
    },
  ],
});

const edits = (draw: Draw): JsonObject => ({
  ...maybe(draw, 3, [
    { response_headers_to_add: [{ header: { key: 'x-a', value: draw.one(['1', '%PROTOCOL%', '%RESPONSE_CODE%']) } }] },
    {
      response_headers_to_add: [
        { header: { key: 'content-type', value: 'text/x' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
      ],
    },
  ]),
  ...maybe(draw, 4, [{ response_headers_to_remove: ['x-powered-by', 'vary'] }]),
});

function route(draw: Draw, prefix: string): JsonObject {
  const match = { prefix };
  const own = { match, ...edits(draw) };
  switch (draw.below(5)) {
    case 0:
      return {
        ...own,
        direct_response: { status: draw.one([200, 404, 503]), body: { inline_string: draw.one(['', 'direct']) } },
      };
    case 1:
      return { ...own, redirect: { path_redirect: '/x' } };
    default:
      return { ...own, route: { cluster: draw.one(CLUSTERS) } };
  }
}

export const answers: Construct = {
  share: 0.2,
  make: (draw) => ({
    documents: [
      bootstrap(
        several(LISTENERS, () => ({
          manager: {
            ...(draw.below(2) === 0 ? localReplies(draw) : {}),
            ...(draw.below(3) === 0 ? log(draw) : {}),
            ...maybe(draw, 6, [{ server_name: 'front' }]),
          },
          router: maybe(draw, 4, [{ suppress_envoy_headers: true }]),
          filters: some(draw, 2, [
            { name: 'compress', typed_config: compressor(draw) },
            { name: 'fault', typed_config: fault(draw) },
            { name: 'rbac', typed_config: rbac(draw) },
          ]),
          config: edits(draw),
          hosts: [
            {
              name: 'h',
              domains: ['h'],
              ...edits(draw),
              routes: ['/a', '/b', '/'].map((prefix) => route(draw, prefix)),
            },
            { name: 'other', domains: ['other'], routes: ['/a'].map((prefix) => route(draw, prefix)) },
          ],
        })),
      ),
    ],
    headers: [
      ['x-user', 'alice'],
      ['x-user', 'bob'],
      ['accept-encoding', 'gzip'],
      ['accept-encoding', 'br;q=0.5, identity'],
      ['accept-encoding', 'identity'],
    ],
    hosts: ['h', 'other', 'none'],
    paths: ['/a', '/b', '/', '/a?q=1', '/c'],
  }),
};
