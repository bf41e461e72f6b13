/** AccessLog messages of an HTTP connection manager -> what the agent writes for requests that the kernel decides. */
import type { JsonObject } from '../policy/resources.js';
import {
  DEFAULT_FORMAT,
  type LogJson,
  type LogOperator,
  type LogPart,
  operatorsOf,
  readFormat,
  readJsonFormat,
  UnknownOperator,
} from './log-format.js';
import { anyType, bool, has, join, list, type Notes, num, obj, onlyFields, str } from './notes.js';
import type { MayChange } from './runtime.js';

const LOGGERS = 'envoy.extensions.access_loggers.';

/** Which lines are written. */
export type LogFilter =
  | { readonly kind: 'status' | 'duration'; readonly op: 'EQ' | 'GE' | 'LE' | 'NE'; readonly value: number }
  | { readonly kind: 'flags'; readonly flags: readonly string[] }
  | { readonly kind: 'and' | 'or'; readonly of: readonly LogFilter[] };

export interface AccessLog {
  /** a file's path, or a stream of the proxy's process */
  readonly sink: { readonly kind: 'file'; readonly path: string } | { readonly kind: 'stdout' | 'stderr' };
  readonly filter?: LogFilter;
  readonly format:
    | { readonly kind: 'text'; readonly parts: readonly LogPart[] }
    | { readonly kind: 'json'; readonly value: LogJson };
  /** what is not there is left out, instead of `-` or null */
  readonly omitEmpty: boolean;
}

/** All operators that the logs of a listener have. */
export function logOperators(logs: readonly AccessLog[]): LogOperator[] {
  return logs.flatMap(({ format }) => operatorsOf(format.kind === 'text' ? format.parts : format.value));
}

function filterOf(notes: Notes, filter: JsonObject, path: string, mayChange: MayChange): LogFilter | undefined {
  const refuse = (what: string, key?: string): undefined => {
    notes.add('access-log', `lines are filtered by ${what}`, path, filter, key);
    return undefined;
  };
  const [kind = '', ...more] = Object.keys(filter).filter((key) => has(filter, key));
  const own = obj(filter, kind) ?? {};
  const at = join(path, kind);
  if (more.length > 0) return refuse(more.join(', '));
  if (kind === 'and_filter' || kind === 'or_filter') {
    const of = list(own, 'filters').map((f, i) => filterOf(notes, f, join(at, `filters[${i}]`), mayChange));
    const known = of.filter((f): f is LogFilter => f !== undefined);
    return known.length === of.length ? { kind: kind === 'and_filter' ? 'and' : 'or', of: known } : undefined;
  }
  // health checks that the filter of this name answers never get as far as the kernel's decision
  if (kind === 'not_health_check_filter') return { kind: 'and', of: [] };
  if (kind === 'response_flag_filter') {
    const flags = own.flags;
    onlyFields(notes, own, at, ['flags']);
    return { kind: 'flags', flags: Array.isArray(flags) ? flags.map(String) : [] };
  }
  if (kind === 'status_code_filter' || kind === 'duration_filter') {
    const comparison = obj(own, 'comparison') ?? {};
    const value = obj(comparison, 'value') ?? {};
    if (str(value, 'runtime_key') !== '' && mayChange(str(value, 'runtime_key')))
      return refuse('a value that the runtime may change', kind);
    const op = str(comparison, 'op') || 'EQ';
    if (op !== 'EQ' && op !== 'GE' && op !== 'LE' && op !== 'NE') return refuse(`the comparison ${op}`, kind);
    return { kind: kind === 'duration_filter' ? 'duration' : 'status', op, value: num(value, 'default_value') };
  }
  return refuse(kind.replaceAll('_', ' ') || 'an extension', kind);
}

/** The format of a logger: one of its own fields, else Envoy's. */
function formatOf(notes: Notes, config: JsonObject, path: string): AccessLog['format'] | undefined {
  const logFormat = obj(config, 'log_format');
  const own = logFormat ?? config;
  const at = logFormat ? join(path, 'log_format') : path;
  if (logFormat)
    onlyFields(notes, logFormat, at, [
      'text_format',
      'text_format_source',
      'json_format',
      'omit_empty_values',
      'content_type',
    ]);
  const refuse = ({ text }: UnknownOperator): undefined => {
    notes.add('access-log', `the operator ${text} is not known for certain`, at, own);
    return undefined;
  };
  for (const key of ['json_format', 'typed_json_format']) {
    if (!has(own, key)) continue;
    if (!logFormat && key === 'json_format') break; // numbers as strings, as long ago: the proxy knows
    const value = readJsonFormat(obj(own, key) ?? {});
    return value instanceof UnknownOperator ? refuse(value) : { kind: 'json', value };
  }
  if (has(config, 'json_format')) {
    notes.add('access-log', 'json_format outside log_format', join(path, 'json_format'), config, 'json_format');
    return undefined;
  }
  const source = obj(own, 'text_format_source');
  if (source && !has(source, 'inline_string')) {
    notes.add('access-log', 'the format is not in the configuration', join(at, 'text_format_source'), own);
    return undefined;
  }
  const text = str(source, 'inline_string') || str(own, 'text_format') || str(config, 'format');
  const parts = readFormat(text || DEFAULT_FORMAT);
  return parts instanceof UnknownOperator ? refuse(parts) : { kind: 'text', parts };
}

function sinkOf(config: JsonObject, type: string): AccessLog['sink'] | undefined {
  if (type === `${LOGGERS}stream.v3.StdoutAccessLog`) return { kind: 'stdout' };
  if (type === `${LOGGERS}stream.v3.StderrAccessLog`) return { kind: 'stderr' };
  if (type !== `${LOGGERS}file.v3.FileAccessLog`) return undefined;
  const path = str(config, 'path');
  if (path === '/dev/stdout') return { kind: 'stdout' };
  if (path === '/dev/stderr') return { kind: 'stderr' };
  return path.startsWith('/') ? { kind: 'file', path } : undefined;
}

/**
 * Reads the access logs of an HTTP connection manager; what is not exact for certain is a reason in `notes`.
 * @param mayChange whether a runtime layer may change the value of a key
 */
export function accessLogs(notes: Notes, hcm: JsonObject, path: string, mayChange: MayChange): AccessLog[] {
  const at = (key: string) => join(path, key);
  const options = obj(hcm, 'access_log_options');
  if (options && (bool(options, 'flush_access_log_on_new_request') || has(options, 'access_log_flush_interval')))
    notes.add('access-log', 'lines are written before a request is over', at('access_log_options'), hcm);
  const logs: AccessLog[] = [];
  list(hcm, 'access_log').forEach((log, i) => {
    const own = join(path, `access_log[${i}]`);
    onlyFields(notes, log, own, ['name', 'typed_config', 'filter']);
    const config = obj(log, 'typed_config') ?? {};
    const type = anyType(config);
    const sink = sinkOf(config, type);
    if (!sink) {
      const what = str(config, 'path') || type || str(log, 'name');
      notes.add('access-log', `requests are logged to ${what}`, join(own, 'typed_config'), log, 'typed_config');
      return;
    }
    onlyFields(notes, config, join(own, 'typed_config'), [
      'path',
      'format',
      'json_format',
      'typed_json_format',
      'log_format',
    ]);
    const format = formatOf(notes, config, join(own, 'typed_config'));
    const written = obj(log, 'filter');
    const filter = written && filterOf(notes, written, join(own, 'filter'), mayChange);
    if (!format || (written && !filter)) return;
    const omitEmpty = bool(obj(config, 'log_format'), 'omit_empty_values');
    logs.push({ sink, format, omitEmpty, ...(filter ? { filter } : {}) });
  });
  return logs;
}
