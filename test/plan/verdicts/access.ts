/** RBAC: what the kernel takes, or the code of the reason. */
import { any, type Case, policies, rbac } from './case.js';

export const ACCESS: readonly Case[] = [
  { name: 'RBAC', options: rbac(policies(any)), expect: 'kernel' },
  { name: 'RBAC on metadata', options: rbac(policies({ metadata: {} })), expect: 'rbac-rule' },
  {
    name: 'RBAC by CEL',
    options: rbac({ rules: { policies: { p: { permissions: [any], principals: [any], condition: {} } } } }),
    expect: 'unsupported-field',
  },
  { name: 'an RBAC matcher of nothing', options: rbac({ matcher: {} }), expect: 'rbac-rule' },
  {
    name: 'an RBAC matcher of something else than headers',
    options: rbac({ matcher: { matcher_list: { matchers: [{ predicate: { single_predicate: {} } }] } } }),
    expect: 'rbac-rule',
  },
];
