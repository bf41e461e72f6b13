/** Plans in few words, for tests. */
import type { CompiledImage } from '../../src/compile/image.js';
import { compileImage } from '../../src/compile/image.js';
import { type Decision, interpret } from '../../src/compile/interpret.js';
import type { Condition, Field, ForwardAction, ListenerPlan, Matcher, Plan, RoutePlan } from '../../src/plan/ir.js';

export const UUID = '01234567-89ab-4cde-8f01-23456789abcd';

export const test = (field: Field, matcher: Matcher): Condition => ({ op: 'test', predicate: { field, matcher } });
export const text = (kind: 'exact' | 'prefix' | 'suffix' | 'contains', value: string, ignoreCase = false): Matcher => ({
  kind,
  value,
  ignoreCase,
});
export const regex = (pattern: string): Matcher => ({ kind: 'regex', pattern });
export const path = (matcher: Matcher): Condition => test({ kind: 'path' }, matcher);
export const header = (name: string, matcher: Matcher): Condition => test({ kind: 'header', name }, matcher);
export const query = (name: string, matcher: Matcher): Condition => test({ kind: 'query', name }, matcher);

export function forward(changes: Partial<ForwardAction> = {}): ForwardAction {
  return {
    kind: 'forward',
    clusters: [{ cluster: 'c', weight: 1 }],
    edits: [],
    originalPath: false,
    timeoutMs: 0,
    ...changes,
  };
}

export function route(id: string, match: Condition | undefined, changes: Partial<RoutePlan> = {}): RoutePlan {
  return { id, name: id, action: forward(), reasons: [], ...(match && { match }), ...changes };
}

export function listener(routes: readonly RoutePlan[], changes: Partial<ListenerPlan> = {}): ListenerPlan {
  return {
    name: 'l',
    proxyAddress: { address: '127.0.0.1', port: 1 },
    offloaded: true,
    reasons: [],
    paths: { normalize: true, mergeSlashes: false, escapedSlashes: false },
    stripPort: 'none',
    virtualHosts: [{ name: 'v', domains: ['*'], routes }],
    rbac: [],
    generateRequestId: false,
    forwardedProto: '',
    ...changes,
  };
}

export function plan(...listeners: ListenerPlan[]): Plan {
  const cluster = (name: string, port: number) => ({
    name,
    lb: 'round_robin' as const,
    endpoints: [{ address: '10.0.0.1', port, weight: 1 }],
  });
  return { listeners, clusters: [cluster('c', 1), cluster('d', 2)] };
}

export function compile(p: Plan): CompiledImage {
  return compileImage(p, { generation: 1, endpointId: (_, port) => port, proxyEndpointId: () => 9 });
}

/** Decides about a request whose head is given with bare line feeds; `extra` replaces what surrounds it. */
export function decide(
  compiled: CompiledImage,
  head: string,
  extra: Partial<Parameters<typeof interpret>[3]> = {},
): Decision {
  const bytes = Buffer.from(head.replaceAll('\n', '\r\n'), 'latin1');
  return interpret(compiled.image, 0, bytes, {
    sourceIp: Uint8Array.of(127, 0, 0, 1),
    random: 0,
    uuid: UUID,
    ...extra,
  });
}

/** The id of the rule that decided, or undefined. */
export function ruleOf(compiled: CompiledImage, decision: Decision): string | undefined {
  return decision.rule < 0 ? undefined : compiled.rules[decision.rule];
}

/** The bytes that are produced, line feeds bare again. */
export function output(decision: Decision): string {
  return Buffer.from(decision.output).toString('latin1').replaceAll('\r\n', '\n');
}
