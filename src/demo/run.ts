/** The demo: the shop with its policies, through Envoy alone and then through Sidestep. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import { startEnvoy } from '../lab/envoy.js';
import { Lab } from '../lab/processes.js';
import { instanceName, type SidestepHandle, startSidestep } from '../lab/sidestep.js';
import type { JsonObject } from '../policy/resources.js';
import { Customers, KINDS, type KindResult, openShop, SHOP, SHOP_LISTENER } from './shop.js';

/** Requests that one kind of policy needed, and where they were decided. */
export interface KindReport {
  readonly kind: string;
  readonly envoy: KindResult;
  readonly sidestep: KindResult;
  /** `application` has more than it has pages: the services' calls to each other count too */
  readonly decided: { readonly kernel: number; readonly proxy: number; readonly agent: number };
}

export interface DemoReport {
  readonly policies: 'istio' | 'envoy';
  readonly kinds: readonly KindReport[];
  readonly decided: { readonly kernel: number; readonly proxy: number; readonly agent: number };
  readonly rules: { readonly kernel: number; readonly proxy: number };
  readonly failures: number;
  readonly seconds: number;
}

export interface DemoOptions {
  readonly policies: 'istio' | 'envoy';
  readonly requests: number;
  readonly name?: string;
  readonly progress: (text: string) => void;
}

/** A finished demo whose processes still run, until its lab is closed. */
export interface RunningDemo {
  readonly report: DemoReport;
  readonly sidestep: SidestepHandle;
}

const WARM_UP = 30;

async function throughEnvoy(outer: Lab, options: DemoOptions): Promise<Map<string, KindResult>> {
  const lab = await Lab.open('demo-envoy');
  outer.onClose('the shop through Envoy', () => lab.close());
  try {
    const bootstrap = parse(await readFile(join(SHOP, 'envoy.yaml'), 'utf8')) as JsonObject;
    await startEnvoy(lab, 'envoy', bootstrap);
    const env = { SHOP_VIA: SHOP_LISTENER };
    await openShop((...args) => lab.start(...args), env);
    const customers = new Customers((...args) => lab.start(...args), env);
    await customers.run('application', WARM_UP);
    const results = new Map<string, KindResult>();
    for (const kind of KINDS) results.set(kind, await customers.run(kind, options.requests));
    return results;
  } finally {
    await lab.close();
  }
}

/**
 * Runs the demo in `lab`, which the caller closes.
 * @throws Error if a process does not start; wrong answers are no error but in the report
 */
export async function runDemo(lab: Lab, options: DemoOptions): Promise<RunningDemo> {
  const began = Date.now();
  options.progress('the shop through Envoy alone ...');
  const alone = await throughEnvoy(lab, options);
  options.progress('the shop through Sidestep ...');
  const files = [join(SHOP, options.policies === 'istio' ? 'policies' : 'envoy.yaml')];
  const sidestep = await startSidestep(lab, files, { name: options.name ?? instanceName('demo') });
  const env: Record<string, string> = options.policies === 'istio' ? {} : { SHOP_VIA: SHOP_LISTENER };
  await openShop((...args) => sidestep.start(...args), env);
  const customers = new Customers((...args) => sidestep.start(...args), env);
  await customers.run('application', WARM_UP);
  const kinds: KindReport[] = [];
  const first = await sidestep.status();
  let before = first;
  for (const kind of KINDS) {
    const result = await customers.run(kind, options.requests);
    const after = await sidestep.status();
    kinds.push({ kind, envoy: alone.get(kind)!, sidestep: result, decided: minus(after.requests, before.requests) });
    before = after;
  }
  await customers.stop();
  const report: DemoReport = {
    policies: options.policies,
    kinds,
    decided: minus(before.requests, first.requests),
    rules: before.rules,
    failures: kinds.reduce((n, k) => n + k.envoy.failures + k.sidestep.failures, 0),
    seconds: (Date.now() - began) / 1000,
  };
  return { sidestep, report };
}

type Counts = DemoReport['decided'];

function minus(a: Counts, b: Counts): Counts {
  return { kernel: a.kernel - b.kernel, proxy: a.proxy - b.proxy, agent: a.agent - b.agent };
}
