/**
 * Tokens that go by on their way to the proxy are verified here, once, so that the kernel knows them the next time. The
 * request that brought one is the proxy's all the same; nothing waits for this.
 */
import { MAX_TOKEN } from '../layout/tokens.js';
import { factWords, judgeToken } from '../plan/judge-token.js';
import { headerLines } from '../plan/token-headers.js';
import type { TokenPlan } from '../plan/tokens.js';
import type { Head } from './http-framing.js';
import { KeySets, type Reach } from './jwks.js';
import { findToken } from './token-places.js';
import type { TokenKey, TokenStore } from './token-store.js';

/** A token without end, or with a distant one, is verified again after this long. */
const MAX_LIFE_S = 300;
/** How long a token that was not judged is not looked at again, and how many of them are noted. */
const REFUSED_MS = 5000;
const MAX_REFUSED = 1024;
/** Verifications at a time; what comes beyond that is verified when it comes again. */
const MAX_BUSY = 64;

/** What is asked about tokens in one generation of the policies. */
export interface TokenGeneration {
  readonly number: number;
  readonly listeners: ReadonlyMap<string, { readonly index: number; readonly plan: TokenPlan }>;
  readonly reach: Reach;
}

export interface TokenCounts {
  /** tokens that were found good, and that were left to the proxy */
  verified: number;
  refused: number;
}

export class TokenCache {
  readonly counts: TokenCounts = { verified: 0, refused: 0 };
  #generation: TokenGeneration | undefined;
  #keys: KeySets | undefined;
  readonly #busy = new Set<string>();
  readonly #refused = new Map<string, number>();

  /** @param clock nanoseconds on the clock of the programs (bpf_ktime_get_boot_ns) */
  constructor(
    private readonly store: TokenStore,
    private readonly clock: () => bigint,
  ) {}

  /** Puts other policies in force: tokens known under the old ones count no more, keys are read anew. */
  use(generation: TokenGeneration): void {
    this.#generation = generation;
    this.#keys = new KeySets(generation.reach);
    this.#refused.clear();
    // Envoy has read files by now; what they become later is for the next generation.
    for (const { plan } of generation.listeners.values())
      for (const { keys } of Object.values(plan.providers)) if (keys.kind === 'file') void this.#keys.keys(keys);
  }

  /** A request's head that is carried to the proxy. Returns at once. */
  offer(listener: string, head: Head): void {
    const found = this.#generation?.listeners.get(listener);
    if (!found) return;
    const target = head.startLine.split(' ')[1] ?? '';
    const token = findToken(found.plan, target, head.headers);
    if (!token) return;
    const value = Buffer.from(token.value, 'latin1');
    if (value.length === 0 || value.length > MAX_TOKEN) return;
    const id = `${found.index} ${token.place} ${token.value}`;
    const refused = this.#refused.get(id);
    if (this.#busy.has(id) || this.#busy.size >= MAX_BUSY || (refused !== undefined && refused > Date.now())) return;
    this.#busy.add(id);
    const key = { generation: this.#generation!.number, listener: found.index, place: token.place, value };
    void this.#learn(key, found.plan, token.value)
      .catch(() => false)
      .then((known) => {
        this.#busy.delete(id);
        if (known) this.counts.verified++;
        else this.#refuse(id);
      });
  }

  #refuse(id: string): void {
    this.counts.refused++;
    if (this.#refused.size >= MAX_REFUSED) this.#refused.clear();
    this.#refused.set(id, Date.now() + REFUSED_MS);
  }

  async #learn(key: TokenKey, plan: TokenPlan, text: string): Promise<boolean> {
    const keys = this.#keys!;
    const judged = Date.now() / 1000;
    const token = await judgeToken(
      plan,
      plan.places[key.place]!,
      text,
      ({ keys: source }) => keys.keys(source),
      judged,
    );
    if (!token) return false;
    // The programs' clock first: if the other is set between the two, the token is forgotten too early, not too late.
    const now = this.clock();
    const ends = Object.values(plan.providers).map((provider) => keys.until(provider.keys) / 1000);
    const life = Math.min(token.until ?? Number.POSITIVE_INFINITY, judged + MAX_LIFE_S, ...ends) - Date.now() / 1000;
    if (life <= 0) return false;
    const known = { facts: factWords(token.facts), lines: headerLines(token.headers) };
    return this.store.put(key, known, now + BigInt(Math.floor(life * 1e9)), now);
  }
}
