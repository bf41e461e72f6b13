/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Requests in flight of clusters whose number is limited (circuit breakers: max_requests, and max_connections, since over
 * HTTP/1.1 each needs a connection). The kernel counts its own from when a connection is taken until the exchange has ended;
 * the agent counts those for which the proxy asks. What is one too many here goes to the proxy, which asks, and waits or refuses.
 */
#pragma once
#include "maps.h"

#define BREAKER_TRIES 64

/* One more, if that may be. A global function, so that the verifier walks it once. */
__noinline int breaker_enter(__u32 index) {
  struct breaker *b = bpf_map_lookup_elem(&breakers, &index);
  if (!b)
    return 0;
  for (int i = 0; i < BREAKER_TRIES; i++) {
    __u32 active = *(volatile __u32 *)&b->active;
    if (active >= b->most)
      return 0;
    if (__sync_val_compare_and_swap(&b->active, active, active + 1) == active)
      return 1;
  }
  return 0;
}

/* Whether the kernel is to leave a request to the proxy: no place is free, or others wait for one. */
__noinline int breaker_full(__u32 index) {
  struct breaker *b = bpf_map_lookup_elem(&breakers, &index);
  return !b || *(volatile __u32 *)&b->waiting || *(volatile __u32 *)&b->active >= b->most;
}

__noinline int breaker_leave(__u32 index) {
  struct breaker *b = bpf_map_lookup_elem(&breakers, &index);
  if (b)
    __sync_fetch_and_add(&b->active, -1);
  return 0;
}

/* Ends the counting of a slot's exchange, once, whoever comes first. */
static __always_inline void uncount(struct upstream *u) {
  __u32 breaker = __sync_lock_test_and_set(&u->breaker, 0);
  if (breaker)
    breaker_leave(breaker - 1);
}

/* The agent's part, for requests of the proxy's. */
static __always_inline void ctl_breaker(struct ctl *ctl) {
  __u32 slot = ctl->slot;
  if (ctl->command == CTL_ENTER) {
    ctl->result = breaker_enter(slot);
  } else if (ctl->command == CTL_LEAVE) {
    breaker_leave(slot);
  } else {
    struct upstream *u = bpf_map_lookup_elem(&upstreams, &slot);
    if (u)
      uncount(u);
  }
}
