/**
 * The node's certificates of the mesh, as files of Envoy's secret discovery: the proxy reads them by itself, and once more
 * when files are moved into their folder, as Kubernetes does with what it mounts.
 */
import { accessSync, constants, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { AUTHORITIES_SECRET, IDENTITY_SECRET } from '../policy/istio/mesh-tls.js';
import type { JsonObject } from '../policy/resources.js';
import { StartError } from './instance-options.js';

/** Names that the files have where Istio mounts them. */
const [CHAIN, KEY, ROOT] = ['cert-chain.pem', 'key.pem', 'root-cert.pem'] as const;

/** Paths of what `writeSecrets` writes. */
export interface SecretFiles {
  readonly identity: string;
  readonly authorities: string;
}

/** Where the files are in a proxy's folder. */
export function secretFiles(folder: string): SecretFiles {
  return { identity: join(folder, 'mesh-identity.json'), authorities: join(folder, 'mesh-authorities.json') };
}

/** Has the proxy find the certificates of `folder`. @throws StartError when one of them cannot be read */
export function writeSecrets(files: SecretFiles, folder: string): void {
  for (const name of [CHAIN, KEY, ROOT]) {
    try {
      accessSync(join(folder, name), constants.R_OK);
    } catch {
      throw new StartError(`--certificates ${folder}: ${name} cannot be read`, 'input');
    }
  }
  const watched = { watched_directory: { path: folder } };
  const secret = (name: string, value: JsonObject) =>
    JSON.stringify({
      resources: [{ '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret', name, ...value }],
    });
  const at = (name: string) => ({ filename: join(folder, name) });
  mkdirSync(dirname(files.identity), { recursive: true, mode: 0o700 });
  const chain = { certificate_chain: at(CHAIN), private_key: at(KEY), ...watched };
  writeFileSync(files.identity, secret(IDENTITY_SECRET, { tls_certificate: chain }));
  const authorities = { trusted_ca: at(ROOT), ...watched };
  writeFileSync(files.authorities, secret(AUTHORITIES_SECRET, { validation_context: authorities }));
}
