/**
 * The CORS filter (envoy.extensions.filters.http.cors.v3). Envoy consults the policies of route, virtual host and route
 * configuration field by field: the first that says something about a field is taken.
 */
import type { JsonObject } from '../policy/resources.js';
import { all, any, headerPresent, not, test } from './conditions.js';
import { share } from './fault.js';
import type { AnswerEdit, Condition, Piece, ReplyAction } from './ir.js';
import { matchesValue } from './matchers.js';
import { bool, has, join, list, type Notes, obj, onlyFields, str } from './notes.js';
import type { MayChange } from './runtime.js';
import { stringMatcher } from './string-match.js';

/** What CORS does on one route. */
export interface CorsPlan {
  /** the request names an origin that is allowed: its answer gets `edits` */
  readonly allowed: Condition;
  readonly edits: readonly AnswerEdit[];
  /** what is answered here, in order; headers before the edits of filters */
  readonly preflights: readonly {
    readonly condition: Condition;
    readonly headers: ReplyAction['headers'];
    readonly allowed: boolean;
  }[];
}

const FIELDS = [
  '@type',
  'allow_origin_string_match',
  'allow_methods',
  'allow_headers',
  'expose_headers',
  'max_age',
  'allow_credentials',
  'filter_enabled',
  'shadow_enabled',
  'allow_private_network_access',
  'forward_not_matching_preflights',
];

const literal = (value: string): Piece[] => [{ kind: 'literal', value }];
const ofRequest = (name: string): Piece[] => [{ kind: 'header', name }];
const header = (name: string) => ({ kind: 'header', name }) as const;
/** There, and not empty. */
const filled = (name: string): Condition =>
  all([headerPresent(name), not(test(header(name), { kind: 'exact', value: '', ignoreCase: false }))]);

/** One policy with its field path, the most specific first. */
export interface CorsPolicy {
  readonly policy: JsonObject;
  readonly path: string;
}

/** A RuntimeFractionalPercent: on, off, or, with a reason, for the proxy to know. */
export function enabled(notes: Notes, owner: JsonObject, key: string, path: string, runtime: MayChange) {
  const fraction = obj(owner, key);
  if (!fraction) return true;
  const field = join(path, key);
  if (str(fraction, 'runtime_key') !== '' && runtime(str(fraction, 'runtime_key')))
    notes.add('runtime-fraction', 'a runtime layer may change it', field, owner, key);
  const value = share(obj(fraction, 'default_value'));
  if (value === 'some') notes.add('runtime-fraction', 'a part of the requests', field, owner, key);
  return value !== 'none';
}

/**
 * The policies of a route together.
 * @returns undefined if the filter does nothing here, or, with a reason in `notes`, if it is left to the proxy
 */
export function corsPlan(notes: Notes, policies: readonly CorsPolicy[], mayChange: MayChange): CorsPlan | undefined {
  const [first] = policies;
  if (!first) return undefined;
  const before = notes.reasons.length;
  for (const { policy, path } of policies) onlyFields(notes, policy, path, FIELDS);
  if (!enabled(notes, first.policy, 'filter_enabled', first.path, mayChange)) return undefined;
  const saying = (key: string) => policies.find(({ policy }) => has(policy, key) && policy[key] !== '');
  const text = (key: string) => str(saying(key)?.policy, key);
  const flag = (key: string, absent: boolean) => bool(saying(key)?.policy, key, absent);

  const origins = saying('allow_origin_string_match');
  const matches = list(origins?.policy, 'allow_origin_string_match').map((m, i) => {
    const at = join(origins!.path, `allow_origin_string_match[${i}]`);
    const matcher = stringMatcher(notes, m, at);
    return !matcher || matchesValue(matcher, '*') ? filled('origin') : test(header('origin'), matcher);
  });
  const allowed = all([filled('origin'), any(matches)]);
  const asked = all([
    test({ kind: 'method' }, { kind: 'exact', value: 'OPTIONS', ignoreCase: false }),
    filled('origin'),
    filled('access-control-request-method'),
  ]);
  if (notes.reasons.length > before) return undefined;

  const common: { name: string; value: readonly Piece[] }[] = [];
  if (flag('allow_credentials', false))
    common.push({ name: 'access-control-allow-credentials', value: literal('true') });
  const methods = text('allow_methods');
  if (methods !== '') {
    const value = methods === '*' ? ofRequest('access-control-request-method') : literal(methods);
    common.push({ name: 'access-control-allow-methods', value });
  }
  const headers = text('allow_headers');
  if (headers !== '') {
    const value = headers === '*' ? ofRequest('access-control-request-headers') : literal(headers);
    common.push({ name: 'access-control-allow-headers', value });
  }
  const maxAge = text('max_age');
  if (maxAge !== '') common.push({ name: 'access-control-max-age', value: literal(maxAge) });
  const origin = { name: 'access-control-allow-origin', value: ofRequest('origin') };
  const privateNetwork = { name: 'access-control-allow-private-network', value: literal('true') };
  const wanted = test(header('access-control-request-private-network'), {
    kind: 'exact',
    value: 'true',
    ignoreCase: false,
  });

  const withNetwork = flag('allow_private_network_access', false);
  const answers = (condition: Condition, start: ReplyAction['headers'], isAllowed: boolean): CorsPlan['preflights'] => [
    ...(withNetwork
      ? [{ condition: all([condition, wanted]), headers: [...start, ...common, privateNetwork], allowed: isAllowed }]
      : []),
    { condition, headers: [...start, ...common], allowed: isAllowed },
  ];
  const edits: AnswerEdit[] = [{ op: 'set', ...origin }];
  if (flag('allow_credentials', false))
    edits.push({ op: 'set', name: 'access-control-allow-credentials', value: literal('true') });
  const exposed = text('expose_headers');
  if (exposed !== '') edits.push({ op: 'set', name: 'access-control-expose-headers', value: literal(exposed) });
  return {
    allowed,
    edits,
    preflights: [
      ...answers(all([asked, allowed]), [origin], true),
      ...(flag('forward_not_matching_preflights', true) ? [] : answers(asked, [], false)),
    ],
  };
}
