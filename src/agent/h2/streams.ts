/** Requests of HTTP/2 that clients make: which connections are those, and what is in force for them. */
import type { AnswerProgram } from '../../compile/answer-edits.js';
import { fdOf, peek, setLinger } from '../../kernel/syscalls.js';
import { type Address, addressWords } from '../address.js';
import type { DiscoveryContext } from '../discovery.js';
import type { Arrival } from '../listeners.js';
import type { StreamPolicy, StreamServer, StreamServers } from '../policy.js';
import type { RuleHits } from '../rule-hits.js';
import { H2Client } from './client.js';
import { PREFACE } from './frames.js';
import { Names } from './names.js';
import type { End, H2Plane } from './plane.js';
import { type LineWriter, StreamLog } from './stream-log.js';
import type { Target } from './upstream.js';

/** Who says nothing for so long speaks HTTP/1.1, as far as the agent is concerned: the proxy gets it all. */
const SILENT_MS = 1000;
const QUICK_MS = 20;
const DRAIN_POLL_MS = 10;

/** Nothing is decided by it. */
const NO_POLICY: Pick<StreamPolicy, 'image' | 'followed'> = { image: new Uint8Array(64), followed: new Map() };
const NO_SERVERS: StreamServers = { fixed: [], named: [] };

export interface StreamsContext {
  /** the number of a listener in the image */
  readonly indexOf: (listener: string) => number;
  /** where the proxy listens for a listener; none: its connections are not ours */
  readonly proxy: (listener: string) => Address | undefined;
  /** whether the programs of HTTP/1.1 have decided anything on the client's connection */
  readonly decided: (cookie: bigint) => boolean;
  /** a connection is closed */
  readonly closed: (arrival: Arrival) => void;
  /** edits of answers by their number */
  readonly program: (number: number) => AnswerProgram | undefined;
  /** writes lines of access logs */
  readonly log: LineWriter;
  /** see DiscoveryContext */
  readonly clusters: DiscoveryContext['clusters'];
}

export class Streams {
  readonly #clients = new Set<H2Client>();
  readonly #endpoints = new Map<string, number>();
  #plane: H2Plane | undefined;
  #log: StreamLog | undefined;
  #servers: StreamPolicy['servers'] = new Map();
  readonly #names: Names;
  #proxied = 0;
  #stopping = false;

  constructor(
    /** loads the programs, which is done when a policy needs them */
    private readonly load: () => Promise<H2Plane>,
    private readonly context: StreamsContext,
  ) {
    this.#names = new Names({
      clusters: context.clusters,
      endpointId: (address, port) => this.endpointId({ address, port }),
      setHosts: (...change) => this.#plane?.image.setHosts(...change),
      changed: () => {
        for (const client of this.#clients) client.serve();
      },
    });
  }

  /** The number of a server, the same in all generations. */
  endpointId({ address, port }: Address): number {
    const key = `${port} ${address}`;
    const id = this.#endpoints.get(key) ?? this.#endpoints.size;
    this.#endpoints.set(key, id);
    return id;
  }

  /**
   * Loads the programs, if a policy needs them; that takes seconds, in which others are in force. And what the proxy has found
   * out is written into the policy's image.
   */
  async prepare(policy: StreamPolicy | undefined): Promise<void> {
    if (!this.#plane && policy && policy.servers.size > 0) {
      const plane = await this.load();
      if (this.#stopping) {
        plane.close();
        return;
      }
      this.#plane = plane;
      this.#log = new StreamLog(plane, this.context.log);
    }
    await this.#names.prepare(policy ?? NO_POLICY);
  }

  /** Puts a policy in force for every stream from now on. @param policy undefined: all streams are the proxy's */
  async use(policy: StreamPolicy | undefined): Promise<void> {
    this.#servers = policy?.servers ?? new Map();
    if (policy) this.#log?.use(policy, this.context.indexOf);
    this.#names.pause();
    await this.#plane?.image.install((policy ?? NO_POLICY).image);
    this.#plane?.hits.clear(policy?.ruleCount ?? 0);
    // which has clients served, too
    this.#names.enforce(policy ?? NO_POLICY);
  }

  /** Takes a connection that speaks HTTP/2 to a listener with requests for the kernel; all others are given to `otherwise`. */
  consider(arrival: Arrival, otherwise: (arrival: Arrival) => void): void {
    const { socket, listener, cookie } = arrival;
    const plane = this.#plane;
    const ours = arrival.netns === undefined && !arrival.relay && this.#servers.has(listener);
    if (!plane || !ours || !this.context.proxy(listener)) {
      otherwise(arrival);
      return;
    }
    const fd = fdOf(socket);
    if (fd === undefined) return; // closed already
    setLinger(fd, 0); // as of all: what the kernel answers meanwhile must not seem to end when the agent does
    const ignore = (): void => undefined;
    socket.on('error', ignore);
    const since = performance.now();
    const look = (): void => {
      const now = fdOf(socket);
      if (now === undefined) {
        this.context.closed(arrival);
        return;
      }
      const first = peek(now, PREFACE.length);
      const waited = performance.now() - since;
      const silent = waited > SILENT_MS || this.#stopping || (cookie !== undefined && this.context.decided(cookie));
      const prefix = first === undefined || (first.length > 0 && PREFACE.subarray(0, first.length).equals(first));
      if (first?.length === PREFACE.length && prefix) void this.#take(plane, arrival);
      else if (prefix && !silent) setTimeout(look, waited < QUICK_MS ? 1 : 5);
      else {
        socket.off('error', ignore);
        otherwise(arrival);
      }
    };
    look();
  }

  async #take(plane: H2Plane, arrival: Arrival): Promise<void> {
    const { socket, listener, client, asked: local } = arrival;
    const servers = (): readonly StreamServer[] => this.#names.servers(this.#servers.get(listener) ?? NO_SERVERS);
    const proxy = (): Target | undefined => {
      const at = this.context.proxy(listener);
      const local = at && at.address.includes(':') === client.address.includes(':') ? client.address : undefined;
      return at && { ...at, ...(local === undefined ? {} : { from: local }) };
    };
    const options = {
      listener: this.context.indexOf(listener),
      source: addressWords(client),
      servers,
      proxy,
      program: this.context.program,
      log: (end: End) => this.#log?.client(end, { client, local }),
      proxied: () => {
        this.#proxied++;
      },
    };
    const closed = (): void => {
      if (own) this.#clients.delete(own);
      this.context.closed(arrival);
    };
    let own: H2Client | undefined;
    try {
      own = await H2Client.open(plane, socket, options, closed);
      this.#clients.add(own);
      if (this.#stopping) own.leave();
    } catch {
      socket.destroy();
      this.context.closed(arrival);
    }
  }

  /** How many streams each rule has decided; undefined: no policy has needed the programs. */
  get hits(): RuleHits | undefined {
    return this.#plane?.hits;
  }

  /** Requests that the kernel has begun, and that were left to the proxy; undefined: no policy has needed the programs. */
  counts(): { readonly kernel: number; readonly proxy: number } | undefined {
    return this.#plane && { kernel: this.#plane.begunStreams(), proxy: this.#proxied };
  }

  /** No client may begin streams any more; those under way may end, for at most `ms`. */
  async drain(ms: number): Promise<void> {
    this.#stopping = true;
    this.#names.stop();
    for (const client of this.#clients) client.leave();
    for (const end = Date.now() + ms; this.#clients.size > 0 && Date.now() < end; ) {
      for (const client of this.#clients) if (client.idle) client.close();
      await new Promise((resolve) => setTimeout(resolve, DRAIN_POLL_MS));
    }
    for (const client of [...this.#clients]) client.close();
  }

  close(): void {
    this.#stopping = true;
    this.#names.stop();
    for (const client of [...this.#clients]) client.close();
    this.#log?.close();
    this.#plane?.close();
  }
}
