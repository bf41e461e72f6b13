/** How many pairs were tried, for docs/agreement.md: a line of JSON each, in the file that SIDESTEP_RECORD names, if it does. */
import { appendFileSync } from 'node:fs';

/** Pairs that agreed. @param decided how many of them were decided in the kernel */
export function record(construct: string, pairs: number, decided: number): void {
  const file = process.env.SIDESTEP_RECORD;
  if (file) appendFileSync(file, `${JSON.stringify({ construct, pairs, decided })}\n`);
}
