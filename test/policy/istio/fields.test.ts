/**
 * Every field that Istio's and the Gateway API's own definitions have is known here: fields.json lists their names, from the
 * custom resource definitions of Istio 1.31 and of the experimental channel of Gateway API 1.6. What a schema only looks at from afar
 * (`z.unknown()`, loose objects) has a reason of its own, or is nobody's concern.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { z } from 'zod';
import {
  apiGateway,
  backendTlsPolicy,
  grpcRoute,
  httpRoute,
  referenceGrant,
  tcpApiRoute,
} from '../../../src/policy/gateway-api/schema.js';
import { authorizationPolicy } from '../../../src/policy/istio/schema/authorization-policy.js';
import { destinationRule } from '../../../src/policy/istio/schema/destination-rule.js';
import { sidecar } from '../../../src/policy/istio/schema/extensions.js';
import { gateway } from '../../../src/policy/istio/schema/gateway.js';
import { peerAuthentication, requestAuthentication } from '../../../src/policy/istio/schema/request-authentication.js';
import { serviceEntry, workloadEntrySpec } from '../../../src/policy/istio/schema/services.js';
import { virtualService } from '../../../src/policy/istio/schema/virtual-service.js';

interface Fields {
  readonly [name: string]: Fields | 0;
}

const SCHEMAS: Readonly<Record<string, z.core.$ZodType>> = {
  'networking.istio.io/VirtualService': virtualService,
  'networking.istio.io/DestinationRule': destinationRule,
  'networking.istio.io/Gateway': gateway,
  'networking.istio.io/ServiceEntry': serviceEntry,
  'networking.istio.io/WorkloadEntry': workloadEntrySpec,
  'networking.istio.io/Sidecar': sidecar,
  'security.istio.io/AuthorizationPolicy': authorizationPolicy,
  'security.istio.io/RequestAuthentication': requestAuthentication,
  'security.istio.io/PeerAuthentication': peerAuthentication,
  'gateway.networking.k8s.io/Gateway': apiGateway,
  'gateway.networking.k8s.io/HTTPRoute': httpRoute,
  'gateway.networking.k8s.io/GRPCRoute': grpcRoute,
  'gateway.networking.k8s.io/TCPRoute': tcpApiRoute,
  'gateway.networking.k8s.io/ReferenceGrant': referenceGrant,
  'gateway.networking.k8s.io/BackendTLSPolicy': backendTlsPolicy,
};

function unwrapped(schema: z.core.$ZodType): z.core.$ZodType {
  let inner = schema;
  while (inner instanceof z.ZodOptional || inner instanceof z.ZodNullable || inner instanceof z.ZodDefault)
    inner = inner.unwrap() as z.core.$ZodType;
  return inner;
}

function missing(fields: Fields, schema: z.core.$ZodType, path: string): string[] {
  const inner = unwrapped(schema);
  if (inner instanceof z.ZodArray) return missing(fields, inner.element as z.core.$ZodType, `${path}[]`);
  if (inner instanceof z.ZodRecord) {
    const values = fields['*'];
    return values ? missing(values, inner.valueType as z.core.$ZodType, `${path}.*`) : [];
  }
  if (!(inner instanceof z.ZodObject)) return [];
  const shape = inner.shape as Record<string, z.core.$ZodType>;
  return Object.entries(fields).flatMap(([name, below]) => {
    const own = Object.hasOwn(shape, name) ? shape[name] : undefined;
    if (!own) return [`${path}.${name}`];
    return below === 0 ? [] : missing(below, own, `${path}.${name}`);
  });
}

test('every field of the definitions of Istio and the Gateway API is known', () => {
  const defined = JSON.parse(readFileSync(new URL('fields.json', import.meta.url), 'utf8')) as Record<string, Fields>;
  const unknown = Object.entries(SCHEMAS).flatMap(([kind, schema]) => missing(defined[kind]!, schema, kind));
  assert.deepEqual(unknown, []);
});
