/** Gateway API documents: recognised, and left to the proxy for now. */
import type { Document } from '../documents.js';
import type { Context } from '../istio/context.js';

const ROUTES = new Set(['HTTPRoute', 'GRPCRoute', 'TCPRoute', 'TLSRoute', 'UDPRoute']);

/** Registers the rules of a Gateway API document with the reason why they are not carried out in the kernel. */
export function unsupportedGatewayApi(context: Context, document: Document): void {
  if (!ROUTES.has(document.kind)) return;
  const { spec } = document.json;
  const rules =
    spec && typeof spec === 'object' && !Array.isArray(spec) && Array.isArray(spec.rules) ? spec.rules : [null];
  rules.forEach((_, index) => {
    const path = ['spec', 'rules', index];
    const rule = context.rule(document, path, `rules[${index}]`);
    context.unsupported(rule, path, 'unsupported-kind', `${document.kind}: Gateway API routes are not translated yet`);
  });
}
