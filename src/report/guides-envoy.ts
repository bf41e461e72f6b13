/** Guides to the reasons that concern Envoy's configuration in general. */
import type { Guide } from './guide.js';

export const ENVOY_GUIDES: Readonly<Record<string, Guide>> = {
  'unsupported-field': {
    fix: 'Remove the field if its effect is not needed.',
    example: {
      place: 'cluster',
      before: 'max_requests_per_connection: 1000',
      after: '{}',
    },
  },
  'request-dependent': {
    fix: 'Nothing: only requests of this form are concerned.',
    without: 'it is a reason of requests, not of rules: `explain` gives it.',
  },
  budget: {
    fix: 'Split the virtual host, or write shorter and fewer regular expressions.',
    example: {
      place: 'route',
      before: `match: { safe_regex: { regex: "/(a|b)*a(a|b){14}" } }
route: { cluster: shop }`,
      after: `match: { safe_regex: { regex: "/(a|b)*" } }
route: { cluster: shop }`,
    },
  },
  translation: {
    fix: 'See what the message says.',
    without: 'no translation gives this reason at present.',
  },
};
