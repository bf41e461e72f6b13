/** What the kernel makes of a request, by the plan: the request that a server gets, or the answer. */

import { hostName } from './host-names.js';
import type { AnswerEdit, ForwardAction, ListenerPlan, Piece, ReplyAction } from './ir.js';
import { compileRegex } from './matchers.js';
import type { View } from './request-view.js';

export type Result =
  | {
      readonly kind: 'forward';
      readonly action: ForwardAction;
      readonly target: string;
      /** lower case names; `x-request-id: <uuid>` stands for a random one */
      readonly headers: readonly (readonly [string, string])[];
      /** edits of the answer, in order */
      readonly answer: readonly (Omit<AnswerEdit, 'value'> & { readonly value: string })[];
    }
  | {
      readonly kind: 'reply';
      readonly status: number;
      readonly headers: readonly (readonly [string, string])[];
      readonly body: string;
    };

/** The edits of an answer in the order in which Envoy makes them: the route’s, then the filters’. */
export function answerEdits(action: ForwardAction): readonly AnswerEdit[] {
  return [...(action.answer?.route ?? []), ...(action.answer?.filters ?? [])];
}

/** RE2::GlobalReplace with Envoy's substitution (\0..\9, \\). */
export function globalReplace(input: string, pattern: string, substitution: string): string {
  const matcher = compileRegex(pattern).matcher(input);
  let out = '';
  let last = 0;
  let lastEnd = -1;
  while (matcher.find()) {
    const [start, end] = [matcher.start(), matcher.end()];
    if (start === end && start === lastEnd) continue;
    out += input.slice(last, start);
    out += substitution.replace(/\\(\d|\\)/g, (_, g: string) => (g === '\\' ? '\\' : (matcher.group(Number(g)) ?? '')));
    last = end;
    lastEnd = end;
  }
  return out + input.slice(last);
}

function piece(view: View, p: Piece): string {
  switch (p.kind) {
    case 'literal':
      return p.value;
    case 'path':
      return view.path.slice(p.from);
    case 'header': {
      const value = view.headers.get(p.name)?.[0] ?? '';
      return p.length === undefined ? value : value.substr(p.from ?? 0, p.length);
    }
    case 'query':
      return view.query === undefined ? '' : `?${view.query}`;
    case 'host':
      return view.host;
    case 'host_name':
      return hostName(view.host);
    case 'source_ip':
      return view.request.sourceIp ?? '';
    case 'figure':
      return `<${p.of}>`;
    case 'random':
      return '<random>';
    case 'request_id':
      return view.headers.get('x-request-id')?.[0] ?? '<uuid>';
    case 'sampled':
    case 'uuid':
    case 'endpoint':
      return `<${p.kind}>`;
    case 'base64':
      return '';
    case 'capture':
      throw new RangeError('captures stand in targets only');
  }
}

function expand(view: View, pieces: readonly Piece[]): string {
  return pieces.map((p) => piece(view, p)).join('');
}

const HOP = new Set(['connection', 'keep-alive', 'proxy-connection', 'upgrade']);

/** The request that a server gets, by headers in lower case, and the edits of its answer. */
export function forward(listener: ListenerPlan, view: View, action: ForwardAction): Result {
  let headers: [string, string][] = [];
  for (const [name, value] of view.request.headers) {
    const key = name.toLowerCase();
    if (HOP.has(key) || (key === 'te' && value.trim() !== 'trailers')) continue;
    headers.push([key, key === 'host' ? (action.host ?? value.trim()) : value.trim()]);
  }
  const present = (name: string) => headers.some(([n]) => n === name);
  if (!present('x-forwarded-proto') && listener.forwardedProto !== '')
    headers.push(['x-forwarded-proto', listener.forwardedProto]);
  if (listener.generateRequestId && !present('x-request-id')) headers.push(['x-request-id', '<uuid>']);
  for (const edit of action.edits) {
    const there = present(edit.name);
    if (edit.op === 'remove' || edit.op === 'overwrite' || (edit.op === 'overwrite_if_present' && there)) {
      headers = headers.filter(([n]) => n !== edit.name);
    }
    if (edit.op === 'renew') {
      const by = view.headers.has(edit.by ?? edit.name);
      const renewed = by ? edit.value : edit.absent;
      headers = headers.filter(([n]) => n !== edit.name);
      if (renewed) headers.push([edit.name, expand(view, renewed)]);
      continue;
    }
    if (
      edit.op === 'remove' ||
      (edit.op === 'add_if_absent' && there) ||
      (edit.op === 'overwrite_if_present' && !there)
    )
      continue;
    const value = typeof edit.value === 'string' ? edit.value : expand(view, edit.value);
    const at = edit.op === 'join' ? headers.findIndex(([n]) => n === edit.name) : -1;
    if (at >= 0) headers[at] = [edit.name, `${headers[at]![1]},${value}`];
    else headers.push([edit.name, value]);
  }
  if (action.tokenHeaders) for (const [name, value] of view.request.tokenHeaders ?? []) headers.push([name, value]);
  let target = view.request.target;
  if (action.target?.kind === 'pieces') target = expand(view, action.target.pieces);
  else if (action.target) {
    const path = globalReplace(view.path, action.target.pattern, action.target.substitution);
    target = path + (view.query === undefined ? '' : `?${view.query}`);
  }
  if (action.originalPath) headers.push(['x-envoy-original-path', view.request.target]);
  const answer = answerEdits(action).map((edit) => ({ ...edit, value: expand(view, edit.value) }));
  return { kind: 'forward', action, target, headers, answer };
}

/** An answer without a server. */
export function reply(view: View, action: ReplyAction): Result {
  const headers = action.headers.map(({ name, value }) => [name, expand(view, value)] as const);
  return { kind: 'reply', status: action.status, headers, body: action.body };
}

/** Envoy’s answer to what RBAC refuses. */
export const DENIED = {
  kind: 'reply',
  status: 403,
  headers: [['content-type', 'text/plain']],
  body: 'RBAC: access denied',
} as const satisfies Result;

/** Envoy’s answer where no route matches. */
export const NOT_FOUND: Result = { kind: 'reply', status: 404, headers: [], body: '' };
