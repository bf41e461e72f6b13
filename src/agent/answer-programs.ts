/** Edits of answers that the agent carries out: on answers that it carries itself, and on its own. */
import type { AnswerProgram, ProgramEdit } from '../compile/answer-edits.js';
import { numbering } from '../compile/image.js';
import { editHeaders, type Named } from '../plan/answers.js';

/** The program of one exchange with the values of its variables. */
export interface ExchangeEdits {
  readonly program: AnswerProgram;
  readonly variables: readonly string[];
}

type Headers = readonly Named<string>[];

function run(headers: Headers, edits: readonly ProgramEdit[], variables: readonly string[]): Headers {
  const list = edits.map(({ op, name, value }) => ({
    op,
    name,
    value: typeof value === 'string' ? value : (variables[value] ?? ''),
  }));
  return editHeaders(headers, list, (a, b) => `${a},${b}`);
}

/** The headers of an upstream's answer, edited. Names are lower case. */
export function editAnswer(headers: Headers, edits: ExchangeEdits | undefined): Headers {
  if (!edits) return headers;
  const { program, variables } = edits;
  return run(run(headers, program.route, variables), program.filters, variables);
}

/** The headers of an answer that the agent gives itself, made as Envoy's sendLocalReply makes them. */
export function editLocalReply(body: string, edits: ExchangeEdits | undefined): Headers {
  const { program = { route: [], filters: [] }, variables = [] } = edits ?? {};
  const headers = [...run([], program.route, variables)];
  headers.push(['content-length', String(Buffer.byteLength(body))]);
  if (!headers.some(([n]) => n === 'content-type')) headers.push(['content-type', 'text/plain']);
  return run(headers, program.filters, variables);
}

/** The numbers of programs, given out once and kept for the agent's life, so that exchanges may outlive a policy. */
export class AnswerPrograms {
  readonly #number = numbering();
  readonly #programs: AnswerProgram[] = [];

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
