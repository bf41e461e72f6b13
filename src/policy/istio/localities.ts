/** localityLbSetting of DestinationRules, among endpoints and clients of which no document says where they are. */
import type { JsonObject } from '../resources.js';
import type { Endpoint } from './registry.js';

const KNOWN = new Set(['enabled', 'distribute', 'failover', 'failoverPriority']);
const LABEL = 'istio-locality';

const objects = (value: unknown): JsonObject[] => (Array.isArray(value) ? (value as JsonObject[]) : []);

/** Whether a document says where an endpoint is. */
function placed({ document, path, labels }: Endpoint): boolean {
  let at: unknown = document.json;
  for (const key of path) at = (at as Record<string | number, unknown> | undefined)?.[key];
  return labels[LABEL] !== undefined || (at as JsonObject | undefined)?.locality !== undefined;
}

/**
 * Why settings about localities change something, or may; undefined: they do not. Where all endpoints count as one locality,
 * and the client's is not known, istiod gives weights only for a `from` that means every region, and priorities only by labels.
 *
 * @param labels of the clients
 */
export function localityProblem(
  setting: Readonly<Record<string, unknown>>,
  labels: Readonly<Record<string, string>>,
  endpoints: readonly Endpoint[],
): string | undefined {
  const other = Object.keys(setting).find((key) => !KNOWN.has(key));
  if (other !== undefined) return `${other} is not known`;
  if (labels[LABEL] !== undefined || endpoints.some(placed)) return 'clients or endpoints have localities';
  if (objects(setting.failoverPriority).length > 0) return 'failoverPriority tells endpoints apart by labels';
  const everywhere = ({ from }: JsonObject) => /^\*?(\/|$)/.test(typeof from === 'string' ? from : '');
  if (objects(setting.distribute).some(everywhere)) return 'traffic from every region is distributed';
  return undefined;
}
