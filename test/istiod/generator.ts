/** istiod's generator as a process that stays: see generator/main.go. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { JsonObject } from '../../src/policy/resources.js';

/** A proxy as istiod sees it. */
export interface AskedProxy {
  readonly name: string;
  readonly type: 'sidecar' | 'router';
  readonly namespace: string;
  readonly address: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly serviceAccount: string;
}

/** What istiod makes for one proxy. */
export interface ProxyResources {
  readonly listeners: JsonObject[];
  readonly routes: JsonObject[];
  readonly clusters: JsonObject[];
  readonly endpoints: JsonObject[];
}

/** True for the sidecar of a server, by the name that it is asked for by. */
export const isServer = (proxy: string): boolean => !/^(client in|gateway) /.test(proxy);

export interface Generated {
  /** documents that istiod's validation refuses, by their number; `left`: they were left out */
  readonly refused: readonly { readonly index: number; readonly why: string; readonly left: boolean }[] | null;
  readonly proxies: Readonly<Record<string, ProxyResources>> | null;
  /** why there is nothing */
  readonly error: string;
}

/** Runs the generator's program, anew when it has died of a question. */
export class Generator {
  #child: ChildProcessWithoutNullStreams | undefined;
  #lines: AsyncIterator<string> | undefined;
  #complaints = '';

  constructor(readonly program: string) {}

  #start(): ChildProcessWithoutNullStreams {
    const child = spawn(this.program, [], { stdio: ['pipe', 'pipe', 'pipe'] });
    child.stdin.on('error', () => undefined);
    child.stderr.on('data', (data: Buffer) => {
      this.#complaints = (this.#complaints + data.toString()).slice(-4000);
    });
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    this.#child = child;
    return child;
  }

  /**
   * What istiod makes of the documents for each of the proxies; `error` says what it died of.
   *
   * @param strict leave out what validation refuses
   */
  async ask(documents: readonly JsonObject[], proxies: readonly AskedProxy[], strict: boolean): Promise<Generated> {
    const child = this.#child ?? this.#start();
    this.#complaints = '';
    child.stdin.write(`${JSON.stringify({ documents, proxies, strict })}\n`);
    const line = await this.#lines?.next();
    if (line && !line.done) return JSON.parse(line.value) as Generated;
    this.#child = undefined;
    const panic = /(panic|fatal error): .*/.exec(this.#complaints)?.[0] ?? this.#complaints.slice(-300);
    return { refused: [], proxies: {}, error: `istiod died: ${panic}` };
  }

  close(): void {
    this.#child?.stdin.end();
    this.#child = undefined;
  }
}
