/** Segments of SkyWalking: a request’s span, and that of its try (skywalking.v3.SegmentObject, language-agent/Tracing.proto). */
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import type { TracePlan } from '../plan/tracing.js';
import type { Span } from './span.js';
import { message } from './span-messages.js';

const EXIT = 1;
const LAYER_HTTP = 3;
const COMPONENT = 9000;
/** What SkyWalking calls Envoy’s tags; the peer is a field. */
const NAMES: Readonly<Record<string, string>> = { 'http.url': 'url', 'http.status_code': 'status_code' };

interface Part {
  readonly id: number;
  readonly parent: number;
  readonly name: string;
  readonly peer: string;
  readonly failed: boolean;
  readonly tags: Span['tags'];
}

function writePart(writer: BinaryWriter, span: Span, part: Part): void {
  const ms = (us: number) => Math.floor(us / 1000);
  if (part.id !== 0) writer.tag(1, 0).int32(part.id);
  if (part.parent !== 0) writer.tag(2, 0).int32(part.parent);
  writer.tag(3, 0).int64(ms(span.startUs));
  writer.tag(4, 0).int64(ms(span.startUs + span.durationUs));
  writer.tag(6, 2).string(part.name);
  writer.tag(7, 2).string(part.peer);
  if (part.id !== 0) writer.tag(8, 0).int32(EXIT);
  writer.tag(9, 0).int32(LAYER_HTTP);
  writer.tag(10, 0).int32(COMPONENT);
  if (part.failed) writer.tag(11, 0).bool(true);
  for (const [name, value] of part.tags)
    message(writer, 12, (tag) => {
      tag.tag(1, 2).string(NAMES[name] ?? name);
      if (value !== '') tag.tag(2, 2).string(value);
    });
}

/** The segment of a request. */
export function segmentObject({ service, instance = '' }: TracePlan, span: Span): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(1, 2).string(span.traceId).tag(2, 2).string(span.id);
  const failed = span.tags.some(([name]) => name === 'error');
  const tags = span.tags.filter(([name]) => name !== 'peer.address');
  const first = { id: 0, parent: -1, name: span.path, peer: span.peer, failed, tags };
  message(writer, 3, (own) => writePart(own, span, first));
  const { child } = span;
  if (child) {
    const { path: name, peer } = child;
    message(writer, 3, (own) => writePart(own, span, { ...child, id: 1, parent: 0, name, peer }));
  }
  writer.tag(4, 2).string(service).tag(5, 2).string(instance);
  return writer.finish();
}
