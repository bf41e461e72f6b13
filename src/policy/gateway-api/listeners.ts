/** Gateways of the Gateway API: their listeners, their addresses, and which routes they take. */
import { isIP } from 'node:net';
import type { Document } from '../documents.js';
import { policyTargets } from '../istio/authorization.js';
import type { Context, Path } from '../istio/context.js';
import { apiTls } from '../istio/gateway-tls.js';
import {
  ASSUMED_GATEWAY_PORT,
  ASSUMED_TCP_PORT,
  ASSUMED_TLS_PORT,
  type GatewayServer,
  type GatewayWorkload,
  gatewayHostName,
  type ServerProtocol,
} from '../istio/gateways.js';
import { documentLabels, metadata, type Typed } from '../istio/kubernetes-services.js';
import { labelsMatch, type Registry, type Service } from '../istio/registry.js';
import type { AuthorizationPolicy } from '../istio/schema/authorization-policy.js';
import type { AllowedRoutes, ApiGateway, ParentRef } from './schema.js';

export interface ApiListener extends GatewayServer {
  readonly name: string;
  /** `*` if it has none */
  readonly hostname: string;
  readonly allowed: AllowedRoutes | undefined;
  readonly assumed: boolean;
}

/** Labels of namespaces, as far as documents or their names tell. */
export class Namespaces {
  readonly #labels = new Map<string, Readonly<Record<string, string>>>();

  constructor(documents: readonly Document[]) {
    for (const document of documents) this.#labels.set(document.name, documentLabels(document));
  }

  /** Whether a selector means the namespace; undefined if its labels are not in the files. */
  selected(name: string, selector: NonNullable<AllowedRoutes['namespaces']>['selector']): boolean | undefined {
    const known = this.#labels.get(name);
    const labels: Record<string, string> = { ...known, 'kubernetes.io/metadata.name': name };
    const needed = [
      ...Object.keys(selector?.matchLabels ?? {}),
      ...(selector?.matchExpressions ?? []).map((expression) => expression.key),
    ];
    if (!known && needed.some((key) => key !== 'kubernetes.io/metadata.name')) return undefined;
    const met = (selector?.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
      const value = labels[key];
      if (operator === 'Exists') return value !== undefined;
      if (operator === 'DoesNotExist') return value === undefined;
      const listed = value !== undefined && values.includes(value);
      return operator === 'In' ? listed : !listed;
    });
    return met && labelsMatch(selector?.matchLabels ?? {}, labels);
  }
}

function protocolOf(protocol: string, mode: string | undefined): ServerProtocol {
  const upper = protocol.toUpperCase();
  if (upper === 'HTTP') return 'http';
  if (upper === 'HTTPS' || (upper === 'TLS' && mode !== 'Passthrough')) return 'tls';
  return upper === 'TLS' ? 'passthrough' : 'tcp';
}

/** The Service that a controller makes for a gateway, or that the gateway names as its address. */
function serviceOf(context: Context, registry: Registry, document: Document, spec: ApiGateway): Service | undefined {
  const { name, namespace } = document;
  const host = (service: string) => `${service}.${namespace}.svc.${context.domain}`;
  for (const { type, value } of spec.addresses ?? []) {
    if (type !== 'Hostname' || !value) continue;
    const named = registry.get(value.includes('.') ? value.toLowerCase() : host(value.toLowerCase()));
    if (named) return named;
  }
  const labelled = registry
    .all()
    .find((s) => s.namespace === namespace && s.selector['gateway.networking.k8s.io/gateway-name'] === name);
  return labelled ?? registry.get(host(`${name}-${spec.gatewayClassName ?? ''}`));
}

/** The Gateways of the files by `namespace/name`. */
export class ApiGateways {
  readonly workloads: GatewayWorkload[] = [];
  readonly #context: Context;
  readonly #namespaces: Namespaces;
  readonly #listeners = new Map<string, ApiListener[]>();

  constructor(
    context: Context,
    registry: Registry,
    documents: readonly Typed<ApiGateway>[],
    namespaces: readonly Document[],
  ) {
    this.#context = context;
    this.#namespaces = new Namespaces(namespaces);
    for (const { document, spec } of documents) this.#add(registry, document, spec);
  }

  #add(registry: Registry, document: Document, spec: ApiGateway): void {
    const context = this.#context;
    const gateway = `${document.namespace}/${document.name}`;
    const service = serviceOf(context, registry, document, spec);
    const status = metadataStatus(document);
    const written = [...(spec.addresses ?? []), ...status].filter((a) => (a.type ?? 'IPAddress') === 'IPAddress');
    const addresses = written.map((a) => a.value ?? '').filter((value) => isIP(value) !== 0);
    const servers: ApiListener[] = [];
    (spec.listeners ?? []).forEach((listener, index) => {
      const path = ['spec', 'listeners', index];
      const protocol = protocolOf(listener.protocol, listener.tls?.mode);
      const hostname = (listener.hostname || '*').toLowerCase();
      const rival = servers.find(
        (s) =>
          s.port === listener.port && ((s.protocol === 'http') !== (protocol === 'http') || s.hostname === hostname),
      );
      if (rival) {
        const message = `conflicts with listener ${rival.name}, which has the same port; that one counts`;
        context.warn(document, path, 'gateway-conflict', message);
        return;
      }
      servers.push({
        ...{ gateway, name: listener.name, port: listener.port, protocol, hostname, httpsRedirect: false, document },
        ...(protocol === 'tls'
          ? { https: apiTls(listener.tls, document.namespace, spec.tls?.frontend !== undefined) }
          : {}),
        ...{ hosts: [{ namespace: '*', host: hostname }], allowed: listener.allowedRoutes, path, assumed: false },
      });
    });
    this.#listeners.set(gateway, servers);
    this.workloads.push({
      key: `${document.name}.${document.namespace}`,
      gatewayApi: gateway,
      namespace: service?.namespace ?? document.namespace,
      labels: { ...service?.selector, 'gateway.networking.k8s.io/gateway-name': document.name },
      ...(service ? { service } : {}),
      addresses: [...new Set(addresses)],
      names: [gatewayHostName(document.name, document.namespace)],
      assumed: false,
      servers,
      document,
      path: ['spec'],
    });
  }

  /** The listeners of a gateway (`namespace/name`); undefined if no document describes it. */
  listeners(gateway: string): readonly ApiListener[] | undefined {
    return this.#listeners.get(gateway);
  }

  /** Takes a gateway that no document describes to speak plain HTTP, or TCP, on the port that is asked for. */
  assume(
    gateway: string,
    port: number | undefined,
    document: Document,
    path: Path,
    protocol: 'http' | 'tcp' | 'passthrough' = 'http',
  ): void {
    const number =
      port ?? { http: ASSUMED_GATEWAY_PORT, tcp: ASSUMED_TCP_PORT, passthrough: ASSUMED_TLS_PORT }[protocol];
    const [namespace = '', name = ''] = gateway.split('/');
    let servers = this.#listeners.get(gateway);
    if (servers?.some((s) => s.port === number || !s.assumed || (port === undefined && s.protocol === protocol)))
      return;
    const message = `no Gateway describes ${gateway}: one with ${{ http: 'plain HTTP', tcp: 'TCP', passthrough: 'TLS that passes through' }[protocol]} on port ${number} is assumed`;
    this.#context.warn(document, path, 'unknown-gateway', message);
    if (!servers) {
      servers = [];
      this.#listeners.set(gateway, servers);
      const labels = { 'gateway.networking.k8s.io/gateway-name': name };
      this.workloads.push({
        ...{ key: `${name}.${namespace}`, gatewayApi: gateway, namespace, labels, addresses: [], names: [] },
        ...{ assumed: true, servers, document, path },
      });
    }
    servers.push({
      ...{ gateway, name: '', port: number, protocol, hostname: '*', httpsRedirect: false, document, path },
      ...{ hosts: [{ namespace: '*', host: '*' }], allowed: { namespaces: { from: 'All' } }, assumed: true },
    });
  }

  /** Assumes the gateways that policies are attached to and no document describes. */
  assumeProtected(
    policies: readonly Typed<Pick<AuthorizationPolicy, 'selector' | 'targetRef' | 'targetRefs'>>[],
  ): void {
    for (const { document, spec } of policies) {
      for (const { kind, name } of policyTargets(spec)) {
        if (kind !== 'Gateway') continue;
        const path = ['spec', spec.targetRef ? 'targetRef' : 'targetRefs'];
        this.assume(`${document.namespace}/${name}`, undefined, document, path);
      }
    }
  }

  /** The listeners that a parentRef means and that take routes of this document; else why there are none. */
  taking(route: Document, gateway: string, ref: ParentRef): readonly ApiListener[] | string {
    const all = this.#listeners.get(gateway) ?? [];
    const meant = all.filter(
      (listener) =>
        (ref.sectionName === undefined || listener.assumed || ref.sectionName === listener.name) &&
        (ref.port === undefined || ref.port === listener.port),
    );
    if (meant.length === 0) return `gateway ${gateway} has no listener that is meant`;
    const taking = meant.filter((listener) => this.#takes(listener, route));
    return taking.length > 0 ? taking : `no listener of gateway ${gateway} takes ${route.kind}s of ${route.namespace}`;
  }

  #takes({ allowed, document, gateway, path }: ApiListener, route: Document): boolean {
    if (allowed?.kinds?.length && !allowed.kinds.some((kind) => kind.kind === route.kind)) return false;
    const [namespace] = gateway.split('/');
    const from = allowed?.namespaces?.from ?? 'Same';
    if (from === 'Same') return route.namespace === namespace;
    if (from !== 'Selector') return from === 'All';
    const selected = this.#namespaces.selected(route.namespace, allowed?.namespaces?.selector);
    if (selected !== undefined) return selected;
    const takes = this.#context.assumeEndpoints;
    const message = `no document tells the labels of namespace ${route.namespace}: its routes are ${takes ? 'taken to be' : 'not'} allowed`;
    this.#context.warn(document, [...path, 'allowedRoutes'], 'unknown-labels', message);
    return takes;
  }
}

/** Addresses that a controller has given the gateway. */
function metadataStatus(document: Document): { type?: string; value?: string }[] {
  const status = document.json.status;
  const list = status && typeof status === 'object' && !Array.isArray(status) ? status.addresses : undefined;
  if (!Array.isArray(list)) return [];
  return list.flatMap((entry) => {
    if (!entry || typeof entry !== 'object' || Array.isArray(entry)) return [];
    const { type, value } = entry;
    return typeof value === 'string' ? [{ value, ...(typeof type === 'string' ? { type } : {}) }] : [];
  });
}

/** When the document was created, in a form that sorts; '' if nothing says so. */
export function createdAt(document: Document): string {
  const value = metadata(document).creationTimestamp;
  return typeof value === 'string' ? value : '';
}
