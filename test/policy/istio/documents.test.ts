import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { flattenLists } from '../../../src/policy/documents.js';
import { envoyDuration, parseDuration, protoDuration } from '../../../src/policy/istio/duration.js';
import { hostMatches, mostSpecific, resolveHost, shortNames } from '../../../src/policy/istio/hosts.js';
import type { TranslateOptions } from '../../../src/policy/istio/index.js';
import { didYouMean } from '../../../src/policy/istio/validate.js';
import { read, translate, virtualHosts } from './helpers.js';

const place = (p: { line: number; column: number }) => `${p.line}:${p.column}`;

test('positions: of keys, of list items, of the nearest ancestor, of aliases', () => {
  const [document] = read(
    [
      'kind: Thing',
      'metadata:',
      '  name: x',
      'spec:',
      '  list:',
      '  - a: 1',
      '    b: [10, 20]',
      '  - &one {c: 2}',
      '  - *one',
    ].join('\n'),
  );
  assert.ok(document);
  assert.equal(place(document.at([])), '1:1');
  assert.equal(place(document.at(['spec', 'list'])), '5:3');
  assert.equal(place(document.at(['spec', 'list', 0])), '6:5');
  assert.equal(place(document.at(['spec', 'list', 0, 'b', 1])), '7:13');
  assert.equal(place(document.at(['spec', 'list', 0, 'missing', 'deep'])), '6:5');
  assert.equal(place(document.at(['spec', 'list', 2])), '9:5');
  assert.equal(place(document.at(['nothing'])), '1:1');
});

test('documents: nulls are dropped, namespaces default, lists are taken apart and keep their places', () => {
  const documents = flattenLists(
    read(
      'apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {name: a, namespace: n, labels: null}\n- metadata: {name: b}\n---\njust text\n',
    ),
  );
  assert.deepEqual(
    documents.map((d) => [d.kind, d.namespace, d.name]),
    [
      ['Service', 'n', 'a'],
      ['Service', 'default', 'b'],
      ['', 'default', ''],
    ],
  );
  assert.deepEqual(documents[0]?.json.metadata, { name: 'a', namespace: 'n' });
  assert.equal(place(documents[1]!.at(['metadata', 'name'])), '5:14');
});

test('durations are those of Go', () => {
  assert.equal(envoyDuration('1h2m3.5s'), '3723.500s');
  assert.equal(envoyDuration('250ms'), '0.250s');
  assert.equal(envoyDuration('1ns'), '0.000000001s');
  assert.equal(envoyDuration('.5m'), '30s');
  assert.equal(envoyDuration('0'), '0s');
  for (const wrong of ['', '5', '5 s', 's', '1d', '1h-2m', '1.2.3s', '.s'])
    assert.equal(parseDuration(wrong), undefined, wrong);
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 10n ** 15n }), (n) => {
      assert.equal(parseDuration(protoDuration(n)), n);
    }),
  );
});

test('hosts: short names, wildcards, the most specific one', () => {
  assert.equal(resolveHost('web', 'ns', 'cluster.local'), 'web.ns.svc.cluster.local');
  assert.equal(resolveHost('web.other', 'ns', 'cluster.local'), 'web.other');
  assert.equal(resolveHost('*', 'ns', 'cluster.local'), '*');
  assert.ok(hostMatches('*.example.com', 'a.b.example.com'));
  assert.ok(hostMatches('*.com', '*.example.com'));
  assert.ok(!hostMatches('*.example.com', 'example.com'));
  assert.ok(!hostMatches('*.example.com', '*.com'));
  assert.equal(mostSpecific(['*', '*.com', '*.b.com', 'x.b.com'], 'a.b.com'), '*.b.com');
  assert.deepEqual(shortNames('web.ns.svc.cluster.local', 'ns', 'cluster.local'), ['web', 'web.ns', 'web.ns.svc']);
  assert.deepEqual(shortNames('web.ns.svc.cluster.local', 'other', 'cluster.local'), ['web.ns', 'web.ns.svc']);
  assert.deepEqual(shortNames('example.com', 'ns', 'cluster.local'), []);
});

test('did you mean', () => {
  assert.equal(didYouMean('htpp', ['http', 'tcp', 'tls']), 'http');
  assert.equal(didYouMean('perTryTimeOut', ['attempts', 'perTryTimeout']), 'perTryTimeout');
  assert.equal(didYouMean('completelyElse', ['http', 'tcp']), undefined);
});

const SERVICE = `
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {ports: [{name: http, port: 80}], clusterIP: None}
---
`;

const placesOf = (names: readonly string[], options: TranslateOptions = {}) =>
  new Map(
    translate(names.map((name) => SERVICE.replace('NAME', name)).join(''), options).listeners.map((l) => {
      const { address, port_value } = (l.address as { socket_address: { address: string; port_value: number } })
        .socket_address;
      return [l.name, `${address} ${port_value}`];
    }),
  );

test('the proxy’s listeners keep their places when services are added; those of instances differ', () => {
  const few = placesOf(['b', 'd'], { basePort: 20000 });
  const more = placesOf(['e', 'd', 'c', 'b', 'a'], { basePort: 20000 });
  for (const [name, place] of few) assert.equal(more.get(name), place);
  assert.equal(new Set(more.values()).size, 5);
  for (const place of more.values()) assert.match(place, /^127\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.\d+\.\d+ 20000$/);
  const other = new Set(placesOf(['a', 'b'], { instance: 'other' }).values());
  for (const place of placesOf(['a', 'b'], { instance: 'one' }).values()) assert.ok(!other.has(place));
});

test('the proxy’s listener of a service with an IPv6 address is on ::1', () => {
  const { listeners } = translate(SERVICE.replace('NAME', 'a').replace('None', '"fd00::1"'), { basePort: 20000 });
  const [first] = listeners;
  assert.ok(first);
  const { socket_address: at } = first.address as { socket_address: { address: string; port_value: number } };
  assert.equal(at.address, '::1');
  assert.ok(at.port_value >= 20000 && at.port_value < 20000 + 16384);
});

test('addresses stay when services are added, and are never given twice', () => {
  const named = (names: readonly string[]) =>
    new Map(
      translate(names.map((name) => SERVICE.replace('NAME', name)).join('')).intercepts.map(({ address, listener }) => [
        listener,
        address,
      ]),
    );
  const few = named(['b', 'd', 'f']);
  const more = named(['a', 'b', 'c', 'd', 'e', 'f', 'g']);
  for (const [listener, address] of few) assert.equal(more.get(listener), address, listener);
  const many = named(Array.from({ length: 300 }, (_, i) => `s${i}`));
  assert.equal(many.size, 300);
  assert.equal(new Set(many.values()).size, 300);
  for (const address of many.values()) assert.match(address, /^240\.240\.\d+\.(?!0$|255$)\d+$/);
});

test('an address that a document gives to another service is not given away', () => {
  const given = [...translate(SERVICE.replace('NAME', 'a')).intercepts][0]?.address ?? '';
  const other = SERVICE.replace('NAME', 'zz').replace('None', given);
  const addresses = translate(SERVICE.replace('NAME', 'a') + other).intercepts.map((i) => i.address);
  assert.equal(new Set(addresses).size, 2);
  assert.ok(addresses.includes(given));
});

test('every route, cluster and policy of a rule knows where it comes from', () => {
  const text = `${SERVICE.replace('NAME', 'a')}
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [a]
  http:
  - match:
    - uri: {prefix: /x}
    route:
    - destination: {host: a}
    timeout: 3s
`;
  const resources = translate(text);
  const [rule] = resources.rules;
  const [route] = rule?.objects ?? [];
  assert.ok(rule && route);
  assert.equal(rule.id, 'VirtualService/default/a#http[0]');
  const lines = text.split('\n');
  const lineOf = (what: string) => lines.findIndex((line) => line.includes(what)) + 1;
  assert.equal(rule.position.line, lineOf('- match'));
  assert.equal(resources.provenance.get(route)?.line, lineOf('- uri'));
  const action = (route as Record<string, object>).route!;
  assert.equal(resources.provenance.get(action, 'timeout')?.line, lineOf('timeout'));
  const [host] = virtualHosts(resources, 'outbound|80||a.default.svc.cluster.local');
  assert.equal((host as { routes: object[] }).routes[0], route, 'the rule holds the very object of the listener');
});

test('of two documents of one name the later one counts', () => {
  const direct = (status: number) => `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec: {hosts: [a], http: [{directResponse: {status: ${status}}}]}
---`;
  const resources = translate(SERVICE.replace('NAME', 'a') + direct(200) + direct(201));
  assert.deepEqual(
    resources.diagnostics.map((d) => d.code),
    ['duplicate-document'],
  );
  assert.equal(resources.rules.length, 1);
  assert.deepEqual((resources.rules[0]!.objects[0] as Record<string, unknown>).direct_response, { status: 201 });
});

test('translation never throws, whatever the documents hold', () => {
  const kinds = [
    ['networking.istio.io/v1', 'VirtualService'],
    ['networking.istio.io/v1', 'DestinationRule'],
    ['networking.istio.io/v1', 'ServiceEntry'],
    ['security.istio.io/v1', 'AuthorizationPolicy'],
    ['v1', 'Service'],
    ['discovery.k8s.io/v1', 'EndpointSlice'],
    ['v1', 'Pod'],
    ['v1', 'List'],
  ] as const;
  const names = [
    'hosts',
    'http',
    'match',
    'route',
    'destination',
    'host',
    'ports',
    'rules',
    'to',
    'from',
    'when',
    'subsets',
    'items',
    'name',
  ];
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 5 },
      fc.constantFrom(null, true, 0, -1, 80, 'web', '*', '', '5s', '('),
      fc.array(tie('tree'), { maxLength: 3 }),
      fc.dictionary(fc.constantFrom(...names), tie('tree'), { maxKeys: 4 }),
    ),
  }));
  fc.assert(
    fc.property(fc.constantFrom(...kinds), tree, tree, ([apiVersion, kind], spec, extra) => {
      const document = {
        ...(extra && typeof extra === 'object' ? extra : {}),
        apiVersion,
        kind,
        metadata: { name: 'x' },
        spec,
      };
      translate(JSON.stringify(document));
    }),
    { numRuns: 300 },
  );
});

test('for checking, missing servers can be assumed', () => {
  const text = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec: {hosts: [a], http: [{route: [{destination: {host: a, subset: v1}}]}]}
`;
  const endpoints = (resources: ReturnType<typeof translate>) =>
    resources.clusters.map((c) => (c.load_assignment as { endpoints?: unknown[] }).endpoints?.length ?? 0);
  assert.deepEqual(endpoints(translate(text)), [0, 0]);
  assert.deepEqual(endpoints(translate(text, { assumeEndpoints: true })), [1, 1]);
});

test('a VirtualService without hosts that nobody delegates to: judged as if somebody did, and without effect else', () => {
  const text = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: leaf}
spec: {http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: web, port: {number: 80}}}]}]}
`;
  const [assumed, real] = [translate(text, { assumeEndpoints: true }), translate(text)];
  assert.deepEqual(
    assumed.rules.map((rule) => [rule.objects.length > 0, rule.unsupported.length]),
    [[true, 0]],
  );
  assert.ok(assumed.diagnostics.some(({ code }) => code === 'assumed-root'));
  assert.deepEqual(
    real.rules.map((rule) => [rule.objects.length, ...rule.unsupported.map(({ code }) => code)]),
    [[0, 'no-host']],
  );
});

test('durations in patches are read as istiod reads them: as Go does', () => {
  const text = (interval: string) => `
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}], selector: {app: web}}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: back-off}
spec:
  configPatches:
  - applyTo: HTTP_ROUTE
    match: {context: SIDECAR_OUTBOUND}
    patch:
      operation: MERGE
      value: {route: {retry_policy: {retry_back_off: {base_interval: ${interval}, max_interval: 1m30s}}}}
`;
  const intervals = (interval: string) => {
    const { listeners, rules } = translate(text(interval));
    const found = JSON.stringify(listeners).match(/"base_interval":"[^"]*","max_interval":"[^"]*"/g);
    return [...new Set(found)].concat(rules.flatMap((rule) => rule.unsupported.map(({ code }) => code)));
  };
  // what istiod 1.31 makes of the first
  assert.deepEqual(intervals('50ms'), ['"base_interval":"0.050s","max_interval":"90s"']);
  assert.deepEqual(intervals('0.25s'), ['"base_interval":"0.250s","max_interval":"90s"']);
  assert.deepEqual(intervals('50'), ['envoy-filter']);
  assert.deepEqual(intervals('-1s'), ['envoy-filter']);
});
