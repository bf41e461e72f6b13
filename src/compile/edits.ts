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
/** Headers of which Envoy keeps one line, joining what is repeated. */
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
    if (FRAMING.has(edit.name)) return `header ${edit.name} frames the message`;
    if (edit.name === 'host') return 'the Host header is changed by a host rewrite only';
    if (!VALID_NAME.test(edit.name)) return `header name ${JSON.stringify(edit.name)} is not a lower-case token`;
    if (edit.op !== 'remove' && typeof edit.value === 'string' && !VALID_VALUE.test(edit.value))
      return `value of header ${edit.name} is not plain ASCII`;
    const o = outcome(edit.name);
    if (edit.op === 'remove') {
      o.kept = false;
      o.present = [];
      o.absent = [];
    } else if (edit.op === 'append') {
      o.present.push(edit.value);
      o.absent.push(edit.value);
    } else if (edit.op === 'join') {
      const added: readonly Piece[] = isMade(edit.value) ? edit.value : [{ kind: 'literal', value: edit.value }];
      if (!o.kept || o.present.length + o.absent.length > 0) return `a value is appended to ${edit.name}`;
      o.kept = false;
      o.present = [[{ kind: 'header', name: edit.name }, { kind: 'literal', value: ',' }, ...added]];
      o.absent = [added];
    } else if (edit.op === 'renew') {
      if (edit.by !== undefined && (!o.kept || o.present.length + o.absent.length > 0))
        return `header ${edit.name} is edited`;
      o.kept = false;
      o.by = edit.by;
      o.present = [edit.value];
      o.absent = edit.absent ? [edit.absent] : [];
    } else if (edit.op === 'overwrite') {
      o.kept = false;
      o.present = [edit.value];
      o.absent = [edit.value];
    } else if (edit.op === 'add_if_absent') {
      if (!o.kept && o.present.length === 0) o.present.push(edit.value);
      if (o.absent.length === 0) o.absent.push(edit.value);
    } else {
      if (o.kept || o.present.length > 0) {
        o.kept = false;
        o.present = [edit.value];
      }
      if (o.absent.length > 0) o.absent = [edit.value];
    }
  }
  const remove: string[] = [];
  const adds: NetAdd[] = [];
  for (const [name, o] of outcomes) {
    const line = (value: Value) => `${name}: ${String(value)}\r\n`;
    const add = (when: number, value: Value) => {
      const decider = o.by ?? name;
      if (value === GENERATED) adds.push({ when: ADD.REQUEST_ID, name, line: '' });
      else if (!isMade(value)) adds.push({ when, name: decider, line: line(value) });
      else {
        const pieces = [literal(`${name}: `), ...value, literal('\r\n')];
        adds.push({ when, name: decider, line: '', pieces });
      }
    };
    if (ONE_LINE.has(name) || isOddName(name)) {
      if ([o.present, o.absent].some((values) => values.length > 1 && values.some(isMade)))
        return `a value is appended to ${name}`;
      const joined = (values: readonly Value[]) => (values.length > 1 ? [values.map(String).join(',')] : values);
      const generated = o.absent.length > 1 && o.absent.includes(GENERATED);
      if (generated || (o.kept && o.present.length > 0 && !isOddName(name))) return `a value is appended to ${name}`;
      o.present = [...joined(o.present)];
      o.absent = [...joined(o.absent)];
    }
    if (isOddName(name)) {
      // A request that has such a header never gets here.
      for (const value of o.absent) add(ADD.ALWAYS, value);
      continue;
    }
    if (!o.kept) remove.push(name);
    const same = o.present.length === o.absent.length && o.present.every((value, i) => value === o.absent[i]);
    if (same) for (const value of o.present) add(ADD.ALWAYS, value);
    else {
      for (const value of o.present) add(ADD.IF_PRESENT, value);
      for (const value of o.absent) add(ADD.IF_ABSENT, value);
    }
  }
  return { remove, adds };
}
