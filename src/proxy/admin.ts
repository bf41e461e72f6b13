import { request } from 'node:http';
import { ProxyError } from './find-envoy.js';

/** An answer of the admin interface. */
export interface AdminReply {
  readonly status: number;
  readonly body: string;
}

/** Envoy's admin interface at a unix socket's path or at `host:port`. */
export class Admin {
  constructor(readonly address: string) {}

  /** Sends a request; rejects with ProxyError when nothing answers within `timeoutMs`. */
  call(method: 'GET' | 'POST', path: string, timeoutMs = 5000): Promise<AdminReply> {
    const at = this.address.startsWith('/') ? { socketPath: this.address } : hostPort(this.address);
    return new Promise((resolve, reject) => {
      // no kept-alive connection: a proxy that drains must not wait for us
      const req = request({ ...at, method, path, agent: false, timeout: timeoutMs }, (res) => {
        const chunks: Buffer[] = [];
        res.on('data', (chunk: Buffer) => chunks.push(chunk));
        res.on('end', () => resolve({ status: res.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') }));
        res.on('error', fail);
      });
      const fail = (error: Error) => reject(new ProxyError(`Envoy's admin ${this.address} ${path}: ${error.message}`));
      req.on('timeout', () => req.destroy(new Error(`no answer in ${timeoutMs} ms`)));
      req.on('error', fail);
      req.end();
    });
  }

  /** Counters and gauges whose names match `filter` (a regex in RE2 syntax). */
  async stats(filter: string): Promise<Map<string, number>> {
    const { body } = await this.call('GET', `/stats?filter=${encodeURIComponent(filter)}`);
    const stats = new Map<string, number>();
    for (const line of body.split('\n')) {
      const split = line.lastIndexOf(': ');
      const value = Number(line.slice(split + 2));
      if (split > 0 && !Number.isNaN(value)) stats.set(line.slice(0, split), value);
    }
    return stats;
  }

  /** Whether Envoy is LIVE; false while it starts or when nothing answers. */
  async ready(): Promise<boolean> {
    try {
      const { status, body } = await this.call('GET', '/ready', 1000);
      return status === 200 && body.startsWith('LIVE');
    } catch {
      return false;
    }
  }
}

function hostPort(address: string): { host: string; port: number } {
  const split = address.lastIndexOf(':');
  return { host: address.slice(0, split).replace(/^\[|\]$/g, ''), port: Number(address.slice(split + 1)) };
}
