import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isScalar, LineCounter, parseAllDocuments } from 'yaml';
import { type Document, kubernetesDocument } from '../../../src/policy/documents.js';
import { type TranslateOptions, translateKubernetes } from '../../../src/policy/istio/index.js';
import type { JsonObject, Resources } from '../../../src/policy/resources.js';

/** Reads a YAML text with any number of documents. */
export function read(text: string, file = 'test.yaml'): Document[] {
  const lineCounter = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter });
  if ('empty' in documents) return [];
  const empty = (doc: (typeof documents)[number]) => isScalar(doc.contents) && doc.contents.value === null;
  return documents
    .filter((doc) => doc.contents !== null && !empty(doc))
    .map((doc) => kubernetesDocument(doc, lineCounter, file));
}

export function translate(text: string, options: TranslateOptions = {}): Resources {
  return translateKubernetes(read(text), options);
}

/** The resources as one static bootstrap. */
export function bootstrap(resources: Resources): JsonObject {
  return { ...resources.bootstrap, static_resources: { listeners: resources.listeners, clusters: resources.clusters } };
}

/** The Envoy to test with, or undefined if there is none. */
export function envoyBinary(): string | undefined {
  const named = process.env.SIDESTEP_ENVOY;
  if (named) return named;
  const local = '.cache/envoy/bin/envoy';
  if (existsSync(local)) return local;
  return (process.env.PATH ?? '')
    .split(':')
    .map((dir) => join(dir, 'envoy'))
    .find((path) => existsSync(path));
}

/** Lets the real Envoy check the resources; returns its complaint, or undefined if it accepts them. */
export function envoyComplaint(envoy: string, resources: Resources): string | undefined {
  const dir = mkdtempSync(join(tmpdir(), 'sidestep-istio-'));
  try {
    const file = join(dir, 'bootstrap.json');
    writeFileSync(file, JSON.stringify(bootstrap(resources)));
    execFileSync(envoy, ['--mode', 'validate', '-c', file, '-l', 'error'], { encoding: 'utf8', stdio: 'pipe' });
    return undefined;
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    return `${stdout ?? ''}${stderr ?? ''}` || String(error);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** The virtual hosts of a listener, by its name. */
export function virtualHosts(resources: Resources, listener: string): JsonObject[] {
  const found = resources.listeners.find((l) => l.name === listener);
  const chain = (found?.filter_chains as JsonObject[] | undefined)?.[0];
  const manager = (chain?.filters as JsonObject[] | undefined)?.[0]?.typed_config as JsonObject | undefined;
  return ((manager?.route_config as JsonObject | undefined)?.virtual_hosts as JsonObject[] | undefined) ?? [];
}
