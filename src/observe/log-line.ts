/** Lines of access logs, as Envoy writes them: format operators over what happened to a request. */

import { isIP } from 'node:net';
import { hostname } from 'node:os';
import type { AccessLog, LogFilter } from '../plan/access-log.js';
import { JOINED_ANSWER_HEADERS } from '../plan/answers.js';
import type { LogJson, LogOperator, LogPart } from '../plan/log-format.js';
import { FOR_HOST } from '../plan/named-by-request.js';
import type { Json } from '../policy/resources.js';

type Headers = readonly (readonly [name: string, value: string])[];

/** A request that is over. Names of headers are lower case; those with a colon are Envoy's pseudo headers. */
export interface LogEntry {
  /** microseconds since 1970 */
  readonly startUs: number;
  /** milliseconds until it was over, and until the head of the answer came from the server */
  readonly duration: number;
  /** the same in microseconds */
  readonly durationUs: number;
  readonly response?: number;
  /** the server's answer was complete */
  readonly complete?: boolean;
  readonly request: Headers;
  readonly answer: Headers;
  /** 0: the client was gone before there was one */
  readonly status: number;
  readonly flags: readonly string[];
  readonly details: string;
  /** proxies of one's own that have appended to x-forwarded-for; undefined: it is not believed */
  readonly hops?: number;
  readonly received: number;
  readonly sent: number;
  /** addresses with ports */
  readonly client: { readonly address: string; readonly port: number };
  readonly local: { readonly address: string; readonly port: number };
  readonly upstream?: { readonly host: string; readonly local: string };
  readonly cluster?: string;
  readonly route?: string;
  /** the client, and the server, speak HTTP/2 */
  readonly http2?: true;
  /** id of the span before, where the request does not say it any more */
  readonly parentSpan?: string;
}

/** The first value of a header, by its name in lower case or Envoy's name of a pseudo header. */
export const findHeader = (headers: Headers, name: string): string | undefined => find(headers, name, false);

function find(headers: Headers, name: string, joined: boolean): string | undefined {
  const wanted = name === 'host' ? ':authority' : name;
  if (!joined) return headers.find(([n]) => n === wanted)?.[1];
  const values = headers.filter(([n]) => n === wanted).map(([, value]) => value);
  return values.length === 0 ? undefined : values.join(',');
}

/** host:port, IPv6 in brackets. */
export function endText({ address, port }: { readonly address: string; readonly port: number }): string {
  return isIP(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`;
}

/** The address that x-forwarded-for ends with, where the proxy believes it; else that of the connection. */
function remote(e: LogEntry): LogEntry['client'] {
  if (e.hops === undefined) return e.client;
  const all = find(e.request, 'x-forwarded-for', true)?.split(',') ?? [];
  const last = all[all.length - 1 - e.hops]?.trim() ?? '';
  return isIP(last) === 0 ? e.client : { address: last, port: 0 };
}

function fraction(us: number, digits: number): string {
  return `${String(us % 1_000_000).padStart(6, '0')}000`.slice(0, digits);
}

function time(us: number, pieces: readonly string[]): string {
  const date = new Date(Math.floor(us / 1000));
  const two = (n: number) => String(n).padStart(2, '0');
  const clock = () => `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())}`;
  const day = () => `${date.getUTCFullYear()}-${two(date.getUTCMonth() + 1)}-${two(date.getUTCDate())}`;
  return pieces
    .map((piece) => {
      switch (piece) {
        case '%Y':
          return String(date.getUTCFullYear());
        case '%m':
          return two(date.getUTCMonth() + 1);
        case '%d':
          return two(date.getUTCDate());
        case '%H':
          return two(date.getUTCHours());
        case '%M':
          return two(date.getUTCMinutes());
        case '%S':
          return two(date.getUTCSeconds());
        case '%T':
          return clock();
        case '%F':
          return day();
        case '%s':
          return String(Math.floor(us / 1_000_000));
        case '%f':
          return fraction(us, 9);
        case '%%':
          return '%';
      }
      const digits = /^%(\d)f$/.exec(piece) ?? /^%E(\d)S$/.exec(piece);
      if (!digits) return piece;
      const decimals = fraction(us, Number(digits[1]));
      return piece.endsWith('S') ? `${two(date.getUTCSeconds())}.${decimals}` : decimals;
    })
    .join('');
}

/** What an operator stands for; undefined: nothing is there. Numbers are numbers in JSON. */
function operatorValue(o: LogOperator, e: LogEntry): string | number | undefined {
  switch (o.command) {
    case 'REQ':
    case 'RESP': {
      const headers = o.command === 'REQ' ? e.request : e.answer;
      const get = (name: string | undefined) =>
        name === undefined ? undefined : find(headers, name, o.command === 'RESP' && JOINED_ANSWER_HEADERS.has(name));
      const value = get(o.header) ?? get(o.alternative);
      return o.most === undefined ? value : value?.slice(0, o.most);
    }
    case 'START_TIME':
      return time(e.startUs, o.time!);
    case 'PROTOCOL':
      return e.http2 ? 'HTTP/2' : 'HTTP/1.1';
    case 'RESPONSE_CODE':
      return e.status;
    case 'RESPONSE_CODE_DETAILS':
      return e.details;
    case 'RESPONSE_FLAGS':
      return e.flags.length === 0 ? '-' : e.flags.join(',');
    case 'BYTES_RECEIVED':
      return e.received;
    case 'BYTES_SENT':
      return e.sent;
    case 'DURATION':
      return e.duration;
    case 'RESPONSE_DURATION':
      return e.response;
    case 'RESPONSE_TX_DURATION':
      return e.response === undefined || !e.complete ? undefined : e.duration - e.response;
    case 'UPSTREAM_HOST':
      return e.upstream?.host;
    case 'UPSTREAM_LOCAL_ADDRESS':
      return e.upstream?.local;
    case 'UPSTREAM_CLUSTER':
    case 'UPSTREAM_CLUSTER_RAW':
      return e.cluster?.split(FOR_HOST)[0];
    case 'UPSTREAM_PROTOCOL':
      return e.upstream && (e.http2 ? 'HTTP/2' : 'HTTP/1.1');
    case 'UPSTREAM_REQUEST_ATTEMPT_COUNT':
      return e.upstream ? 1 : 0;
    case 'DOWNSTREAM_REMOTE_ADDRESS':
      return endText(remote(e));
    case 'DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT':
      return remote(e).address;
    case 'DOWNSTREAM_DIRECT_REMOTE_ADDRESS':
      return endText(e.client);
    case 'DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT':
      return e.client.address;
    case 'DOWNSTREAM_LOCAL_ADDRESS':
      return endText(e.local);
    case 'DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT':
      return e.local.address;
    case 'DOWNSTREAM_LOCAL_PORT':
      return e.local.port;
    case 'ROUTE_NAME':
      return e.route || undefined;
    case 'HOSTNAME':
      return hostname();
    default:
      return undefined; // what only TLS and failures have
  }
}

function text(parts: readonly LogPart[], e: LogEntry, absent: string): string {
  return parts.map((part) => (typeof part === 'string' ? part : (operatorValue(part, e) ?? absent))).join('');
}

/** A value of JSON; undefined: left out. */
function json(template: LogJson, e: LogEntry, omit: boolean): Json | undefined {
  switch (template.kind) {
    case 'fixed':
      return template.value;
    case 'parts': {
      const [only, ...more] = template.parts;
      if (only === undefined) return '';
      if (typeof only === 'string' || more.length > 0) return text(template.parts, e, omit ? '' : '-');
      return operatorValue(only, e) ?? (omit ? undefined : null);
    }
    case 'list':
      return template.items.map((item) => json(item, e, omit) ?? null);
    case 'object': {
      const members = template.members.flatMap(([name, member]): [string, Json][] => {
        const value = json(member, e, omit);
        return value === undefined ? [] : [[name, value]];
      });
      return Object.fromEntries(members.sort(([a], [b]) => (a < b ? -1 : 1)));
    }
  }
}

function compares(op: 'EQ' | 'GE' | 'LE' | 'NE', a: number, b: number): boolean {
  if (op === 'EQ') return a === b;
  if (op === 'NE') return a !== b;
  return op === 'GE' ? a >= b : a <= b;
}

/** Whether a line is written at all. */
export function passes(filter: LogFilter | undefined, e: LogEntry): boolean {
  if (!filter) return true;
  switch (filter.kind) {
    case 'and':
      return filter.of.every((f) => passes(f, e));
    case 'or':
      return filter.of.some((f) => passes(f, e));
    case 'flags':
      return filter.flags.length === 0 ? e.flags.length > 0 : filter.flags.some((flag) => e.flags.includes(flag));
    case 'status':
      return compares(filter.op, e.status, filter.value);
    case 'duration':
      return compares(filter.op, e.duration, filter.value);
  }
}

/** Bytes of UTF-8 as characters, one each: headers are read so, and lines are written so. */
function asBytes(value: string): string {
  return /^[\0-\x7f]*$/.test(value) ? value : Buffer.from(value).toString('latin1');
}

/** The line (or what the format makes of it) of a log for a request, one character for each byte. */
export function logLine({ format, omitEmpty }: AccessLog, e: LogEntry): string {
  if (format.kind === 'text')
    return text(
      format.parts.map((part) => (typeof part === 'string' ? asBytes(part) : part)),
      e,
      omitEmpty ? '' : '-',
    );
  return asBytes(`${JSON.stringify(json(format.value, e, omitEmpty) ?? {})}\n`);
}
