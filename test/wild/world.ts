/**
 * One set of real policies, decided three ways: by the reference interpreter of their image, by the kernel's programs over
 * it, and by a real Envoy with exactly the same resources. Only addresses are changed: listeners get loopback ones, and
 * every endpoint becomes an echo server of its own, which says who it is.
 */
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { AnswerPrograms, editAnswer } from '../../src/agent/answer-programs.js';
import { findToken } from '../../src/agent/token-places.js';
import { FIGURES } from '../../src/compile/answer-edits.js';
import { compileImage } from '../../src/compile/image.js';
import { type Decision, interpret, type Surroundings } from '../../src/compile/interpret.js';
import type { Driver } from '../../src/lab/driver.js';
import { type EnvoyHandle, startEnvoy } from '../../src/lab/envoy.js';
import type { Lab } from '../../src/lab/processes.js';
import { type Assumptions, buildPlan } from '../../src/plan/build.js';
import type { Reason, TokenBucket } from '../../src/plan/ir.js';
import { factWords, judgeToken, type KeysOf, keysOfSet } from '../../src/plan/judge-token.js';
import { headerLines } from '../../src/plan/token-headers.js';
import type { TokenPlan } from '../../src/plan/tokens.js';
import { asObject, asString, connectionManagers } from '../../src/policy/envoy/walk.js';
import type { Identity } from '../../src/policy/istio/identities.js';
import { loadFiles } from '../../src/policy/load.js';
import type { Clients, Resources } from '../../src/policy/resources.js';
import { buildStaticBootstrap } from '../../src/proxy/bootstrap.js';
import { fillBuckets, TestBuckets } from '../agreement/buckets.js';
import { chanceless } from '../agreement/chanceless.js';
import type { Kernel } from '../agreement/kernel.js';
import { compareKernel, type Outcome, outcomeOf, outcomeOfDecision, plain } from '../agreement/world.js';
import { headersOf } from '../differential/echo-server.js';
import { exchange, type Request, requestBytes } from '../differential/requests.js';
import { compareConnections, compareHellos } from './connections.js';
import { type Hints, hintsOf, requestOf } from './hints.js';
import { type Echoes, relocate } from './relocate.js';

const SOURCE = Uint8Array.of(127, 0, 0, 1);
/** Draws by which weighted clusters and chances are told apart: every share of 1 in 64 is seen. */
const DRAWS = 128;
const BATCH = 60;
/** Ids of requests: of which the first is traced where some are, the second where all are. */
const UUIDS = ['00000000-89ab-4cde-8f01-23456789abcd', '0000270f-89ab-4cde-8f01-23456789abcd'];
export interface Difference {
  readonly file: string;
  /** of requests: the name of their listener, and where in them this one is */
  readonly listener?: string;
  readonly at?: number;
  readonly request: string;
  readonly why: string;
}

export interface Tally {
  /** sets of policies that were tried, and that Envoy or the loader refused */
  tried: number;
  refused: string[];
  pairs: number;
  forward: number;
  reply: number;
  proxy: number;
  /** routes of the kernel's, and how many of them decided a request */
  rules: number;
  met: number;
  /** requests whose token was known */
  known: number;
  differences: Difference[];
}

export const emptyTally = (): Tally => ({
  ...{ tried: 0, refused: [], pairs: 0, forward: 0, reply: 0, proxy: 0, rules: 0, met: 0, known: 0, differences: [] },
});

/** What becomes of a request, and of the answer's headers where it is forwarded. */
type Whole = Outcome & { readonly answer?: readonly string[] };

/** Of answers: what each has its own of, and what Envoy adds to each. */
const IGNORED = new Set(['date', 'server', 'x-envoy-upstream-service-time', 'content-length', 'x-received']);

const answerSummary = (headers: readonly (readonly [string, string])[]): string[] =>
  headers
    .filter(([name]) => !IGNORED.has(name.toLowerCase()))
    .map(([name, value]) => `${name.toLowerCase()}: ${value.trim()}`)
    .sort();

/** Policies in force. */
interface InForce {
  readonly image: Uint8Array;
  readonly programs: AnswerPrograms;
  readonly upstreams: readonly string[];
  readonly buckets: readonly TokenBucket[];
  /** of the buckets, while requests are counted */
  readonly figures: { held?: TestBuckets };
}

const isProxys = ({ result, action }: Decision): boolean => result !== 'decided' || action === 'proxy';

/** What becomes of a request by a decision, with each endpoint that comes into question. */
const wholes = (decision: Decision, { programs, upstreams }: InForce, request: Request): Whole[] =>
  (decision.action === 'forward' ? decision.endpoints : [0]).map((endpoint) => {
    const upstream = upstreams[endpoint] ?? '?';
    return known({ ...outcomeOfDecision(decision, upstream), ...answerOf(decision, upstream, programs) }, request);
  });

/** Without what chance has made. */
function known(whole: Whole, request: Request): Whole {
  const asked = requestBytes(request).toString('latin1');
  const { answer } = whole;
  return { ...plain(whole, request), ...(answer && { answer: answer.map((line) => chanceless(line, asked)).sort() }) };
}

/** The same decision may differ by chance (weights, percentages) or by what rate limits have left: every outcome that it can have. */
function outcomesOf(inForce: InForce, listener: number, request: Request, around: Surroundings): Whole[] | undefined {
  const bytes = requestBytes(request);
  const seen: Whole[] = [];
  let drawn = true; // or no draw changes anything
  for (let draw = 0; draw < DRAWS && drawn; draw++) {
    const random = (draw * 2_654_435_761) % 2 ** 32; // even in its high bits and in its low ones
    drawn = false;
    const ask = <T>(answer: T): T => {
      drawn = true;
      return answer;
    };
    const lots = Object.defineProperty({ ...around, token: () => ask(draw % 2 === 0) }, 'random', {
      get: () => ask(random),
    });
    const decision = interpret(inForce.image, listener, bytes, lots);
    if (isProxys(decision)) return undefined;
    for (const outcome of wholes(decision, inForce, request))
      if (!seen.some((o) => isDeepStrictEqual(o, outcome))) seen.push(outcome);
  }
  return seen;
}

/** The keys of tokens, which are in the policies or nowhere. */
const keysOf: KeysOf = async ({ keys }) => (keys.kind === 'inline' ? keysOfSet(keys.jwks) : undefined);

/** What is known of a request's token once it has been seen, here and in the kernel. */
async function tokenOf(
  plan: TokenPlan | undefined,
  listener: number,
  request: Request,
  kernel: Kernel | undefined,
): Promise<Pick<Surroundings, 'tokenFacts' | 'tokenLines'> | undefined> {
  const headers = request.headers.map(([name, value]) => [name.toLowerCase(), value.trim()] as const);
  const found = plan && findToken(plan, request.target, headers);
  const place = found && plan.places[found.place];
  const judged = place && (await judgeToken(plan, place, found.value, keysOf, Date.now() / 1000));
  if (!judged) return undefined;
  const [facts, lines] = [factWords(judged.facts), headerLines(judged.headers)];
  kernel?.know({ listener, place: found.place, value: Buffer.from(found.value, 'latin1') }, { facts, lines });
  return { tokenFacts: facts, tokenLines: lines };
}

/** The headers of the echo server's answer, edited as the decision says. */
function answerOf(decision: Decision, upstream: string, programs: AnswerPrograms): { answer?: string[] } {
  if (decision.action !== 'forward') return {};
  const program = programs.get(decision.answer);
  const variables = decision.variables.map((v) => Buffer.from(v).toString('latin1'));
  const plain = headersOf(upstream).map(([name, value]) => [name.toLowerCase(), value] as const);
  return { answer: answerSummary(editAnswer(plain, program && { program, variables, figure: programs.figure })) };
}

/** Envoy's answers, one after the other, on connections that stay open. */
async function ask(client: Driver, address: string, port: number, requests: readonly Request[]) {
  const outcomes: (Whole | undefined)[] = [];
  while (outcomes.length < requests.length) {
    const rest = requests.slice(outcomes.length);
    const { answers } = await client.run({
      address,
      port,
      exchanges: rest.map((r) => exchange([r])),
      timeoutMs: 30_000,
    });
    for (const answer of answers) {
      const outcome = outcomeOf(answer);
      const whole = outcome.kind === 'reply' ? outcome : { ...outcome, answer: answerSummary(answer.headers) };
      outcomes.push(known(whole, requests[outcomes.length]!));
    }
    if (answers.length === 0) outcomes.push(undefined);
  }
  return outcomes;
}

/** What the trial of one set of policies needs. */
export interface Trial {
  readonly lab: Lab;
  readonly client: Driver;
  readonly echoes: Echoes;
  readonly kernel?: Kernel;
  readonly seed: number;
  /** requests for each listener that the kernel decides anything for */
  readonly requests: number;
  /** makes the requests for a listener; default: of its words */
  readonly requestsFor?: (hints: Hints, seed: number, n: number, listener: string) => readonly Request[];
  readonly assumed?: Assumptions;
  /** rate limits are counted, request by request: nothing else is left to chance */
  readonly counted?: boolean;
}

/**
 * Tries the policies of `file` (a file or folder).
 * @param who who the client is, or whose clients the policies are translated for
 * @param onError is told when the policies are not valid
 * @returns the other clients whom rules of these policies count for
 */
export async function tryPolicies(
  file: string,
  around: Trial,
  tally: Tally,
  who: { readonly identity?: Identity; readonly workload?: Clients } = {},
  onError?: (why: string) => void,
): Promise<readonly Clients[]> {
  const resources = await loadFiles([file], { assumeEndpoints: true, ...who });
  const wrong = resources.diagnostics.filter((d) => d.severity === 'error');
  if (wrong.length === 0) await tryResources(file, resources, around, tally);
  else onError?.(wrong.map(({ message }) => message).join('; '));
  return resources.otherClients ?? [];
}

async function tryResources(file: string, resources: Resources, around: Trial, tally: Tally): Promise<void> {
  relocate(resources, around.echoes);
  const plan = buildPlan(resources, around.assumed);
  if (!plan.listeners.some((l) => l.offloaded)) return;
  const byPort = new Map(around.echoes.ports.map((port, i) => [port, i]));
  const figures: InForce['figures'] = {};
  const programs = new AnswerPrograms((place, of) => figures.held?.figure(place, FIGURES[of]) ?? 0);
  const buckets: TokenBucket[] = [];
  const compiled = compileImage(plan, {
    generation: 1,
    bucketIndex: (bucket) => {
      const index = buckets.findIndex(({ key }) => key === bucket.key);
      return index < 0 ? buckets.push(bucket) - 1 : index;
    },
    endpointId: (_, port) => byPort.get(port) ?? 1000,
    proxyEndpointId: () => 1001,
    programNumber: (program) => programs.number(program),
  });
  const inForce: InForce = { image: compiled.image, programs, upstreams: around.echoes.names, buckets, figures };
  around.kernel?.install(compiled.image);
  let envoy: EnvoyHandle;
  try {
    envoy = await startEnvoy(around.lab, 'oracle', buildStaticBootstrap(resources));
  } catch (error) {
    tally.refused.push(`${file}: ${(error as Error).message.slice(-400)}`);
    return;
  }
  tally.tried++;
  const met = new Set<number>();
  const named = new Map(resources.routeConfigs.map((config) => [asString(config.name), config]));
  try {
    for (const [index, listenerPlan] of plan.listeners.entries()) {
      if (!listenerPlan.offloaded) continue;
      const listener = resources.listeners.find((l) => asString(l.name) === listenerPlan.name);
      const socket = asObject(asObject(listener?.address)?.socket_address);
      if (!listener || !socket) continue;
      const routes = connectionManagers(listener).map((m) => named.get(asString(asObject(m.rds)?.route_config_name)));
      const hints = hintsOf({ listener, routes: routes.filter((r) => r !== undefined) });
      if (listenerPlan.connections) {
        const where = { file, address: asString(socket.address), port: Number(socket.port_value) };
        await compareConnections(plan, listenerPlan.connections, where, around, tally);
        continue;
      }
      if (listenerPlan.hellos) {
        const where = { file, address: asString(socket.address), port: Number(socket.port_value) };
        await compareHellos(plan, listenerPlan.hellos, where, around, tally);
        continue;
      }
      const all = listenerPlan.virtualHosts.flatMap(({ routes }) => routes);
      if (all.length > 0 && all.every(({ id }) => isFull(compiled.verdicts.get(id)))) continue;
      const seed = around.seed + index;
      const { requests: n, requestsFor } = around;
      const requests =
        requestsFor?.(hints, seed, n, listenerPlan.name) ?? fc.sample(requestOf(hints), { seed, numRuns: n });
      const where = {
        ...{ file, name: listenerPlan.name, address: asString(socket.address), port: Number(socket.port_value) },
        traced: listenerPlan.trace !== undefined,
        ...(listenerPlan.tokens && { tokens: listenerPlan.tokens }),
      };
      await compareRequests(inForce, index, requests, where, around, tally, met);
    }
  } finally {
    envoy.process.child.kill('SIGKILL');
    await envoy.process.exited;
  }
  tally.rules += compiled.rules.length;
  tally.met += met.size;
}

/** There was no room for the listener in the image. */
const isFull = (reasons: readonly Reason[] | undefined): boolean =>
  reasons?.some(({ code }) => code === 'budget') === true;

/** Timeouts of milliseconds, which the busy machine exceeds: the decision was to forward. */
const isTimeout = (outcome: Outcome | undefined): boolean =>
  outcome?.kind === 'reply' && isDeepStrictEqual(outcome.first, ['504', 'upstream request timeout']);

async function compareRequests(
  inForce: InForce,
  listener: number,
  requests: readonly Request[],
  where: { file: string; name: string; address: string; port: number; tokens?: TokenPlan; traced: boolean },
  around: Trial,
  tally: Tally,
  met: Set<number>,
): Promise<void> {
  const decided: { request: Request; own: Whole[] }[] = [];
  const differ = (request: Request, why: string) =>
    tally.differences.push({
      ...{ file: where.file, listener: where.name, at: requests.indexOf(request) },
      ...{ request: JSON.stringify(request), why },
    });
  const { kernel } = around;
  const uuids = where.traced ? UUIDS : UUIDS.slice(0, 1);
  if (around.counted && kernel) fillBuckets(kernel, inForce.buckets);
  const held = new TestBuckets(inForce.buckets);
  inForce.figures.held = held;
  for (const request of requests) {
    tally.pairs++;
    const bytes = requestBytes(request);
    const token = await tokenOf(where.tokens, listener, request, kernel);
    if (token) tally.known++;
    const base = { sourceIp: SOURCE, random: 0, uuid: uuids[0]!, ...token };
    if (around.counted) {
      const decision = interpret(inForce.image, listener, bytes, {
        ...base,
        token: (bucket) => held.take(bucket),
        figure: (bucket, of) => held.figure(bucket, of),
      });
      held.end(isProxys(decision));
      const wrong = kernel && compareKernel(kernel, listener, bytes, SOURCE, decision, { draw: true });
      if (wrong) differ(request, wrong);
      if (isProxys(decision)) {
        tally.proxy++;
        continue;
      }
      tally[decision.action === 'reply' ? 'reply' : 'forward']++;
      met.add(decision.rule);
      decided.push({ request, own: wholes(decision, inForce, request) });
      continue;
    }
    const decision = interpret(inForce.image, listener, bytes, base);
    // the test program draws 0 for weights, never strikes where a step has a chance, chooses no endpoint, and makes ids
    const last = { ...base, random: 2 ** 32 - 1 };
    const others = () =>
      uuids.flatMap((uuid) => [last, base].map((b) => interpret(inForce.image, listener, bytes, { ...b, uuid })));
    const wrong = kernel && compareKernel(kernel, listener, bytes, SOURCE, decision, { others });
    // what is the proxy's may be so because of the endpoint
    if (wrong && decision.action !== 'proxy') differ(request, wrong);
    const every = uuids.map((uuid) => outcomesOf(inForce, listener, request, { ...base, uuid }));
    const own = every.includes(undefined) ? undefined : every.flatMap((outcomes) => outcomes ?? []);
    if (!own) {
      tally.proxy++;
      continue;
    }
    tally[own[0]!.kind]++;
    met.add(decision.rule);
    decided.push({ request, own });
  }
  for (let from = 0; from < decided.length; from += BATCH) {
    const batch = decided.slice(from, from + BATCH);
    const theirs = await ask(
      around.client,
      where.address,
      where.port,
      batch.map((d) => d.request),
    );
    for (const [i, { request, own }] of batch.entries())
      if (!own.some((o) => isDeepStrictEqual(o, theirs[i])) && !isTimeout(theirs[i]))
        differ(request, `kernel: ${JSON.stringify(own.slice(0, 3))}\n  Envoy: ${JSON.stringify(theirs[i])}`);
  }
}
