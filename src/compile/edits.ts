/** A sequence of header edits as the few operations that the kernel has. */
import { ADD } from '../layout/actions.js';
import { SLOT } from '../layout/image.js';
import type { HeaderEdit, Piece } from '../plan/ir.js';
import { isOddName, REQUEST_SLOTS } from './scanner.js';

/** A line to add, or one of the lines that the kernel makes itself. `name` is the header whose presence decides. */
export interface NetAdd {
  readonly when: number;
  readonly name: string;
  /** `name: value CR LF`, or the literal that ADD.ORIGINAL_TARGET starts with; empty for ADD.REQUEST_ID */
  readonly line: string;
  /** the whole line where it is made of the request */
  readonly pieces?: readonly Piece[];
}

/** What edits come down to: names whose lines are removed, then lines that are added, in order. */
export interface NetEdits {
  readonly remove: readonly string[];
  readonly adds: readonly NetAdd[];
}

/** Headers that frame the message or belong to one connection: a rule that changes them is for the proxy. */
const FRAMING = new Set(
  [...REQUEST_SLOTS]
    .filter(([, slot]) => slot >= SLOT.CONTENT_LENGTH && slot <= SLOT.UPGRADE)
    .map(([name]) => name)
    .concat('trailer', 'expect'),
);

/** The value of a header that the proxy makes when the request has none, in place of its text. */
const GENERATED = Symbol('generated');
type Value = string | typeof GENERATED | readonly Piece[];

const isMade = (value: Value): value is readonly Piece[] => Array.isArray(value);

/** What becomes of one header, for requests that have it and for those that do not. */
interface Outcome {
  kept: boolean;
  present: Value[];
  absent: Value[];
  /** the header by whose presence one of them is taken */
  by?: string | undefined;
  /** only where the request's span is sampled */
  sampled?: boolean;
}

/** The headers that the proxy adds by itself before the rule's edits. */
export interface Defaults {
  readonly requestId: boolean;
  /** value of x-forwarded-proto when the request has none; empty: not added */
  readonly forwardedProto: string;
  /** requests are traced: the id says whether this one is */
  readonly traced: boolean;
}

/**
 * Headers of which Envoy keeps one line, so that what is appended is joined to it with a comma (its inline headers, as
 * found by appending to each of them).
 */
export const ONE_LINE = new Set(
  (
    'accept accept-encoding access-control-request-headers access-control-request-method authorization cache-control ' +
    'content-encoding content-type grpc-accept-encoding grpc-timeout if-match if-modified-since if-none-match if-range ' +
    'origin pragma referer user-agent via x-client-trace-id x-forwarded-client-cert x-forwarded-for x-forwarded-host ' +
    'x-forwarded-port x-forwarded-proto x-request-id'
  ).split(' '),
);

const literal = (value: string): Piece => ({ kind: 'literal', value });

const VALID_NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
const VALID_VALUE = /^[\t\x20-\x7e]*$/;

/** Why the kernel must not make this edit; undefined: it may. */
function refused(edit: HeaderEdit): string | undefined {
  if (FRAMING.has(edit.name)) return `header ${edit.name} frames the message`;
  if (edit.name === 'host') return 'the Host header is changed by a host rewrite only';
  if (!VALID_NAME.test(edit.name)) return `header name ${JSON.stringify(edit.name)} is not a lower-case token`;
  if (edit.op !== 'remove' && typeof edit.value === 'string' && !VALID_VALUE.test(edit.value))
    return `value of header ${edit.name} is not plain ASCII`;
  return undefined;
}

/** Makes an edit of the outcome so far; a text that says why it cannot be expressed. */
function play(edit: HeaderEdit, o: Outcome): string | undefined {
  const edited = !o.kept || o.present.length + o.absent.length > 0;
  switch (edit.op) {
    case 'remove':
      o.kept = false;
      o.present = [];
      o.absent = [];
      break;
    case 'append':
      o.present.push(edit.value);
      o.absent.push(edit.value);
      break;
    case 'join': {
      if (edited) return `a value is appended to ${edit.name}`;
      const added: readonly Piece[] = isMade(edit.value) ? edit.value : [literal(edit.value)];
      o.kept = false;
      o.present = [[{ kind: 'header', name: edit.name }, literal(','), ...added]];
      o.absent = [added];
      break;
    }
    case 'sampled':
      if (edited) return `header ${edit.name} is edited`;
      o.sampled = true;
      o.absent = [edit.value];
      break;
    case 'renew':
      if (edit.by !== undefined && edited) return `header ${edit.name} is edited`;
      o.kept = false;
      o.by = edit.by;
      o.present = [edit.value];
      o.absent = edit.absent ? [edit.absent] : [];
      break;
    case 'overwrite':
      o.kept = false;
      o.present = [edit.value];
      o.absent = [edit.value];
      break;
    case 'add_if_absent':
      if (!o.kept && o.present.length === 0) o.present.push(edit.value);
      if (o.absent.length === 0) o.absent.push(edit.value);
      break;
    case 'overwrite_if_present':
      if (o.kept || o.present.length > 0) {
        o.kept = false;
        o.present = [edit.value];
      }
      if (o.absent.length > 0) o.absent = [edit.value];
      break;
  }
  return undefined;
}

/** Joins the values of a header that Envoy keeps on one line; a text that says why it cannot be done. */
function joinLines(name: string, o: Outcome): string | undefined {
  if (!ONE_LINE.has(name) && !isOddName(name)) return undefined;
  const made = [o.present, o.absent].some((values) => values.length > 1 && values.some(isMade));
  const generated = o.absent.length > 1 && o.absent.includes(GENERATED);
  if (made || generated || (o.kept && o.present.length > 0 && !isOddName(name)))
    return `a value is appended to ${name}`;
  const joined = (values: readonly Value[]) => (values.length > 1 ? [values.map(String).join(',')] : [...values]);
  o.present = joined(o.present);
  o.absent = joined(o.absent);
  return undefined;
}

/** The lines that are added for one header. */
function linesOf(name: string, o: Outcome): NetAdd[] {
  const line = (presence: number, value: Value): NetAdd => {
    const when = o.sampled ? ADD.IF_SAMPLED : presence;
    const decider = o.by ?? name;
    if (value === GENERATED) return { when: ADD.REQUEST_ID, name, line: '' };
    if (!isMade(value)) return { when, name: decider, line: `${name}: ${String(value)}\r\n` };
    return { when, name: decider, line: '', pieces: [literal(`${name}: `), ...value, literal('\r\n')] };
  };
  // a request that has such a header never gets here
  if (isOddName(name)) return o.absent.map((value) => line(ADD.ALWAYS, value));
  const same = o.present.length === o.absent.length && o.present.every((value, i) => value === o.absent[i]);
  if (same) return o.present.map((value) => line(ADD.ALWAYS, value));
  return [
    ...o.present.map((value) => line(ADD.IF_PRESENT, value)),
    ...o.absent.map((value) => line(ADD.IF_ABSENT, value)),
  ];
}

/**
 * Works out the net effect of `edits`, applied in order after the proxy's own additions.
 *
 * A header's fate depends only on whether the request has it, so the edits are played through for both cases and the
 * outcome is written as unconditional or conditional lines; every sequence of edits can be expressed so.
 * @returns a text that says why not, for headers that the kernel must not touch.
 */
export function netEdits(edits: readonly HeaderEdit[], defaults: Defaults): NetEdits | string {
  const outcomes = new Map<string, Outcome>();
  const outcome = (name: string): Outcome => {
    let found = outcomes.get(name);
    if (!found) {
      found = { kept: true, present: [], absent: [] };
      outcomes.set(name, found);
    }
    return found;
  };
  if (defaults.requestId) outcome('x-request-id').absent.push(GENERATED);
  if (defaults.traced)
    Object.assign(outcome('x-request-id'), {
      kept: false,
      present: [defaults.requestId ? GENERATED : [{ kind: 'request_id' }]],
    });
  if (defaults.forwardedProto !== '') outcome('x-forwarded-proto').absent.push(defaults.forwardedProto);
  for (const edit of edits) {
    const problem = refused(edit) ?? play(edit, outcome(edit.name));
    if (problem !== undefined) return problem;
  }
  const remove: string[] = [];
  const adds: NetAdd[] = [];
  for (const [name, o] of outcomes) {
    const problem = joinLines(name, o);
    if (problem !== undefined) return problem;
    if (!o.kept && !isOddName(name)) remove.push(name);
    adds.push(...linesOf(name, o));
  }
  return { remove, adds };
}
