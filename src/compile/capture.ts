import type { Piece } from '../plan/ir.js';
import type { Scanner } from './scanner.js';

/** A regex rewrite that the kernel can do exactly. */
export interface CaptureRewrite {
  readonly table: Scanner;
  readonly pieces: readonly Piece[];
}

/** Not yet: every regex rewrite goes to the proxy. */
export function captureRewrite(pattern: string, _substitution: string): CaptureRewrite | string {
  return `rewrite by the regex ${pattern} is not done in the kernel`;
}
