import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { isMap, isScalar, LineCounter, type Pair, parseAllDocuments, visit, type Document as YamlDocument } from 'yaml';
import type { Diagnostic, Position } from './diagnostics.js';
import type { Document } from './documents.js';
import { type EnvoySource, isEnvoyDocument, translateEnvoy } from './envoy/index.js';
import type { Identity } from './istio/identities.js';
import type { MeshCertificates } from './istio/mesh-tls.js';
import { mergeResources } from './merge.js';
import type { Clients, Resources } from './resources.js';
import { syntaxErrors } from './syntax.js';
import { templateWarning } from './templates.js';

/** Larger files take seconds and gigabytes to parse; 10,000 routes are about 2 MB. */
export const MAX_FILE_BYTES = 8 * 1024 * 1024;
const STDIN_NAME = '<stdin>';

export interface LoadOptions {
  /** what `-` stands for; standard input by default */
  readonly stdin?: Readable;
  /**
   * for judging policies without their cluster: services and subsets without servers are given one that nobody has, so
   * that the verdict is about what the policies say. Never for resources that traffic is to follow
   */
  readonly assumeEndpoints?: boolean;
  /** texts that were read before, by the names that `onText` was given: only these are used, and no file is read */
  readonly texts?: ReadonlyMap<string, string>;
  /** is given the text of every file that could be read, by the name that positions have */
  readonly onText?: (file: string, text: string) => void;
  /** see `TranslateOptions.identity` */
  readonly identity?: Identity;
  /** see `TranslateOptions.workload` */
  readonly workload?: Partial<Clients>;
  /** see `TranslateOptions.keySets` */
  readonly keySets?: ReadonlyMap<string, string>;
  /** see `TranslateOptions.mesh` */
  readonly mesh?: MeshCertificates;
  /** see `TranslateOptions.atServers` */
  readonly atServers?: boolean;
  /** name of the instance that the resources are for: the proxies of two are not to meet */
  readonly instance?: string;
}

/** A document with its file, not yet translated. */
interface Parsed {
  readonly kubernetes: { doc: YamlDocument.Parsed; lineCounter: LineCounter; file: string }[];
  readonly envoy: EnvoySource[];
  readonly diagnostics: Diagnostic[];
}

/**
 * Reads policies: files, folders (`*.yaml`, `*.yml` and `*.json` below them, in order of their names, hidden ones left
 * out) and `-` for standard input. Each document is told apart by its contents: Kubernetes' `apiVersion` and `kind`,
 * or Envoy's configuration. Nothing is thrown for bad input: see `diagnostics` of the result; when there is an error
 * among them the resources are incomplete and must not be used.
 */
export async function loadFiles(paths: readonly string[], options: LoadOptions = {}): Promise<Resources> {
  const { parsed, files } = await readFiles(paths, options);
  return translate(parsed, paths, files, options);
}

/** So many groups of clients are looked at, and so many documents for all of them: each takes as long as the files as such. */
const MAX_CLIENT_GROUPS = 64;
const MAX_CLIENT_DOCUMENTS = 20_000;

/**
 * As `loadFiles`, and the Kubernetes documents once more for each of `otherClients`: rules may count for some clients only.
 * Where the files have errors, or `options` say who the clients are, there are no others.
 */
export async function loadForClients(
  paths: readonly string[],
  options: LoadOptions = {},
): Promise<{ resources: Resources; others: { clients: Clients; resources: Resources }[] }> {
  const { parsed, files } = await readFiles(paths, options);
  const resources = await translate(parsed, paths, files, options);
  const others: { clients: Clients; resources: Resources }[] = [];
  if (options.workload) return { resources, others };
  const affordable = Math.max(1, Math.floor(MAX_CLIENT_DOCUMENTS / Math.max(1, resources.documents)));
  for (const clients of (resources.otherClients ?? []).slice(0, Math.min(MAX_CLIENT_GROUPS, affordable))) {
    const own = { ...parsed, envoy: [], diagnostics: [] };
    others.push({ clients, resources: await translate(own, paths, files, { ...options, workload: clients }) });
  }
  return { resources, others };
}

async function readFiles(
  paths: readonly string[],
  options: LoadOptions,
): Promise<{ parsed: Parsed; files: readonly string[] }> {
  const parsed: Parsed = { kubernetes: [], envoy: [], diagnostics: [] };
  const files = options.texts ? [...options.texts.keys()] : await expand(paths, parsed.diagnostics);
  for (const file of files) {
    const name = file === '-' ? STDIN_NAME : file;
    const stream = () => (file === '-' ? (options.stdin ?? process.stdin) : createReadStream(file));
    const text = options.texts?.get(file) ?? (await readText(stream(), name, parsed.diagnostics));
    if (text === undefined) continue;
    options.onText?.(name, text);
    parseText(text, name, parsed);
  }
  return { parsed, files };
}

async function translate(
  parsed: Parsed,
  paths: readonly string[],
  files: readonly string[],
  options: LoadOptions,
): Promise<Resources> {
  const results: Resources[] = [translateEnvoy(parsed.envoy, options.assumeEndpoints)];
  if (parsed.kubernetes.length > 0) results.push(await translateKubernetes(parsed, options));
  const merged = mergeResources(results, parsed.diagnostics);
  const order = new Map([...paths, ...files].map((file, i) => [file === '-' ? STDIN_NAME : file, i]));
  merged.diagnostics.sort((a, b) => compare(a.position, b.position, order));
  return merged;
}

/** By file in the order of reading, line and column; what has no place comes first. */
function compare(a: Position | undefined, b: Position | undefined, order: ReadonlyMap<string, number>): number {
  if (!a || !b) return Number(a !== undefined) - Number(b !== undefined);
  const files = (order.get(a.file) ?? -1) - (order.get(b.file) ?? -1);
  return files || a.line - b.line || a.column - b.column;
}

function problem(file: string, code: string, message: string, at?: Partial<Position>): Diagnostic {
  return { severity: 'error', code, message, position: { file, line: 1, column: 1, ...at } };
}

/** The files behind the given names. */
async function expand(paths: readonly string[], diagnostics: Diagnostic[]): Promise<string[]> {
  const files: string[] = [];
  for (const path of paths) {
    if (path === '-') {
      files.push(path);
      continue;
    }
    try {
      if (!(await stat(path)).isDirectory()) files.push(path);
      else {
        const found = await listFolder(path);
        if (found.length === 0)
          diagnostics.push(problem(path, 'no-files', 'no .yaml, .yml or .json file in this folder'));
        files.push(...found);
      }
    } catch (error) {
      diagnostics.push(problem(path, 'unreadable', `cannot be read: ${reasonOf(error)}`));
    }
  }
  if (paths.length === 0) diagnostics.push({ severity: 'error', code: 'no-files', message: 'no files given' });
  return [...new Set(files)];
}

async function listFolder(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const found: string[] = [];
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    // also skips `..data`, which mounted ConfigMaps link to
    if (entry.name.startsWith('.')) continue;
    const path = join(folder, entry.name);
    if (entry.isDirectory()) found.push(...(await listFolder(path)));
    else if (/\.(ya?ml|json)$/i.test(entry.name)) found.push(path);
  }
  return found;
}

function reasonOf(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code;
  const known: { [code: string]: string } = {
    ENOENT: 'there is no such file',
    EACCES: 'permission denied',
    EISDIR: 'it is a folder',
    ELOOP: 'too many symbolic links',
  };
  return known[code ?? ''] ?? (error as Error).message;
}

async function readText(stream: Readable, file: string, diagnostics: Diagnostic[]): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of stream) {
      const bytes = Buffer.from(chunk);
      size += bytes.length;
      if (size > MAX_FILE_BYTES) {
        const limit = MAX_FILE_BYTES / 1024 / 1024;
        diagnostics.push(problem(file, 'too-large', `larger than ${limit} MiB; split it into several files`));
        return undefined;
      }
      chunks.push(bytes);
    }
  } catch (error) {
    diagnostics.push(problem(file, 'unreadable', `cannot be read: ${reasonOf(error)}`));
    return undefined;
  }
  const bytes = Buffer.concat(chunks);
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    const nul = text.indexOf('\0');
    if (nul < 0) return text;
    const line = text.slice(0, nul).split('\n').length;
    diagnostics.push(problem(file, 'not-text', 'not a text file: it has a NUL byte', { line }));
  } catch {
    diagnostics.push(problem(file, 'not-text', 'not a text file in UTF-8'));
  }
  return undefined;
}

function parseText(text: string, file: string, into: Parsed): void {
  const syntax = /\.json$/i.test(file) ? 'json' : 'yaml';
  const lineCounter = new LineCounter();
  let docs: YamlDocument.Parsed[];
  try {
    const parsed = parseAllDocuments(text, {
      lineCounter,
      uniqueKeys: false,
      keepSourceTokens: false,
      prettyErrors: false,
    });
    docs = 'empty' in parsed ? [] : parsed;
  } catch (error) {
    const deep = error instanceof RangeError;
    into.diagnostics.push(
      problem(file, deep ? 'too-deep' : 'syntax', deep ? 'nested too deep' : (error as Error).message),
    );
    return;
  }
  const errors = syntaxErrors(text, docs, lineCounter, file);
  into.diagnostics.push(...errors);
  if (errors.length > 0) return;
  if (syntax === 'json') {
    try {
      JSON.parse(text);
    } catch (error) {
      if (text.trim() !== '') {
        const message = (error as Error).message;
        const offset = Number(/at position (\d+)/.exec(message)?.[1] ?? 0);
        const { line, col } = lineCounter.linePos(offset);
        const at = { line: Math.max(line, 1), column: Math.max(col, 1) };
        into.diagnostics.push(problem(file, 'syntax', `not valid JSON: ${message.replace(/ at position.*/, '')}`, at));
        return;
      }
    }
  }
  const full = docs.filter((doc) => doc.contents !== null && !(isScalar(doc.contents) && doc.contents.value === null));
  if (full.length === 0) into.diagnostics.push(problem(file, 'empty', 'nothing in this file'));
  for (const doc of full) classify(doc, { file, lineCounter, syntax }, into);
}

function classify(doc: YamlDocument.Parsed, source: Omit<EnvoySource, 'doc'>, into: Parsed): void {
  const { file, lineCounter } = source;
  const keys = isMap(doc.contents) ? (doc.contents.items as Pair[]).map((item) => String(item.key)) : [];
  if (keys.includes('apiVersion') && keys.includes('kind')) {
    duplicateKeys(doc, source, into.diagnostics);
    const template = isPolicy(doc) && templateWarning(doc, lineCounter, file);
    if (template) into.diagnostics.push(template);
    into.kubernetes.push({ doc, lineCounter, file });
    return;
  }
  if (isMap(doc.contents) && isEnvoyDocument(keys)) {
    const template = templateWarning(doc, lineCounter, file);
    if (template) into.diagnostics.push(template);
    into.envoy.push({ ...source, doc });
    return;
  }
  const { line, col } = lineCounter.linePos(doc.contents?.range?.[0] ?? 0);
  const found = keys.length > 0 ? `an object with ${keys.slice(0, 5).join(', ')}` : 'no object';
  into.diagnostics.push({
    ...problem(file, 'unknown-document', `not a policy: ${found}`, {
      line: Math.max(line, 1),
      column: Math.max(col, 1),
    }),
    hint: 'Kubernetes documents have apiVersion and kind, an Envoy bootstrap has static_resources',
  });
}

/** Other documents (workflows, dashboards) may have templates of their own. */
const isPolicy = (doc: YamlDocument.Parsed): boolean =>
  /(^|\.)(istio|gateway\.networking\.k8s)\.io\//.test(String(doc.get('apiVersion')));

/** Kubernetes refuses keys that appear twice. */
function duplicateKeys(doc: YamlDocument.Parsed, source: Omit<EnvoySource, 'doc'>, diagnostics: Diagnostic[]): void {
  visit(doc, {
    Map(_, map) {
      const seen = new Set<string>();
      for (const item of map.items as Pair[]) {
        const key = String(item.key);
        if (seen.has(key)) {
          const offset = (item.key as { range?: [number, number, number] }).range?.[0] ?? 0;
          const { line, col } = source.lineCounter.linePos(offset);
          diagnostics.push({
            ...problem(source.file, 'duplicate-key', 'the key appears twice', { line, column: col }),
            field: key,
          });
        }
        seen.add(key);
      }
    },
  });
}

/** Hands the Kubernetes documents to their translator. */
async function translateKubernetes(parsed: Parsed, options: LoadOptions): Promise<Resources> {
  // loaded only when there is something for them: their schemas take time, and Envoy's own files need none of it
  const { kubernetesDocument } = await import('./documents.js');
  const { Malformed } = await import('./kubernetes-json.js');
  const { translateKubernetes: translate } = await import('./istio/index.js');
  const documents: Document[] = [];
  for (const { doc, lineCounter, file } of parsed.kubernetes) {
    try {
      documents.push(kubernetesDocument(doc, lineCounter, file));
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      const { line, col } = lineCounter.linePos(error.offset);
      const at = { line: Math.max(line, 1), column: Math.max(col, 1) };
      parsed.diagnostics.push(problem(file, error.code, error.message, at));
    }
  }
  const { assumeEndpoints = false, atServers = false, instance = '', identity, workload, keySets, mesh } = options;
  return translate(documents, {
    ...{ assumeEndpoints, atServers, instance },
    ...(identity ? { identity } : {}),
    ...(workload ? { workload } : {}),
    ...(keySets ? { keySets } : {}),
    ...(mesh ? { mesh } : {}),
  });
}
