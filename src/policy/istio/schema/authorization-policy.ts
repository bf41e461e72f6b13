/** AuthorizationPolicy (security.istio.io). */
import { RE2JS } from 're2js';
import { z } from 'zod';
import { cidr } from '../rbac-matchers.js';
import { nonEmpty, rule, selector, targetRef } from './common.js';

const strings = () => z.array(nonEmpty()).optional();

const isRange = (text: string) => cidr(text) !== undefined;
const ranges = () => z.array(z.string().refine(isRange, 'is no IP address or range (such as 10.0.0.0/8)')).optional();

/** Names become parts of regular expressions, as Istio writes them. */
function fitsRegex(name: string): boolean {
  try {
    RE2JS.compile(name.replaceAll('*', '.*'));
    return true;
  } catch {
    return false;
  }
}
const names = () => z.array(nonEmpty().refine(fitsRegex, 'cannot be part of a regular expression')).optional();

/** Templates as Envoy takes them: whole segments, at most one `{**}`, and no operator after it. */
function isPathTemplate(path: string): boolean {
  if (!/\{\*\*?\}/.test(path)) return true;
  const segments = path.split('/').slice(1);
  const any = segments.indexOf('{**}');
  return (
    path.startsWith('/') &&
    segments.every((s) => s === '{*}' || s === '{**}' || !/[{}*]/.test(s)) &&
    (any < 0 || segments.slice(any + 1).every((s) => !s.includes('{')))
  );
}
const paths = () =>
  z.array(nonEmpty().refine(isPathTemplate, 'is no path template (such as /a/{*}/b or /a/{**})')).optional();

const source = () =>
  z.object({
    principals: names(),
    notPrincipals: names(),
    requestPrincipals: strings(),
    notRequestPrincipals: strings(),
    namespaces: names(),
    notNamespaces: names(),
    trustDomains: names(),
    notTrustDomains: names(),
    serviceAccounts: names(),
    notServiceAccounts: names(),
    ipBlocks: ranges(),
    notIpBlocks: ranges(),
    remoteIpBlocks: ranges(),
    notRemoteIpBlocks: ranges(),
  });
export type Source = z.infer<ReturnType<typeof source>>;

const ports = () =>
  z
    .array(
      z
        .string()
        .refine((v) => /^\d+$/.test(v) && Number(v) <= 65535, 'must be a port number in quotes (such as "8080")'),
    )
    .optional();

const operation = () =>
  z.object({
    hosts: strings(),
    notHosts: strings(),
    ports: ports(),
    notPorts: ports(),
    methods: strings(),
    notMethods: strings(),
    paths: paths(),
    notPaths: paths(),
  });
export type Operation = z.infer<ReturnType<typeof operation>>;

const KEYS =
  /^(request\.headers\[.+\]|source\.(ip|namespace|principal|serviceAccount|trustDomain)|remote\.ip|request\.auth\.(principal|audiences|presenter|claims(\[.+\])+)|destination\.(ip|port)|connection\.sni|experimental\.envoy\.filters\..+\[.+\])$/;

/** Values of a condition that are no address although its key asks for one. */
function wrongAddresses(value: unknown): boolean {
  const { key, values, notValues } = (value ?? {}) as Record<string, unknown>;
  if (!/^(source|remote|destination)\.ip$/.test(String(key))) return false;
  return [values, notValues].some(
    (list) => Array.isArray(list) && list.some((v) => typeof v === 'string' && !isRange(v)),
  );
}

const condition = () =>
  rule(
    rule(
      z.object({
        key: nonEmpty().refine((v) => v === '' || KEYS.test(v), 'is not a condition that Istio knows'),
        values: z.array(z.string()).optional(),
        notValues: z.array(z.string()).optional(),
      }),
      (v) => !wrongAddresses(v),
      'has a value that is no IP address or range',
    ),
    (v) => [v.values, v.notValues].some((list) => Array.isArray(list) && list.length > 0),
    'one of values, notValues is required',
  );
export type Condition = z.infer<ReturnType<typeof condition>>;

const policyRule = () =>
  z.object({
    from: z.array(z.object({ source: source().optional() })).optional(),
    to: z.array(z.object({ operation: operation().optional() })).optional(),
    when: z.array(condition()).optional(),
  });
export type PolicyRule = z.infer<ReturnType<typeof policyRule>>;

export const authorizationPolicy = rule(
  z.object({
    selector: selector().optional(),
    targetRef: targetRef().optional(),
    targetRefs: z.array(targetRef()).optional(),
    action: z.enum(['ALLOW', 'DENY', 'AUDIT', 'CUSTOM']).optional(),
    rules: z.array(policyRule()).optional(),
    provider: z.object({ name: z.string().optional() }).optional(),
  }),
  (v) => v.action !== 'CUSTOM' || v.provider !== undefined,
  'action CUSTOM needs a provider',
  ['provider'],
);
export type AuthorizationPolicy = z.infer<typeof authorizationPolicy>;
