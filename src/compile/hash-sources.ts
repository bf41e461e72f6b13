/** What consistent hashing takes from a request. */

import { HASH, HASH_FLAG, HashSourceSpec } from '../layout/actions.js';
import type { HashPolicy } from '../plan/ir.js';
import type { ActionContext } from './actions.js';
import { cookieFinder, queryFinder } from './find.js';
import { isRefusal, type Refusal, refuse } from './refusals.js';

/** Where a hash comes from; the offset of the list, 0: there is none. */
export function hashes(context: ActionContext, policies: readonly HashPolicy[]): number | Refusal {
  const list: Record<string, number>[] = [];
  for (const { of, terminal, generated } of policies) {
    const flags = (terminal ? HASH_FLAG.TERMINAL : 0) | (generated ? HASH_FLAG.GENERATED : 0);
    const source = hashSource(context, of);
    if (isRefusal(source)) return source;
    list.push({ ...source, flags });
  }
  return list.length === 0 ? 0 : context.blob.structs(HashSourceSpec, list);
}

function hashSource(context: ActionContext, of: HashPolicy['of']): Record<string, number> | Refusal {
  const { blob } = context;
  switch (of.kind) {
    case 'header':
    case 'cookie': {
      const name = of.kind === 'header' ? of.name : 'cookie';
      const slot = context.slot(name);
      if (slot === undefined) return refuse('budget', `no slot left for header ${name}`);
      if (of.kind === 'header') return { kind: HASH.HEADER, slot };
      const rows = blob.actionRows(cookieFinder(of.name));
      return { kind: HASH.COOKIE, slot, find: rows.start, find_classes: rows.classes };
    }
    case 'query': {
      const rows = blob.actionRows(queryFinder(of.name));
      return { kind: HASH.QUERY, find: rows.start, find_classes: rows.classes };
    }
    case 'host':
      return { kind: HASH.HOST };
    case 'target':
      return { kind: HASH.TARGET };
    case 'method':
      return { kind: HASH.METHOD };
    case 'source_ip':
      return { kind: HASH.SOURCE_IP };
  }
}
