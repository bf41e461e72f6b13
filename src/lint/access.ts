/** Warnings about RBAC policies. */
import type { Matcher } from '../plan/ir.js';
import { bool, has, isObject, list, Notes, obj, str } from '../plan/notes.js';
import { stringMatcher } from '../plan/string-match.js';
import type { Json, JsonObject, Resources } from '../policy/resources.js';
import type { Findings } from './report.js';
import { methodProblems, type Problem, pathProblems, valueProblems } from './values.js';

type Truth = 'always' | 'never' | 'depends';

const negated: Record<Truth, Truth> = { always: 'never', never: 'always', depends: 'depends' };
const both = (parts: readonly Truth[]): Truth =>
  parts.includes('never') ? 'never' : parts.every((p) => p === 'always') ? 'always' : 'depends';
const either = (parts: readonly Truth[]): Truth => negated[both(parts.map((p) => negated[p]))];

class Reader {
  readonly problems: { problem: Problem; field: string }[] = [];
  constructor(readonly notes: Notes) {}

  matcher(o: JsonObject | undefined): Matcher | undefined {
    return o && stringMatcher(this.notes, o, '');
  }

  found(problems: readonly Problem[], field: string): Truth {
    for (const problem of problems) this.problems.push({ problem, field });
    return problems.some((p) => p.code !== 'regex-whole') ? 'never' : 'depends';
  }

  /** What is known of a Permission or Principal without a request. */
  truth(p: JsonObject): Truth {
    if (has(p, 'any')) return bool(p, 'any') ? 'always' : 'never';
    const all = obj(p, 'and_rules') ?? obj(p, 'and_ids');
    if (all) return both([...list(all, 'rules'), ...list(all, 'ids')].map((q) => this.truth(q)));
    const any = obj(p, 'or_rules') ?? obj(p, 'or_ids');
    if (any) return either([...list(any, 'rules'), ...list(any, 'ids')].map((q) => this.truth(q)));
    const not = obj(p, 'not_rule') ?? obj(p, 'not_id');
    if (not) return negated[this.truth(not)];
    const path = this.matcher(obj(obj(p, 'url_path'), 'path'));
    if (path) return this.found(pathProblems(path), 'path');
    const header = obj(p, 'header');
    if (header && !bool(header, 'invert_match')) {
      const matcher = this.matcher(obj(header, 'string_match'));
      const name = str(header, 'name').toLowerCase();
      if (matcher && name === ':method') return this.found(methodProblems(matcher), 'method');
      if (matcher) return this.found(valueProblems(matcher), `header ${name}`);
    }
    return 'depends';
  }
}

function lintPolicy(findings: Findings, resources: Resources, policy: JsonObject, allow: boolean, own: boolean): void {
  const at = resources.provenance.get(policy);
  if (!at) return;
  findings.look(at);
  const reader = new Reader(new Notes(resources.provenance));
  const truth = both([
    either(list(policy, 'permissions').map((p) => reader.truth(p))),
    either(list(policy, 'principals').map((p) => reader.truth(p))),
  ]);
  for (const { problem, field } of reader.problems) findings.hold(at, { ...problem, field }, problem.message);
  const hopeless = reader.problems.some(({ problem }) => problem.code !== 'regex-whole');
  // what the translation of other documents has made constant depends on their servers
  if (truth === 'always' && !allow && own)
    findings.hold(at, { code: 'deny-all', message: 'it denies every request', field: 'rules' });
  if (truth === 'never' && allow && (own || hopeless))
    findings.hold(at, { code: 'allow-nothing', message: 'no request meets it: it allows nothing', field: 'rules' });
}

/** Adds warnings about all RBAC policies of the resources, wherever they stand. */
export function lintAccess(findings: Findings, resources: Resources): void {
  const own = new Set(resources.rules.filter((r) => r.kind === 'RBAC').flatMap((r) => r.objects));
  const seen = new Set<object>();
  const walk = (value: Json | undefined): void => {
    if (Array.isArray(value)) {
      if (!seen.has(value)) for (const v of value) walk(v);
      seen.add(value);
      return;
    }
    if (!isObject(value) || seen.has(value)) return;
    seen.add(value);
    const rules = obj(value, 'rules');
    const action = str(rules, 'action') || 'ALLOW';
    if (rules && (action === 'ALLOW' || action === 'DENY')) {
      for (const policy of Object.values(obj(rules, 'policies') ?? {})) {
        if (isObject(policy) && list(policy, 'principals').length > 0)
          lintPolicy(findings, resources, policy, action === 'ALLOW', own.has(policy));
      }
    }
    for (const child of Object.values(value)) walk(child);
  };
  for (const tree of [resources.listeners, resources.routeConfigs, resources.clusters]) walk(tree);
}
