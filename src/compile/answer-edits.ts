/**
 * Edits of answers: as a program that the agent runs on any head, and, where they come down to removed lines and added
 * ones, as a structure of the image. What an answer needs of the request is kept with the exchange as variables.
 */
import {
  ADD,
  AddSpec,
  AnswerEditSpec,
  CompressibleSpec,
  FIGURE,
  FIGURE_SHIFT,
  LookSpec,
  MAX_ADDS,
  MAX_LITERAL,
  MAX_VARIABLES,
} from '../layout/actions.js';
import { MAX_SLOTS, SLOT } from '../layout/image.js';
import { JOINED_ANSWER_HEADERS } from '../plan/answers.js';
import { COMPRESSOR_HEADERS, type Compressible, listWith, NO_TRANSFORM, ofTypes } from '../plan/compressible.js';
import type { AnswerEdit, AnswerEdits, Figure, Piece, Plan } from '../plan/ir.js';
import type { LocalReplies } from '../plan/local-replies.js';
import type { Blob } from './blob.js';
import { matcherDfa } from './matcher.js';
import { RESPONSE_SLOTS } from './scanner.js';

/** A value of an edit: text, the number of a variable of the exchange, or a figure of the bucket that a variable names. */
export type ProgramValue = string | number | { readonly figure: Figure; readonly variable: number };

/** The variable that names the bucket whose figures the answer shows. */
export const SHOWN_BUCKET = 'bucket';
export const FIGURES: Readonly<Record<Figure, number>> = {
  limit: FIGURE.LIMIT,
  remaining: FIGURE.REMAINING,
  reset: FIGURE.RESET,
};

export interface ProgramEdit {
  readonly op: AnswerEdit['op'];
  readonly name: string;
  readonly value: ProgramValue;
  readonly when?: Compressible;
}

/** What is done to an answer's head; equal programs are one, whatever policy they come from. */
export interface AnswerProgram {
  /** the router's, then those of filters (see AnswerEdits) */
  readonly route: readonly ProgramEdit[];
  readonly filters: readonly ProgramEdit[];
  /** what is done to the agent's own replies before */
  readonly local?: LocalReplies;
}

/** Gives a program its number, from 1, the same for equal programs as long as the agent lives. */
export type ProgramNumber = (program: AnswerProgram) => number;

/** A program and the variables that it needs, or undefined if these are too many. */
export function answerProgram(
  edits: AnswerEdits,
):
  | { readonly program: AnswerProgram; readonly variables: readonly (readonly Piece[] | typeof SHOWN_BUCKET)[] }
  | undefined {
  const variables: (readonly Piece[] | typeof SHOWN_BUCKET)[] = [];
  const variable = (made: (typeof variables)[number]): number => {
    const key = JSON.stringify(made);
    const known = variables.findIndex((v) => JSON.stringify(v) === key);
    return known >= 0 ? known : variables.push(made) - 1;
  };
  const value = (pieces: readonly Piece[]): ProgramValue => {
    if (pieces.every((p) => p.kind === 'literal')) return pieces.map((p) => p.value).join('');
    const [only] = pieces;
    return only?.kind === 'figure' ? { figure: only.of, variable: variable(SHOWN_BUCKET) } : variable(pieces);
  };
  const list = (of: readonly AnswerEdit[]) => of.map((edit) => ({ ...edit, value: value(edit.value) }));
  const { local } = edits;
  const program = { route: list(edits.route), filters: list(edits.filters), ...(local ? { local } : {}) };
  return variables.length > MAX_VARIABLES ? undefined : { program, variables };
}

/** The programs of a plan's forward actions. */
export function programsOf(plan: Plan): AnswerProgram[] {
  return plan.listeners.flatMap((l) =>
    l.virtualHosts.flatMap((v) =>
      v.routes.flatMap(({ action }) => {
        const made = action.kind === 'forward' && action.answer ? answerProgram(action.answer) : undefined;
        return made ? [made.program] : [];
      }),
    ),
  );
}

interface Fate {
  kept: boolean;
  present: ProgramValue[];
  absent: ProgramValue[];
}

/** The fate of each header; undefined when a line would have to be changed where it stands. */
function fates(edits: readonly ProgramEdit[]): Map<string, Fate> | undefined {
  const found = new Map<string, Fate>();
  for (const { op, name, value } of edits) {
    let fate = found.get(name);
    if (!fate) {
      fate = { kept: true, present: [], absent: [] };
      found.set(name, fate);
    }
    const there = fate.kept || fate.present.length > 0;
    if (op === 'remove') {
      Object.assign(fate, { kept: false, present: [], absent: [] });
    } else if (op === 'append') {
      if (JOINED_ANSWER_HEADERS.has(name) && (there || fate.absent.length > 0)) return undefined;
      fate.present.push(value);
      fate.absent.push(value);
    } else if (op === 'add_if_absent') {
      if (!there) fate.present.push(value);
      if (fate.absent.length === 0) fate.absent.push(value);
    } else {
      const always = op === 'overwrite' || op === 'set';
      if (always || there) Object.assign(fate, { kept: false, present: [value] });
      if (always || fate.absent.length > 0) fate.absent = [value];
    }
  }
  return found;
}

/** Slots for the names that programs look at, beside those that every response scanner knows; as many as there are. */
export function answerSlots(programs: readonly AnswerProgram[]): Map<string, number> {
  const slots = new Map(RESPONSE_SLOTS);
  let next: number = SLOT.FIRST_FREE;
  for (const program of programs)
    for (const { name, when } of [...program.route, ...program.filters])
      for (const looked of when ? COMPRESSOR_HEADERS : [name])
        if (!slots.has(looked) && next < MAX_SLOTS) slots.set(looked, next++);
  return slots;
}

/** Stores a program, returns its offset, or 0 when the agent has to carry it out. @throws ImageFull */
export function storeProgram(blob: Blob, program: AnswerProgram, slots: ReadonlyMap<string, number>): number {
  const all = [...program.route, ...program.filters];
  const plain = all.filter(({ op }) => op !== 'list');
  const found = fates(plain);
  const element = elementOf(all.filter(({ op }) => op === 'list'));
  if (!found || element === 'several') return 0;
  // what is edited beside it, or by it, is looked at by nobody in the kernel
  if (element && plain.some(({ name }) => COMPRESSOR_HEADERS.includes(name))) return 0;
  let remove = 0n;
  const adds: Record<string, number>[] = [];
  for (const [name, fate] of found) {
    const slot = slots.get(name);
    if (slot === undefined) return 0;
    if (!fate.kept) remove |= 1n << BigInt(slot);
    const add = (when: number, value: ProgramValue) => {
      const line = Buffer.from(typeof value === 'string' ? `${name}: ${value}\r\n` : `${name}: `);
      const variable =
        typeof value === 'string'
          ? 0
          : typeof value === 'number'
            ? value + 1
            : value.variable + 1 + (FIGURES[value.figure] << FIGURE_SHIFT);
      adds.push({ when, slot, variable, value: name.length + 2, off: blob.intern(line), len: line.length });
    };
    const same = fate.present.length === fate.absent.length && fate.present.every((v, i) => v === fate.absent[i]);
    if (same) for (const v of fate.present) add(ADD.ALWAYS, v);
    else {
      for (const v of fate.present) add(ADD.IF_PRESENT, v);
      for (const v of fate.absent) add(ADD.IF_ABSENT, v);
    }
  }
  if (adds.length > MAX_ADDS || adds.some((a) => a.len! > MAX_LITERAL || a.value! > 255)) return 0;
  const compressible = element ? storeElement(blob, element, slots) : 0;
  if (compressible === undefined) return 0;
  return blob.structs(AnswerEditSpec, [
    { remove, compressible, n_adds: adds.length, adds: adds.length === 0 ? 0 : blob.structs(AddSpec, adds) },
  ]);
}

type ListEdit = ProgramEdit & { readonly value: string; readonly when: Compressible };

/** The edits that add the element to a list, where they are one and the same. */
function elementOf(edits: readonly ProgramEdit[]): ListEdit | 'several' | undefined {
  const [first, ...others] = edits;
  if (!first) return undefined;
  const key = JSON.stringify(first);
  return typeof first.value === 'string' && first.when && others.every((e) => JSON.stringify(e) === key)
    ? (first as ListEdit)
    : 'several';
}

/** Stores what is looked at in an answer before its `vary` is made longer; undefined when it cannot be computed. */
function storeElement(blob: Blob, edit: ListEdit, slots: ReadonlyMap<string, number>): number | undefined {
  const { name, value, when } = edit;
  const matchers = {
    'content-type': ofTypes(when.types),
    'cache-control': listWith(NO_TRANSFORM, true),
    [name]: listWith(value, false),
  };
  const looks: Record<string, number>[] = [];
  for (const [header, matcher] of Object.entries(matchers)) {
    const dfa = matcherDfa(matcher);
    const slot = slots.get(header);
    if (!dfa || slot === undefined) return undefined;
    const yes = blob.words([1]);
    const { start, classes } = blob.rows(dfa, (label) => (label.length > 0 ? yes : 0));
    looks.push({ slot, start, classes });
  }
  let never = 0n;
  for (const header of ['content-encoding', ...(when.sparesEtags ? ['etag'] : [])]) {
    const slot = slots.get(header);
    if (slot === undefined) return undefined;
    never |= 1n << BigInt(slot);
  }
  const line = Buffer.from(`${name}: ${value}\r\n`);
  return blob.structs(CompressibleSpec, [
    {
      never,
      minimum: when.minimum,
      looks: blob.structs(LookSpec, looks),
      off: blob.intern(line),
      len: line.length,
      value: name.length + 2,
    },
  ]);
}
