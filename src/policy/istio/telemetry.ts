/**
 * Telemetry: access logs and traces of clients' and gateways' listeners as istiod merges and generates them
 * (pilot/pkg/model/telemetry.go). Providers that no MeshConfig defines do nothing there, and so here.
 */
import type { JsonObject, LeftReason } from '../resources.js';
import type { Context, Path, RuleBuilder } from './context.js';
import { isGatewaySelector } from './gateway-labels.js';
import { metadata, type Typed } from './kubernetes-services.js';
import type { KnownListener, Selection } from './left-to-proxy.js';
import { managerOf } from './patches/envoy-filters.js';
import { labelsMatch } from './registry.js';
import type { Telemetry } from './schema/extensions.js';

type Logging = NonNullable<Telemetry['accessLogging']>[number];
type Tracing = NonNullable<Telemetry['tracing']>[number];

/** What istiod's file logger writes unless MeshConfig has another format. */
const FORMAT =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ' +
  '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% ' +
  '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ' +
  '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% ' +
  '%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n';

/** Istio's own names the file /dev/stdout, which cannot be opened where the standard output is a socket. */
const STANDARD_LOG: JsonObject = {
  name: 'envoy.access_loggers.stdout',
  typed_config: {
    '@type': 'type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog',
    log_format: { text_format_source: { inline_string: FORMAT } },
  },
};

const namesOf = ({ providers }: { providers?: { name?: string | undefined }[] | undefined }): string[] =>
  (providers ?? []).map(({ name }) => name ?? '');

const isFor = ({ match }: { match?: { mode?: string | undefined } | undefined }, mode: 'CLIENT' | 'SERVER'): boolean =>
  match === undefined || match.mode === mode || match.mode === 'CLIENT_AND_SERVER' || match.mode === undefined;

/** One of the documents, with what it selects. */
interface Source {
  readonly typed: Typed<Telemetry>;
  readonly rule: RuleBuilder;
  readonly selection: Selection;
  /** a whole namespace is meant */
  readonly wide: boolean;
  /** does something here, or is left to the proxy */
  used: boolean;
}

/** What telemetry needs to know of the listeners, and of the servers. */
export interface Telemetered {
  readonly context: Context;
  readonly listeners: readonly KnownListener[];
  /** by lower-case name, with what each is */
  readonly providers: ReadonlyMap<string, JsonObject>;
  /** listeners of gateways that may be meant, and whether they surely are */
  readonly gateways: (selection: Selection) => ReadonlyMap<KnownListener, boolean>;
  readonly hasServers: (selection: Selection) => boolean;
  readonly leave: (
    rule: RuleBuilder,
    objects: Iterable<object>,
    code: LeftReason['code'],
    path: Path,
    message: string,
  ) => void;
}

/** Providers of logs in force with the filter of each, after istiod's mergeLogs. */
function mergeLogs(levels: readonly (readonly Logging[])[]): Map<string, Logging> {
  const said = new Map<string, Logging>();
  let scope = new Set<string>();
  for (const logs of levels) {
    const own = logs
      .filter((log) => isFor(log, 'CLIENT'))
      .flatMap((log) => namesOf(log).map((name) => [name, log] as const));
    for (const [name, log] of own) said.set(name, log);
    if (own.length > 0) scope = new Set(own.map(([name]) => name));
  }
  const merged = new Map<string, Logging>();
  let parents: string[] = [];
  for (const log of levels.flat()) {
    const names = namesOf(log);
    if (names.length > 0) parents = names;
    for (const name of parents) {
      if (!scope.has(name) || !isFor(log, 'CLIENT')) continue;
      if (log.disabled === true) merged.delete(name);
      else merged.set(name, said.get(name) ?? log);
    }
  }
  return merged;
}

/** The provider of traces in force; undefined: nothing is traced. */
function mergeTracing(levels: readonly (readonly Tracing[])[]): string | undefined {
  let provider: string | undefined;
  let disabled = false;
  for (const tracing of levels.flat()) {
    if (!isFor(tracing, 'CLIENT')) continue;
    provider = namesOf(tracing)[0] ?? provider;
    disabled = tracing.disableSpanReporting ?? disabled;
  }
  return disabled ? undefined : provider;
}

export class Telemetries {
  readonly #input: Telemetered;
  readonly #sources: Source[];

  constructor(input: Telemetered, documents: readonly Typed<Telemetry>[]) {
    this.#input = input;
    const age = ({ document }: Typed<Telemetry>) => String(metadata(document).creationTimestamp ?? '');
    const key = (typed: Typed<Telemetry>) => `${age(typed)} ${typed.document.name}.${typed.document.namespace}`;
    this.#sources = [...documents]
      .sort((a, b) => (key(a) < key(b) ? -1 : 1))
      .map((typed) => {
        const { document, spec } = typed;
        const labels = spec.selector?.matchLabels ?? {};
        const targets = [...(spec.targetRef ? [spec.targetRef] : []), ...(spec.targetRefs ?? [])];
        return {
          typed,
          rule: input.context.rule(document, ['spec'], 'spec'),
          selection: { document, labels, targets },
          wide: Object.keys(labels).length === 0 && targets.length === 0,
          used: false,
        };
      });
  }

  /** Adds logs to the listeners, and leaves to the proxy what cannot be done here. */
  apply(): void {
    for (const listener of this.#input.listeners) if (!listener.inbound) this.#listener(listener);
    for (const source of this.#sources) this.#explain(source);
  }

  /** The documents that count for a listener's proxy, in the order in which later ones change earlier ones. */
  #applicable(known: KnownListener, surely: boolean): Source[] {
    const { workload } = known;
    const { context } = this.#input;
    const root = context.rootNamespace;
    const first = (namespace: string) =>
      this.#sources.find(({ wide, typed }) => wide && typed.document.namespace === namespace);
    const namespace = workload ? workload.namespace : context.namespace;
    const own = namespace !== undefined && namespace !== root ? first(namespace) : undefined;
    const selecting = this.#sources.filter(({ wide, selection, typed }) => {
      if (wide) return false;
      if (!workload)
        return (
          selection.targets.length === 0 &&
          typed.document.namespace === namespace &&
          labelsMatch(selection.labels, context.labels)
        );
      const there = namespace === undefined || workload.gatewayApi || namespace === typed.document.namespace;
      const sure = this.#input.gateways(selection).get(known);
      return there && (surely ? sure === true && namespace !== undefined : sure !== undefined);
    });
    return [first(root), own, ...selecting].filter((source) => source !== undefined);
  }

  #listener(known: KnownListener): void {
    const { context, providers, leave } = this.#input;
    const sources = this.#applicable(known, true);
    const doubtful = this.#applicable(known, false).filter((source) => !sources.includes(source));
    const isKnown = (names: readonly string[]) => names.some((name) => providers.has(name.toLowerCase()));
    for (const source of doubtful) {
      const { accessLogging = [], tracing = [] } = source.typed.spec;
      const message = 'it is not certain that this gateway is meant';
      const path = ['spec', 'accessLogging'];
      const logs = accessLogging.some((log) => isKnown(namesOf(log)) || namesOf(log).length === 0);
      if (logs) context.unsupported(source.rule, path, 'access-log', `${message}: what it may log is logged`);
      const traces = tracing.some((trace) => isKnown(namesOf(trace)));
      if (traces) leave(source.rule, [known.json], 'tracing', ['spec', 'tracing'], message);
      source.used ||= logs || traces;
    }
    // rather a line too many than one that is missing
    const logged = (counting: readonly Source[]) =>
      mergeLogs(counting.map(({ typed }) => typed.spec.accessLogging ?? []).filter((level) => level.length > 0));
    const logs = new Map([...logged([...sources, ...doubtful]), ...logged(sources)]);
    for (const [name, log] of [...logs].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const config = providers.get(name.toLowerCase());
      if (config) this.#log(known, [...sources, ...doubtful], name, log, config);
    }
    if (known.connections) return; // only requests are traced
    const tracer = mergeTracing(sources.map(({ typed }) => typed.spec.tracing ?? []));
    if (tracer === undefined || !providers.has(tracer.toLowerCase())) return;
    if (providers.get(tracer.toLowerCase())?.envoyFileAccessLog !== undefined) return; // traces nothing
    for (const source of sources) {
      if (source.typed.spec.tracing === undefined) continue;
      source.used = true;
      leave(source.rule, [known.json], 'tracing', ['spec', 'tracing'], 'requests are to be traced by a proxy');
    }
  }

  #log({ json }: KnownListener, sources: readonly Source[], name: string, log: Logging, config: JsonObject): void {
    const path = ['spec', 'accessLogging'];
    const standard = JSON.stringify(config) === '{"envoyFileAccessLog":{"path":"/dev/stdout"}}';
    const source = sources.find(({ typed }) => typed.spec.accessLogging?.includes(log))!;
    source.used = true;
    if (!standard || log.filter !== undefined) {
      const what = log.filter ? 'by a condition in CEL' : `by provider ${name}`;
      this.#input.leave(source.rule, [json], 'access-log', path, `every request is to be logged by a proxy, ${what}`);
      return;
    }
    const manager = managerOf(json);
    const logs = Array.isArray(manager.access_log) ? manager.access_log : [];
    manager.access_log = [...logs, structuredClone(STANDARD_LOG)];
    this.#input.context.origin(manager, source.typed.document, path, 'access_log');
    source.rule.objects.push(json);
  }

  /** Says what a document is about and does not do here. */
  #explain(source: Source): void {
    const { context, listeners, providers, hasServers, leave } = this.#input;
    const { rule, selection } = source;
    const { document, spec } = source.typed;
    const { accessLogging = [], tracing = [], metrics } = spec;
    if (metrics?.length) {
      const message = 'metrics of a proxy do not count what the kernel decides';
      context.unsupported(rule, ['spec', 'metrics'], 'telemetry', message);
    }
    const isKnown = (name: string) => providers.has(name.toLowerCase());
    const defined = (entries: readonly { providers?: { name?: string | undefined }[] | undefined }[]) =>
      entries.some((entry) => namesOf(entry).some(isKnown));
    const [logs, traces] = [defined(accessLogging.filter((log) => log.disabled !== true)), defined(tracing)];
    const servers = [
      ...(logs && accessLogging.some((log) => isFor(log, 'SERVER')) ? (['access-log'] as const) : []),
      ...(traces && tracing.some((t) => isFor(t, 'SERVER')) ? (['tracing'] as const) : []),
    ];
    if (hasServers(selection))
      for (const code of servers) {
        const at = ['spec', code === 'tracing' ? 'tracing' : 'accessLogging'];
        const objects = listeners.filter(({ inbound }) => inbound).map(({ json }) => json);
        leave(rule, objects, code, at, 'sidecars of servers, which are to do it, do not run on this node');
        source.used = true;
      }
    for (const [field, entries] of [
      ['accessLogging', accessLogging],
      ['tracing', tracing],
    ] as const)
      entries.forEach((entry, i) => {
        for (const name of namesOf(entry)) {
          if (isKnown(name)) continue;
          const message = `no MeshConfig among the files has the provider ${name}: nothing is done, as istiod does then`;
          context.warn(document, ['spec', field, i], 'no-effect', message);
        }
      });
    if (source.used || metrics?.length || (!logs && !traces)) return;
    const code = logs ? 'access-log' : 'tracing';
    if (selection.targets.length > 0 || isGatewaySelector(selection.labels))
      leave(rule, [], code, ['spec'], 'no gateway of the files is meant that speaks plain HTTP');
    else if (!this.#countsHere(source)) {
      const clients = { namespace: document.namespace, labels: selection.labels };
      const message = `counts only for clients of namespace ${document.namespace} with the labels of its selector`;
      context.elsewhere(rule, ['spec'], message, clients);
    }
  }

  #countsHere({ wide, selection, typed: { document } }: Source): boolean {
    const { namespace, rootNamespace, labels } = this.#input.context;
    if (wide && document.namespace === rootNamespace) return true;
    return document.namespace === namespace && labelsMatch(selection.labels, labels);
  }
}
