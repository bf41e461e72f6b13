/** The keys that tokens are verified with, as long as Envoy would keep them. */
import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { JWK } from 'jose';
import { keysOfSet } from '../plan/judge-token.js';
import type { TokenKeys } from '../plan/tokens.js';

const FETCH_MS = 5000;
/** After a fetch that failed. */
const RETRY_MS = 5000;
const MAX_SET_BYTES = 1024 * 1024;

/** Where a cluster is to be reached, for a fetch; undefined: by the name in the address. */
export type Reach = (cluster: string) => { readonly address: string; readonly port: number } | undefined;

interface Fetched {
  readonly keys: Promise<readonly JWK[] | undefined>;
  readonly until: number;
}

/** The key sets of one generation of the policies. */
export class KeySets {
  readonly #sets = new Map<string, Fetched>();

  constructor(private readonly reach: Reach) {}

  /** The keys, or undefined while nobody has them: then tokens are the proxy's. */
  keys(source: TokenKeys): Promise<readonly JWK[] | undefined> {
    const key = JSON.stringify(source);
    const known = this.#sets.get(key);
    if (known && known.until > Date.now()) return known.keys;
    const keys = this.#load(source).catch(() => undefined);
    // Inline keys and files are read once in a generation, as by Envoy.
    const lasting = source.kind !== 'remote';
    this.#sets.set(key, { keys, until: lasting ? Number.POSITIVE_INFINITY : Date.now() + source.cacheMs });
    if (!lasting)
      void keys.then((found) => {
        if (!found) this.#sets.set(key, { keys, until: Date.now() + RETRY_MS });
      });
    return keys;
  }

  /** When keys that `keys` has given are out of date, in milliseconds since the epoch. */
  until(source: TokenKeys): number {
    return this.#sets.get(JSON.stringify(source))?.until ?? Number.POSITIVE_INFINITY;
  }

  async #load(source: TokenKeys): Promise<readonly JWK[] | undefined> {
    if (source.kind === 'inline') return keysOfSet(source.jwks);
    if (source.kind === 'file') return keysOfSet(readFileSync(source.path, 'utf8'));
    return keysOfSet(await fetchText(new URL(source.uri), this.reach(source.cluster)));
  }
}

/** GETs a document; redirects are not followed, as by Envoy. @throws Error for anything but a whole 200 */
export function fetchText(url: URL, to: { address: string; port: number } | undefined): Promise<string> {
  const secure = url.protocol === 'https:';
  const options = {
    method: 'GET',
    host: to?.address ?? url.hostname,
    port: to?.port ?? (url.port || (secure ? 443 : 80)),
    path: `${url.pathname}${url.search}`,
    headers: { host: url.host, accept: 'application/json' },
    servername: url.hostname,
    timeout: FETCH_MS,
    agent: false,
  };
  return new Promise((resolve, reject) => {
    const request = (secure ? httpsRequest : httpRequest)(options, (answer) => {
      const chunks: Buffer[] = [];
      let size = 0;
      answer.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > MAX_SET_BYTES) request.destroy(new Error('the key set is too large'));
        chunks.push(chunk);
      });
      answer.on('error', reject);
      answer.on('end', () => {
        if (answer.statusCode !== 200 || !answer.complete) reject(new Error(`status ${answer.statusCode}`));
        else resolve(Buffer.concat(chunks).toString());
      });
    });
    request.on('timeout', () => request.destroy(new Error('timeout')));
    request.on('error', reject);
    request.end();
  });
}
