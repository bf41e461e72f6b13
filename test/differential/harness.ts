/** One set of generated listeners, served by a plain Envoy (the oracle) and by something else (the subject). */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { Driver, RAW_CLIENT } from '../../src/lab/driver.js';
import { startEnvoy } from '../../src/lab/envoy.js';
import { nodeScript, packageRoot } from '../../src/lab/paths.js';
import { freePorts } from '../../src/lab/ports.js';
import { Lab } from '../../src/lab/processes.js';
import type { JobResult, WireAnswer } from '../../src/lab/raw-client.js';
import { type SidestepHandle, startSidestep } from '../../src/lab/sidestep.js';
import type { JsonObject } from '../../src/policy/resources.js';
import { differences } from './compare.js';
import { exchange, type Step } from './requests.js';
import { bootstrap, CLUSTERS, type ListenerConfig, listenerConfig } from './route-config.js';

const ORACLE = '127.0.0.2';
const SUBJECT = '127.0.0.3';
const ECHO_SERVER = join(dirname(fileURLToPath(import.meta.url)), 'echo-server.ts');

/** What is compared with the oracle: another Envoy (with its configuration changed, to plant differences), or Sidestep. */
export type Subject =
  | { readonly kind: 'envoy'; readonly change?: (bootstrap: JsonObject) => JsonObject }
  | {
      readonly kind: 'sidestep';
      /** the upstream servers run inside the mesh: same-node bypass */
      readonly bypass?: boolean;
    };

export interface DifferentialOptions {
  readonly seed: number;
  readonly listeners: number;
  /** configurations with routes that only the proxy can do */
  readonly mixed: boolean;
  readonly subject: Subject;
}

function ofUpstream(answer: WireAnswer): boolean {
  return answer.headers.some(([name]) => name.toLowerCase() === 'x-upstream');
}

/** Whether the connection ended between two requests that were sent back to back. */
function cutShort(steps: readonly Step[], { answers }: JobResult): boolean {
  let before = 0;
  for (const step of steps) {
    if (answers.length > before && answers.length < before + step.length) return true;
    before += step.length;
  }
  return false;
}

/** Everything running, ready for requests. */
export class Differential {
  readonly configs: readonly ListenerConfig[];
  readonly sidestep: SidestepHandle | undefined;
  /** requests sent (to each side) so far */
  sent = 0;
  /** what the oracle answered so far: status code (or how the connection ended) -> how often */
  readonly outcomes = new Map<string, number>();
  readonly #lab: Lab;
  readonly #ports: readonly number[];
  readonly #oracle: Driver;
  readonly #subject: Driver;

  private constructor(
    lab: Lab,
    configs: readonly ListenerConfig[],
    ports: readonly number[],
    oracle: Driver,
    subject: Driver,
    sidestep: SidestepHandle | undefined,
  ) {
    this.#lab = lab;
    this.configs = configs;
    this.#ports = ports;
    this.#oracle = oracle;
    this.#subject = subject;
    this.sidestep = sidestep;
  }

  static async open(options: DifferentialOptions): Promise<Differential> {
    const lab = await Lab.open('differential');
    try {
      return await Differential.#start(lab, options);
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  static async #start(lab: Lab, options: DifferentialOptions): Promise<Differential> {
    const names = [...new Set(Object.values(CLUSTERS).flat())];
    const upstreamPorts = await freePorts(names.length);
    const byName = Object.fromEntries(names.map((n, i) => [n, upstreamPorts[i]!]));
    const echoes = [...nodeScript(ECHO_SERVER), ...names.map((n) => `${n}=${byName[n]}`)];
    const bypass = options.subject.kind === 'sidestep' && options.subject.bypass;
    if (!bypass) await lab.start('echo servers', echoes).waitFor(/listening/);

    const ports = await freePorts(options.listeners);
    const configs = ports.map(
      (port, i) =>
        fc.sample(listenerConfig(`listener-${i}`, port, options.mixed), { seed: options.seed + i, numRuns: 8 })[7]!,
    );
    await startEnvoy(lab, 'oracle', bootstrap(configs, ORACLE, ports, byName));
    let config = bootstrap(configs, SUBJECT, ports, byName);
    const oracleClient = lab.start('client of the oracle', RAW_CLIENT, { stdin: true });
    let subjectClient = oracleClient;
    let sidestep: SidestepHandle | undefined;
    if (options.subject.kind === 'envoy') {
      config = options.subject.change?.(config) ?? config;
      await startEnvoy(lab, 'subject', config);
      subjectClient = lab.start('client of the subject', RAW_CLIENT, { stdin: true });
    } else {
      const file = join(lab.dir, 'bootstrap.json');
      await writeFile(file, JSON.stringify(config));
      sidestep = await startSidestep(lab, [file]);
      if (bypass) await sidestep.start('echo servers', echoes).waitFor(/listening/);
      subjectClient = sidestep.start('client of the subject', RAW_CLIENT, { stdin: true });
    }
    const drivers = [await Driver.of(oracleClient), await Driver.of(subjectClient)] as const;
    return new Differential(lab, configs, ports, ...drivers, sidestep);
  }

  /** Sends the steps on one connection to each side. Returns how the subject differs from the oracle. */
  async compare(listener: number, steps: readonly Step[]): Promise<string[]> {
    const exchanges = steps.map(exchange);
    const port = this.#ports[listener]!;
    this.sent += steps.reduce((n, s) => n + s.length, 0);
    const [expected, actual] = await Promise.all([
      this.#oracle.run({ address: ORACLE, port, exchanges }),
      this.#subject.run({ address: SUBJECT, port, exchanges }),
    ]);
    for (const o of [...expected.answers.map((a) => String(a.status)), ...(expected.error ? [expected.error] : [])]) {
      this.outcomes.set(o, (this.outcomes.get(o) ?? 0) + 1);
    }
    const found = differences(expected, actual);
    // Envoy closes a connection behind an answer of its own when the next request was already there. Who answers the
    // next one too does better, if the answer is what Envoy gives when asked again.
    if (found.length && expected.error && !actual.error && steps.some((s) => s.length > 1)) {
      const single = steps.flat().map((r) => exchange([r]));
      return differences(await this.#oracle.run({ address: ORACLE, port, exchanges: single }), actual);
    }
    // The Envoy behind Sidestep does the same; whether the next request was there is a matter of time on either side.
    const own = actual.answers.at(-1);
    if (found.length && actual.error && !expected.error && own && !ofUpstream(own) && cutShort(steps, actual)) {
      const single = steps.flat().map((r) => exchange([r]));
      return differences(
        await this.#oracle.run({ address: ORACLE, port, exchanges: single }),
        await this.#subject.run({ address: SUBJECT, port, exchanges: single }),
      );
    }
    return found;
  }

  /**
   * Checks `runs` generated connections on one listener.
   * @returns undefined, or a report with the smallest connection found that differs (also written to a file)
   */
  async check(
    listener: number,
    arbitrary: (config: ListenerConfig) => fc.Arbitrary<Step[]>,
    options: { readonly runs: number; readonly seed: number },
  ): Promise<string | undefined> {
    const config = this.configs[listener]!;
    const property = fc.asyncProperty(arbitrary(config), async (steps) => {
      const found = await this.compare(listener, steps);
      if (found.length) throw new Error(found.join('\n'));
    });
    const result = await fc.check(property, {
      seed: options.seed,
      numRuns: options.runs,
      interruptAfterTimeLimit: 120_000,
      markInterruptAsFailure: true,
    });
    if (!result.failed) return undefined;
    const steps = result.counterexample?.[0];
    const found = steps ? await this.compare(listener, steps) : [];
    const file = join(packageRoot(), '.cache/differential', `seed-${options.seed}-${config.name}.json`);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, JSON.stringify({ seed: options.seed, steps, found, config }, null, 1));
    const error = (result.errorInstance as Error | undefined)?.message ?? 'interrupted: too slow';
    return [
      `${config.name}, seed ${options.seed}, after ${result.numRuns} connections and ${result.numShrinks} shrinks:`,
      ...(steps ?? []).map((s) => s.map((r) => JSON.stringify(r)).join('\n')),
      error,
      found.length ? '' : '(the same connection sent again did not differ)',
      `configuration and requests: ${file}`,
    ].join('\n');
  }

  /** Writes all listeners' configurations to a file, for a look at what differed. Returns its path. */
  async saveConfigs(): Promise<string> {
    const file = join(packageRoot(), '.cache/differential/configs.json');
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, JSON.stringify(this.configs, null, 1));
    return file;
  }

  /** `200: 812, 404: 31 ...` */
  outcomeSummary(): string {
    const sorted = [...this.outcomes].sort((a, b) => b[1] - a[1]);
    return sorted.map(([outcome, n]) => `${outcome}: ${n}`).join(', ');
  }

  async close(): Promise<void> {
    await this.#lab.close();
  }
}
