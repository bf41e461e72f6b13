/** `sidestep run`: the agent, in the foreground. */
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { Instance } from '../agent/instance.js';
import { type InstanceOptions, StartError } from '../agent/instance-options.js';
import type { InboundOption } from '../agent/policy.js';
import { isInstanceName } from '../kernel/cgroups.js';
import { KernelError } from '../kernel/libbpf.js';
import { parseIdentity } from '../policy/istio/identities.js';
import { ProxyError } from '../proxy/find-envoy.js';
import { type ClientsOptions, clientsOf, withClients } from './clients.js';
import { EXIT, exitHelp } from './exit-codes.js';

interface RunOptions extends ClientsOptions {
  readonly name: string;
  readonly proxy?: string;
  readonly admin: string;
  readonly answerHeaders: string;
  readonly intake: 'socket' | 'listener';
  readonly http2?: boolean;
  readonly inbound?: readonly string[];
  readonly identity?: string;
  readonly certificates?: string;
}

/** Adds the command to the program. */
export function register(program: Command): void {
  withClients(program.command('run'))
    .description('load and attach the fast path, start the proxy behind it, watch the files and switch on change')
    .argument('<files...>', 'policy files or folders, - for standard input')
    .option('--name <name>', 'name of this instance', 'default')
    .option('--proxy <none|address>', 'use no proxy, or the one at HOST or HOST:PORT, instead of starting Envoy')
    .addOption(
      new Option(
        '--answer-headers <whose>',
        'server: answers keep the headers of the server; envoy: server, date and x-envoy-upstream-service-time are as from Envoy (the agent carries the answers then, which is slower)',
      )
        .choices(['server', 'envoy'])
        .default('server'),
    )
    .addOption(
      new Option(
        '--intake <where>',
        'where requests are decided. socket: at the applications’ sockets (fastest); listener: where the agent accepts their connections, for applications whose sockets must not be in a socket map',
      )
        .choices(['socket', 'listener'])
        .default('socket'),
    )
    .addOption(new Option('--http2').hideHelp())
    .option(
      '--no-http2',
      'leave all of HTTP/2 to the proxy. Otherwise requests of HTTP/2 in plain text (gRPC) to servers that speak it are decided in the kernel, stream by stream, as far as their routes allow',
    )
    .option(
      '--inbound <listener=address:port>',
      'LISTENER of the policies stands before the server at ADDRESS:PORT of this host, for connections from everywhere; with /refuse behind the port nobody connects while the agent is away, otherwise the proxy keeps the policy (repeatable). `policies`: what the files’ AuthorizationPolicies and RequestAuthentications ask of servers of this host is asked of everybody who connects to them',
      (value: string, all: readonly string[] = []) => [...all, value],
    )
    .option(
      '--identity <identity>',
      'who the clients of this instance are where no document knows their address: spiffe://TD/ns/NS/sa/SA, TD/ns/NS/sa/SA or NS/SA',
    )
    .option(
      '--certificates <folder>',
      'this node’s certificates of the mesh: cert-chain.pem, key.pem and root-cert.pem, as Istio mounts them; DestinationRules with ISTIO_MUTUAL then count',
    )
    .option('--admin <host:port>', 'admin address', '127.0.0.1:15090')
    .addHelpText(
      'after',
      exitHelp({
        0: 'stopped by SIGTERM, SIGINT or `off`',
        1: 'invalid input',
        3: 'no privilege, no Envoy, a feature of the kernel is missing, or the name is taken',
      }),
    )
    .addHelpText(
      'after',
      '\nPrints a line with "ready" once traffic may flow. SIGHUP reads the files again; SIGTERM and SIGINT drain, detach\neverything.\n\nExample: sidestep run mesh/ & sidestep exec -- curl http://reviews/',
    )
    .action(async (files: string[], options: RunOptions) => {
      process.exitCode = await run(files, options);
    });
}

/** What the instance is to be; a text says what is wrong with the options. */
function instanceOptions(options: RunOptions): Omit<InstanceOptions, 'files' | 'log'> | string {
  if (!isInstanceName(options.name))
    return `--name ${options.name}: names are up to 48 letters, digits, dots, dashes and underscores`;
  const admin = hostPort(options.admin);
  if (!admin) return `--admin ${options.admin} is not HOST:PORT`;
  const proxy = options.proxy === undefined ? 'own' : options.proxy === 'none' ? 'none' : hostPort(options.proxy, 0);
  if (!proxy) return `--proxy ${options.proxy} is neither none nor HOST or HOST:PORT`;
  const all = options.inbound ?? [];
  const atServers = all.flatMap((text) => /^policies(\/refuse)?$/.exec(text)?.[0] ?? []).at(-1);
  const given = all.filter((text) => !/^policies(\/refuse)?$/.test(text));
  const inbound = given.map(inboundOption);
  const wrong = inbound.indexOf(undefined);
  if (wrong >= 0) return `--inbound ${given[wrong]} is not LISTENER=ADDRESS:PORT, nor policies`;
  const identity = options.identity === undefined ? undefined : parseIdentity(options.identity);
  if (options.identity !== undefined && !identity)
    return `--identity ${options.identity} is not spiffe://TD/ns/NS/sa/SA, TD/ns/NS/sa/SA or NS/SA`;
  if (identity && all.length > 0)
    return '--identity says who the applications of this instance are; with --inbound, clients may be anybody';
  if (options.certificates !== undefined && proxy !== 'own')
    return '--certificates needs the proxy that Sidestep starts by itself';
  return {
    name: options.name,
    proxy: typeof proxy === 'string' ? proxy : { address: proxy.host, port: proxy.port },
    admin,
    ...(identity ? { identity } : {}),
    ...(options.certificates === undefined ? {} : { certificates: resolve(options.certificates) }),
    ...clientsOf(options),
    envoyHeaders: options.answerHeaders === 'envoy',
    intake: options.intake,
    http2: options.http2 !== false,
    inbound: inbound.filter((i) => i !== undefined),
    ...(atServers ? { atServers: atServers.endsWith('/refuse') ? 'refuse' : 'proxy' } : {}),
  };
}

async function run(files: readonly string[], options: RunOptions): Promise<number> {
  const log = (message: string): void => void process.stderr.write(`${message}\n`);
  const checked = instanceOptions(options);
  if (typeof checked === 'string') {
    log(`error: ${checked}`);
    return EXIT.USAGE;
  }
  if (process.getuid?.() !== 0) {
    log('error: run needs root to load programs into the kernel; try: sudo sidestep run ...');
    return EXIT.UNAVAILABLE;
  }
  const instance = new Instance({ ...checked, files, log });
  let stopping = false;
  const ended = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const)
      process.on(signal, () => {
        stopping = true;
        resolve();
      });
  });
  process.on('SIGHUP', () => void instance.reload());
  try {
    await instance.start();
  } catch (error) {
    log(`error: ${(error as Error).message}`);
    if (process.env.SIDESTEP_DEBUG) log(`${(error as Error).stack}`);
    if (error instanceof StartError && error.kind === 'input') return EXIT.INVALID;
    const missing = error instanceof StartError || error instanceof KernelError || error instanceof ProxyError;
    return missing ? EXIT.UNAVAILABLE : EXIT.INVALID;
  }
  const { report, intercepts } = instance.generation;
  if (!stopping)
    process.stdout.write(
      `ready: ${report.kernel} of ${report.rules} rules in the kernel, ${report.proxy} left to the proxy, ${intercepts.length} addresses intercepted, admin ${instance.admin}\n`,
    );
  await ended;
  await instance.stop();
  return EXIT.OK;
}

/** The port is behind the last colon, the listener before the last equals sign; both names may contain such signs. */
function inboundOption(text: string): InboundOption | undefined {
  const match = /^(.+)=(.+?)(\/refuse)?$/.exec(text);
  const at = match && hostPort(match[2]!);
  if (!match || !at || isIP(at.host) === 0 || at.port === 0) return undefined;
  return { listener: match[1]!, address: at.host, port: at.port, away: match[3] ? 'refuse' : 'proxy' };
}

function hostPort(text: string, otherwise?: number): { host: string; port: number } | undefined {
  const match = /^\[?([^\]]+?)\]?:(\d+)$/.exec(text);
  if (match && Number(match[2]) < 65536) return { host: match[1]!, port: Number(match[2]) };
  return otherwise === undefined || text === '' ? undefined : { host: text, port: otherwise };
}
