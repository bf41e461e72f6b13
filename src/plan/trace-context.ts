/**
 * What requests say of the trace that they belong to, and what servers are told (B3: github.com/openzipkin/b3-propagation;
 * W3C Trace Context, Level 1). Odd contexts and ids are the proxy's.
 */
import { all, any, headerPresent, not, test } from './conditions.js';
import type { MadeValues } from './header-edits.js';
import type { AnswerEdit, Condition, ForwardAction, HeaderEdit, Piece } from './ir.js';
import { type TracePlan, tracesNew } from './tracing.js';

const [TRACE, SPAN, PARENT, SAMPLED] = ['x-b3-traceid', 'x-b3-spanid', 'x-b3-parentspanid', 'x-b3-sampled'];

/** The header by which a span before this one says whether it is sampled. */
export const SAMPLED_BY: Readonly<Record<TracePlan['tracer'], string | undefined>> = {
  none: undefined,
  zipkin: SAMPLED,
  opentelemetry: 'traceparent',
};

const matches = (name: string, pattern: string): Condition =>
  test({ kind: 'header', name }, { kind: 'regex', pattern });
const exact = (name: string, value: string): Condition =>
  test({ kind: 'header', name }, { kind: 'exact', value, ignoreCase: false });
/** The header is there, and of another form. */
const odd = (name: string, pattern: string): Condition => all([headerPresent(name), not(matches(name, pattern))]);
const together = (a: string, b: string): Condition[] => [
  all([headerPresent(a), not(headerPresent(b))]),
  all([headerPresent(b), not(headerPresent(a))]),
];

const HEX = '[0-9a-f]';
const CONTEXT: Readonly<Record<TracePlan['tracer'], readonly Condition[]>> = {
  none: [],
  zipkin: [
    headerPresent('b3'),
    odd(TRACE!, `${HEX}{16}|${HEX}{32}`),
    matches(TRACE!, `0{16}${HEX}{16}`),
    odd(SPAN!, `${HEX}{16}`),
    odd(PARENT!, `${HEX}{16}`),
    exact(PARENT!, '0'.repeat(16)),
    odd(SAMPLED!, '[01]'),
    ...together(TRACE!, SPAN!),
    all([headerPresent(PARENT!), not(headerPresent(TRACE!))]),
  ],
  opentelemetry: [
    odd('traceparent', `00-${HEX}{32}-${HEX}{16}-0[01]`),
    matches('traceparent', `00-0{32}-.*|00-${HEX}{32}-0{16}-.*`),
    all([headerPresent('tracestate'), not(headerPresent('traceparent'))]),
  ],
};

/** Requests whose trace or id the kernel cannot go by: they are left to the proxy. */
export function traceGuard(trace: TracePlan): Condition {
  const id = `${HEX}{8}-${HEX}{4}-${HEX}{4}-${HEX}{4}-${HEX}{12}`;
  const guards = [...CONTEXT[trace.tracer], headerPresent('x-client-trace-id'), odd('x-request-id', id)];
  if (trace.tracer !== 'none' && !tracesNew(trace)) {
    // spans of what others have begun are the proxy's, where there are no others
    if (trace.tracer === 'zipkin') guards.push(exact(SAMPLED!, '1'));
    if (trace.overall > 0) guards.push(matches('x-request-id', '.{14}[9ab].*'));
  }
  return any(guards);
}

/** Requests that belong to a trace, of which answers cannot say the ids. */
export const continues: Condition = headerPresent(TRACE!);

const random: Piece = { kind: 'random' };
const again: Piece = { kind: 'random', again: true };
const sampled: Piece = { kind: 'sampled' };
const literal = (value: string): Piece => ({ kind: 'literal', value });
const header = (name: string): Piece => ({ kind: 'header', name });

/** Where the id of the trace is in `traceparent`. */
const TRACE_ID: Piece = { kind: 'header', name: 'traceparent', from: 3, length: 32 };

/** Whether a span has the id of the one before: client and server share it. */
export const sharesSpan = ({ shared, egress }: TracePlan): boolean => shared && !egress;

/** What servers are told of the trace, behind all other edits. */
export function traceEdits(trace: TracePlan): HeaderEdit[] {
  const { tracer, long } = trace;
  if (tracer === 'none') return [];
  if (tracer === 'opentelemetry') {
    const rest = [literal('-'), random, literal('-0'), sampled];
    const value = [literal('00-'), TRACE_ID, ...rest];
    return [
      { op: 'renew', name: 'traceparent', value, absent: [literal('00-'), random, random, ...rest] },
      { op: 'overwrite', name: 'tracestate', value: [header('tracestate')] },
    ];
  }
  const shares = sharesSpan(trace);
  return [
    { op: 'renew', name: TRACE!, value: [header(TRACE!)], absent: long ? [random, random] : [random] },
    { op: 'renew', name: SPAN!, value: [shares ? header(SPAN!) : random], absent: [again] },
    { op: 'renew', name: PARENT!, value: [header(shares ? PARENT! : SPAN!)], by: shares ? PARENT! : SPAN! },
    { op: 'overwrite', name: SAMPLED!, value: [sampled] },
  ];
}

/** What answers may say of a new trace, by the name of the request's header. */
export function madeHeaders(trace: TracePlan | undefined, requestIds: boolean): MadeValues {
  const made = new Map<string, readonly Piece[]>();
  if (!trace) return made;
  if (requestIds) made.set('x-request-id', [{ kind: 'request_id' }]);
  if (trace.tracer !== 'zipkin' || trace.long) return made;
  for (const name of [TRACE!, SPAN!]) made.set(name, [random]);
  return made.set(SAMPLED!, [sampled]);
}

const isRandom = ({ kind }: Piece): boolean => kind === 'random';
const isMade = ({ kind }: Piece): boolean => kind === 'random' || kind === 'request_id' || kind === 'sampled';

/** Whether answers say something that is made for their request. */
export const saysMade = (edits: readonly AnswerEdit[]): boolean => edits.some(({ value }) => value.some(isMade));

/** Whether that is an id of a trace, which is made only where one begins. */
export const saysRandom = (edits: readonly AnswerEdit[]): boolean => edits.some(({ value }) => value.some(isRandom));

/** The action with the ids that the edits of its answers make, which they do first. */
export function withMade(action: ForwardAction, edits: readonly AnswerEdit[]): ForwardAction {
  if (!saysRandom(edits)) return action;
  const told = (edit: HeaderEdit): HeaderEdit =>
    edit.op === 'renew' && edit.name === TRACE ? { ...edit, absent: [again] } : edit;
  return { ...action, edits: action.edits.map(told) };
}
