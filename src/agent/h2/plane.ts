/**
 * The programs of HTTP/2 (bpf/h2.bpf.c) and what they share with the agent: ends of connections, streams, and the way by
 * which the agent's own frames go, so that none is cut by one of the kernel's.
 */
import type { Socket } from 'node:net';
import { ATTACH, type BpfMap, BpfObject, u32, u64 } from '../../kernel/libbpf.js';
import { announceData, fdOf, setReceiveBuffer, socketCookie } from '../../kernel/syscalls.js';
import { COUNTER } from '../../layout/counts.js';
import { H2_GIVE_BACK, H2EndSpec, H2ReplySpec, H2StreamSpec, MAX_H2_ENDS } from '../../layout/streams.js';
import { get, getBig, set } from '../../layout/struct.js';
import { Dummies, type Dummy } from '../dummies.js';
import { RuleHits } from '../rule-hits.js';
import { StreamImage } from './image.js';
import { Places } from './places.js';
import { deadlineOf, Timeouts } from './timeouts.js';

/** Maps of the other object that these programs do not use; what is common is to be shared. */
const UNUSED =
  /^(fallbacks|slots|upstreams|tuples|clients|blocks|met|dials|dummies|sockets|replays|variables|steers|namespaces|own_addresses|proxies|servers|intakes|intake_conns|stages)$/;

/** What the common headers have besides is the other object's. */
const USED =
  /^(h2_parse|on_client_frame|on_server_frame|h2_parse_writer|on_writer|on_door|h2_take|h2_claim|h2_overdue|h2_forget|h2_release)$/;

/** An end of the agent's that the programs know. */
export interface End {
  readonly id: number;
  readonly cookie: bigint;
  /** of a client's: index */
  readonly listener: number;
  readonly toServer: boolean;
  /** set by close */
  closed: boolean;
  readonly door?: Dummy;
  readonly inbox: { readonly socket: Socket; readonly peer: Socket };
}

/** What the kernel says that the mesh answers. */
export interface KernelReply {
  /** H2_STREAM */
  readonly flags: number;
  /** as HTTP/1.1 would have it */
  readonly text: Buffer;
  /** for the access log: LOG, generation, rule plus one, ORIGIN */
  readonly log: number;
  readonly generation: number;
  readonly rule: number;
  readonly origin: number;
}

/**
 * Room in an inbox, which the kernel doubles: all that a client may have sent before it has gone on (16 MiB), as skbs. What finds no
 * room is tried again a jiffy later, and so an upload took 4 ms for each window of its server (4 MiB in 600 ms instead of 60).
 */
const INBOX_ROOM = 32 * 1024 * 1024;

/** See struct h2_envelope. */
function envelope(whose: bigint, length: number, how: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeBigUInt64LE(whose);
  bytes.writeUInt32LE(length, 8);
  bytes.writeUInt32LE(how, 12);
  return bytes;
}

const key = (client: number, number: number): Uint8Array => new Uint8Array(new Uint32Array([client, number]).buffer);

export class H2Plane {
  readonly #ends: DataView;
  readonly #free: number[] = [];
  readonly #writer: Socket;
  readonly #ticks = new Set<() => void>();
  readonly #long = new Map<number, (stream: number) => void>();
  readonly #timer: NodeJS.Timeout;
  readonly timeouts: Timeouts;
  readonly places: Places;
  readonly hits: RuleHits;
  readonly image: StreamImage;
  /** ends of connections to servers, by index: text of their addresses */
  readonly servers = new Map<number, { readonly host: string; readonly local: string }>();
  /** called before an end's index is another's */
  removing: () => void = () => undefined;
  #next = 0;

  private constructor(
    readonly object: BpfObject,
    private readonly dummies: Dummies,
    pair: { socket: Socket; peer: Socket },
  ) {
    this.#ends = object.map('h2_ends').mmap().view;
    this.#writer = pair.socket;
    const peer = fdOf(pair.peer)!;
    this.map('h2_envelopes').update(u64(socketCookie(peer)), new Uint8Array(16));
    this.map('h2_writers').update(u64(socketCookie(peer)), u64(BigInt(peer)));
    this.#timer = setInterval(() => this.#tick(), 5);
    this.hits = new RuleHits(object.map('rule_hits').mmap().view);
    this.timeouts = new Timeouts(object);
    this.places = new Places(object, this.#ends);
    this.image = new StreamImage(object.map('policy'));
  }

  /** Loads and attaches the programs of the object. @throws KernelError */
  static async open(path: string): Promise<H2Plane> {
    const object = BpfObject.open(path);
    for (const name of object.programNames()) if (!USED.test(name)) object.leaveOut(name);
    for (const name of object.mapNames()) if (UNUSED.test(name)) object.setMapMaxEntries(name, 1);
    await object.loadAside();
    for (const [map, parser, verdict] of [
      ['h2_clients', 'h2_parse', 'on_client_frame'],
      ['h2_servers', 'h2_parse', 'on_server_frame'],
      ['h2_writers', 'h2_parse_writer', 'on_writer'],
    ] as const) {
      object.attachSockmap(parser, map, ATTACH.SK_SKB_STREAM_PARSER);
      object.attachSockmap(verdict, map, ATTACH.SK_SKB_STREAM_VERDICT);
    }
    object.attachSockmap('on_door', 'h2_doors', ATTACH.SK_MSG_VERDICT);
    const dummies = new Dummies();
    return new H2Plane(object, dummies, await dummies.pair());
  }

  map(name: string): BpfMap {
    return this.object.map(name);
  }

  async #insert(
    socket: Socket,
    toServer: boolean,
    fields: Record<string, number | bigint>,
    read: (chunk: Buffer) => void,
    door?: Dummy,
    source: readonly number[] = [],
  ): Promise<End> {
    const inbox = await this.dummies.pair();
    const to = fdOf(inbox.peer)!;
    setReceiveBuffer(to, INBOX_ROOM);
    for (const side of [inbox.socket, inbox.peer]) side.on('error', () => undefined);
    let cookie = 0n;
    try {
      const fd = fdOf(socket);
      if (fd === undefined) throw new Error('the connection is closed');
      cookie = socketCookie(fd);
      const id = this.#free.pop() ?? this.#next;
      if (id >= MAX_H2_ENDS) throw new Error('too many connections of HTTP/2');
      if (id === this.#next) this.#next++;
      const base = id * H2EndSpec.size;
      for (let i = 0; i < H2EndSpec.size; i += 4) this.#ends.setUint32(base + i, 0, true);
      for (const [name, value] of Object.entries({ client: cookie, client_id: id, ...fields, cookie, id }))
        set(this.#ends, base, H2EndSpec, name, value);
      for (const [i, word] of source.entries()) set(this.#ends, base, H2EndSpec, 'source', word, i);
      this.map('h2_ids').update(u64(cookie), u32(id));
      this.map('h2_inboxes').update(u64(cookie), u64(BigInt(to)));
      inbox.peer.on('data', read);
      if (door) {
        this.map('h2_door_ids').update(u32(door.fd), u32(id));
        this.map('h2_doors').update(u64(cookie), u64(BigInt(door.fd)));
      }
      this.map(toServer ? 'h2_servers' : 'h2_clients').update(u64(cookie), u64(BigInt(fd)));
      announceData(fd); // what has come before
      return {
        id,
        cookie,
        listener: Number(fields.listener ?? 0),
        toServer,
        closed: false,
        inbox,
        ...(door && { door }),
      };
    } catch (error) {
      this.map('h2_ids').delete(u64(cookie));
      inbox.socket.destroy();
      inbox.peer.destroy();
      throw error;
    }
  }

  /**
   * The agent's end of a client's connection, of which nothing was read. @param granted its window; @param read gets what
   * the programs leave to the agent
   */
  async client(
    socket: Socket,
    { listener, source }: { readonly listener: number; readonly source: readonly number[] },
    granted: number,
    read: (chunk: Buffer) => void,
  ): Promise<End> {
    return await this.#insert(socket, false, { listener, granted }, read, undefined, source);
  }

  /** One of a connection to a server. @param broken called when its door cannot be used any more */
  async server(
    socket: Socket,
    client: End,
    granted: number,
    read: (chunk: Buffer) => void,
    broken: () => void,
  ): Promise<End> {
    const door = await this.dummies.open(broken);
    try {
      return await this.#insert(socket, true, { client: client.cookie, client_id: client.id, granted }, read, door);
    } catch (error) {
      door.close();
      throw error;
    }
  }

  /** Whether the client encodes without a dynamic table by now. */
  begun(client: End): boolean {
    return get(this.#ends, client.id * H2EndSpec.size, H2EndSpec, 'open') !== 0;
  }

  /** The last stream that a client has begun. */
  lastStream(client: End): number {
    return get(this.#ends, client.id * H2EndSpec.size, H2EndSpec, 'last_stream');
  }

  /** Bytes of DATA for a server that its dummy has passed on. */
  passed(server: End): number {
    return Number(getBig(this.#ends, server.id * H2EndSpec.size, H2EndSpec, 'passed'));
  }

  /** Bytes that may be sent, of which some may have been. */
  granted(end: End): number {
    return Number(getBig(this.#ends, end.id * H2EndSpec.size, H2EndSpec, 'granted'));
  }

  /** How many streams a server allows at once. */
  allow(server: End, streams: number): void {
    set(this.#ends, server.id * H2EndSpec.size, H2EndSpec, 'max_streams', streams);
  }

  /** Streams may begin on it, as those of `endpoint`. */
  open(client: End, server: End, endpoint: number): void {
    set(this.#ends, server.id * H2EndSpec.size, H2EndSpec, 'open', 1);
    this.map('h2_routes').update(key(client.id, endpoint), u32(server.id));
  }

  /** None may begin any more. */
  shut(client: End, server: End, endpoint: number): void {
    set(this.#ends, server.id * H2EndSpec.size, H2EndSpec, 'open', 0);
    this.map('h2_routes').delete(key(client.id, endpoint));
  }

  /** Sends a frame to the peer, behind all that was sent before. */
  send(to: End, frame: Uint8Array): void {
    if (!to.closed) this.#writer.write(Buffer.concat([envelope(to.cookie, frame.length, to.toServer ? 1 : 0), frame]));
  }

  /** The kernel goes on with the server's side of a stream, if it has given the agent no more than `frames`, which were sent. */
  giveBack(client: End, stream: number, frames: number): void {
    this.#writer.write(envelope(BigInt(client.id) | (BigInt(stream) << 32n), frames, H2_GIVE_BACK));
  }

  /** The peer allows `bytes` more on its connection. */
  grant(end: End, bytes: number): void {
    const base = end.id * H2EndSpec.size;
    set(this.#ends, base, H2EndSpec, 'granted', getBig(this.#ends, base, H2EndSpec, 'granted') + BigInt(bytes));
  }

  /** Takes `bytes` out of the peer's window. @returns false when it has less */
  take(end: End, bytes: number): boolean {
    const packet = Buffer.alloc(24);
    packet.writeUInt32LE(end.id, 16);
    packet.writeUInt32LE(bytes, 20);
    return this.object.program('h2_take').testRun(packet).retval === 1;
  }

  /** Bytes of DATA of the peer that the kernel has sent on. */
  came(end: End): number {
    return Number(getBig(this.#ends, end.id * H2EndSpec.size, H2EndSpec, 'came'));
  }

  /** What the programs know of a stream that the kernel has begun; `flags`: H2_STREAM. */
  stream(
    client: End,
    stream: number,
  ):
    | {
        readonly server: number;
        readonly flags: number;
        readonly clientRoom: number;
        readonly serverRoom: number;
        /** bytes of bodies that the kernel has sent on, where it is logged */
        readonly received: number;
        readonly body: number;
        /** when the request was complete, as far as it was seen (monotonic, ns); 0: it is not */
        readonly complete: bigint;
        /** number of the edits of its answer; 0: none */
        readonly edits: number;
      }
    | undefined {
    const value = this.map('h2_streams').lookup(key(client.id, stream));
    if (!value) return undefined;
    const view = new DataView(value.buffer);
    const field = (name: string) => get(view, 0, H2StreamSpec, name);
    const rooms = { clientRoom: field('client_room'), serverRoom: field('server_room') };
    const [received, body] = ['received', 'body'].map((name) => Number(getBig(view, 0, H2StreamSpec, name)));
    return {
      server: field('id'),
      flags: field('flags'),
      ...rooms,
      received: received!,
      body: body!,
      complete: getBig(view, 0, H2StreamSpec, 'complete'),
      edits: field('edits'),
    };
  }

  /** What the mesh itself answers on a stream that the agent was given; it is asked for once. */
  reply(client: End, stream: number): KernelReply | undefined {
    const map = this.map('h2_replies');
    const value = map.lookup(key(client.id, stream));
    if (!value) return undefined;
    map.delete(key(client.id, stream));
    const view = new DataView(value.buffer, value.byteOffset);
    // one of a client that had this place before
    if (getBig(view, 0, H2ReplySpec, 'cookie') !== client.cookie) return undefined;
    const { offset: at } = H2ReplySpec.at.bytes!;
    const field = (name: 'len' | 'flags' | 'log' | 'generation' | 'rule' | 'origin') => get(view, 0, H2ReplySpec, name);
    const text = Buffer.from(value.subarray(at, at + field('len')));
    const logged = {
      log: field('log'),
      generation: field('generation'),
      rule: field('rule'),
      origin: field('origin'),
    };
    return { flags: field('flags'), text, ...logged };
  }

  /** When a stream's time is over, if it will be, whatever comes meanwhile: in ms of CLOCK_MONOTONIC. */
  deadline(client: End, stream: number): { readonly at: number; readonly why: number } | undefined {
    const value = this.map('h2_streams').lookup(key(client.id, stream));
    return value && deadlineOf(new DataView(value.buffer));
  }

  /** Forgets a stream that the kernel has begun. Its server may take it to be under way for a little longer. */
  forget(client: End, stream: number): void {
    const packet = Buffer.concat([Buffer.alloc(16), key(client.id, stream)]);
    const server = this.object.program('h2_forget').testRun(packet).retval;
    if (server > 0) this.places.ended(server - 1);
    this.map('h2_stages').delete(key(client.id, stream));
    this.map('h2_kept').delete(key(client.id, stream));
  }

  /** The streams that the kernel has begun and not ended, with their servers. */
  *streams(client: End): Generator<{ readonly stream: number; readonly server: number }> {
    for (const bytes of this.map('h2_streams').keys()) {
      const [id, stream] = new Uint32Array(bytes.slice().buffer) as unknown as [number, number];
      const found = id === client.id ? this.stream(client, stream) : undefined;
      if (found) yield { stream, server: found.server };
    }
  }

  /** Calls `tick` every few milliseconds, and `long` with streams whose request is long, until the client is closed. */
  watch(client: End, tick: () => void, long: (stream: number) => void): () => void {
    this.#ticks.add(tick);
    this.#long.set(client.id, long);
    return () => {
      this.#ticks.delete(tick);
      this.#long.delete(client.id);
    };
  }

  #tick(): void {
    const map = this.map('h2_long');
    for (const bytes of [...map.keys()]) {
      map.delete(bytes);
      const [id, stream] = new Uint32Array(bytes.slice().buffer) as unknown as [number, number];
      this.#long.get(id)?.(stream);
    }
    for (const tick of this.#ticks) tick();
  }

  /** The socket is closed, or is about to be. */
  remove(end: End): void {
    if (end.closed) return;
    end.closed = true;
    this.removing();
    this.map('h2_ids').delete(u64(end.cookie));
    end.door?.close();
    end.inbox.socket.destroy();
    end.inbox.peer.destroy();
    this.#free.push(end.id);
  }

  /** Answers of the mesh that clients were given. */
  answered = 0;

  /** Streams that the kernel has begun, or found the mesh's own answer to. */
  begunStreams(): number {
    const bytes = this.map('counters').lookup(u32(COUNTER.KERNEL))!;
    return [...new BigUint64Array(bytes.slice().buffer)].reduce((sum, n) => sum + Number(n), this.answered);
  }

  close(): void {
    this.image.close();
    clearInterval(this.#timer);
    this.timeouts.close();
    this.places.close();
    this.#writer.destroy();
    this.dummies.close();
    this.object.close();
  }
}
