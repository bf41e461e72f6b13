/** The header_mutation filter (envoy.extensions.filters.http.header_mutation.v3): edits one after the other. */
import type { JsonObject } from '../policy/resources.js';
import { answerEdit, handledByProxy, headerOption, type Side } from './header-edits.js';
import type { AnswerEdit, HeaderEdit } from './ir.js';
import { has, join, list, type Notes, obj, onlyFields, str } from './notes.js';

/** What one configuration of the filter does. */
export interface Mutations {
  readonly request: readonly HeaderEdit[];
  readonly answer: readonly AnswerEdit[];
}

function edit(notes: Notes, mutation: JsonObject, at: string, side: Side): HeaderEdit | undefined {
  onlyFields(notes, mutation, at, ['remove', 'append']);
  if (has(mutation, 'remove')) return { op: 'remove', name: str(mutation, 'remove').toLowerCase() };
  return headerOption(notes, obj(mutation, 'append') ?? {}, join(at, 'append'), side);
}

/** Reads `mutations` of a filter's configuration. What the fast path cannot do becomes a reason. */
export function mutationsOf(notes: Notes, config: JsonObject, path: string): Mutations {
  const mutations = obj(config, 'mutations') ?? {};
  const at = join(path, 'mutations');
  onlyFields(notes, mutations, at, ['request_mutations', 'response_mutations']);
  const request = list(mutations, 'request_mutations').flatMap((mutation, i) => {
    const field = `${at}.request_mutations[${i}]`;
    const found = edit(notes, mutation, field, 'request');
    return found && !handledByProxy(notes, found.name, field, mutation) ? [found] : [];
  });
  const answer = list(mutations, 'response_mutations').flatMap((mutation, i) => {
    const field = `${at}.response_mutations[${i}]`;
    const found = edit(notes, mutation, field, 'response');
    return (found && answerEdit(notes, found, field, mutation)) ?? [];
  });
  return { request, answer };
}
