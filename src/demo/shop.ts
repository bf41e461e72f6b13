/** The example application and its customers, as processes of a lab. */

import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { packageRoot } from '../lab/paths.js';
import type { LabProcess, SpawnOptions } from '../lab/processes.js';

export const SHOP = join(packageRoot(), 'examples/shop');
/** Where envoy.yaml listens. */
export const SHOP_LISTENER = '127.10.0.1:8000';

/** What the customers report of one kind of policy. */
export interface KindResult {
  readonly kind: string;
  readonly requests: number;
  readonly failures: number;
  readonly p50_us: number;
  readonly p99_us: number;
  /** for a split: which version answered how often */
  readonly seen: Readonly<Record<string, number>>;
  readonly first_failure?: string;
}

/** Starts `argv` somewhere: beside the mesh or inside it. */
export type Starter = (name: string, argv: readonly string[], options: SpawnOptions) => LabProcess;

/** Starts the application's six processes and waits until all listen. */
export async function openShop(start: Starter, env: Readonly<Record<string, string>>): Promise<LabProcess> {
  const shop = start('shop', [process.execPath, join(SHOP, 'start.mjs')], { env });
  await shop.waitFor(/the shop is open/, 15_000);
  return shop;
}

/** A running client.mjs. */
export class Customers {
  readonly #process: LabProcess;
  readonly #waiting: ((result: KindResult) => void)[] = [];
  #fail: ((error: Error) => void) | undefined;

  constructor(start: Starter, env: Readonly<Record<string, string>>) {
    this.#process = start('customers', [process.execPath, join(SHOP, 'client.mjs')], { env, stdin: true });
    createInterface({ input: this.#process.child.stdout! }).on('line', (line) => {
      if (line.startsWith('{')) this.#waiting.shift()?.(JSON.parse(line) as KindResult);
    });
    void this.#process.exited.then(() => this.#fail?.(new Error(`the customers ended: ${this.#process.output}`)));
  }

  /** Sends `requests` requests of one kind, one after the other. @throws Error if the client ends */
  run(kind: string, requests: number): Promise<KindResult> {
    return new Promise((resolve, reject) => {
      this.#fail = reject;
      this.#waiting.push(resolve);
      this.#process.child.stdin!.write(`${JSON.stringify({ kind, requests })}\n`);
    });
  }

  async stop(): Promise<void> {
    await this.#process.stop();
  }
}

/** Kinds of policy in the order of the story that the demo tells. */
export const KINDS = [
  'application',
  'routing by path',
  'routing by header',
  'weighted split',
  'subset by label',
  'rewrite',
  'redirect',
  'direct response',
  'request headers',
  'request body',
  'access denied',
  'left to the proxy',
] as const;
