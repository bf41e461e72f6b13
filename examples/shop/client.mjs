// The shop's customers: for each kind of policy requests whose answers show that it was carried out. Reads lines
// {"kind": ..., "requests": n} and prints one line for each: {"kind", "requests", "failures", "p50_us", "p99_us",
// "seen"}. A failure is an answer that the policy does not allow.
import { createInterface } from 'node:readline';
import { call } from './services/lib.mjs';

const json = (answer) => JSON.parse(answer.text);
const isFrom = (service, version) => (answer) => {
  const { service: s, version: v } = answer.status === 200 ? json(answer) : {};
  return s === service && (!version || v === version);
};

/** kind -> [service, path, options, the answer is right, what to count] */
const KINDS = {
  application: ['frontend', '/', {}, (a) => isFrom('frontend')(a) && json(a).items.length === 4],
  'routing by path': ['catalog', '/items/2', {}, (a) => isFrom('catalog')(a) && json(a).items[0].name === 'lamp'],
  'routing by header': ['reviews', '/reviews/1', { headers: { 'x-user-group': 'beta' } }, isFrom('reviews', 'v2')],
  'weighted split': ['reviews', '/reviews/1', {}, isFrom('reviews'), (a) => json(a).version],
  'subset by label': ['reviews', '/pinned/reviews/1', {}, isFrom('reviews', 'v1')],
  rewrite: ['catalog', '/api/products/3', {}, (a) => isFrom('catalog')(a) && json(a).received.path === '/items/3'],
  redirect: ['catalog', '/old/3', {}, (a) => a.status === 301 && a.headers.location === 'http://shop.example/items/3'],
  'direct response': [
    'catalog',
    '/robots.txt',
    {},
    (a) => a.status === 200 && a.text === 'User-agent: *\nDisallow: /\n',
  ],
  'request headers': [
    'cart',
    '/cart/ann',
    { headers: { 'x-debug': 'on' } },
    (a) => {
      const { headers } = json(a).received;
      return headers['x-shop-tenant'] === 'demo' && headers['x-debug'] === undefined;
    },
  ],
  'access denied': [
    'cart',
    '/cart/ann',
    { method: 'DELETE' },
    (a) => a.status === 403 && a.text === 'RBAC: access denied',
  ],
  'request body': [
    'cart',
    '/cart/bob',
    { method: 'POST', body: 'a teapot' },
    (a) => json(a).lines.at(-1) === 'a teapot',
  ],
  'left to the proxy': ['recommendations', '/recommendations/traced', {}, (a) => a.headers['x-shop-traced'] === 'yes'],
};

async function run({ kind, requests }) {
  const [service, path, options, right, count] = KINDS[kind];
  const micros = [];
  const seen = {};
  const failures = [];
  for (let i = 0; i < requests; i++) {
    const start = process.hrtime.bigint();
    try {
      const answer = await call(service, path, options);
      micros.push(Number(process.hrtime.bigint() - start) / 1000);
      if (!right(answer)) failures.push(`${answer.status} ${answer.text.slice(0, 200)}`);
      else if (count) seen[count(answer)] = (seen[count(answer)] ?? 0) + 1;
    } catch (error) {
      failures.push(error.message);
    }
  }
  micros.sort((a, b) => a - b);
  const at = (q) => Math.round(micros[Math.min(micros.length - 1, Math.floor(micros.length * q))] ?? 0);
  const summary = { kind, requests, failures: failures.length, p50_us: at(0.5), p99_us: at(0.99), seen };
  console.log(JSON.stringify(failures.length ? { ...summary, first_failure: failures[0] } : summary));
}

if (process.argv[2] === '--kinds') {
  console.log(JSON.stringify(Object.keys(KINDS)));
} else {
  for await (const line of createInterface({ input: process.stdin })) await run(JSON.parse(line));
  process.exit(0);
}
