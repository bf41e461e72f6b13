import assert from 'node:assert/strict';
import { test } from 'node:test';
import { faultOutcome } from '../../src/plan/fault.js';
import { Notes } from '../../src/plan/notes.js';
import { runtimeMayChange } from '../../src/plan/runtime.js';
import { type JsonObject, Provenance } from '../../src/policy/resources.js';

const full = { numerator: 100 };
const CASES: readonly [what: string, fault: JsonObject, expected: number | 'none' | 'delays' | undefined][] = [
  ['all', { abort: { http_status: 503, percentage: full } }, 503],
  [
    'a million of a million',
    { abort: { http_status: 418, percentage: { numerator: 1e6, denominator: 'MILLION' } } },
    418,
  ],
  ['a hundred of a million', { abort: { http_status: 418, percentage: { ...full, denominator: 'MILLION' } } }, 418],
  ['none: no percentage', { abort: { http_status: 503 } }, 'none'],
  ['none: 0%', { abort: { http_status: 503, percentage: { numerator: 0 } } }, 'none'],
  ['an unknown denominator', { abort: { http_status: 503, percentage: { ...full, denominator: 'X' } } }, undefined],
  ['a status that closes the connection', { abort: { http_status: 400, percentage: full } }, undefined],
  ['half', { abort: { http_status: 503, percentage: { numerator: 50 } } }, 503],
  ['gRPC', { abort: { grpc_status: 14, percentage: full } }, undefined],
  [
    'what the request asks for (such requests go to the proxy)',
    { abort: { header_abort: {}, percentage: full } },
    'none',
  ],
  ['a status with a form of its own', { abort: { http_status: 204, percentage: full } }, undefined],
  ['a delay', { delay: { fixed_delay: '1s', percentage: full } }, undefined],
  ['a delay of some', { delay: { fixed_delay: '1s', percentage: { numerator: 1 } } }, 'delays'],
  [
    'a delay of those with a header',
    { delay: { fixed_delay: '1s', percentage: full }, headers: [{ name: 'a' }] },
    'delays',
  ],
  ['a delay of none', { delay: { fixed_delay: '1s' } }, 'none'],
  ['a delay that requests ask for', { delay: { header_delay: {} } }, 'none'],
  [
    'both',
    { delay: { fixed_delay: '1s', percentage: full }, abort: { http_status: 503, percentage: full } },
    undefined,
  ],
  ['for some clients', { abort: { http_status: 503, percentage: full }, headers: [{ name: 'a' }] }, 503],
  ['at most so many', { abort: { http_status: 503, percentage: full }, max_active_faults: 1 }, undefined],
];

for (const [what, fault, expected] of CASES) {
  test(`fault: ${what}`, () => {
    const notes = new Notes(new Provenance());
    const found = faultOutcome(notes, fault, 'fault', false);
    assert.equal(typeof found === 'object' ? (found.abort?.status ?? 'delays') : found, expected);
    assert.equal(notes.clean, expected !== undefined, 'a reason, exactly if it is left to the proxy');
  });
}

test('fault: the runtime', () => {
  const layered = (layer: JsonObject): JsonObject => ({ layered_runtime: { layers: [layer] } });
  assert.ok(!runtimeMayChange({}, 'fault'));
  assert.ok(
    !runtimeMayChange(layered({ name: 'a', static_layer: { 're2.max_program_size.error_level': 1 } }), 'fault'),
  );
  assert.ok(runtimeMayChange(layered({ name: 'a', static_layer: { 'fault.http.abort.abort_percent': 0 } }), 'fault'));
  assert.ok(runtimeMayChange(layered({ name: 'a', static_layer: { fault: { http: {} } } }), 'fault'));
  assert.ok(runtimeMayChange(layered({ name: 'a', static_layer: { fault: { http: {} } } }), 'fault.http.x'));
  assert.ok(!runtimeMayChange(layered({ name: 'a', static_layer: { faults: 1 } }), 'fault.http.x'));
  assert.ok(runtimeMayChange(layered({ name: 'a', admin_layer: {} }), 'fault'));
  const notes = new Notes(new Provenance());
  assert.equal(faultOutcome(notes, { abort: { http_status: 503, percentage: full } }, 'fault', true), undefined);
});
