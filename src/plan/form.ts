/** Forms of requests that the fast path leaves to the proxy whatever the rules say, in words. The image has the last word. */

import { MAX_KERNEL_BODY } from '../layout/exchanges.js';
import { MAX_HEAD, MAX_LINES } from '../layout/image.js';
import { asciiLower } from './matchers.js';

export interface RequestForm {
  readonly method: string;
  /** as in the request line */
  readonly target: string;
  /** in order; names in any case */
  readonly headers: readonly (readonly [string, string])[];
  /** 1.1 if it is not given */
  readonly version?: string;
  /** bytes of the body; by default what Content-Length says */
  readonly bodyLength?: number;
}

/** Headers whose presence is enough. */
const NEVER = ['upgrade', 'expect', 'te', 'trailer', 'proxy-connection'];
/** Headers that the fast path looks at itself, so that one of each is all it takes. */
const ONCE = [
  'content-length',
  'connection',
  'keep-alive',
  'x-request-id',
  'x-forwarded-proto',
  'x-forwarded-for',
  'referer',
];
/** White space behind a value that is looked over, in bytes. */
const MAX_TRAILING = 16;

/** The head as it goes over the wire, each character one byte. */
export function headText(request: RequestForm): string {
  const lines = request.headers.map(([name, value]) => `${name}: ${value}\r\n`);
  return `${request.method} ${request.target} HTTP/${request.version ?? '1.1'}\r\n${lines.join('')}\r\n`;
}

function framing(values: (name: string) => string[], bodyLength: number | undefined): string[] {
  const found: string[] = [];
  if (values('transfer-encoding').length > 0)
    found.push(values('content-length').length > 0 ? 'two framings' : 'a chunked body (Transfer-Encoding)');
  const [length = ''] = values('content-length');
  if (length !== '' && !/^[0-9]{1,18}$/.test(length)) found.push('an odd Content-Length');
  const body = bodyLength ?? Number(length);
  if (body > MAX_KERNEL_BODY) found.push(`a body of more than ${MAX_KERNEL_BODY} bytes`);
  return found;
}

/** Why a request's form sends it to the proxy; empty: it does not. */
export function formProblems(request: RequestForm): string[] {
  const byName = new Map<string, string[]>();
  for (const [name, value] of request.headers) {
    const key = asciiLower(name);
    byName.set(key, [...(byName.get(key) ?? []), value.trim()]);
  }
  const values = (name: string): string[] => byName.get(name) ?? [];
  const found: string[] = [];
  const version = request.version ?? '1.1';
  if (version !== '1.1') found.push(`HTTP/${version}`);
  found.push(...framing(values, request.bodyLength));
  for (const name of NEVER) if (byName.has(name)) found.push(`the header ${name}`);
  const [connection] = values('connection');
  if (connection !== undefined && asciiLower(connection) !== 'keep-alive') found.push(`Connection: ${connection}`);
  for (const name of ONCE) if (values(name).length > 1) found.push(`the header ${name} is repeated`);
  if (request.headers.length > MAX_LINES) found.push(`more than ${MAX_LINES} header lines`);
  if (headText(request).length > MAX_HEAD) found.push(`a head of more than ${MAX_HEAD} bytes`);
  const odd = request.headers.find(([, value]) => /[^\t -~]/.test(value));
  if (odd) found.push(`the header ${odd[0]} has bytes outside ASCII`);
  const trailing = request.headers.find(([, value]) => value.length - value.trimEnd().length >= MAX_TRAILING);
  if (trailing) found.push(`the header ${trailing[0]} ends with a lot of white space`);
  return found;
}
