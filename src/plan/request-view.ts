/** A request as the plan's reference evaluator sees it. */

import { describeCondition } from './describe.js';
import type { Condition, Predicate } from './ir.js';
import { matchesValue } from './matchers.js';

export interface PlanRequest {
  /** name of the listener; the first one if it is not given */
  readonly listener?: string;
  readonly method: string;
  /** as in the request line */
  readonly target: string;
  /** in order; names in any case; Host among them */
  readonly headers: readonly (readonly [string, string])[];
  /** IPv4 or IPv6 literal of the client */
  readonly sourceIp?: string;
  /** numbers of the facts that hold for its token, if it is known */
  readonly tokenFacts?: ReadonlySet<number>;
  /** headers that come with it */
  readonly tokenHeaders?: readonly (readonly [string, string])[];
  /** unsigned, 32 bits: what steps with a chance draw; undefined: none of them strikes */
  readonly random?: number;
  /** keys of the token buckets without a token */
  readonly empty?: ReadonlySet<string>;
  /** HTTP version; 1.1 if it is not given */
  readonly version?: string;
  /** bytes of the body; by default what Content-Length says */
  readonly bodyLength?: number;
  /** the client begins with a ClientHello: its server name (lower case), and its protocols in order */
  readonly hello?: { readonly name?: string; readonly protocols: readonly string[] };
}

/** A request taken apart, as predicates see it. */
export class View {
  readonly path: string;
  readonly query: string | undefined;
  readonly host: string;
  readonly headers = new Map<string, string[]>();

  constructor(readonly request: PlanRequest) {
    const mark = request.target.indexOf('?');
    this.path = mark < 0 ? request.target : request.target.slice(0, mark);
    this.query = mark < 0 ? undefined : request.target.slice(mark + 1);
    for (const [name, value] of request.headers) {
      const key = name.toLowerCase();
      this.headers.set(key, [...(this.headers.get(key) ?? []), value.trim()]);
    }
    this.host = this.headers.get('host')?.[0] ?? '';
  }

  /** The field's value; undefined if it is not there. */
  value({ field }: Predicate): string | undefined {
    switch (field.kind) {
      case 'method':
        return this.request.method;
      case 'host':
        return this.host;
      case 'path':
        return this.path;
      case 'target':
        return this.request.target;
      case 'source_ip':
        return this.request.sourceIp ?? '127.0.0.1';
      case 'header':
        return this.headers.get(field.name)?.[0];
      case 'token':
        return this.request.tokenFacts?.has(field.fact) ? '' : undefined;
      case 'query':
        for (const part of (this.query ?? '').split('&')) {
          const eq = part.indexOf('=');
          if ((eq < 0 ? part : part.slice(0, eq)) === field.name && part !== '')
            return eq < 0 ? '' : part.slice(eq + 1);
        }
        return undefined;
    }
  }

  holds(c: Condition): boolean {
    switch (c.op) {
      case 'const':
        return c.value;
      case 'not':
        return !this.holds(c.of);
      case 'and':
        return c.of.every((p) => this.holds(p));
      case 'or':
        return c.of.some((p) => this.holds(p));
      case 'test': {
        const value = this.value(c.predicate);
        return value !== undefined && matchesValue(c.predicate.matcher, value);
      }
    }
  }

  /** The part of a condition that makes it false, in words. */
  failed(c: Condition): string {
    if (c.op === 'and') return this.failed(c.of.find((p) => !this.holds(p)) ?? c);
    return describeCondition(c);
  }
}
