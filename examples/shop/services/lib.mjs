// What the shop's services have in common: answering JSON and calling each other by name.
import { Agent, createServer, request } from 'node:http';

const agent = new Agent({ keepAlive: true, maxSockets: 64 });

/**
 * Calls another service by its name, as the application would in a cluster. With SHOP_VIA=ADDRESS:PORT the connection
 * goes to that proxy instead, and the name travels in the Host header only.
 */
export function call(service, path, { method = 'GET', headers = {}, body } = {}) {
  const [host, port] = (process.env.SHOP_VIA ?? `${service}:80`).split(':');
  const length = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const options = { host, port, path, method, agent, headers: { host: service, ...headers, ...length } };
    const req = request(options, (res) => {
      let text = '';
      res.setEncoding('utf8');
      res.on('data', (d) => {
        text += d;
      });
      res.on('end', () => resolve({ status: res.statusCode, headers: res.headers, text }));
      res.on('error', reject);
    });
    req.on('error', reject);
    req.end(body);
  });
}

/** The answer's JSON, or an error that says what came instead. */
export async function callJson(service, path, options) {
  const answer = await call(service, path, options);
  if (answer.status !== 200) throw new Error(`${service}${path}: ${answer.status} ${answer.text}`);
  return JSON.parse(answer.text);
}

/**
 * Serves `handle(path, request, body) -> object` as JSON at ADDRESS:PORT (command line). Every answer says which
 * service gave it and what it received.
 */
export function serve(service, handle) {
  const [address, port, version = 'v1'] = process.argv.slice(2);
  const server = createServer(async (req, res) => {
    let body = '';
    for await (const d of req) body += d;
    try {
      const result = await handle(req.url, req, body);
      const received = { method: req.method, path: req.url, headers: req.headers };
      const text = JSON.stringify({ service, version, ...result, received });
      res.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
      res.end(text);
    } catch (error) {
      res.writeHead(502, { 'content-type': 'text/plain' });
      res.end(`${service}: ${error.message}\n`);
    }
  });
  server.keepAliveTimeout = 60_000;
  server.listen(Number(port), address, () => process.send?.('listening'));
}
