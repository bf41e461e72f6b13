/**
 * The gRPC access log service that the proxy reports its tries to (envoy.service.accesslog.v3.AccessLogService), on a Unix
 * socket: a stream of messages without an answer, each behind the five bytes of gRPC's framing (PROTOCOL-HTTP2). Fields are
 * read by the numbers of envoy/data/accesslog/v3, all others are skipped.
 */
import type { Http2Server, ServerHttp2Stream } from 'node:http2';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { endText } from '../observe/log-line.js';
import { GRPC_PREFIX, serveGrpc } from './grpc-socket.js';

/** One try of the proxy's. */
export interface TryReport {
  readonly cluster: string;
  readonly address: string;
  readonly port: number;
  /** of its answer; 0: there was none */
  readonly status: number;
  /** it ended before its answer was complete, and the server or the network was the reason */
  readonly lost: boolean;
  /** it took too long */
  readonly timedOut: boolean;
}

/** What became of a connection through a relay. */
export interface RelayReport {
  /** of the agent's own end */
  readonly port: number;
  /** the proxy's end towards the server, as Envoy writes addresses */
  readonly local: string;
  /** the handshake is over; else the connection is */
  readonly connected: boolean;
}

/** More is no message of Envoy's. */
const MAX_MESSAGE = 16 * 1024 * 1024;

/** response_code_details */
const REQUEST_TIMED_OUT = 'response_timeout';

type Field = (reader: BinaryReader, wireType: WireType) => void;

function read(bytes: Uint8Array, fields: Readonly<Record<number, Field>>): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    const field = fields[number];
    const known = wireType === WireType.LengthDelimited || wireType === WireType.Varint;
    if (field && known) field(reader, wireType);
    else reader.skip(wireType, number);
  }
}

const inside =
  (fields: Readonly<Record<number, Field>>): Field =>
  (reader) =>
    read(reader.bytes(), fields);

const socketAddress = (at: { address: string; port: number }): Field =>
  inside({
    2: (reader) => {
      at.address = reader.string();
    },
    3: (reader) => {
      at.port = reader.uint32();
    },
  });

/** Numbers of ResponseFlags: failed_local_healthcheck 1, no_healthy_upstream 2 ... */
const FLAG = {
  upstreamRequestTimeout: 3,
  localReset: 4,
  upstreamRemoteReset: 5,
  upstreamConnectionFailure: 6,
  upstreamConnectionTermination: 7,
  upstreamProtocolError: 24,
} as const;

function entry(bytes: Uint8Array): TryReport {
  let [cluster, status, lost, timedOut] = ['', 0, false, false];
  const server = { address: '', port: 0 };
  let details = '';
  const flag =
    (set: () => void): Field =>
    (reader) => {
      if (reader.bool()) set();
    };
  const isLost = flag(() => {
    lost = true;
  });
  const flags = inside({
    [FLAG.upstreamRequestTimeout]: flag(() => {
      timedOut = true;
    }),
    [FLAG.localReset]: isLost,
    [FLAG.upstreamRemoteReset]: isLost,
    [FLAG.upstreamConnectionFailure]: isLost,
    [FLAG.upstreamConnectionTermination]: isLost,
    [FLAG.upstreamProtocolError]: isLost,
  });
  read(bytes, {
    1: inside({
      13: inside({ 1: socketAddress(server) }),
      15: (reader) => {
        cluster = reader.string();
      },
      16: flags,
    }),
    4: inside({
      1: inside({
        1: (reader) => {
          status = reader.uint32();
        },
      }),
      6: (reader) => {
        details = reader.string();
      },
    }),
  });
  // the report of a request, not of a try: its timeout is in no other, its status is
  if (details !== '') [status, lost, timedOut] = [0, false, details === REQUEST_TIMED_OUT];
  return { cluster, ...server, status, lost, timedOut };
}

/** AccessLogType: TcpUpstreamConnected */
const UPSTREAM_CONNECTED = 1;

function relayReport(bytes: Uint8Array): RelayReport {
  const [remote, local] = [
    { address: '', port: 0 },
    { address: '', port: 0 },
  ];
  let connected = false;
  read(bytes, {
    1: inside({
      2: inside({ 1: socketAddress(remote) }),
      14: inside({ 1: socketAddress(local) }),
      33: (reader) => {
        connected = reader.uint32() === UPSTREAM_CONNECTED;
      },
    }),
  });
  return { port: remote.port, local: endText(local), connected };
}

/** The same of connections through relays (its TCP entries). */
function decodeRelayReports(bytes: Uint8Array): RelayReport[] {
  const found: RelayReport[] = [];
  read(bytes, { 3: inside({ 1: (reader) => void found.push(relayReport(reader.bytes())) }) });
  return found;
}

/** Where reports go. */
export interface ReportSink {
  readonly tried: (report: TryReport) => void;
  readonly relayed: (report: RelayReport) => void;
}

/** The tries of a StreamAccessLogsMessage. @throws for bytes that are none */
export function decodeReports(bytes: Uint8Array): TryReport[] {
  const found: TryReport[] = [];
  read(bytes, { 2: inside({ 1: (reader) => void found.push(entry(reader.bytes())) }) });
  return found;
}

function take(stream: ServerHttp2Stream, { tried, relayed }: ReportSink): void {
  let bytes: Buffer = Buffer.alloc(0);
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.on('error', () => undefined);
  stream.on('end', () => stream.end());
  stream.on('data', (piece: Buffer) => {
    bytes = bytes.length === 0 ? piece : Buffer.concat([bytes, piece]);
    while (bytes.length >= GRPC_PREFIX) {
      const length = bytes.readUInt32BE(1);
      if (bytes[0] !== 0 || length > MAX_MESSAGE) {
        stream.close();
        return;
      }
      if (bytes.length < GRPC_PREFIX + length) return;
      const message = bytes.subarray(GRPC_PREFIX, GRPC_PREFIX + length);
      bytes = bytes.subarray(GRPC_PREFIX + length);
      try {
        decodeReports(message).forEach(tried);
        decodeRelayReports(message).forEach(relayed);
      } catch {
        // not a message of Envoy's
      }
    }
  });
}

/** Serves until it is closed. What is at `path` is replaced. Rejects when the socket cannot be made. */
export function serveReports(path: string, sink: ReportSink): Promise<Http2Server> {
  return serveGrpc(path, (stream) => take(stream, sink));
}
