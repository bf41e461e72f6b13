/** When two answers are the same, and two requests as upstreams received them. */
import type { JobResult, WireAnswer } from '../../src/lab/raw-client.js';
import type { HeaderList } from '../../src/lab/wire.js';
import type { Echo } from './echo-server.js';

/** Headers of answers that differ from one request to the next, or that are given by configuration only. */
const ANSWER_IGNORED = new Set(['date', 'server', 'x-envoy-upstream-service-time']);
/** The same for what upstreams receive. */
const REQUEST_IGNORED = new Set(['x-envoy-expected-rq-timeout-ms']);

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

function normalHeaders(headers: HeaderList, ignored: ReadonlySet<string>): string[] {
  return (
    headers
      .map(([n, v]) => [n.toLowerCase(), v] as const)
      .filter(([n]) => !ignored.has(n))
      .map(([n, v]) => [n, n === 'x-request-id' && UUID.test(v) ? '<uuid>' : v] as const)
      // stable: several values of one name keep their order
      .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
      .map(([n, v]) => `${n}: ${v}`)
  );
}

/** `split-1` and `split-2` are one choice that a proxy may make either way. */
function choice(upstream: string): string {
  return upstream.replace(/-\d$/, '');
}

function normalEcho(echo: Echo): unknown {
  return { ...echo, upstream: choice(echo.upstream), headers: normalHeaders(echo.headers, REQUEST_IGNORED) };
}

function normalAnswer(answer: WireAnswer): unknown {
  const body = Buffer.from(answer.body, 'base64');
  const upstream = answer.headers.find(([n]) => n.toLowerCase() === 'x-upstream')?.[1];
  const received = answer.headers.find(([n]) => n.toLowerCase() === 'x-received')?.[1];
  const headers = answer.headers.map(([n, v]): [string, string] => {
    const name = n.toLowerCase();
    if (name === 'x-upstream') return [n, choice(v)];
    if (name === 'x-received') return [n, 'see `received`'];
    // the length of an upstream's body depends on the ignored headers that it received
    if (name === 'content-length' && upstream && answer.framing === 'length' && Number(v) === body.length) {
      return [n, '<as the body>'];
    }
    if (name === 'content-length' && received) return [n, '<some>'];
    return [n, v];
  });
  const echo = received ? Buffer.from(received, 'base64').toString('latin1') : upstream ? body.toString('latin1') : '';
  return {
    status: answer.status,
    version: answer.version,
    interim: answer.interim,
    framing: answer.framing,
    trailers: answer.trailers,
    headers: normalHeaders(headers, ANSWER_IGNORED),
    ...(echo
      ? { received: normalEcho(JSON.parse(echo) as Echo), padding: body.length - echo.trimEnd().length > 4000 }
      : { body: body.toString('latin1') }),
  };
}

function ending(error: string | undefined): string | undefined {
  return error === 'closed' || error === 'ECONNRESET' || error === 'EPIPE' ? 'connection ended' : error;
}

function walk(path: string, expected: unknown, actual: unknown, out: string[]): void {
  if (JSON.stringify(expected) === JSON.stringify(actual)) return;
  if (Array.isArray(expected) && Array.isArray(actual)) {
    const missing = expected.filter((e) => !actual.includes(e));
    const extra = actual.filter((a) => !expected.includes(a));
    if (missing.length + extra.length === 0) out.push(`${path}: other order or number: ${expected} | ${actual}`);
    for (const m of missing) out.push(`${path}: missing ${JSON.stringify(m)}`);
    for (const e of extra) out.push(`${path}: not expected ${JSON.stringify(e)}`);
    return;
  }
  if (expected && actual && typeof expected === 'object' && typeof actual === 'object') {
    const keys = new Set([...Object.keys(expected), ...Object.keys(actual)]);
    for (const k of keys) {
      walk(`${path}.${k}`, (expected as Record<string, unknown>)[k], (actual as Record<string, unknown>)[k], out);
    }
    return;
  }
  const show = (v: unknown): string => JSON.stringify(v)?.slice(0, 300) ?? 'nothing';
  out.push(`${path}: expected ${show(expected)}, got ${show(actual)}`);
}

/** How `actual` differs from `expected`, one difference a line; empty: the same. */
export function differences(expected: JobResult, actual: JobResult): string[] {
  const out: string[] = [];
  for (let i = 0; i < Math.max(expected.answers.length, actual.answers.length); i++) {
    const [e, a] = [expected.answers[i], actual.answers[i]];
    walk(`answer ${i + 1}`, e && normalAnswer(e), a && normalAnswer(a), out);
  }
  walk('connection', ending(expected.error), ending(actual.error), out);
  return out;
}
