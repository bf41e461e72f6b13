/** What a listener asks about tokens. */
import { test } from './conditions.js';
import type { Condition } from './ir.js';
import { MAX_TOKEN_FACTS, type TokenFact } from './tokens.js';

/** A listener's questions about tokens, numbered. */
export class TokenQuestions {
  readonly facts: TokenFact[] = [];
  readonly #numbers = new Map<string, number>();

  /** True when the fact holds for the request's token; undefined when there is no room for another question. */
  ask(fact: TokenFact): Condition | undefined {
    const key = JSON.stringify(fact);
    let number = this.#numbers.get(key);
    if (number === undefined) {
      if (this.facts.length === MAX_TOKEN_FACTS) return undefined;
      number = this.facts.push(fact) - 1;
      this.#numbers.set(key, number);
    }
    return test({ kind: 'token', fact: number }, { kind: 'present' });
  }
}
