/** Sorts documents by kind, validates those that matter, and says what becomes of the others. */
import type { z } from 'zod';
import type { Document } from '../documents.js';
import { type GatewayApiInput, recogniseRoutes } from '../gateway-api/index.js';
import {
  apiGateway,
  backendTlsPolicy,
  grpcRoute,
  httpRoute,
  referenceGrant,
  tcpApiRoute,
  tlsApiRoute,
} from '../gateway-api/schema.js';
import type { Context, Path } from './context.js';
import type { KubernetesInput, Typed } from './kubernetes-services.js';
import { type AuthorizationPolicy, authorizationPolicy } from './schema/authorization-policy.js';
import { type DestinationRule, destinationRule } from './schema/destination-rule.js';
import {
  type EnvoyFilter,
  envoyFilter,
  type Sidecar,
  sidecar,
  type Telemetry,
  telemetry,
  type WasmPlugin,
  wasmPlugin,
} from './schema/extensions.js';
import { gateway, type IstioGateway } from './schema/gateway.js';
import {
  type PeerAuthentication,
  peerAuthentication,
  type RequestAuthentication,
  requestAuthentication,
} from './schema/request-authentication.js';
import {
  endpointSlice,
  endpoints,
  pod,
  type ServiceEntry,
  service,
  serviceEntry,
  type WorkloadEntry,
  workloadEntrySpec,
} from './schema/services.js';
import { type VirtualService, virtualService } from './schema/virtual-service.js';
import { reportUnknownKind } from './unknown-kinds.js';
import { didYouMean, validate } from './validate.js';

export interface Input extends KubernetesInput, GatewayApiInput {
  /** Namespace documents */
  readonly namespaces: Document[];
  /** of API groups that are not known here */
  readonly foreign: Document[];
  readonly serviceEntries: Typed<ServiceEntry>[];
  readonly workloadEntries: Typed<WorkloadEntry>[];
  readonly virtualServices: Typed<VirtualService>[];
  readonly destinationRules: Typed<DestinationRule>[];
  readonly authorizationPolicies: Typed<AuthorizationPolicy>[];
  readonly gateways: Typed<IstioGateway>[];
  readonly envoyFilters: Typed<EnvoyFilter>[];
  readonly wasmPlugins: Typed<WasmPlugin>[];
  readonly telemetries: Typed<Telemetry>[];
  readonly sidecars: Typed<Sidecar>[];
  readonly requestAuthentications: Typed<RequestAuthentication>[];
  readonly peerAuthentications: Typed<PeerAuthentication>[];
}

/** Istio kinds that are left to the proxy, and why. */
const LEFT_TO_PROXY: Readonly<Record<string, string>> = {
  ProxyConfig: 'settings of proxies are not translated',
};
/** Of those, the kinds that decide nothing about requests. */
const NO_RULES = new Set(['ProxyConfig']);

/** Their content is written by the cluster and its operators: unknown fields there are nobody's typing errors. */
const TOLERANT = false;

function ruleCount(document: Document, list: string): number {
  const spec = document.json.spec;
  const value = spec && typeof spec === 'object' && !Array.isArray(spec) ? spec[list] : undefined;
  return Array.isArray(value) ? value.length : 0;
}

/** An invalid document still has its rules: none of them is carried out. */
function invalidRules(context: Context, document: Document, list: string, whole: boolean): void {
  const count = ruleCount(document, list);
  const paths: { path: Path; name: string }[] = Array.from({ length: count }, (_, i) => ({
    path: ['spec', list, i],
    name: `${list}[${i}]`,
  }));
  if (count === 0 && whole) paths.push({ path: ['spec'], name: 'spec' });
  for (const { path, name } of paths) {
    const rule = context.rule(document, path, name);
    context.unsupported(rule, path, 'invalid', 'the document is invalid');
  }
}

class Reader {
  readonly #seen = new Map<string, Document>();
  readonly input: Input & {
    services: Input['services'][number][];
    slices: Input['slices'][number][];
    endpoints: Input['endpoints'][number][];
    pods: Input['pods'][number][];
  } = {
    services: [],
    slices: [],
    endpoints: [],
    pods: [],
    serviceEntries: [],
    workloadEntries: [],
    virtualServices: [],
    destinationRules: [],
    authorizationPolicies: [],
    gateways: [],
    envoyFilters: [],
    wasmPlugins: [],
    telemetries: [],
    sidecars: [],
    apiGateways: [],
    httpRoutes: [],
    grpcRoutes: [],
    tcpRoutes: [],
    tlsRoutes: [],
    referenceGrants: [],
    backendTls: [],
    namespaces: [],
    foreign: [],
    requestAuthentications: [],
    peerAuthentications: [],
  };

  constructor(readonly context: Context) {}

  /** A later document of the same kind and name replaces an earlier one in a cluster: say so, and keep the last. */
  remember(document: Document): boolean {
    const group = document.apiVersion.split('/')[0] ?? '';
    const key = `${group}/${document.kind}/${document.namespace}/${document.name}`;
    const other = this.#seen.get(key);
    if (!other) {
      this.#seen.set(key, document);
      return true;
    }
    const { file, line } = other.at([]);
    const message = `${document.kind} ${document.namespace}/${document.name} is also at ${file}:${line}; that one counts`;
    this.context.warn(document, ['metadata', 'name'], 'duplicate-document', message);
    return false;
  }

  take<T extends z.ZodType>(
    document: Document,
    schema: T,
    into: { document: Document; spec: z.infer<T> }[],
    path: Path,
    strict: boolean,
  ): boolean {
    const spec = validate(this.context, document, schema, path, strict);
    if (spec === undefined) return false;
    into.push({ document, spec });
    return true;
  }

  read(document: Document): void {
    const { context, input } = this;
    const [group = '', version] = document.apiVersion.includes('/')
      ? document.apiVersion.split('/')
      : ['', document.apiVersion];
    if (reportUnknownKind(context, document, group)) return;
    const istio = /^(networking|security|telemetry|extensions)\.istio\.io$/.test(group);
    const kubernetes = group === '' || group === 'discovery.k8s.io';
    if (group === 'gateway.networking.k8s.io') {
      this.#gatewayApi(document);
      return;
    }
    if (!istio && !kubernetes) {
      input.foreign.push(document);
      if (group.endsWith('istio.io') && group !== 'install.istio.io') {
        const guess = didYouMean(group, [
          'networking.istio.io',
          'security.istio.io',
          'telemetry.istio.io',
          'extensions.istio.io',
        ]);
        const hint = guess ? `did you mean "${guess}"?` : undefined;
        context.warn(
          document,
          ['apiVersion'],
          'unknown-kind',
          `${document.apiVersion} is no version of Istio's documents in use`,
          hint,
        );
      }
      return;
    }
    if (istio && version !== undefined && !/^v1((alpha|beta)\d+)?$/.test(version)) {
      context.error(document, ['apiVersion'], 'invalid-value', `"${document.apiVersion}" is not a version of ${group}`);
    }
    if (document.kind === 'Namespace' && group === '') input.namespaces.push(document);
    const relevant = istio || ['Service', 'EndpointSlice', 'Endpoints', 'Pod'].includes(document.kind);
    if (!relevant) return;
    if (!this.#named(document)) return;
    switch (document.kind) {
      case 'Service':
        this.take(document, service, input.services, ['spec'], TOLERANT);
        break;
      case 'EndpointSlice':
        this.take(document, endpointSlice, input.slices, [], TOLERANT);
        break;
      case 'Endpoints':
        this.take(document, endpoints, input.endpoints, [], TOLERANT);
        break;
      case 'Pod':
        this.take(document, pod, input.pods, [], TOLERANT);
        break;
      case 'ServiceEntry':
        this.take(document, serviceEntry, input.serviceEntries, ['spec'], true);
        break;
      case 'WorkloadEntry':
        this.take(document, workloadEntrySpec, input.workloadEntries, ['spec'], true);
        break;
      case 'Gateway':
        this.take(document, gateway, input.gateways, ['spec'], true);
        break;
      case 'EnvoyFilter':
        if (!this.take(document, envoyFilter, input.envoyFilters, ['spec'], false))
          invalidRules(context, document, '', true);
        break;
      // what it says of plugins is what a WasmPlugin says; or it runs Lua
      case 'TrafficExtension':
      case 'WasmPlugin':
        if (!this.take(document, wasmPlugin, input.wasmPlugins, ['spec'], false))
          invalidRules(context, document, '', true);
        break;
      case 'Telemetry':
        if (!this.take(document, telemetry, input.telemetries, ['spec'], false))
          invalidRules(context, document, '', true);
        break;
      case 'Sidecar':
        if (!this.take(document, sidecar, input.sidecars, ['spec'], false)) invalidRules(context, document, '', true);
        break;
      case 'VirtualService':
        if (!this.take(document, virtualService, input.virtualServices, ['spec'], true))
          invalidRules(context, document, 'http', true);
        break;
      case 'DestinationRule':
        if (!this.take(document, destinationRule, input.destinationRules, ['spec'], true))
          invalidRules(context, document, '', true);
        break;
      case 'AuthorizationPolicy':
        if (!this.take(document, authorizationPolicy, input.authorizationPolicies, ['spec'], true))
          invalidRules(context, document, 'rules', true);
        break;
      case 'RequestAuthentication':
        if (!this.take(document, requestAuthentication, input.requestAuthentications, ['spec'], true))
          invalidRules(context, document, 'jwtRules', true);
        break;
      case 'PeerAuthentication':
        if (!this.take(document, peerAuthentication, input.peerAuthentications, ['spec'], true))
          invalidRules(context, document, '', true);
        break;
      default:
        this.#other(document);
    }
  }

  /** False for a document of which a later one of the same name counts; says so if it has no name. */
  #named(document: Document): boolean {
    if (document.name !== '') return this.remember(document);
    const generated = (document.json.metadata as Record<string, unknown> | undefined)?.generateName;
    if (generated === undefined && document.kind !== 'EndpointSlice')
      this.context.error(document, ['metadata', 'name'], 'missing-field', 'is required');
    return true;
  }

  #gatewayApi(document: Document): void {
    const { context, input } = this;
    if (!this.#named(document)) return;
    switch (document.kind) {
      case 'Gateway':
        this.take(document, apiGateway, input.apiGateways, ['spec'], true);
        break;
      case 'HTTPRoute':
        if (!this.take(document, httpRoute, input.httpRoutes, ['spec'], true))
          invalidRules(context, document, 'rules', true);
        break;
      case 'GRPCRoute':
        if (!this.take(document, grpcRoute, input.grpcRoutes, ['spec'], true))
          invalidRules(context, document, 'rules', true);
        break;
      case 'TCPRoute':
        if (!this.take(document, tcpApiRoute, input.tcpRoutes, ['spec'], true))
          invalidRules(context, document, 'rules', true);
        break;
      case 'TLSRoute':
        if (!this.take(document, tlsApiRoute, input.tlsRoutes, ['spec'], true))
          invalidRules(context, document, 'rules', true);
        break;
      case 'ReferenceGrant':
        this.take(document, referenceGrant, input.referenceGrants, ['spec'], true);
        break;
      case 'BackendTLSPolicy':
        if (!this.take(document, backendTlsPolicy, input.backendTls, ['spec'], true))
          invalidRules(context, document, '', true);
        break;
      default:
        recogniseRoutes(context, document);
    }
  }

  #other(document: Document): void {
    const message = Object.hasOwn(LEFT_TO_PROXY, document.kind) ? LEFT_TO_PROXY[document.kind] : undefined;
    if (message === undefined || NO_RULES.has(document.kind)) return;
    const rule = this.context.rule(document, ['spec'], 'spec');
    this.context.unsupported(rule, ['kind'], 'unsupported-kind', `${document.kind}: ${message}`);
  }
}

/** Reads all documents; those of unknown kinds are passed over in silence, they are about other things. */
export function readDocuments(context: Context, documents: readonly Document[]): Input {
  const reader = new Reader(context);
  // From the end, so that the last of several documents of one name is the one that counts.
  for (const document of [...documents].reverse()) reader.read(document);
  const { input } = reader;
  for (const list of Object.values(input)) list.reverse();
  context.rules.reverse();
  return input;
}
