/** Certificates for tests, made by openssl. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../../src/lab/processes.js';

/** Paths of a certificate and its key. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

async function openssl(...args: string[]): Promise<void> {
  const { code, stderr } = await runCommand(['openssl', ...args], { timeoutMs: 20_000 });
  if (code !== 0) throw new Error(`openssl ${args[0]}: ${stderr}`);
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** A certificate authority in a folder. */
export class Authority implements Certificate {
  private constructor(
    private readonly dir: string,
    private readonly name: string,
  ) {}

  get cert(): string {
    return join(this.dir, `${this.name}.pem`);
  }

  get key(): string {
    return join(this.dir, `${this.name}.key`);
  }

  static async make(dir: string, name: string): Promise<Authority> {
    const made = new Authority(dir, name);
    await openssl(
      ...['req', '-x509', ...NEW_KEY, '-keyout', made.key, '-out', made.cert, '-subj', `/CN=${name}`, '-days', '2'],
    );
    return made;
  }

  /** @param san as openssl has it: `DNS:a.test,URI:spiffe://...` */
  async sign(name: string, san: string): Promise<Certificate> {
    const [cert, key] = [join(this.dir, `${name}.pem`), join(this.dir, `${name}.key`)];
    const [request, extensions] = [`${cert}.csr`, `${cert}.ext`];
    await writeFile(extensions, `subjectAltName=${san}\n`);
    await openssl('req', ...NEW_KEY, '-keyout', key, '-out', request, '-subj', `/CN=${name}`);
    await openssl(
      ...['x509', '-req', '-in', request, '-CA', this.cert, '-CAkey', this.key, '-CAcreateserial'],
      ...['-out', cert, '-days', '2', '-extfile', extensions],
    );
    return { cert, key };
  }
}

/** What Node's TLS servers take. */
export async function readCertificate({ cert, key }: Certificate): Promise<{ cert: Buffer; key: Buffer }> {
  return { cert: await readFile(cert), key: await readFile(key) };
}
