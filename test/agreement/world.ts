/**
 * Generated listeners, decided three ways: by the reference interpreter of their image, by the programs in the kernel over
 * the same image, and by a real Envoy.
 */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type CompiledImage, compileImage } from '../../src/compile/image.js';
import { type Decision, interpret } from '../../src/compile/interpret.js';
import { Driver, RAW_CLIENT } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { nodeScript } from '../../src/lab/paths.js';
import { freePorts } from '../../src/lab/ports.js';
import { Lab } from '../../src/lab/processes.js';
import type { WireAnswer } from '../../src/lab/raw-client.js';
import { type HeaderList, parseHead } from '../../src/lab/wire.js';
import { buildPlan } from '../../src/plan/build.js';
import type { JsonObject } from '../../src/policy/resources.js';
import type { Echo } from '../differential/echo-server.js';
import { exchange, type Request, requestBytes } from '../differential/requests.js';
import { bootstrap, CLUSTERS, type ListenerConfig } from '../differential/route-config.js';
import { resourcesOf } from '../plan/resources.js';
import type { Kernel } from './kernel.js';

const ADDRESS = '127.0.0.1';
const SOURCE = Uint8Array.of(127, 0, 0, 1);
const ECHO_SERVER = join(dirname(fileURLToPath(import.meta.url)), '../differential/echo-server.ts');
/** A test run takes less than a page. */
const LONGEST = 3500;
/** The random numbers of the program are its own: an id that it made is only looked at for its form. */
export const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/;
const IGNORED = new Set(['date', 'server', 'x-envoy-expected-rq-timeout-ms', 'x-envoy-upstream-service-time']);

/** What a proxy did with a request, as far as all ways of deciding must agree. */
export interface Outcome {
  readonly kind: 'forward' | 'reply';
  /** FORWARD: the upstream (weighted ones by their common name), method, target; REPLY: status and body */
  readonly first: readonly string[];
  readonly headers: readonly string[];
}

const summary = (headers: HeaderList): string[] => {
  const values = new Map<string, string[]>();
  for (const [name, value] of headers) {
    const key = name.toLowerCase();
    if (!IGNORED.has(key)) values.set(key, [...(values.get(key) ?? []), value.replace(UUID, 'UUID')]);
  }
  // Envoy joins repeated lines of some names, the kernel never does: one list (RFC 9110, section 5.3)
  return [...values].map(([name, list]) => `${name}: ${list.filter((v) => v !== '').join(',')}`).sort();
};
const choice = (upstream: string): string => upstream.replace(/-\d$/, '');

/** One set of listeners, in force in Envoy and compiled. */
export class World {
  readonly compiled: CompiledImage;
  /** per listener: whether the image has it */
  readonly offloaded: readonly boolean[];
  private constructor(
    readonly configs: readonly ListenerConfig[],
    private readonly lab: Lab,
    private readonly client: Driver,
    private readonly ports: readonly number[],
    private readonly upstreams: readonly string[],
    private readonly kernel: Kernel | undefined,
    json: JsonObject,
  ) {
    const { listeners, clusters } = json.static_resources as { listeners: JsonObject[]; clusters: JsonObject[] };
    const byPort = new Map(upstreams.map((name, i) => [portsOf(clusters).get(name)!, i]));
    const plan = buildPlan(resourcesOf(listeners, clusters));
    this.offloaded = plan.listeners.map((listener) => listener.offloaded);
    this.compiled = compileImage(plan, {
      generation: 1,
      endpointId: (_, port) => byPort.get(port) ?? 1000,
      proxyEndpointId: () => 1001,
      remembers: true,
    });
    kernel?.install(this.compiled.image);
  }

  /** Starts upstreams and Envoy. */
  static async open(configs: readonly ListenerConfig[], kernel: Kernel | undefined): Promise<World> {
    const lab = await Lab.open('agreement');
    try {
      const names = [...new Set(Object.values(CLUSTERS).flat())];
      const upstreamPorts = await freePorts(names.length);
      const byName = Object.fromEntries(names.map((n, i) => [n, upstreamPorts[i]!]));
      const echo = lab.start('echo servers', [...nodeScript(ECHO_SERVER), ...names.map((n) => `${n}=${byName[n]}`)]);
      await echo.waitFor(/listening/);
      const ports = await freePorts(configs.length);
      const json = bootstrap(configs, ADDRESS, ports, byName);
      await startEnvoy(lab, 'oracle', json);
      const process = lab.start('client', RAW_CLIENT, { stdin: true });
      return new World(configs, lab, await Driver.of(process), ports, names, kernel, json);
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  /** The interpreter's decision; undefined: the proxy's. Throws when the kernel decides otherwise. */
  decide(listener: number, request: Request): Outcome | undefined {
    if (!this.offloaded[listener]) return undefined;
    const bytes = requestBytes(request);
    const around = { sourceIp: SOURCE, random: 0, uuid: '01234567-89ab-4cde-8f01-23456789abcd' };
    const decision = interpret(this.compiled.image, listener, bytes, around);
    const wrong = this.kernel && compareKernel(this.kernel, listener, bytes, SOURCE, decision);
    if (wrong) throw new Error(wrong);
    if (decision.result !== 'decided' || decision.action === 'proxy') return undefined;
    return outcomeOfDecision(decision, this.upstreams[decision.endpoints[0]!] ?? '?');
  }

  /**
   * Sends requests to Envoy one after the other on connections that stay open.
   * @returns what it did with each; undefined where it gave no answer
   */
  async ask(listener: number, requests: readonly Request[]): Promise<(Outcome | undefined)[]> {
    const outcomes: (Outcome | undefined)[] = [];
    while (outcomes.length < requests.length) {
      const rest = requests.slice(outcomes.length);
      const { answers } = await this.client.run({
        address: ADDRESS,
        port: this.ports[listener]!,
        exchanges: rest.map((r) => exchange([r])),
      });
      for (const answer of answers) outcomes.push(outcomeOf(answer));
      // a request that closes the connection without an answer must not be sent again and again
      if (answers.length === 0) outcomes.push(undefined);
    }
    return outcomes;
  }

  async close(): Promise<void> {
    await this.lab.close();
  }
}

/**
 * In which way the kernel decides a request otherwise than the interpreter did (with 0 drawn, or with what `draw` took out
 * of the kernel's buckets); undefined: in none.
 */
export function compareKernel(
  kernel: Kernel,
  listener: number,
  request: Buffer,
  source: Uint8Array,
  decision: Decision,
  draw = false,
): string | undefined {
  const head = request.subarray(0, request.indexOf('\r\n\r\n') + 4);
  if (head.length > LONGEST) return undefined;
  const own = kernel.decide(listener, head, source, draw);
  const text = (b: Uint8Array) => Buffer.from(b).toString('latin1').replace(UUID, 'UUID');
  const mine = decision.result === 'decided' ? { ...decision, output: text(decision.output) } : decision;
  const told = own.result === 'decided' ? { ...own, output: text(own.output) } : own;
  for (const field of own.result === 'decided'
    ? (['result', 'action', 'rule', 'output'] as const)
    : (['result'] as const))
    if (mine[field] !== told[field]) return `${field}: the interpreter says ${mine[field]}, the kernel ${told[field]}`;
  if (own.result === 'decided' && own.facts.some((word, i) => word !== decision.facts[i]))
    return `facts: the interpreter has ${decision.facts.join()}, the kernel ${own.facts.join()}`;
  return undefined;
}

/** What a request that is forwarded (to the upstream of this name) or answered becomes. */
export function outcomeOfDecision(decision: Decision, upstream: string): Outcome {
  const bytes = Buffer.from(decision.output);
  const end = bytes.indexOf('\r\n\r\n');
  const { first, headers } = parseHead(bytes.subarray(0, end).toString('latin1'));
  if (decision.action === 'reply') {
    const body = bytes.subarray(end + 4).toString('latin1');
    return { kind: 'reply', first: [first[1], body], headers: summary(headers) };
  }
  return { kind: 'forward', first: [choice(upstream), first[0], first[1]], headers: summary(headers) };
}

function portsOf(clusters: readonly JsonObject[]): Map<string, number> {
  const found = new Map<string, number>();
  for (const cluster of clusters) {
    const upstreams = CLUSTERS[cluster.name as string] ?? [];
    const { endpoints } = cluster.load_assignment as { endpoints: { lb_endpoints: JsonObject[] }[] };
    endpoints[0]!.lb_endpoints.forEach((e, i) => {
      const { address } = e.endpoint as { address: { socket_address: { port_value: number } } };
      found.set(upstreams[i]!, address.socket_address.port_value);
    });
  }
  return found;
}

/** What Envoy did, from the answer that came through it. */
export function outcomeOf(answer: WireAnswer): Outcome {
  const body = Buffer.from(answer.body, 'base64');
  const header = (name: string) => answer.headers.find(([n]) => n.toLowerCase() === name)?.[1];
  const received = header('x-received');
  if (header('x-upstream') === undefined)
    return { kind: 'reply', first: [`${answer.status}`, body.toString('latin1')], headers: summary(answer.headers) };
  const echo = JSON.parse(received ? Buffer.from(received, 'base64').toString() : body.toString()) as Echo;
  return { kind: 'forward', first: [choice(echo.upstream), echo.method, echo.target], headers: summary(echo.headers) };
}
