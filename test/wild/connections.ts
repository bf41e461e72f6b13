/** Listeners that are about connections: where a real Envoy leads them is where the kernel may. */
import { routeFor } from '../../src/plan/hellos.js';
import type { ConnectionRoute, HelloPlan, Plan } from '../../src/plan/ir.js';
import type { Tally, Trial } from './world.js';

/** Connections of a listener whose connections are all alike, and of each ClientHello. */
const CONNECTIONS = 8;
const OF_HELLO = 3;
const MOST_NAMES = 12;

const REQUEST = Buffer.from('GET / HTTP/1.1\r\nHost: any.example\r\n\r\n');

interface Place {
  readonly file: string;
  readonly address: string;
  readonly port: number;
}

/** Opens connections that say `first` and then a request, which the echo server answers. */
async function compareRoute(
  plan: Plan,
  route: ConnectionRoute,
  { file, address, port }: Place,
  { client, echoes }: Trial,
  tally: Tally,
  { first = Buffer.alloc(0), times = CONNECTIONS, what = 'a connection' } = {},
): Promise<void> {
  const used = new Set(route.clusters.filter(({ weight }) => weight > 0).map(({ cluster }) => cluster));
  const endpoints = plan.clusters.filter(({ name }) => used.has(name)).flatMap((c) => c.endpoints);
  const { names, ports } = echoes;
  const own = new Set(endpoints.filter(({ weight }) => weight > 0).map((e) => names[ports.indexOf(e.port)]));
  const exchanges = [{ pieces: [Buffer.concat([first, REQUEST]).toString('base64')], methods: ['GET'] }];
  const theirs = new Set<string | undefined>();
  for (let i = 0; i < times; i++) {
    const { answers } = await client.run({ address, port, exchanges, timeoutMs: 30_000 });
    theirs.add(answers[0]?.headers.find(([name]) => name.toLowerCase() === 'x-upstream')?.[1]);
    tally.pairs++;
    tally.forward++;
  }
  if (own.size > 0 && [...theirs].some((name) => !own.has(name)))
    tally.differences.push({
      ...{ file, request: `${what} of ${route.id}` },
      why: `kernel: ${[...own].join()}; Envoy: ${[...theirs].join()}`,
    });
}

/** Compares where connections of a listener go whose connections are all alike. */
export function compareConnections(
  plan: Plan,
  route: ConnectionRoute,
  where: Place,
  around: Trial,
  tally: Tally,
): Promise<void> {
  return compareRoute(plan, route, where, around, tally);
}

/** Compares where a listener leads ClientHellos with its names, below them and with others, and what is not TLS. */
export async function compareHellos(
  plan: Plan,
  hellos: HelloPlan,
  where: Place,
  around: Trial,
  tally: Tally,
): Promise<void> {
  const own = hellos.names
    .slice(0, MOST_NAMES)
    .flatMap(({ name }) => [name.replace('*', 'a.b'), `x.${name.slice(2)}`, name.replace('*', 'A').toUpperCase()]);
  const protocols = [...hellos.names.map(({ way }) => way), hellos.other].flatMap((way) => way.protocols);
  const named = [...new Set(protocols.map(({ name }) => name))];
  const offers = [[], ...named.map((name) => [name]), ['none', ...named], [...named].reverse()];
  const said = ['nobody.example', undefined, 'a.test.', '.test', 'x..test', ...new Set(own)].flatMap((name) =>
    offers.map((offer) => ({ ...(name === undefined ? {} : { name }), protocols: offer })),
  );
  for (const hello of [undefined, ...said]) {
    const index = routeFor(hellos, hello);
    if (index === undefined) {
      tally.pairs++;
      tally.proxy++;
      continue;
    }
    const what = hello ? `the name ${hello.name ?? 'of nobody'} with ${hello.protocols.join()}` : 'no TLS';
    const first = hello ? clientHello(hello) : Buffer.alloc(0);
    await compareRoute(plan, hellos.routes[index]!, where, around, tally, { first, times: OF_HELLO, what });
  }
}

/** Bytes after their length, which has this many bytes. */
function sized(bytes: number, ...parts: readonly Uint8Array[]) {
  const body = Buffer.concat(parts);
  const length = Buffer.alloc(bytes);
  length.writeUIntBE(body.length, 0, bytes);
  return Buffer.concat([length, body]);
}

/** A ClientHello (RFC 8446, 4.1.2) in a record, with a server name (RFC 6066, 3) and protocols (RFC 7301). */
function clientHello({ name, protocols }: { readonly name?: string; readonly protocols: readonly string[] }) {
  const extension = (kind: number, body: Uint8Array) => Buffer.concat([Buffer.of(0, kind), sized(2, body)]);
  const extensions = [extension(43, Buffer.of(4, 3, 4, 3, 3))];
  if (name !== undefined)
    extensions.push(extension(0, sized(2, Buffer.concat([Buffer.of(0), sized(2, Buffer.from(name))]))));
  if (protocols.length > 0)
    extensions.push(extension(16, sized(2, ...protocols.map((protocol) => sized(1, Buffer.from(protocol))))));
  const body = Buffer.concat([
    ...[
      Buffer.of(3, 3),
      Buffer.alloc(32, 7),
      sized(1),
      sized(2, Buffer.of(0x13, 1, 0xc0, 0x2f)),
      sized(1, Buffer.of(0)),
    ],
    sized(2, ...extensions),
  ]);
  return Buffer.concat([Buffer.of(22, 3, 1), sized(2, Buffer.of(1), sized(3, body))]);
}
