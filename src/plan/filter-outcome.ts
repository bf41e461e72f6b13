/** What the filters of a chain come to for one route: checks with their answers, and edits. */
import type { JsonObject } from '../policy/resources.js';
import { filterReply, hasEdits, localReply } from './answers.js';
import { ALWAYS, all, not } from './conditions.js';
import { type FilterSteps, HELD, type Step, stopsAll } from './filter-steps.js';
import type { AnswerEdit, AnswerEdits, Condition, HeaderEdit, RbacCheck, ReplyAction, TokenBucket } from './ir.js';
import { figureEdits } from './local-limits.js';
import type { LocalReplies } from './local-replies.js';
import type { Notes } from './notes.js';
import { policiesOf, rememberPolicies } from './rbac-policies.js';

const DENIED = { status: 403, body: 'RBAC: access denied' };

/** What is known about the route that filters act on. */
export interface RouteView {
  /** the resources that may configure filters, most specific first: route, virtual host, route configuration */
  readonly levels: readonly { readonly owner: JsonObject; readonly path: string }[];
  /** its action forwards (redirects and direct responses have no route entry) */
  readonly hasEntry: boolean;
  /** the router's edits of answers */
  readonly edits: readonly AnswerEdit[];
}

/** What the filters and the router do to the answers of requests that meet `when`; the first that is met counts. */
export interface AnswerCase {
  readonly when: Condition;
  readonly edits: AnswerEdits;
}

export interface FilterOutcome {
  readonly checks: readonly RbacCheck[];
  /** the checks are not those of requests without a route */
  readonly overridden: boolean;
  readonly notes: Notes;
  /** edits of the request before the route's own */
  readonly request: readonly HeaderEdit[];
  /** the last one holds always */
  readonly cases: readonly AnswerCase[];
  readonly whole: boolean;
  /** what every request is answered with that gets past `checks`, by case */
  readonly abort?: readonly { readonly when: Condition; readonly action: ReplyAction }[];
  /** what a jwt_authn filter does to requests with good tokens; `checks` leave those that are not known to the proxy */
  readonly changes: readonly TokenChange[];
}

/** What a known token does to a request, and when. */
export interface TokenChange {
  /** header that goes with it; '': none */
  readonly remove: string;
  /** headers that may come with it; empty: none does */
  readonly adds: readonly string[];
  readonly when: Condition;
}

/** Steps in the order of the chain -> checks with the answers that clients get, which all filters may edit. */
export function answered(
  acts: readonly FilterSteps[],
  view: RouteView,
  replies?: LocalReplies,
): Omit<FilterOutcome, 'overridden' | 'notes' | 'changes'> {
  const corsAt = acts.findIndex((a) => a.cors);
  const cors = acts[corsAt]?.cors;
  const route = view.hasEntry ? view.edits : [];
  // the last filter sees an answer first; CORS only knows of requests that it has seen
  const counts = acts.findIndex((a) => a.figures);
  // nor does a rate limit, which shows the bucket that refused, else the first one
  const filterEdits = (allowed: boolean, at = acts.length, refused?: TokenBucket): AnswerEdit[] =>
    [...acts]
      .reverse()
      .flatMap((a) => [
        ...a.answer,
        ...(allowed && a.cors ? a.cors.edits : []),
        ...(a.figures && counts <= at ? figureEdits(counts === at ? refused : undefined) : []),
      ]);
  const local = replies ? { local: replies } : {};
  const checks: RbacCheck[] = [];
  let abort: FilterOutcome['abort'];
  acts.forEach((act, at) => {
    if (abort) return;
    for (const { condition, headers, allowed } of act.cors?.preflights ?? [])
      checks.push({
        action: 'deny',
        condition,
        reply: { ...filterReply(200, headers, filterEdits(allowed, at)), origin: 'filter' },
      });
    for (const step of act.steps) {
      const knownToCors = cors && corsAt < at ? cors : undefined;
      const reply = (allowed: boolean) =>
        replyOf(step, { route, filters: filterEdits(allowed, at, step.bucket), ...local });
      if (stopsAll(step) && typeof step.reply === 'object') {
        const whole = (when: Condition, allowed: boolean) => ({ when, action: reply(allowed) as ReplyAction });
        abort = [...(knownToCors ? [whole(knownToCors.allowed, true)] : []), whole(ALWAYS, false)];
        return;
      }
      checks.push(...checksOf(step, knownToCors?.allowed, reply));
    }
  });
  const edits = (allowed: boolean): AnswerEdits => ({ route: view.edits, filters: filterEdits(allowed), ...local });
  return {
    checks,
    request: acts.flatMap((a) => a.request),
    cases: [...(cors ? [{ when: cors.allowed, edits: edits(true) }] : []), { when: ALWAYS, edits: edits(false) }],
    whole: acts.some((a) => a.whole),
    ...(abort ? { abort } : {}),
  };
}

function replyOf(step: Step, edits: AnswerEdits): RbacCheck['reply'] {
  if (step.reply === 'proxy') return { kind: 'proxy', ...(step.why ? { why: step.why } : {}) };
  if (step.reply === 'delayed') return { kind: 'proxy', why: HELD, delayed: true };
  const details = step.reply ? undefined : step.rbac?.details;
  if (!step.reply && details === undefined && !hasEdits(edits)) return undefined;
  const { status, body, headers = [] } = step.reply ?? { ...DENIED, headers: [] };
  return {
    ...localReply(status, body, edits, headers),
    origin: step.reply ? 'fault' : 'rbac',
    ...(details === undefined ? {} : { details }),
  };
}

/** A step as checks; two where CORS adds to the answers for the origins that it allows. */
function checksOf(
  step: Step,
  allowed: Condition | undefined,
  reply: (allowed: boolean) => RbacCheck['reply'],
): RbacCheck[] {
  const check = (action: RbacCheck['action'], condition: Condition, isAllowed: boolean): RbacCheck => {
    const answer = reply(isAllowed);
    if (!answer && step.rbac && condition === step.condition) return step.rbac;
    const made: RbacCheck = {
      action,
      condition,
      ...(answer ? { reply: answer } : {}),
      ...(step.chance ? { chance: step.chance } : {}),
      ...(step.bucket ? { bucket: step.bucket } : {}),
    };
    if (step.rbac && condition === step.condition) rememberPolicies(made, policiesOf(step.rbac));
    return made;
  };
  if (!allowed || typeof step.reply === 'string') return [check(step.action, step.condition, false)];
  const stops = step.action === 'deny' ? step.condition : not(step.condition);
  // a chance must not be drawn twice, nor a token be taken
  const rest =
    step.chance || step.bucket
      ? check('deny', all([stops, not(allowed)]), false)
      : check(step.action, step.condition, false);
  return [check('deny', all([stops, allowed]), true), rest];
}
