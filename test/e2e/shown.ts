/** What two answers must have alike. */
import type { WireAnswer } from '../../src/lab/raw-client.js';

/** An answer without what is documented to differ: `server`, `date`, times and reason phrases. */
export function shown(answer: WireAnswer | undefined): unknown {
  if (!answer) return 'no answer';
  const headers = answer.headers
    .map(([n, v]) => [n.toLowerCase(), v.trim()] as const)
    .filter(([n]) => !['server', 'date', 'x-envoy-upstream-service-time'].includes(n))
    .map(([n, v]) => `${n}: ${v}`)
    .sort();
  return {
    status: answer.status,
    headers,
    body: Buffer.from(answer.body, 'base64').toString(),
    framing: answer.framing,
  };
}
