import net from 'node:net';
import { type Command, InvalidArgumentError } from 'commander';
import { buildPlan } from '../plan/build.js';
import type { Plan } from '../plan/ir.js';
import type { PlanRequest } from '../plan/request-view.js';
import { type Identity, parseIdentity, spiffe } from '../policy/istio/identities.js';
import type { Resources } from '../policy/resources.js';
import { explain } from '../report/explain.js';
import { explainText } from '../report/explain-text.js';
import { paintFor } from '../report/paint.js';
import { type ClientsOptions, clientsOf, withClients } from './clients.js';
import { EXIT, exitHelp } from './exit-codes.js';
import { loadInput, toJsonText } from './input.js';

interface Options extends ClientsOptions {
  readonly request: string;
  readonly header?: string[];
  readonly from?: string;
  readonly listener?: string;
  readonly sni?: string;
  readonly alpn?: string;
  readonly http: string;
  readonly bodyLength?: number;
  readonly json?: boolean;
  readonly verbose?: boolean;
}

/**
 * The listener that a request for a host and port meets: the one named, else one that is intercepted at the host's
 * address and the port, else one with the port, else the only one. A text says why there is none.
 */
function chooseListener(
  plan: Plan,
  resources: Resources,
  url: URL,
  named: string | undefined,
): { name: string } | string {
  if (named !== undefined)
    return plan.listeners.some((l) => l.name === named) ? { name: named } : `there is no listener ${named}`;
  const port = Number(url.port || 80);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const entry = resources.hosts.find((h) => h.names.includes(host));
  const address = net.isIP(host) ? host : entry?.address;
  const known = (name: string) => plan.listeners.some((l) => l.name === name);
  const found =
    resources.intercepts.find((i) => i.port === port && i.address === address && known(i.listener))?.listener ??
    namesHost(plan, resources, host, port) ??
    resources.intercepts.find((i) => i.port === port && known(i.listener))?.listener ??
    plan.listeners.find((l) => l.proxyAddress.port === port)?.name ??
    (plan.listeners.length === 1 ? plan.listeners[0]!.name : undefined);
  const all = plan.listeners.map((l) => l.name).join(', ');
  return found === undefined
    ? `no listener for port ${port}; name one with --listener (${all || 'there are none'})`
    : { name: found };
}

/**
 * The listener for a port that names the host best: a gateway's, for a host that is no service's. Gateways that are only
 * assumed are intercepted nowhere; their port is in their name.
 */
function namesHost(plan: Plan, resources: Resources, host: string, port: number): string | undefined {
  const length = (domain: string) => {
    if (domain === host) return Number.POSITIVE_INFINITY;
    return domain.startsWith('*.') && host.endsWith(domain.slice(1)) ? domain.length : 0;
  };
  const at = (name: string) =>
    resources.intercepts.some((i) => i.port === port && i.listener === name) || name.split('|')[1] === String(port);
  const ranked = plan.listeners
    .filter((listener) => at(listener.name))
    .map(({ name, virtualHosts }) => ({
      name,
      best: Math.max(0, ...virtualHosts.flatMap((v) => v.domains.map(length))),
    }))
    .sort((a, b) => b.best - a.best);
  return ranked[0] && ranked[0].best > 0 ? ranked[0].name : undefined;
}

/** Parses `METHOD URL`; a text says what is wrong. */
function parseRequest(options: Options): { method: string; url: URL; request: Omit<PlanRequest, 'listener'> } | string {
  const m = /^(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s+)?(\S+)$/.exec(options.request.trim());
  if (!m) return 'a request is METHOD URL, for example: GET http://host/path';
  const method = m[1] ?? 'GET';
  const text = m[2]!;
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return `not a URL: ${text}`;
  }
  if (url.protocol !== 'http:') return `only http: URLs are explained, not ${url.protocol}`;
  // as written: URL would normalise the path and the host
  const after = /^[a-z]+:\/\/([^/?#]*)([^#]*)/i.exec(text);
  const written = after?.[2] ?? '';
  const target = written === '' ? '/' : written.startsWith('?') ? `/${written}` : written;
  const headers: [string, string][] = [];
  for (const h of options.header ?? []) {
    const colon = h.indexOf(':');
    if (colon <= 0) return `not a header: ${h}`;
    headers.push([h.slice(0, colon).trim(), h.slice(colon + 1).trim()]);
  }
  if (!headers.some(([n]) => n.toLowerCase() === 'host')) headers.unshift(['Host', after?.[1] ?? url.host]);
  if (options.from !== undefined && net.isIP(options.from) === 0 && !parseIdentity(options.from))
    return `--from takes an IP address or an identity (NS/SA, ns/NS/sa/SA, spiffe://TD/ns/NS/sa/SA), not ${options.from}`;
  const { bodyLength } = options;
  const framed = headers.some(([n]) => /^(content-length|transfer-encoding)$/i.test(n));
  if (bodyLength !== undefined && bodyLength > 0 && !framed) headers.push(['Content-Length', String(bodyLength)]);
  return {
    method,
    url,
    request: {
      ...{ method, target, headers },
      version: options.http,
      ...(bodyLength === undefined ? {} : { bodyLength }),
    },
  };
}

function bytes(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('a number of bytes.');
  return Number(text);
}

function version(text: string): string {
  if (!['1.0', '1.1', '2'].includes(text)) throw new InvalidArgumentError('1.0, 1.1 or 2.');
  return text;
}

/**
 * The address of a workload with this identity. Where the files know none, the client is at an address that nobody knows
 * (RFC 5737), and has the identity because the policies were translated for an instance with it.
 */
function addressOf(resources: Resources, identity: Identity): string {
  return (resources.identities ?? []).find((i) => i.identity === spiffe(identity))?.address ?? '192.0.2.2';
}

const collect = (value: string, before: readonly string[] = []): string[] => [...before, value];

/** `explain FILES --request ...`: which rule decides a request, on which path, and what happens to it. */
export function register(program: Command): void {
  withClients(program.command('explain'))
    .description('say which rule decides a request, on which path, and what happens to it')
    .argument('<files...>', 'files or folders with policies, - for standard input')
    .requiredOption('-X, --request <request>', "the request, e.g. 'GET http://host/path'")
    .option('-H, --header <header>', "a header of the request, e.g. 'x-user: a' (repeatable)", collect)
    .option('--body-length <bytes>', 'length of the body', bytes)
    .option('--http <version>', 'HTTP version of the request: 1.0, 1.1 or 2', version, '1.1')
    .option('--from <who>', 'IP address or identity (NS/SA or spiffe://TD/ns/NS/sa/SA) that the request comes from')
    .option('--listener <name>', 'the listener that the connection meets')
    .option('--sni <name>', 'the client begins with TLS, and asks for this server (an empty text: for none)')
    .option('--alpn <protocols>', 'with --sni: the protocols that it offers, separated by commas')
    .option('--json', 'print the trace as JSON (docs/explanation.schema.json describes it)')
    .option('-v, --verbose', 'show every rule that was considered, however many')
    .addHelpText('after', exitHelp({ 0: 'done', 1: 'invalid input, or no such listener' }))
    .action(async (files: string[], options: Options) => {
      const parsed = parseRequest(options);
      if (typeof parsed === 'string') {
        process.stderr.write(`error: ${parsed}\n`);
        process.exitCode = EXIT.USAGE;
        return;
      }
      const from = options.from ?? '';
      const identity = net.isIP(from) === 0 ? parseIdentity(from) : undefined;
      const load = { assumeEndpoints: true, ...(identity ? { identity } : {}), ...clientsOf(options) };
      const { resources, ok } = await loadInput(files, false, load);
      if (!ok) {
        process.exitCode = EXIT.INVALID;
        return;
      }
      const plan = buildPlan(resources, { environment: process.env, relays: true });
      const listener = chooseListener(plan, resources, parsed.url, options.listener);
      if (typeof listener === 'string') {
        process.stderr.write(`error: ${listener}\n`);
        process.exitCode = EXIT.INVALID;
        return;
      }
      const sourceIp = identity ? addressOf(resources, identity) : from || undefined;
      const protocols = (options.alpn ?? '').split(',').filter((protocol) => protocol !== '');
      const hello = options.sni === undefined ? undefined : { name: options.sni.toLowerCase(), protocols };
      const request = {
        ...parsed.request,
        ...(sourceIp ? { sourceIp } : {}),
        ...(hello ? { hello } : {}),
        listener: listener.name,
      };
      const explanation = explain(plan, request);
      process.stdout.write(
        options.json
          ? `${toJsonText(explanation)}\n`
          : explainText(explanation, paintFor(process.stdout), options.verbose === true),
      );
    });
}
