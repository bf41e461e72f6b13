import { createHash } from 'node:crypto';
import { rename, rm, writeFile } from 'node:fs/promises';
import { TYPE } from '../policy/envoy/walk.js';
import type { JsonObject } from '../policy/resources.js';
import { discoveryResponse, type ProxyFiles } from './bootstrap.js';

/** What Envoy acknowledges: the statistic whose name ends in `.update_success` or `.update_rejected` after this. */
export interface WatchedFile {
  readonly path: string;
  readonly content: string;
  /** end of the statistics' names before `.update_success`; several subscriptions may match */
  readonly stat: string;
}

/** Envoy replaces colons in the names of statistics. */
function statName(name: string): string {
  return name.replaceAll(':', '_');
}

function file(path: string, type: string, resources: readonly JsonObject[], stat: string): WatchedFile {
  const version = createHash('sha256').update(JSON.stringify(resources)).digest('hex').slice(0, 16);
  return { path, content: discoveryResponse(type, resources, version), stat };
}

export function clustersFile(files: ProxyFiles, clusters: readonly JsonObject[] = files.clusters): WatchedFile {
  return file(files.paths.clusters, TYPE.CLUSTER, clusters, 'cluster_manager.cds');
}

export function listenersFile(files: ProxyFiles): WatchedFile {
  return file(files.paths.listeners, TYPE.LISTENER, files.listeners, 'listener_manager.lds');
}

export function routeFiles(files: ProxyFiles): WatchedFile[] {
  return [...files.routes].map(([name, config]) =>
    file(files.paths.routes(name), TYPE.ROUTES, [config], `.rds.${statName(name)}`),
  );
}

export function endpointFiles(files: ProxyFiles): WatchedFile[] {
  return [...files.endpoints].map(([name, { assignment, cluster }]) =>
    file(files.paths.endpoints(name), TYPE.ENDPOINTS, [assignment], `cluster.${statName(cluster)}`),
  );
}

/** Writes a file so that whoever watches it sees either the old or the new contents. */
export async function replaceFile(path: string, content: string): Promise<void> {
  const temporary = `${path}.new`;
  await writeFile(temporary, content, { mode: 0o600 });
  try {
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
