/**
 * Envoy's format strings for access logs (docs: "Access log format strings"), as far as what they say of a request that
 * the kernel decides is known exactly.
 */
import type { Json } from '../policy/resources.js';

/** A command operator: its name, what it is about, how long its value may get. */
export interface LogOperator {
  readonly command: string;
  /** REQ and RESP: the header's name in lower case, and the one to take where it is missing */
  readonly header?: string;
  readonly alternative?: string;
  /** the value is cut off after so many bytes */
  readonly most?: number;
  /** DYNAMIC_METADATA: whose; nothing that the kernel does writes there, so nothing is written where nobody else does */
  readonly namespace?: string;
  /** START_TIME: its pieces, literals and conversions */
  readonly time?: readonly string[];
}

export type LogPart = string | LogOperator;

/** A template of JSON: a string with operators, anything fixed, or a structure of such. */
export type LogJson =
  | { readonly kind: 'parts'; readonly parts: readonly LogPart[] }
  | { readonly kind: 'fixed'; readonly value: Json }
  | { readonly kind: 'object'; readonly members: readonly (readonly [name: string, value: LogJson])[] }
  | { readonly kind: 'list'; readonly items: readonly LogJson[] };

/** Operators without an argument that are known of every request. */
const PLAIN: ReadonlySet<string> = new Set(
  (
    'PROTOCOL RESPONSE_CODE RESPONSE_CODE_DETAILS RESPONSE_FLAGS BYTES_RECEIVED BYTES_SENT DURATION RESPONSE_DURATION ' +
    'RESPONSE_TX_DURATION UPSTREAM_HOST UPSTREAM_CLUSTER UPSTREAM_CLUSTER_RAW UPSTREAM_LOCAL_ADDRESS ' +
    'UPSTREAM_TRANSPORT_FAILURE_REASON UPSTREAM_PROTOCOL UPSTREAM_REQUEST_ATTEMPT_COUNT DOWNSTREAM_REMOTE_ADDRESS ' +
    'DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT DOWNSTREAM_DIRECT_REMOTE_ADDRESS ' +
    'DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT DOWNSTREAM_LOCAL_ADDRESS DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT ' +
    'DOWNSTREAM_LOCAL_PORT REQUESTED_SERVER_NAME ROUTE_NAME CONNECTION_TERMINATION_DETAILS HOSTNAME ' +
    'DOWNSTREAM_TLS_VERSION DOWNSTREAM_TLS_CIPHER DOWNSTREAM_PEER_SUBJECT DOWNSTREAM_PEER_URI_SAN'
  ).split(' '),
);

/** Headers of a request of which the proxy sees something else than the server does. */
const UNKNOWN_REQUEST = new Set(
  ':scheme connection content-length keep-alive proxy-connection te transfer-encoding upgrade'.split(' '),
);
/** Headers that the proxy makes by itself, or takes away. */
const UNKNOWN_ANSWER = new Set(
  'connection date keep-alive proxy-connection server te trailer transfer-encoding upgrade'.split(' '),
);
const TIME_CONVERSIONS = /^%(?:[YmdHMSTFsf%]|[1-9]f|E[1-9]S)$/;
const DEFAULT_TIME = '%Y-%m-%dT%H:%M:%E3SZ';

/** Namespaces of dynamic metadata in which none of the filters that the kernel knows writes unless it is told to. */
const FOREIGN = /^(?:envoy\.filters\.http\.ext_(?:authz|proc)|(?!envoy)[\w.-]+)$/;

/** The format of Envoy without one of one's own. */
export const DEFAULT_FORMAT =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" ' +
  '%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ' +
  '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ' +
  '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n';

/** An operator that is not known for certain: its text. */
export class UnknownOperator {
  constructor(readonly text: string) {}
}

function timePieces(format: string): string[] | undefined {
  const pieces = format.match(/%(?:[1-9]f|E[1-9]S|.)|[^%]+|%$/gs) ?? [];
  return pieces.every((p) => !p.startsWith('%') || TIME_CONVERSIONS.test(p)) ? pieces : undefined;
}

function headerOperator(command: string, argument: string, most: number | undefined): LogOperator | undefined {
  const [header, other, ...more] = argument.toLowerCase().split('?');
  // the connection manager adds it where it is missing
  const alternative = command === 'REQ' && header === 'x-forwarded-proto' ? undefined : other;
  const unknown = command === 'REQ' ? UNKNOWN_REQUEST : UNKNOWN_ANSWER;
  if (!header || more.length > 0 || unknown.has(header) || unknown.has(alternative ?? '')) return undefined;
  if (command === 'RESP' && [header, alternative].some((name) => name?.startsWith(':') && name !== ':status'))
    return undefined;
  return {
    command,
    header,
    ...(alternative ? { alternative } : {}),
    ...(most === undefined ? {} : { most }),
  };
}

function operator(text: string): LogOperator | undefined {
  const match = /^%([A-Z_0-9]+)(?:\((.*)\))?(?::(\d+))?%$/s.exec(text);
  if (!match) return undefined;
  const [, command = '', argument, length] = match;
  const most = length === undefined ? undefined : Number(length);
  if (command === 'REQ' || command === 'RESP') return headerOperator(command, argument ?? '', most);
  if (most !== undefined) return undefined;
  if (command === 'DYNAMIC_METADATA') {
    const namespace = /^([^:]+)/.exec(argument ?? '')?.[1] ?? 'envoy';
    return FOREIGN.test(namespace) ? { command, namespace } : undefined;
  }
  if (command === 'START_TIME') {
    const time = timePieces(argument ? argument : DEFAULT_TIME);
    return time && { command, time };
  }
  return argument === undefined && PLAIN.has(command) ? { command } : undefined;
}

/** Reads a format string. @returns its parts, or the first operator that is not known for certain */
export function readFormat(format: string): LogPart[] | UnknownOperator {
  const parts: LogPart[] = [];
  const literal = (text: string) => {
    const last = parts.at(-1);
    if (typeof last === 'string') parts[parts.length - 1] = last + text;
    else parts.push(text);
  };
  for (const piece of format.match(/%%|%[A-Z_0-9]+(?:\((?:[^()]*)\))?(?::\d+)?%|[^%]+|%/gs) ?? []) {
    if (piece === '%%') literal('%');
    else if (!piece.startsWith('%')) literal(piece);
    else {
      const found = operator(piece);
      if (!found) return new UnknownOperator(piece === '%' ? format : piece);
      parts.push(found);
    }
  }
  return parts;
}

/** Reads a `json_format`. @returns the template, or the first operator that is not known for certain */
export function readJsonFormat(value: Json): LogJson | UnknownOperator {
  if (typeof value === 'string') {
    const parts = readFormat(value);
    return parts instanceof UnknownOperator ? parts : { kind: 'parts', parts };
  }
  if (Array.isArray(value)) {
    const items = value.map(readJsonFormat);
    const unknown = items.find((i) => i instanceof UnknownOperator);
    return unknown ?? { kind: 'list', items: items as LogJson[] };
  }
  if (typeof value === 'object' && value !== null) {
    const members: [string, LogJson][] = [];
    for (const [name, member] of Object.entries(value)) {
      const read = readJsonFormat(member);
      if (read instanceof UnknownOperator) return read;
      members.push([name, read]);
    }
    return { kind: 'object', members };
  }
  return { kind: 'fixed', value };
}

/** All operators of a format. */
export function operatorsOf(format: readonly LogPart[] | LogJson): LogOperator[] {
  if ('kind' in format) {
    if (format.kind === 'parts') return operatorsOf(format.parts);
    if (format.kind === 'object') return format.members.flatMap(([, value]) => operatorsOf(value));
    return format.kind === 'list' ? format.items.flatMap(operatorsOf) : [];
  }
  return format.filter((p): p is LogOperator => typeof p !== 'string');
}

/** Whether an operator writes this header, of a request (REQ) or an answer (RESP). */
export function writes(operator: LogOperator, command: 'REQ' | 'RESP', name: string): boolean {
  return operator.command === command && (operator.header === name || operator.alternative === name);
}
