/** Spans as collectors take them: Zipkin's JSON (version 2 of its API), and OpenTelemetry's protobuf. */
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import type { TracePlan } from '../plan/tracing.js';
import type { Span } from './span.js';

/** A list of spans as Envoy posts it. @param address of this host, as Envoy finds it */
export function zipkinJson(trace: TracePlan, spans: readonly Span[], address: string): string {
  const localEndpoint = { serviceName: trace.service, ipv4: address, port: 0 };
  const list = spans.map((span) => ({
    traceId: span.traceId,
    name: span.name,
    id: span.id,
    ...(span.parentId === undefined ? {} : { parentId: span.parentId }),
    kind: trace.egress ? 'CLIENT' : 'SERVER',
    timestamp: span.startUs,
    duration: span.durationUs,
    localEndpoint,
    annotations: [{ timestamp: span.startUs + span.durationUs, value: trace.egress ? 'cr' : 'ss' }],
    tags: Object.fromEntries(span.tags),
    ...(trace.shared && !trace.egress ? { shared: true } : {}),
  }));
  return JSON.stringify(list);
}

const KIND = { SERVER: 2, CLIENT: 3 } as const;
const STATUS_ERROR = 2;
/** SpanFlags: whether the parent is remote is known (and that it is), and the trace flag that it is sampled */
const FLAGS = 0x101;
const REMOTE = 0x200;

type Write = (writer: BinaryWriter) => void;

const message = (writer: BinaryWriter, field: number, write: Write): void => {
  write(writer.tag(field, 2).fork());
  writer.join();
};

const attribute = (writer: BinaryWriter, field: number, [name, value]: readonly [string, string]): void =>
  message(writer, field, (entry) => {
    entry.tag(1, 2).string(name);
    message(entry, 2, (any) => void any.tag(1, 2).string(value));
  });

/** An ExportTraceServiceRequest (opentelemetry/proto/collector/trace/v1). @param version what the proxy says it is */
export function openTelemetryRequest(trace: TracePlan, spans: readonly Span[], version: string): Uint8Array {
  const resource = [
    ['telemetry.sdk.version', version],
    ['telemetry.sdk.language', 'cpp'],
    ['service.name', trace.service],
    ['telemetry.sdk.name', 'envoy'],
  ] as const;
  const writer = new BinaryWriter();
  message(writer, 1, (resourceSpans) => {
    message(resourceSpans, 1, (own) => {
      for (const entry of resource) attribute(own, 1, entry);
    });
    message(resourceSpans, 2, (scoped) => {
      message(scoped, 1, (scope) => void scope.tag(1, 2).string('envoy').tag(2, 2).string(version));
      for (const span of spans) message(scoped, 2, (own) => writeSpan(own, trace, span));
    });
  });
  return writer.finish();
}

function writeSpan(writer: BinaryWriter, trace: TracePlan, span: Span): void {
  const ns = (us: number) => BigInt(us) * 1000n;
  writer.tag(1, 2).bytes(Buffer.from(span.traceId, 'hex'));
  writer.tag(2, 2).bytes(Buffer.from(span.id, 'hex'));
  if (span.state !== '') writer.tag(3, 2).string(span.state);
  if (span.parentId !== undefined) writer.tag(4, 2).bytes(Buffer.from(span.parentId, 'hex'));
  writer.tag(5, 2).string(span.name);
  writer.tag(6, 0).int32(trace.egress ? KIND.CLIENT : KIND.SERVER);
  writer.tag(7, 1).fixed64(ns(span.startUs));
  writer.tag(8, 1).fixed64(ns(span.startUs + span.durationUs));
  for (const tag of span.tags) attribute(writer, 9, tag);
  if (span.status >= (trace.egress ? 400 : 500))
    message(writer, 15, (status) => void status.tag(3, 0).int32(STATUS_ERROR));
  writer.tag(16, 5).fixed32(span.parentId === undefined ? FLAGS : FLAGS | REMOTE);
}
