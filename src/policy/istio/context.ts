/** What every part of the translation shares: options, diagnostics, provenance and the source rules. */

import type { Diagnostic, Position } from '../diagnostics.js';
import type { Document } from '../documents.js';
import { type Clients, Provenance, type SourceRule, sameClients } from '../resources.js';
import { type Identity, LOCAL_TRUST_DOMAIN } from './identities.js';
import { ASSUMED_CERTIFICATES, type MeshCertificates } from './mesh-tls.js';
import { isWebAddress } from './schema/request-authentication.js';

export type Path = readonly (string | number)[];

export interface TranslateOptions {
  /** port of the proxy's listeners (default 15500), each on a loopback address of its own; see `proxyPlaces` */
  readonly basePort?: number;
  /** tells apart translations whose proxies run on the same machine */
  readonly instance?: string;
  /** the client workload that routes are made for, as a sidecar would know it (default: no labels, and the
   * identity's namespace, else that of the documents: `default` if any is there, else the one with the most services and routes) */
  readonly workload?: Partial<Clients>;
  /** namespace whose policies apply everywhere (default `istio-system`) */
  readonly rootNamespace?: string;
  /**
   * for checking without a cluster: services and subsets without servers get one that nobody has (192.0.2.1), and
   * gateways that no document describes are taken to speak plain HTTP, and the node to have certificates of the mesh, so
   * that the verdict is about the policies
   */
  readonly assumeEndpoints?: boolean;
  /** the cluster's DNS domain (default `cluster.local`) */
  readonly domain?: string;
  /** who clients are whose address no document knows (default: nobody knows); it also gives the trust domain */
  readonly identity?: Identity;
  /** where the keys of issuers are that policies give none of, as OpenID discovery has found; see `Resources.issuers` */
  readonly keySets?: ReadonlyMap<string, string>;
  /** this node's certificates of the mesh (default: none, and mutual TLS is not spoken) */
  readonly mesh?: MeshCertificates;
  /** make listeners before servers, for connections that do not come from the mesh's own clients */
  readonly atServers?: boolean;
}

/** `spec.http[0].match` */
export function fieldPath(path: Path): string {
  return path.reduce<string>((out, step) => {
    if (typeof step === 'number') return `${out}[${step}]`;
    return out === '' ? step : `${out}.${step}`;
  }, '');
}

/** A source rule under construction: objects and reasons are added while its parts are translated. */
export interface RuleBuilder extends SourceRule {
  readonly document: Document;
}

/** Collects what a translation says besides its resources. */
export class Context {
  readonly diagnostics: Diagnostic[] = [];
  readonly provenance = new Provenance();
  readonly rules: RuleBuilder[] = [];
  /** clients that rules count for and this translation is not for */
  readonly otherClients: Clients[] = [];
  readonly #ids = new Set<string>();
  readonly basePort: number;
  readonly instance: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly rootNamespace: string;
  readonly domain: string;
  /** of the workloads of this cluster; policies may call it `cluster.local` */
  readonly trustDomain: string;
  readonly assumeEndpoints: boolean;
  readonly mesh: MeshCertificates | undefined;
  /** issuers whose keys only they know the place of */
  readonly issuers = new Set<string>();
  readonly #keySets: ReadonlyMap<string, string>;

  constructor(options: TranslateOptions = {}, namespace = 'default') {
    this.basePort = options.basePort ?? 15500;
    this.instance = options.instance ?? '';
    this.namespace = options.workload?.namespace ?? options.identity?.namespace ?? namespace;
    this.labels = options.workload?.labels ?? {};
    this.rootNamespace = options.rootNamespace ?? 'istio-system';
    this.assumeEndpoints = options.assumeEndpoints ?? false;
    this.mesh = options.mesh ?? (this.assumeEndpoints ? ASSUMED_CERTIFICATES : undefined);
    this.domain = options.domain ?? 'cluster.local';
    this.#keySets = options.keySets ?? new Map();
    this.trustDomain = options.identity?.trustDomain ?? LOCAL_TRUST_DOMAIN;
  }

  /** Where an issuer says that its keys are; for judging policies it is taken to say so. */
  keySetOf(issuer: string): string | undefined {
    if (!isWebAddress(issuer)) return undefined;
    this.issuers.add(issuer);
    return this.#keySets.get(issuer) ?? (this.assumeEndpoints ? new URL('/jwks', issuer).href : undefined);
  }

  #report(
    severity: Diagnostic['severity'],
    document: Document,
    path: Path,
    code: string,
    message: string,
    hint?: string,
  ) {
    const position = document.at(path);
    const field = fieldPath(path);
    const same = (d: Diagnostic) =>
      d.code === code && d.message === message && d.field === field && samePlace(d.position, position);
    if (this.diagnostics.some(same)) return;
    this.diagnostics.push({ severity, code, message, position, field, ...(hint ? { hint } : {}) });
  }

  /** Reports an error at a field of a document. */
  error(document: Document, path: Path, code: string, message: string, hint?: string): void {
    this.#report('error', document, path, code, message, hint);
  }

  /** Reports a warning at a field of a document. */
  warn(document: Document, path: Path, code: string, message: string, hint?: string): void {
    this.#report('warning', document, path, code, message, hint);
  }

  /** Registers the rule at `path` (below the document's root) and returns it, to be filled. */
  rule(document: Document, path: Path, name: string): RuleBuilder {
    const base = `${document.kind}/${document.namespace}/${document.name || 'unnamed'}#${name}`;
    let id = base;
    for (let n = 2; this.#ids.has(id); n++) id = `${base}~${n}`;
    this.#ids.add(id);
    const rule: RuleBuilder = {
      id,
      document,
      kind: document.kind,
      name: document.name,
      rule: name,
      position: document.at(path),
      objects: [],
      unsupported: [],
    };
    this.rules.push(rule);
    return rule;
  }

  /** Says that a rule has a part which only the proxy can do, once per field and code. */
  unsupported(rule: RuleBuilder, path: Path, code: string, message: string, clients?: Clients): void {
    const field = fieldPath(path);
    if (rule.unsupported.some((u) => u.code === code && u.field === field)) return;
    const { line } = rule.document.at(path);
    rule.unsupported.push({ code, message, field, line, ...(clients ? { clients } : {}) });
  }

  /** Says that a rule, or a part of it, counts only for other clients than those of this translation. */
  elsewhere(rule: RuleBuilder, path: Path, message: string, clients: Clients): void {
    this.unsupported(rule, path, 'source-match', message, clients);
    if (!this.otherClients.some((known) => sameClients(known, clients))) this.otherClients.push(clients);
  }

  /**
   * Says that these clients see nothing of a rule, but that those of a namespace may.
   *
   * @param code for what holds for every client, if it is these who would see it
   */
  unseen(rule: RuleBuilder, path: Path, code: string, message: string, namespace: string | undefined): void {
    const other = namespace !== undefined && !(namespace === this.namespace && Object.keys(this.labels).length === 0);
    if (other) this.elsewhere(rule, path, `${message}: it counts for others`, { namespace, labels: {} });
    else this.unsupported(rule, path, code, message);
  }

  /** Says where `object` (or its `key`) comes from. */
  origin<T extends object>(object: T, document: Document, path: Path, key?: string): T {
    this.provenance.set(object, document.at(path), key);
    return object;
  }
}

function samePlace(a: Position | undefined, b: Position): boolean {
  return a?.file === b.file && a.line === b.line && a.column === b.column;
}
