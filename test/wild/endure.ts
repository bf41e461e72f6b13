/**
 * Damaged policies must get diagnostics with a place, never an exception or a hang:
 * `npx tsx test/wild/endure.ts [--seed N] [--seconds N] [--out FOLDER] PATH...` damages files below the paths (see damage.ts)
 * and does with each what `check`, `explain`, `translate` and `run` do before anything is attached. Prints what went wrong;
 * exit code 1 if anything did. `--out` keeps the texts that did it.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { parseArgs } from 'node:util';
import fc from 'fast-check';
import { toJsonText } from '../../src/cli/input.js';
import { buildPlan } from '../../src/plan/build.js';
import { asObject, asString, connectionManagers } from '../../src/policy/envoy/walk.js';
import { loadFiles } from '../../src/policy/load.js';
import { buildStaticBootstrap } from '../../src/proxy/bootstrap.js';
import { check } from '../../src/report/check.js';
import { explain } from '../../src/report/explain.js';
import { explainText } from '../../src/report/explain-text.js';
import { checkHtml } from '../../src/report/html.js';
import { plain } from '../../src/report/paint.js';
import { checkSchema, explainSchema } from '../../src/report/schema.js';
import { checkText } from '../../src/report/text.js';
import { damage } from './damage.js';
import { Draw } from './draw.js';
import { filesBelow } from './files.js';
import { hintsOf, requestOf } from './hints.js';

/** Time of the processor, so that a busy machine does not count: a hundred times what most texts take. */
const LONGEST_MS = 5_000;
const LISTENERS = 2;
const REQUESTS = 2;
/** What a message that was made of a missing value looks like. */
const CARELESS =
  /\bundefined\b|\[object |\bNaN\b|Cannot (read|convert)|is not a function|is not iterable|Maximum call stack/;

/** What is wrong with how a text is dealt with; undefined: nothing. */
export async function endure(text: string): Promise<string | undefined> {
  const begun = process.cpuUsage();
  let stage = 'check';
  try {
    const stdin = () => Readable.from([Buffer.from(text)]);
    const { output, sources } = await check(['-'], { stdin: stdin() });
    stage = 'the report';
    checkSchema.parse(JSON.parse(toJsonText(output)));
    checkText(output, { verbose: true });
    checkHtml(output, sources);
    const lines = text.split(/\r\n|\r|\n/).length;
    for (const finding of [...output.errors, ...output.warnings]) {
      const { file, line, column, message } = finding;
      if (file === '' || line < 1 || line > lines + 1 || column < 1) return `no place: ${JSON.stringify(finding)}`;
      if (message === '' || (CARELESS.test(message) && !CARELESS.test(text)))
        return `no good message: ${JSON.stringify(finding)}`;
    }
    for (const { verdict, reasons } of output.results) {
      if (verdict === 'proxy' && reasons.length === 0) return 'a rule of the proxy without a reason';
      for (const { message } of reasons)
        if (message === '' || (CARELESS.test(message) && !CARELESS.test(text))) return `no good reason: ${message}`;
    }
    stage = 'translation';
    const resources = await loadFiles(['-'], { stdin: stdin(), assumeEndpoints: true });
    const wrong = resources.diagnostics.some((d) => d.severity === 'error');
    if (wrong !== output.errors.length > 0) return 'check and explain disagree about whether there are errors';
    if (wrong) return undefined;
    toJsonText(resources);
    stage = 'the translation at servers';
    buildPlan(await loadFiles(['-'], { stdin: stdin(), atServers: true }));
    stage = 'the bootstrap';
    toJsonText(buildStaticBootstrap(resources));
    stage = 'explain';
    const plan = buildPlan(resources);
    const named = new Map(resources.routeConfigs.map((config) => [asString(config.name), config]));
    for (const { name, proxyAddress } of plan.listeners.slice(0, LISTENERS)) {
      const listener = resources.listeners.find((l) => asString(l.name) === name);
      if (!listener) continue;
      const routes = connectionManagers(listener).map((m) => named.get(asString(asObject(m.rds)?.route_config_name)));
      const hints = hintsOf({ listener, routes: routes.filter((r) => r !== undefined) });
      for (const request of fc.sample(requestOf(hints), { seed: proxyAddress.port, numRuns: REQUESTS })) {
        const explanation = explain(plan, { ...request, version: '1.1', listener: name });
        explainSchema.parse(JSON.parse(toJsonText(explanation)));
        explainText(explanation, plain, true);
      }
    }
  } catch (error) {
    return `${stage}: ${(error as Error).stack ?? error}`;
  }
  const took = process.cpuUsage(begun).user / 1000;
  return took > LONGEST_MS ? `${stage}: took ${(took / 1000).toFixed(1)} s` : undefined;
}

/** A text that was not dealt with well. */
export interface Failure {
  readonly file: string;
  readonly seed: number;
  readonly how: readonly string[];
  readonly text: string;
  readonly why: string;
}

/**
 * Damages the files again and again, in turn.
 * @param enough how many times, or until when (`Date.now()`)
 */
export async function endureAll(
  files: readonly string[],
  options: {
    readonly seed: number;
    readonly until?: number;
    readonly texts?: number;
    readonly onFailure?: (failure: Failure) => void;
  },
): Promise<{ tried: number; failures: Failure[] }> {
  const texts = files.map((file) => readFileSync(file, 'utf8'));
  const failures: Failure[] = [];
  const { seed: first, until = Number.POSITIVE_INFINITY, texts: most = Number.POSITIVE_INFINITY } = options;
  const order = new Draw(first);
  let tried = 0;
  for (; tried < most && Date.now() < until; tried++) {
    const seed = first + tried;
    const draw = new Draw(seed);
    const i = order.below(files.length);
    const { text, how } = damage(texts[i]!, draw.one(texts), draw);
    const why = await endure(text);
    if (why === undefined) continue;
    const failure = { file: files[i]!, seed, how, text, why };
    failures.push(failure);
    options.onFailure?.(failure);
  }
  return { tried, failures };
}

if (process.argv[1]?.endsWith('endure.ts')) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seed: { type: 'string', default: '1' },
      seconds: { type: 'string', default: '60' },
      out: { type: 'string' },
    },
  });
  if (values.out) mkdirSync(values.out, { recursive: true });
  const seen = new Set<string>();
  const { tried, failures } = await endureAll(positionals.flatMap(filesBelow), {
    seed: Number(values.seed),
    until: Date.now() + 1000 * Number(values.seconds),
    onFailure: ({ file, seed, how, text, why }) => {
      const key = why
        .split('\n')
        .slice(0, 4)
        .join('\n')
        .replace(/[0-9]+/g, '0');
      if (values.out) {
        const name = `${createHash('sha256').update(key).digest('hex').slice(0, 8)}-${seed}.yaml`;
        if (!seen.has(key)) writeFileSync(join(values.out, name), text);
      }
      if (!seen.has(key)) console.log(`${file}\n  seed ${seed}: ${how.join(', ')}\n  ${why}`);
      seen.add(key);
    },
  });
  console.log(`${tried} damaged policies, ${failures.length} not dealt with well (${seen.size} kinds)`);
  process.exit(failures.length === 0 ? 0 : 1);
}
