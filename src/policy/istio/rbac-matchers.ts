/** Values of authorization policies -> Envoy matchers (pilot/pkg/security/authz/matcher in istiod). */
import { isIP } from 'node:net';
import type { JsonObject } from '../resources.js';

/** `*` any non-empty value, `*x` suffix, `x*` prefix, else exact. `prefix` goes before the value (not before `*`). */
export function stringMatcher(value: string, prefix = ''): JsonObject {
  if (value === '*') return { safe_regex: { regex: '.+' } };
  if (value.startsWith('*')) {
    return prefix === '' ? { suffix: value.slice(1) } : { safe_regex: { regex: `${prefix}.*${value.slice(1)}` } };
  }
  if (value.endsWith('*')) return { prefix: prefix + value.slice(0, -1) };
  return { exact: prefix + value };
}

/** A header's value; `*` asks for its presence. */
export function headerMatcher(name: string, value: string): JsonObject {
  if (value === '*') return { name, present_match: true };
  return { name, string_match: stringMatcher(value) };
}

/** As `headerMatcher` for Host, whose case does not count. */
export function hostMatcher(value: string): JsonObject {
  if (value === '*') return { name: ':authority', present_match: true };
  return { name: ':authority', string_match: { ...stringMatcher(value), ignore_case: true } };
}

/** True if a path uses `{*}` or `{**}`. */
export function isPathTemplate(path: string): boolean {
  return path.includes('{*}') || path.includes('{**}');
}

/** A permission for a path. */
export function pathPermission(path: string): JsonObject {
  if (!isPathTemplate(path)) return { url_path: { path: stringMatcher(path) } };
  return {
    uri_template: {
      name: 'uri-template',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig',
        path_template: path.replaceAll('{*}', '*').replaceAll('{**}', '**'),
      },
    },
  };
}

/** envoy.config.core.v3.CidrRange of an address or range, or undefined if it is neither. */
export function cidr(text: string): JsonObject | undefined {
  const [address = '', length, ...rest] = text.split('/');
  const family = isIP(address);
  const bits = family === 4 ? 32 : 128;
  if (family === 0 || rest.length > 0 || (length !== undefined && !/^\d{1,3}$/.test(length))) return undefined;
  const prefix = length === undefined ? bits : Number(length);
  return prefix <= bits ? { address_prefix: address, prefix_len: prefix } : undefined;
}

/** A claim of a validated JWT, alone or in a list; several values are alternatives. */
export function claimMatcher(claims: readonly string[], values: readonly JsonObject[]): JsonObject {
  const strings = values.map((match): JsonObject => ({ string_match: match }));
  const [only] = strings;
  const any: JsonObject = only && strings.length === 1 ? only : { or_match: { value_matchers: strings } };
  return {
    filter: 'envoy.filters.http.jwt_authn',
    path: ['payload', ...claims].map((key) => ({ key })),
    value: { or_match: { value_matchers: [any, { list_match: { one_of: any } }] } },
  };
}

/** Issuer and subject of `iss/sub`, each of which may be a wildcard. */
export function requestPrincipal(value: string): JsonObject {
  const any = { safe_regex: { regex: '.+' } };
  const slash = value.lastIndexOf('/');
  const issuer = slash >= 0 ? value.slice(0, slash) : value;
  const subject = slash >= 0 ? value.slice(slash + 1) : '';
  let iss: JsonObject = { exact: issuer };
  let sub: JsonObject = { exact: subject };
  if (value === '*') [iss, sub] = [any, any];
  else if (value.startsWith('*')) {
    if (slash >= 0) iss = issuer === '*' ? any : { suffix: issuer.slice(1) };
    else [iss, sub] = [any, { suffix: value.slice(1) }];
  } else if (value.endsWith('*')) {
    if (slash >= 0) sub = subject === '*' ? any : { prefix: subject.slice(0, -1) };
    else [iss, sub] = [{ prefix: value.slice(0, -1) }, any];
  }
  const claim = (name: string, match: JsonObject): JsonObject => ({ metadata: claimMatcher([name], [match]) });
  return { and_ids: { ids: [claim('iss', iss), claim('sub', sub)] } };
}
