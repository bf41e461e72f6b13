/** Templates of the image: texts that are made of the request. */

import { MAX_LITERAL, MAX_PIECES, PIECE, PieceSpec, TemplateSpec } from '../layout/actions.js';
import type { Piece } from '../plan/ir.js';
import type { ActionContext } from './actions.js';
import { FIGURES } from './answer-edits.js';
import type { Blob } from './blob.js';

/** What templates are compiled against. */
export type TemplateContext = Pick<ActionContext, 'blob' | 'slot' | 'bucketIndex' | 'details'>;

function literalPiece(blob: Blob, text: string) {
  const bytes = Buffer.from(text);
  return { kind: PIECE.LITERAL, off: blob.intern(bytes), len: bytes.length };
}

/**
 * Stores a template; neighbouring literals become one.
 * @param repeat see CaptureRewrite; the last piece then stands behind all repetitions.
 * @returns its offset, or undefined when it has too many pieces or needs headers that have no slot, or buckets that have no place.
 */
export function template(
  { blob, slot, bucketIndex }: TemplateContext,
  pieces: readonly Piece[],
  repeat?: number,
): number | undefined {
  const merged: Piece[] = [];
  for (const piece of pieces) {
    const last = merged.at(-1);
    if (piece.kind === 'literal' && piece.value === '') continue;
    if (piece.kind === 'literal' && last?.kind === 'literal')
      merged[merged.length - 1] = { kind: 'literal', value: last.value + piece.value };
    else merged.push(piece);
  }
  if (merged.length > MAX_PIECES) return undefined;
  const total = merged.reduce((sum, p) => sum + (p.kind === 'literal' ? Buffer.byteLength(p.value) : 0), 0);
  if (total > MAX_LITERAL) return undefined;
  if (merged.some((p) => p.kind === 'header' && slot(p.name) === undefined)) return undefined;
  if (merged.some((p) => p.kind === 'figure' && p.bucket && bucketIndex(p.bucket) === undefined)) return undefined;
  const list = merged.map((piece): Record<string, number> => {
    switch (piece.kind) {
      case 'literal':
        return literalPiece(blob, piece.value);
      case 'path':
        return { kind: PIECE.PATH_FROM, off: piece.from };
      case 'query':
        return { kind: PIECE.QUERY };
      case 'host':
        return { kind: PIECE.HOST };
      case 'host_name':
        return { kind: PIECE.HOST_NAME };
      case 'header':
        return { kind: PIECE.HEADER, arg: slot(piece.name)!, off: piece.from ?? 0, len: piece.length ?? 0 };
      case 'source_ip':
        return { kind: PIECE.SOURCE_IP };
      case 'random':
        return { kind: PIECE.RANDOM, arg: piece.again ? 1 : 0 };
      case 'request_id':
        return { kind: PIECE.REQUEST_ID };
      case 'sampled':
        return { kind: PIECE.SAMPLED };
      case 'uuid':
        return { kind: PIECE.UUID };
      case 'endpoint':
        return { kind: PIECE.ENDPOINT };
      case 'base64':
        return { kind: PIECE.BASE64 };
      case 'figure':
        return { kind: PIECE.FIGURE, arg: FIGURES[piece.of], off: piece.bucket ? bucketIndex(piece.bucket)! + 1 : 0 };
      default:
        return { kind: PIECE.CAPTURE, arg: piece.group };
    }
  });
  return storePieces(blob, list, repeat);
}

/** Stores the pieces of a template as they are. `repeat`: see `template`. */
export function storePieces(blob: Blob, list: readonly Record<string, number>[], repeat = -1): number {
  const head = new Uint8Array(TemplateSpec.size);
  new DataView(head.buffer).setUint32(0, list.length, true);
  new DataView(head.buffer).setUint32(4, repeat + 1, true);
  return blob.structs(PieceSpec, list, head);
}
