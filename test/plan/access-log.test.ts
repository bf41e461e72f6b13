/** Which access logs the agent writes, and which are left to the proxy, naming what stands in the way. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildPlan } from '../../src/plan/build.js';
import type { Plan } from '../../src/plan/ir.js';
import { DEFAULT_FORMAT, readFormat, UnknownOperator } from '../../src/plan/log-format.js';
import type { Json, JsonObject } from '../../src/policy/resources.js';
import { clusterOf, hostOf, type ListenerOptions, listenerOf, resourcesOf, TYPE, to } from './resources.js';

const LOGGERS = 'type.googleapis.com/envoy.extensions.access_loggers';
const FILE = { '@type': `${LOGGERS}.file.v3.FileAccessLog`, path: '/tmp/never' };

/** The plan of a listener with this log. */
function planOf(log: JsonObject, route: JsonObject = to('a'), more: ListenerOptions = {}): Plan {
  const listener = listenerOf([hostOf([route])], { ...more, hcm: { access_log: [log] } });
  return buildPlan(resourcesOf([listener], [clusterOf('a', [1])]));
}

/** Messages of the reasons for which it is left to the proxy. */
function refusals(...of: Parameters<typeof planOf>): string[] {
  const [first] = planOf(...of).listeners;
  const routes = first!.virtualHosts.flatMap((v) => v.routes).filter((r) => !r.guard);
  return [...first!.reasons, ...routes.flatMap((r) => r.reasons)].map((r) => r.message);
}

const text = (format: string): JsonObject => ({
  name: 'f',
  typed_config: { ...FILE, log_format: { text_format_source: { inline_string: format } } },
});
const json = (format: Json): JsonObject => ({
  name: 'f',
  typed_config: { ...FILE, log_format: { json_format: format } },
});
const filtered = (filter: JsonObject): JsonObject => ({ name: 'f', filter, typed_config: FILE });

test('logs in files and streams are written here', () => {
  for (const log of [
    { name: 'f', typed_config: FILE },
    { name: 'f', typed_config: { '@type': `${LOGGERS}.stream.v3.StdoutAccessLog` } },
    { name: 'f', typed_config: { '@type': `${LOGGERS}.stream.v3.StderrAccessLog` } },
    { name: 'f', typed_config: { ...FILE, path: '/dev/stdout', format: '%PROTOCOL%\n' } },
    text('no operator at all, 100%%\n'),
    text('%REQ(X-FORWARDED-PROTO?:SCHEME)%\n'),
    json({ a: '%REQ(X)%', b: { c: ['%PROTOCOL%', 1, true] } }),
    filtered({ not_health_check_filter: {} }),
    filtered({ response_flag_filter: {} }),
  ])
    assert.deepEqual(refusals(log), [], JSON.stringify(log));
});

for (const [operator, why] of [
  ['%STREAM_ID%', 'is an id of its own'],
  ['%CONNECTION_ID%', 'is an id of its own'],
  ['%REQUEST_DURATION%', 'is not told'],
  ['%REQ(:SCHEME)%', 'is guessed'],
  ['%REQ(CONTENT-LENGTH)%', 'is another one upstream'],
  ['%RESP(SERVER)%', 'is not the kernel’s'],
  ['%RESP(DATE)%', 'is not the kernel’s'],
  ['%TRAILER(X)%', 'is not there'],
  ['%DYNAMIC_METADATA(envoy.lb:b)%', 'is the proxy’s'],
  ['%FILTER_STATE(a)%', 'is the proxy’s'],
  ['%ENVIRONMENT(A)%', 'may be another process’s'],
  ['%START_TIME(%A %d)%', 'has names of days'],
  ['%PROTOCOL%%', 'ends in the middle'],
] as const)
  test(`${operator} ${why}: the proxy's`, () => {
    const [message] = [...refusals(text(`x ${operator}\n`)), ...refusals(json({ a: [operator] }))];
    assert.match(message ?? '', /is not known for certain/);
  });

for (const [name, log] of Object.entries({
  grpc: { name: 'g', typed_config: { '@type': `${LOGGERS}.grpc.v3.HttpGrpcAccessLogConfig` } },
  'a relative path': { name: 'f', typed_config: { ...FILE, path: 'log' } },
  'a format in a file': {
    name: 'f',
    typed_config: { ...FILE, log_format: { text_format_source: { filename: '/x' } } },
  },
  formatters: {
    name: 'f',
    typed_config: { ...FILE, log_format: { text_format: '%PROTOCOL%', formatters: [{ name: 'x' }] } },
  },
  'the old json_format': { name: 'f', typed_config: { ...FILE, json_format: { a: '%PROTOCOL%' } } },
  'filter by header': filtered({ header_filter: { header: { name: 'x', present_match: true } } }),
  'filter by chance': filtered({ runtime_filter: { runtime_key: 'x' } }),
  'nested filter by chance': filtered({ or_filter: { filters: [{ runtime_filter: { runtime_key: 'x' } }] } }),
  'a new filter': filtered({ traceable_filter: {} }),
}))
  test(`${name}: the proxy's`, () => assert.notDeepEqual(refusals(log as JsonObject), []));

test('a header of answers that the route edits is not logged here', () => {
  const route = to('a', '/', { response_headers_to_add: [{ header: { key: 'X-Made', value: 'v' } }] });
  assert.match(refusals(text('%RESP(X-MADE)%'), route)[0] ?? '', /x-made of answers is edited and logged/);
  assert.deepEqual(refusals(text('%RESP(X-OTHER)%'), route), []);
});

test('which policy denied a request is logged; of more than eight only the proxy knows', () => {
  const any = { permissions: [{ any: true }], principals: [{ any: true }] };
  const replies = (n: number) => {
    const policies = Object.fromEntries(Array.from({ length: n }, (_, i) => [`p ${i}`, any]));
    const filters = [{ name: 'rbac', typed_config: { '@type': TYPE.rbac, rules: { action: 'DENY', policies } } }];
    return planOf(text('%RESPONSE_CODE_DETAILS%'), to('a'), { filters }).listeners[0]!.rbac.map(({ reply }) => reply);
  };
  const [first, second, ...others] = replies(2);
  assert.equal(first?.kind === 'reply' && first.details, 'rbac_access_denied_matched_policy[p_0]');
  assert.equal(second?.kind === 'reply' && second.details, 'rbac_access_denied_matched_policy[p_1]');
  assert.deepEqual(others, []);
  assert.deepEqual(
    replies(9).map((reply) => reply?.kind),
    ['proxy'],
  );
});

test('metadata of filters that are not there is not there, but others may write it', () => {
  assert.deepEqual(
    refusals(text('%DYNAMIC_METADATA(io.x:a:b)% %DYNAMIC_METADATA(envoy.filters.http.ext_authz:u)%')),
    [],
  );
  const config = {
    '@type': TYPE.rbac.replace('rbac.v3.RBAC', 'set_metadata.v3.Config'),
    metadata_namespace: 'io.x',
    value: {},
  };
  const filters = [{ name: 'metadata', typed_config: config }];
  assert.match(refusals(text('%DYNAMIC_METADATA(io.x:a)%'), to('a'), { filters })[0] ?? '', /may write the metadata/);
});

test('the default format is known', () => assert.ok(!(readFormat(DEFAULT_FORMAT) instanceof UnknownOperator)));
