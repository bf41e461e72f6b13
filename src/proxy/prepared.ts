/**
 * What a proxy is given, as the bytes of its files: made where nobody waits (a policy of 10,000 routes takes a tenth of a
 * second to write down), and handed over without copying.
 */
import { createHash } from 'node:crypto';
import { asString, TYPE } from '../policy/envoy/walk.js';
import type { JsonObject, Resources } from '../policy/resources.js';
import { buildBootstrap, buildStaticBootstrap } from './bootstrap.js';

/** What Envoy acknowledges: the statistic whose name ends in `.update_success` or `.update_rejected` after `stat`. */
export interface WatchedFile {
  readonly path: string;
  readonly content: Uint8Array;
  /** of the resources in it */
  readonly version: string;
  /** end of the statistics' names before `.update_success`; several subscriptions may match */
  readonly stat: string;
}

/** The file of the clusters; others can be put beside them. */
export interface ClustersFile extends WatchedFile {
  readonly names: readonly string[];
  /** where each of them begins and ends in `content` */
  readonly spans: Uint32Array;
}

/** The file of one load assignment. */
export interface EndpointsFile extends WatchedFile {
  /** what the proxy asks for it with */
  readonly service: string;
}

/** Everything that an Envoy is started with, or changed to. */
export interface PreparedProxy {
  readonly dir: string;
  readonly bootstrap: Uint8Array;
  /** digests of the bootstrap's top-level fields, which cannot change while Envoy runs */
  readonly fields: ReadonlyMap<string, string>;
  /** the whole as one bootstrap, for Envoy to check */
  readonly whole: Uint8Array;
  readonly clusters: ClustersFile;
  readonly listeners: WatchedFile;
  readonly routes: readonly WatchedFile[];
  readonly endpoints: readonly EndpointsFile[];
}

const digest = (text: string | Uint8Array) => createHash('sha256').update(text).digest('hex').slice(0, 16);
const bytes = (text: string): Uint8Array => {
  // a buffer of its own, not a part of a pool, so that it can be transferred
  const out = new Uint8Array(Buffer.byteLength(text));
  Buffer.from(out.buffer).write(text);
  return out;
};

/** Envoy replaces colons in the names of statistics. */
function statName(name: string): string {
  return name.replaceAll(':', '_');
}

/** A discovery response, and where its resources stand in it. */
function response(type: string, resources: readonly JsonObject[]) {
  const texts = resources.map((resource) => Buffer.from(JSON.stringify({ '@type': type, ...resource })));
  return assemble(texts);
}

function assemble(texts: readonly Uint8Array[]): { content: Uint8Array; version: string; spans: Uint32Array } {
  const hash = createHash('sha256');
  for (const text of texts) hash.update(text).update('\n');
  const version = hash.digest('hex').slice(0, 16);
  const head = Buffer.from(`{"version_info":"${version}","resources":[`);
  const tail = Buffer.from(']}\n');
  const total = texts.reduce((sum, text) => sum + text.length + 1, head.length + tail.length - (texts.length ? 1 : 0));
  const content = new Uint8Array(total);
  const spans = new Uint32Array(2 * texts.length);
  content.set(head);
  let at = head.length;
  texts.forEach((text, i) => {
    if (i > 0) content[at++] = 0x2c;
    spans[2 * i] = at;
    content.set(text, at);
    at += text.length;
    spans[2 * i + 1] = at;
  });
  content.set(tail, at);
  return { content, version, spans };
}

function file(path: string, type: string, resources: readonly JsonObject[], stat: string): WatchedFile {
  const { content, version } = response(type, resources);
  return { path, content, version, stat };
}

/** Writes down what a proxy in `dir` is to serve. */
export function prepareProxy(resources: Resources, dir: string): PreparedProxy {
  const files = buildBootstrap(resources, { dir });
  const { paths } = files;
  const clusters = response(TYPE.CLUSTER, files.clusters);
  const fields = Object.entries(files.bootstrap).map(([key, value]) => [key, digest(JSON.stringify(value))] as const);
  return {
    dir,
    bootstrap: bytes(JSON.stringify(files.bootstrap)),
    fields: new Map(fields),
    whole: bytes(JSON.stringify(buildStaticBootstrap(resources))),
    clusters: {
      path: paths.clusters,
      stat: 'cluster_manager.cds',
      names: files.clusters.map((c) => asString(c.name)),
      ...clusters,
    },
    listeners: file(paths.listeners, TYPE.LISTENER, files.listeners, 'listener_manager.lds'),
    routes: [...files.routes].map(([name, config]) =>
      file(paths.routes(name), TYPE.ROUTES, [config], `.rds.${statName(name)}`),
    ),
    endpoints: [...files.endpoints].map(([service, { assignment, cluster }]) => ({
      ...file(paths.endpoints(service), TYPE.ENDPOINTS, [assignment], `cluster.${statName(cluster)}`),
      service,
    })),
  };
}

/** The clusters of `next`, and those of `before` that it has not. */
export function withClustersOf(next: ClustersFile, before: ClustersFile): WatchedFile {
  const kept = new Set(next.names);
  const parts = ({ content, names, spans }: ClustersFile) =>
    names.map((name, i) => [name, content.subarray(spans[2 * i], spans[2 * i + 1])] as const);
  const more = parts(before).filter(([name]) => !kept.has(name));
  if (more.length === 0) return next;
  const { content, version } = assemble([...parts(next), ...more].map(([, text]) => text));
  return { path: next.path, stat: next.stat, content, version };
}

/** The same with another load assignment, if there is one of this name. */
export function withEndpoints(prepared: PreparedProxy, service: string, assignment: JsonObject): PreparedProxy {
  const endpoints = prepared.endpoints.map((known) =>
    known.service === service ? { ...known, ...file(known.path, TYPE.ENDPOINTS, [assignment], known.stat) } : known,
  );
  return { ...prepared, endpoints };
}

/** What can be handed to another thread without copying. */
export function buffersOf(prepared: PreparedProxy): ArrayBuffer[] {
  const files = [prepared.clusters, prepared.listeners, ...prepared.routes, ...prepared.endpoints];
  const views = [prepared.bootstrap, prepared.whole, prepared.clusters.spans, ...files.map((f) => f.content)];
  return views.map((view) => view.buffer as ArrayBuffer);
}
