/** Edits of answers that the agent carries out: on answers that it carries itself, and on its own. */
import type { AnswerProgram, ProgramEdit, ProgramValue } from '../compile/answer-edits.js';
import { numbering } from '../compile/image.js';
import { editText, type Named, TEXT } from '../plan/answers.js';
import type { Figure } from '../plan/ir.js';
import { rewriteReply } from '../plan/local-replies.js';

/** The program of one exchange with the values of its variables. */
export interface ExchangeEdits {
  readonly program: AnswerProgram;
  readonly variables: readonly string[];
  /** a figure of the bucket at a place, as it is now */
  readonly figure: BucketFigure;
}

/** Reads a figure of the token bucket at a place. */
export type BucketFigure = (place: number, of: Figure) => number;

type Headers = readonly Named<string>[];

function run(headers: Headers, edits: readonly ProgramEdit[], exchange: ExchangeEdits): Headers {
  const list = edits.map((edit) => ({ ...edit, value: resolved(edit.value, exchange) }));
  return editText(headers, list);
}

function resolved(value: ProgramValue, { variables, figure }: ExchangeEdits): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'number') return variables[value] ?? '';
  return String(figure(Buffer.from(variables[value.variable] ?? '', 'latin1').readUInt16LE(), value.figure));
}

/** The headers of an upstream's answer, edited. Names are lower case. */
export function editAnswer(headers: Headers, edits: ExchangeEdits | undefined): Headers {
  if (!edits) return headers;
  const { program } = edits;
  return run(run(headers, program.route, edits), program.filters, edits);
}

/** An answer that the agent gives itself, made as Envoy's sendLocalReply makes it. */
export function editLocalReply(
  status: number,
  body: string,
  edits: ExchangeEdits | undefined,
): { readonly status: number; readonly body: string; readonly headers: Headers } {
  const local = edits?.program.local;
  const said = local ? rewriteReply(local, status, body) : { status, body, type: TEXT };
  let headers = edits ? [...run([], edits.program.route, edits)] : [];
  if (said.type !== TEXT || said.body === '') headers = headers.filter(([n]) => n !== 'content-type');
  headers.push(['content-length', String(Buffer.byteLength(said.body))]);
  if (said.body !== '' && !headers.some(([n]) => n === 'content-type')) headers.push(['content-type', said.type]);
  return { ...said, headers: edits ? run(headers, edits.program.filters, edits) : headers };
}

/** The numbers of programs, given out once and kept for the agent's life, so that exchanges may outlive a policy. */
export class AnswerPrograms {
  readonly #number = numbering();
  readonly #programs: AnswerProgram[] = [];

  /** @param figure reads the buckets that answers show */
  constructor(readonly figure: BucketFigure) {}

  /** The number of a program, from 1. */
  number(program: AnswerProgram): number {
    const number = this.#number(program);
    this.#programs[number] = program;
    return number;
  }

  /** The program with this number; undefined for 0. */
  get(number: number): AnswerProgram | undefined {
    return this.#programs[number];
  }
}
