/**
 * A client's connection of HTTP/2, whose streams the kernel decides (bpf/h2.bpf.c). The agent speaks for both sides what
 * concerns a connection as such, and carries the streams that are not the kernel's to the proxy. What a stream may
 * send is between client and server; the windows of connections are the agent's, exactly: nobody's is ever exceeded.
 */
import type { Socket } from 'node:net';
import type { AnswerProgram } from '../../compile/answer-edits.js';
import { fdOf, setLinger, setNoDelay } from '../../kernel/syscalls.js';
import { H2_DUE, H2_STREAM } from '../../layout/streams.js';
import { blockOf, fragmentOf } from './block.js';
import { type Carried, dataOf, ends, isOver, leftover, waits } from './carried.js';
import { Connections } from './connections.js';
import {
  ERROR,
  FIRST_WINDOW,
  FLAG,
  FRAME,
  type Frame,
  FrameReader,
  frame,
  headOf,
  isMalformed,
  numberFrame,
  OWN_SETTINGS,
  ofStream,
  PREFACE,
  readSettings,
  settingsError,
} from './frames.js';
import type { End, H2Plane } from './plane.js';
import { editedBlock, meshReply, unavailable } from './replies.js';
import { type Retried, Retries, toldOf } from './retry.js';
import { type ClientLog, lostServer, RESET } from './stream-log.js';
import { type Due, OVERDUE, timedOut } from './timeouts.js';
import type { Target, Upstream } from './upstream.js';
import { Waiting } from './window.js';

/**
 * What a client may send before it has gone on: the most of it that waits in memory. More than a server's, because what
 * waits for one server takes the room of the others.
 */
const ROOM = 16 * 1024 * 1024;
const REFUSED = 'remote refused stream reset';

export interface ClientOptions {
  /** index of the listener in the image */
  readonly listener: number;
  /** words of the client's address */
  readonly source: readonly number[];
  readonly servers: () => readonly Target[];
  /** none: streams that are not the kernel's are refused */
  readonly proxy: () => Target | undefined;
  /** the access log of a connection, if there is one */
  readonly log?: (client: End) => ClientLog | undefined;
  /** edits of answers by their number */
  readonly program?: (number: number) => AnswerProgram | undefined;
  /** a stream was left to the proxy */
  readonly proxied?: () => void;
}

export class H2Client {
  readonly #end: End;
  readonly #reader = new FrameReader(PREFACE);
  readonly #connections: Connections;
  readonly #carried = new Map<number, Carried>();
  readonly #retries: Retries;
  readonly #waiting: Waiting;
  readonly #log: ClientLog | undefined;
  readonly #unwatch: (() => void)[];
  /** bytes of DATA that the agent was given, and those of them that have left it */
  #taken = 0;
  #moved = 0;
  #returned = ROOM;
  #closed = false;
  #leaves = false;

  private constructor(
    private readonly plane: H2Plane,
    private readonly socket: Socket,
    private readonly options: ClientOptions,
    end: End,
    private readonly closed: () => void,
  ) {
    this.#end = end;
    this.#log = options.log?.(end);
    this.#waiting = new Waiting(
      (bytes) => plane.take(this.#end, bytes),
      (f) => this.#sent(f),
    );
    this.#connections = new Connections(plane, end, options, {
      send: (bytes) => this.#send(bytes),
      left: (f) => {
        if (!f.again) this.#moved += dataOf(f);
      },
      frame: (f, from) => this.#fromUpstream(f, from),
      room: (more, from) => this.#room(more, from),
      leaving: (last, from) => this.#leaving(last, from),
      gone: (from) => this.#gone(from),
      streams: (of) => this.#streamsOf(of).size,
      // what the client sends before it has done without a table only the connection that had it all can read
      replaceable: (ready) => ready && plane.begun(end),
      broken: (error) => this.fail(error),
      hopeless: () => this.fail(ERROR.NO_ERROR),
    });
    this.#retries = new Retries(plane, end, {
      connection: () => this.#connections.again(),
      most: () => this.#connections.proxy?.initial ?? FIRST_WINDOW,
      room: (stream, bytes) => this.#moreRoom(stream, bytes),
      lost: (retried) => this.#lost(retried),
    });
    const long = (stream: number) => void this.#find(stream); // which tells the client of its room
    this.#unwatch = [
      plane.watch(this.#end, () => this.#tick(), long),
      plane.timeouts.watch(this.#end.id, (due) => this.#overdue(due)),
    ];
    socket.on('close', () => this.close());
    socket.on('end', () => {
      const fd = fdOf(socket);
      if (fd !== undefined) setLinger(fd, undefined); // it has closed by itself
      this.close();
    });
    socket.resume(); // to see its end
  }

  /**
   * @param socket accepted, and nothing was read of it; @param closed called once at the end
   * @throws Error when it is closed already, or there is no room for it
   */
  static async open(
    plane: H2Plane,
    socket: Socket,
    options: ClientOptions,
    closed: () => void = () => undefined,
  ): Promise<H2Client> {
    const fd = fdOf(socket);
    if (fd === undefined) throw new Error('the connection is closed');
    setNoDelay(fd);
    setLinger(fd, 0); // an agent that is gone is no end of an answer
    socket.on('error', () => undefined);
    // all later frames go behind the kernel's, by way of the plane
    socket.write(Buffer.concat([frame(FRAME.SETTINGS, 0, 0, OWN_SETTINGS), numberFrame(FRAME.WINDOW_UPDATE, 0, ROOM)]));
    const early: Buffer[] = [];
    let read = (chunk: Buffer): void => void early.push(chunk);
    const end = await plane.client(socket, options, FIRST_WINDOW, (chunk) => read(chunk));
    const client = new H2Client(plane, socket, options, end, closed);
    read = (chunk) => client.#read(chunk);
    for (const chunk of early) read(chunk);
    return client;
  }

  #read(chunk: Buffer): void {
    for (const f of this.#reader.push(chunk)) this.#receive(f);
  }

  #send(bytes: Uint8Array): void {
    this.plane.send(this.#end, bytes);
  }

  /** A frame of the client's that the kernel has left to the agent. */
  #receive(f: Frame): void {
    if (this.#closed) return;
    this.#taken += dataOf(f);
    if (isMalformed(f)) this.fail(ERROR.FRAME_SIZE_ERROR);
    else if (this.#taken + this.plane.came(this.#end) > FIRST_WINDOW + this.#returned)
      this.fail(ERROR.FLOW_CONTROL_ERROR);
    else if (f.stream !== 0) this.#ofStream(f);
    else if (f.type === FRAME.SETTINGS && !(f.flags & FLAG.ACK)) {
      const error = settingsError(readSettings(f.payload));
      if (error > 0) this.fail(error);
      else this.#connections.settings(f);
    } else if (f.type === FRAME.PING && !(f.flags & FLAG.ACK)) this.#send(frame(FRAME.PING, FLAG.ACK, 0, f.payload));
    else if (f.type === FRAME.WINDOW_UPDATE) {
      this.plane.grant(this.#end, f.payload.readUInt32BE(0) & 0x7fffffff);
      this.#waiting.flush();
    }
  }

  /** Opens connections to the servers that there are now, where there are none. */
  serve(): void {
    this.#connections.serve();
  }

  /** The stream's way, as far as it has one. */
  #find(stream: number): Carried | undefined {
    const known = this.#carried.get(stream);
    if (known) return known;
    const found = this.plane.stream(this.#end, stream);
    const upstream = found && [...this.#connections.all()].find(({ end }) => end?.id === found.server);
    if (!upstream) return undefined;
    const carried = { upstream, ofKernel: true, clientEnded: false, serverEnded: false };
    this.#carried.set(stream, carried);
    this.#moreRoom(stream, upstream.initial - FIRST_WINDOW);
    return carried;
  }

  #ofStream(f: Frame): void {
    let carried = this.#find(f.stream);
    if (!carried && f.type === FRAME.HEADERS && this.#replies(f)) return;
    if (!carried && f.type === FRAME.HEADERS && f.stream & 1 && this.#connections.proxy) {
      carried = { upstream: this.#connections.proxy, ofKernel: false, clientEnded: false, serverEnded: false };
      this.#carried.set(f.stream, carried);
      this.options.proxied?.();
      this.#moreRoom(f.stream, carried.upstream.initial - FIRST_WINDOW);
    }
    if (!carried) {
      // nothing but a head begins a stream
      const idle = !(f.stream & 1) || f.stream > this.plane.lastStream(this.#end);
      if (idle && f.type <= FRAME.CONTINUATION && f.type !== FRAME.PRIORITY) {
        this.fail(ERROR.PROTOCOL_ERROR);
        return;
      }
      this.#moved += dataOf(f); // of a stream that is over
      if (f.type === FRAME.HEADERS) this.#send(numberFrame(FRAME.RST_STREAM, f.stream, ERROR.INTERNAL_ERROR));
      return;
    }
    const { upstream, retried } = carried;
    if (retried || carried.ofKernel) this.#log?.carried(f, true);
    if (retried) {
      this.#ofRetried(f, retried);
      return;
    }
    const inPieces = (f.type === FRAME.HEADERS && !(f.flags & FLAG.END_HEADERS)) || f.type === FRAME.CONTINUATION;
    if (f.type === FRAME.RST_STREAM || (carried.ofKernel && inPieces)) {
      const error = f.type === FRAME.RST_STREAM && carried.ofKernel ? ERROR.INTERNAL_ERROR : ERROR.CANCEL;
      const reset = carried.ofKernel ? numberFrame(FRAME.RST_STREAM, f.stream, error) : f.bytes;
      // trailers in pieces: on the way to the server, a frame of another stream could come between them
      if (f.type !== FRAME.RST_STREAM) this.#send(numberFrame(FRAME.RST_STREAM, f.stream, ERROR.INTERNAL_ERROR));
      this.#moved += upstream.waiting.drop(f.stream);
      upstream.moved(this.#waiting.drop(f.stream));
      upstream.send(reset);
      this.#log?.ended(f.stream, RESET);
      this.#forget(f.stream, carried);
    } else if (f.type === FRAME.WINDOW_UPDATE) {
      upstream.send(f.bytes);
    } else if (f.type === FRAME.DATA || f.type === FRAME.HEADERS || f.type === FRAME.CONTINUATION) {
      if (carried.ofKernel) this.#retries.note(f);
      upstream.waiting.push(f);
      if (ends(f)) carried.clientEnded = true;
    }
  }

  /** Gives the answer that the kernel has found, if the mesh itself answers. @returns false: it does not, or has no room to */
  #replies(f: Frame): boolean {
    const reply = this.plane.reply(this.#end, f.stream);
    const frames = reply && meshReply(f.stream, reply.flags, reply.text);
    if (!frames) return false;
    const bytes = frames.reduce((sum, one) => sum + dataOf(one), 0);
    if (bytes > 0 && (bytes > this.#connections.firstWindow || !this.plane.take(this.#end, bytes))) return false;
    for (const one of frames) this.#send(one.bytes);
    this.plane.answered++;
    this.#log?.replied(f, reply, frames);
    if (!ends(f)) this.#send(numberFrame(FRAME.RST_STREAM, f.stream, ERROR.NO_ERROR));
    return true;
  }

  /** A frame of the client's of a stream that is tried again. */
  #ofRetried(f: Frame, retried: Retried): void {
    if (f.type === FRAME.WINDOW_UPDATE) retried.clientAllows(f);
    else if (f.type === FRAME.RST_STREAM) {
      this.#moved += retried.drop();
      retried.upstream.moved(this.#waiting.drop(f.stream));
      if (retried.number > 0) retried.upstream.send(ofStream(f, retried.number).bytes);
      else this.#log?.ended(f.stream, RESET);
      this.#forget(f.stream, retried);
    } else if (f.type <= FRAME.HEADERS || f.type === FRAME.CONTINUATION) retried.push(f);
  }

  #lost(retried: Retried): void {
    this.#moved += retried.drop();
    this.#forget(retried.stream, retried);
    this.#send(numberFrame(FRAME.RST_STREAM, retried.stream, ERROR.INTERNAL_ERROR));
  }

  /** Takes a stream from its server, which has failed, and has it tried again. @returns false: that cannot be */
  #tryAgain(stream: number, carried: Carried): boolean {
    const { upstream } = carried;
    const { flags } = this.plane.stream(this.#end, stream) ?? { flags: 0 };
    const deadline = this.plane.deadline(this.#end, stream);
    const told = toldOf(this.#carried.has(stream) ? upstream.initial : undefined);
    const retried = this.#retries.take(stream, upstream.target, told);
    if (!retried) return false;
    this.#log?.taken(stream);
    this.#moved += upstream.waiting.drop(stream);
    if (!upstream.gone) upstream.send(numberFrame(FRAME.RST_STREAM, stream, ERROR.INTERNAL_ERROR));
    this.#carried.set(stream, retried);
    // of all tries together; the proxy's own time begins with its first one
    if (deadline) {
      const over = () => this.#triedTooLong(retried, { stream, why: deadline.why, flags });
      retried.timer = setTimeout(over, Math.max(1, deadline.at - Number(process.hrtime.bigint()) / 1e6));
    }
    return true;
  }

  /** A frame of a stream from a server that the kernel has left to the agent, or from the proxy. */
  #fromUpstream(of: Frame, from: Upstream): void {
    const f = this.#retries.own(of, from);
    if (!f) {
      from.moved(dataOf(of)); // of a stream that is over
      return;
    }
    if (this.#closed || f.type === FRAME.WINDOW_UPDATE || f.type > FRAME.CONTINUATION) {
      const carried = f.type === FRAME.WINDOW_UPDATE ? this.#find(f.stream) : undefined;
      if (carried?.upstream !== from) return;
      if (carried.retried) carried.retried.allow(f.payload.readUInt32BE(0) & 0x7fffffff);
      else this.#send(f.bytes);
      return;
    }
    const carried = this.#find(f.stream);
    if (carried?.upstream !== from) {
      from.moved(dataOf(f)); // the client has reset it
      return;
    }
    if (f.type === FRAME.RST_STREAM && carried.ofKernel) {
      const refused = f.payload.readUInt32BE(0) === ERROR.REFUSED_STREAM;
      this.#ended(f.stream, carried, refused ? REFUSED : 'remote reset');
      return;
    }
    if (f.type <= FRAME.HEADERS) carried.given = (carried.given ?? 0) + 1;
    // a head in several frames leaves as one: nothing of another stream may come between them
    if (f.type === FRAME.HEADERS && !(f.flags & FLAG.END_HEADERS)) {
      this.#heads.set(from, [f]);
      return;
    }
    const parts = this.#heads.get(from) ?? [];
    if (parts.length > 0 && f.type === FRAME.CONTINUATION && !(f.flags & FLAG.END_HEADERS)) {
      parts.push(f);
      return;
    }
    this.#heads.delete(from);
    const all = [...parts, f];
    let whole: Frame = { ...all[0]!, bytes: Buffer.concat(all.map(({ bytes }) => bytes)) };
    if (carried.ofKernel && whole.type === FRAME.HEADERS) {
      const again = this.#retries.retriesHead(f.stream, Buffer.concat(all.map(fragmentOf)));
      if (again && this.#tryAgain(f.stream, carried)) return;
      if (again) this.#retries.answered(f.stream);
      const edited = this.#edited(whole, Buffer.concat(all.map(fragmentOf)), carried);
      if (!edited) return;
      whole = edited;
    }
    if (carried.retried && whole.type === FRAME.HEADERS) carried.retried.answered = true;
    if (carried.ofKernel || carried.retried) {
      if (whole.type === FRAME.HEADERS) this.#log?.answer(f.stream, blockOf(whole));
      else this.#log?.carried(f, false);
    }
    this.#waiting.push(whole);
    if (ends(whole) || f.type === FRAME.RST_STREAM) carried.serverEnded = true;
    if (f.type === FRAME.RST_STREAM) carried.clientEnded = true;
  }

  readonly #heads = new Map<Upstream, Frame[]>();

  /** The edits of a stream's answer. */
  #program(stream: number): AnswerProgram | undefined {
    return this.options.program?.(this.plane.stream(this.#end, stream)?.edits ?? 0);
  }

  /** The head of an answer as its route has it. @returns undefined: it is malformed, and the stream was ended */
  #edited(head: Frame, block: Buffer, carried: Carried): Frame | undefined {
    const program = carried.edited ? undefined : this.#program(head.stream);
    if (!program) return head;
    const edited = editedBlock(block, program);
    if (!edited) {
      carried.upstream.send(numberFrame(FRAME.RST_STREAM, head.stream, ERROR.INTERNAL_ERROR));
      this.#ended(head.stream, carried, 'protocol error');
      return undefined;
    }
    carried.edited = edited !== block;
    return edited === block ? head : headOf(head.stream, head.flags & FLAG.END_STREAM, edited);
  }

  /** A frame has left for the client. */
  #sent(f: Frame): void {
    this.#send(f.bytes);
    const carried = this.#carried.get(f.stream);
    carried?.upstream.moved(dataOf(f));
    if (!carried?.ofKernel) return;
    if (ends(f)) this.#answered(f.stream, carried);
    else if (carried.edited && !this.#waiting.has(f.stream))
      this.plane.giveBack(this.#end, f.stream, carried.given ?? 0);
  }

  /** The client has the end of an answer; nothing more of a request that has not ended is wanted. */
  #answered(stream: number, carried: Carried): void {
    const { upstream } = carried;
    this.#log?.ended(stream, {});
    const known = this.plane.stream(this.#end, stream)?.flags ?? H2_STREAM.CLIENT_ENDED;
    if (known & H2_STREAM.CLIENT_HELD ? carried.clientEnded : known & H2_STREAM.CLIENT_ENDED) return;
    this.#moved += upstream.waiting.drop(stream);
    upstream.send(numberFrame(FRAME.RST_STREAM, stream, ERROR.INTERNAL_ERROR));
    this.#forget(stream, carried);
    this.#send(numberFrame(FRAME.RST_STREAM, stream, ERROR.NO_ERROR));
  }

  #forget(stream: number, carried: Carried): void {
    this.#carried.delete(stream);
    if (carried.retried) this.#log?.dropped(stream);
    this.#retries.forget(stream, carried.retried);
    if (carried.ofKernel) this.plane.forget(this.#end, stream);
  }

  /** The server lets each stream send more at first than the client was told of. */
  #moreRoom(stream: number, bytes: number): void {
    if (bytes > 0) this.#send(numberFrame(FRAME.WINDOW_UPDATE, stream, bytes));
  }

  /** It says so while streams are under way; those that have not told the client of anything yet will tell of all. */
  #room(more: number, from: Upstream): void {
    for (const [stream, { upstream, clientEnded, retried }] of this.#carried) {
      if (upstream !== from) continue;
      if (retried) retried.allow(retried.number > 0 ? more : 0);
      else if (!clientEnded) this.#moreRoom(stream, more);
    }
  }

  /** Gives windows back, and forgets what is over. */
  #tick(): void {
    for (const [stream, carried] of this.#carried) {
      if (
        isOver(carried, () => this.plane.stream(this.#end, stream)?.flags) &&
        !this.#waiting.has(stream) &&
        !waits(stream, carried)
      )
        this.#forget(stream, carried);
    }
    this.#connections.tick();
    const through = this.#moved + this.plane.came(this.#end);
    const more = through + ROOM - this.#returned;
    if (more < ROOM / 4) return;
    this.#returned += more;
    this.#send(numberFrame(FRAME.WINDOW_UPDATE, 0, more));
  }

  /** What a server does not go on with: as Envoy answers where it has not begun to, or a reset. */
  #ended(stream: number, carried: Carried, reason: string): void {
    const { upstream, ofKernel, serverEnded, retried } = carried;
    if (retried?.number === 0 && upstream.gone) return; // it will begin on another connection
    if (ofKernel && this.#retries.retriesReset(stream, reason === REFUSED) && this.#tryAgain(stream, carried)) return;
    const { flags } = (ofKernel ? this.plane.stream(this.#end, stream) : undefined) ?? { flags: 0 };
    const whole = !ofKernel || flags & H2_STREAM.SERVER_HELD ? serverEnded : (flags & H2_STREAM.SERVER_ENDED) > 0;
    this.#moved += retried ? retried.drop() : upstream.waiting.drop(stream);
    const begun = !ofKernel || (flags & H2_STREAM.ANSWERED) > 0;
    const answer = begun ? [] : unavailable(stream, flags, reason, ofKernel ? this.#program(stream) : undefined);
    // of a whole one, the last frame may still wait
    if (ofKernel) this.#log?.ended(stream, whole ? {} : lostServer(reason, begun), answer);
    this.#forget(stream, carried);
    if (whole) {
      // nothing more of the request is wanted
      if (this.#waiting.has(stream)) this.#carried.set(stream, leftover(upstream));
      else this.#send(numberFrame(FRAME.RST_STREAM, stream, ERROR.NO_ERROR));
      return;
    }
    this.#waiting.drop(stream);
    if (begun) {
      this.#send(numberFrame(FRAME.RST_STREAM, stream, ERROR.INTERNAL_ERROR));
      return;
    }
    for (const f of answer) this.#waiting.push(f);
    if (!(flags & H2_STREAM.CLIENT_ENDED)) this.#send(numberFrame(FRAME.RST_STREAM, stream, ERROR.NO_ERROR));
  }

  /** The time of a stream is over: both sides are told. */
  #overdue(due: Due): void {
    const { stream, flags } = due;
    const carried = this.#find(stream);
    if (this.#closed || !carried?.ofKernel) return;
    if (due.why === H2_DUE.TRY) {
      const known = this.plane.stream(this.#end, stream)?.flags ?? H2_STREAM.ANSWERED;
      if (known & H2_STREAM.ANSWERED) return;
      if (this.#retries.retriesReset(stream, false) && this.#tryAgain(stream, carried)) return;
    }
    const { upstream } = carried;
    this.#moved += upstream.waiting.drop(stream);
    upstream.moved(this.#waiting.drop(stream));
    upstream.send(numberFrame(FRAME.RST_STREAM, stream, ERROR.INTERNAL_ERROR));
    const ended = (flags & H2_STREAM.CLIENT_ENDED) > 0;
    this.#tellOverdue(due, (flags & H2_STREAM.ANSWERED) > 0, ended, this.#program(stream));
    this.#forget(stream, carried);
  }

  /** The same for a stream that is tried again. */
  #triedTooLong(retried: Retried, due: Due): void {
    const { stream } = due;
    if (this.#closed || this.#carried.get(stream) !== retried || retried.serverEnded) return;
    this.#moved += retried.drop();
    retried.upstream.moved(this.#waiting.drop(stream));
    if (retried.number > 0) retried.upstream.send(numberFrame(FRAME.RST_STREAM, retried.number, ERROR.INTERNAL_ERROR));
    this.#tellOverdue(due, retried.answered, retried.clientEnded || (due.flags & H2_STREAM.CLIENT_ENDED) > 0);
    this.#forget(stream, retried);
  }

  #tellOverdue(due: Due, answered: boolean, ended: boolean, program?: AnswerProgram): void {
    const answer = answered ? [] : timedOut(due, ended, program);
    this.#log?.ended(due.stream, OVERDUE[due.why]!, answer);
    if (answered) {
      this.#send(numberFrame(FRAME.RST_STREAM, due.stream, ERROR.INTERNAL_ERROR));
      return;
    }
    for (const f of answer) this.#waiting.push(f);
    if (!ended) this.#send(numberFrame(FRAME.RST_STREAM, due.stream, ERROR.NO_ERROR));
  }

  #streamsOf(from: Upstream): Map<number, Carried> {
    const found = new Map([...this.#carried].filter(([, c]) => c.upstream === from));
    const id = from.end?.id;
    for (const { stream, server } of this.plane.streams(this.#end))
      if (server === id && !this.#carried.has(stream))
        found.set(stream, { upstream: from, ofKernel: true, clientEnded: false, serverEnded: false });
    return found;
  }

  #leaving(last: number, from: Upstream): void {
    for (const [stream, carried] of this.#streamsOf(from))
      if ((carried.retried?.number ?? stream) > last) this.#ended(stream, carried, REFUSED);
  }

  #gone(from: Upstream): number {
    const streams = this.#streamsOf(from);
    for (const [stream, carried] of streams) this.#ended(stream, carried, 'connection termination');
    this.#retries.gone(from);
    return streams.size;
  }

  /** Ends the connection with a GOAWAY. */
  fail(error: number): void {
    if (this.#closed) return;
    const payload = Buffer.alloc(8);
    payload.writeUInt32BE(this.plane.lastStream(this.#end), 0);
    payload.writeUInt32BE(error, 4);
    this.#send(frame(FRAME.GOAWAY, 0, 0, payload));
    const fd = fdOf(this.socket);
    if (fd !== undefined) setLinger(fd, undefined);
    setTimeout(() => this.close(), 50); // the kernel sends it meanwhile
  }

  /** Tells the client to make its next requests elsewhere; those under way go on. */
  leave(): void {
    if (this.#closed || this.#leaves) return;
    this.#leaves = true;
    const payload = Buffer.alloc(8);
    payload.writeUInt32BE(0x7fffffff, 0);
    this.#send(frame(FRAME.GOAWAY, 0, 0, payload));
    const fd = fdOf(this.socket);
    if (fd !== undefined) setLinger(fd, undefined);
  }

  /** Nothing is under way. */
  get idle(): boolean {
    return this.#carried.size === 0 && this.plane.streams(this.#end).next().done === true;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const unwatch of this.#unwatch) unwatch();
    this.#log?.close();
    this.#retries.close();
    for (const { stream } of [...this.plane.streams(this.#end)]) this.plane.forget(this.#end, stream);
    this.#connections.close();
    this.plane.remove(this.#end);
    this.socket.destroy();
    this.closed();
  }
}
