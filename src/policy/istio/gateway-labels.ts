/**
 * The labels of gateways' servers. A Gateway document names one or two of them; which others their pods have, only
 * a Service or a Pod says. Where neither is there, those of Istio's own gateways are taken to be what its charts give them.
 */
import type { Document } from '../documents.js';
import type { Context } from './context.js';
import type { GatewayWorkload } from './gateways.js';
import { labelsMatch } from './registry.js';

type Labels = Readonly<Record<string, string>>;

/** True for labels that gateways' workloads have by convention (`istio: ingressgateway`, `app: istio-ingressgateway`). */
export function isGatewaySelector(labels: Labels): boolean {
  return /gateway/.test(labels.istio ?? '') || /(^istio-|ingress|egress).*gateway/.test(labels.app ?? '');
}

/** True if the labels of a gateway's servers are known (their Pods are), so that nothing has to be guessed of them. */
export function labelsAreKnown({ service }: Pick<GatewayWorkload, 'service'>): boolean {
  return service !== undefined && service.endpoints.length > 0 && service.endpoints.every((e) => e.labelsKnown);
}

/** True if a workload of which only some labels are known may be meant by a gateway's selector. */
export function mayRun(wanted: Labels, labels: Labels): boolean {
  if (labelsMatch(wanted, labels)) return true;
  const contradicted = Object.entries(usualLabels(wanted)).some(
    ([key, value]) => labels[key] !== undefined && labels[key] !== value,
  );
  return isGatewaySelector(wanted) && isGatewaySelector(labels) && !contradicted;
}

const CHART = /^(?:ingress|egress|eastwest)gateway$/;

/**
 * The labels of a gateway's pods, with those that Istio's charts (`gateways/istio-ingress`, `gateway`) give pods that
 * have one of them: `istio: ingressgateway` and `app: istio-ingressgateway` go together.
 */
export function usualLabels(labels: Labels): Labels {
  const { istio, app = '' } = labels;
  const [, name = ''] = /^istio-(.*)$/.exec(app) ?? [];
  if (istio === undefined && CHART.test(name)) return { ...labels, istio: name };
  if (istio !== undefined && CHART.test(istio) && app === '') return { ...labels, app: `istio-${istio}` };
  return labels;
}

/** Whether a selector means a gateway by labels that are known of it, or by those that its pods are taken to have. */
export function selectsGateway(wanted: Labels, workload: GatewayWorkload): 'known' | 'usual' | undefined {
  const { labels, service } = workload;
  if (labelsMatch(wanted, labels)) return 'known';
  if (service?.endpoints.some((endpoint) => labelsMatch(wanted, endpoint.labels))) return 'known';
  return !labelsAreKnown(workload) && labelsMatch(wanted, usualLabels(labels)) ? 'usual' : undefined;
}

export const LABELS_HINT = "give the labels of the gateway's pods: a Service in front of them, or a Pod document";

/** Says that a document counts for a gateway by labels that its pods are taken to have. */
export function tellUsual(context: Context, document: Document, field: string, { key }: GatewayWorkload): void {
  const message = `the servers of gateway ${key} are taken to have the labels that Istio's charts give them: it counts there`;
  context.warn(document, ['spec', field], 'unknown-labels', message, LABELS_HINT);
}

/** Whether what selects by labels may mean a gateway. */
export function mayMean(labels: Labels, workload: GatewayWorkload): boolean {
  if (selectsGateway(labels, workload)) return true;
  return !workload.assumed && !labelsAreKnown(workload) && mayRun(labels, workload.labels);
}
