/** Gateway API documents as the API server stores them, and what a controller of Istio's adds for its Gateways. */
import { asObject, asObjects, asString } from '../../src/policy/envoy/walk.js';
import type { Json, JsonObject } from '../../src/policy/resources.js';

const GROUP = 'gateway.networking.k8s.io';
export const GATEWAY_NAME = `${GROUP}/gateway-name`;

/** True for objects of the Gateway API. */
export const ofGatewayApi = (object: JsonObject): boolean => asString(object.apiVersion).startsWith(`${GROUP}/`);

export const asArray = (value: Json | undefined): readonly Json[] => (Array.isArray(value) ? value : []);

const ROUTES = new Set(['HTTPRoute', 'GRPCRoute']);
const EVERYTHING: Json = { path: { type: 'PathPrefix', value: '/' } };

const each = (list: Json | undefined, change: (item: JsonObject) => JsonObject): Json => asObjects(list).map(change);

/** An object with `key` changed where it has one. */
function within(object: JsonObject, key: string, change: (value: Json) => Json): JsonObject {
  return object[key] === undefined ? object : { ...object, [key]: change(object[key]) };
}

/** `core` is what some documents call the core group, whose name is empty. */
const grouped = (ref: JsonObject): JsonObject => (ref.group === 'core' ? { ...ref, group: '' } : ref);
const backend = (ref: JsonObject): JsonObject => ({ group: '', kind: 'Service', ...grouped(ref) });
const exact = (list: Json): Json => each(list, (item) => ({ type: 'Exact', ...item }));

function filter(object: JsonObject): JsonObject {
  const redirected = within(object, 'requestRedirect', (r) => ({ statusCode: 302, ...asObject(r) }));
  const cors = within(redirected, 'cors', (c) => ({ maxAge: 5, ...asObject(c) }));
  return within(cors, 'requestMirror', (m) =>
    within(asObject(m) ?? {}, 'backendRef', (r) => backend(asObject(r) ?? {})),
  );
}

function match(object: JsonObject): JsonObject {
  const path = { type: 'PathPrefix', value: '/', ...asObject(object.path) };
  return within(within({ ...object, path }, 'headers', exact), 'queryParams', exact);
}

const grpcMatch = (object: JsonObject): JsonObject =>
  within(
    within(object, 'method', (m) => ({ type: 'Exact', ...asObject(m) })),
    'headers',
    exact,
  );

function rule(object: JsonObject, grpc: boolean): JsonObject {
  const matches = asArray(object.matches).length > 0 || grpc ? (object.matches ?? []) : [EVERYTHING];
  const refs = (list: Json) =>
    each(list, (r) => within({ weight: 1, ...backend(r) }, 'filters', (f) => each(f, filter)));
  const whole = within(within(object, 'backendRefs', refs), 'filters', (f) => each(f, filter));
  return { ...whole, matches: each(matches, grpc ? grpcMatch : match) };
}

/** What the definitions of the kinds have for fields that a document leaves out; other objects stay as they are. */
export function apiDefaults(object: JsonObject): JsonObject {
  if (!ofGatewayApi(object)) return object;
  const kind = asString(object.kind);
  const spec = asObject(object.spec) ?? {};
  const version = kind === 'ReferenceGrant' ? 'v1beta1' : 'v1';
  const out: JsonObject = { ...object, apiVersion: `${GROUP}/${version}` };
  if (kind === 'Gateway') {
    const listeners = each(spec.listeners, (listener) => {
      const allowed = asObject(listener.allowedRoutes) ?? {};
      return {
        ...listener,
        allowedRoutes: { ...allowed, namespaces: { from: 'Same', ...asObject(allowed.namespaces) } },
      };
    });
    const typed = within(spec, 'addresses', (list) => each(list, (a) => ({ type: 'IPAddress', ...a })));
    // as if all of them were Istio's
    const named = asString(spec.gatewayClassName);
    return { ...out, spec: { ...typed, gatewayClassName: named.startsWith('istio') ? named : 'istio', listeners } };
  }
  if (!ROUTES.has(kind)) return out;
  const rules = asArray(spec.rules).length > 0 ? spec.rules : kind === 'HTTPRoute' ? [{}] : [];
  const parentRefs = each(spec.parentRefs, (ref) => ({ group: GROUP, kind: 'Gateway', ...grouped(ref) }));
  return { ...out, spec: { ...spec, parentRefs, rules: each(rules, (r) => rule(r, kind === 'GRPCRoute')) } };
}

/** The Services (`name.namespace.svc.cluster.local`) that a Gateway's addresses name: it is bound to them; undefined if Istio deploys it. */
export function boundTo(gateway: JsonObject): string[] | undefined {
  const addresses = asObjects(asObject(gateway.spec)?.addresses);
  const typeOf = (address: JsonObject) => asString(address.type ?? 'IPAddress');
  if (addresses.length === 0 || (addresses.length === 1 && typeOf(addresses[0]!) === 'IPAddress')) return undefined;
  const namespace = asString(asObject(gateway.metadata)?.namespace) || 'default';
  const named = addresses.filter((a) => typeOf(a) === 'Hostname').map((a) => asString(a.value).toLowerCase());
  return named.map((name) => (name.includes('.') ? name : `${name}.${namespace}.svc.cluster.local`));
}

/** The name of the Service that Istio's controller makes for a Gateway. */
export const gatewayServiceName = (name: string): string => `${name}-istio`;

/** The Service for a Gateway, as Istio's controller makes it, without its address. */
export function gatewayPorts(gateway: JsonObject): JsonObject[] {
  const ports = new Set(asObjects(asObject(gateway.spec)?.listeners).map((l) => Number(l.port)));
  return [...ports].map((port): JsonObject => ({ name: `tcp-${port}`, port }));
}

const MODIFIERS = /^(Request|Response)HeaderModifier$/;
const OF_RULES = /^(RequestRedirect|RequestMirror|URLRewrite|CORS)$/;

/** Why istiod leaves out a route as a whole, where the specification has it answer the requests of one rule by an error. */
export function wholeRouteRefused(object: JsonObject, all: readonly JsonObject[]): string | undefined {
  const grpc = object.kind === 'GRPCRoute';
  if (!ofGatewayApi(object) || !ROUTES.has(asString(object.kind))) return undefined;
  const name = (o: JsonObject) => [asObject(o.metadata)?.namespace, asObject(o.metadata)?.name].join('/');
  if (grpc && all.some((o) => o.kind === 'HTTPRoute' && name(o) === name(object)))
    return 'of an HTTPRoute and a GRPCRoute of one name only one is there';
  for (const rule of asObjects(asObject(object.spec)?.rules)) {
    const refs = asObjects(rule.backendRefs);
    const own = asObjects(rule.filters).map((f) => asString(f.type));
    const unknown =
      own.find((t) => !MODIFIERS.test(t) && (grpc ? t !== 'RequestMirror' : !OF_RULES.test(t))) ??
      refs.flatMap((ref) => asObjects(ref.filters).map((f) => asString(f.type))).find((t) => !MODIFIERS.test(t));
    if (unknown) return `a route with a filter that istiod does not know there (${unknown}) is left out as a whole`;
    if (refs.some((ref) => (ref.kind ?? 'Service') === 'Service' && ref.weight !== 0 && ref.port === undefined))
      return 'a route with a backend without a port is left out as a whole';
  }
  return undefined;
}

/** The namespace of a ServiceEntry that routes name as their parent. */
export function entryParent(objects: readonly JsonObject[], name: string): string | undefined {
  for (const object of objects.filter((o) => ROUTES.has(asString(o.kind)))) {
    const own = asString(asObject(object.metadata)?.namespace) || 'default';
    for (const ref of asObjects(asObject(object.spec)?.parentRefs))
      if (ref.kind === 'ServiceEntry' && ref.name === name) return asString(ref.namespace) || own;
  }
  return undefined;
}
