/** Bytes and chance that client and server of the chaos run agree on. */

/** A generator of numbers from 0 to 1 that gives the same for the same seed (mulberry32). */
export function random(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = a;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** `size` bytes that only `nonce` has: an answer with another request's body, or one cut and glued, is seen. */
export function pattern(nonce: string, size: number): Buffer {
  const out = Buffer.allocUnsafe(size);
  const line = `${nonce} `;
  for (let at = 0, n = 0; at < size; n++) at += out.write(`${line}${n};`, at, 'latin1');
  return out;
}

/** What the server is asked to do, as the query of the request's target. */
export interface Wish {
  /** bytes of the answer's body */
  readonly size: number;
  /** size of the pieces of a chunked answer; 0: content-length */
  readonly chunk: number;
  /** milliseconds before the answer */
  readonly delay: number;
  /** the answer is sent in pieces with pauses */
  readonly slow: boolean;
  /** how the server leaves: not at all, after the answer (announced), in the middle of it, or without a byte of it */
  readonly leave: 'no' | 'close' | 'cut' | 'vanish';
}

export function wishText(w: Wish): string {
  return `size=${w.size}&chunk=${w.chunk}&delay=${w.delay}&slow=${w.slow ? 1 : 0}&leave=${w.leave}`;
}

export function readWish(target: string): Wish {
  const q = new URL(target, 'http://x').searchParams;
  const number = (name: string): number => Number(q.get(name) ?? 0);
  return {
    ...{ size: number('size'), chunk: number('chunk'), delay: number('delay'), slow: q.get('slow') === '1' },
    leave: (q.get('leave') ?? 'no') as Wish['leave'],
  };
}
