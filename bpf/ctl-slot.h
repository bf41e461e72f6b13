/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The agent's commands about a pool slot. */
#pragma once
#include "intake-listener.h"

static __always_inline void ctl_slot(struct ctl *ctl) {
  __u32 slot = ctl->slot;
  struct upstream *u = bpf_map_lookup_elem(&upstreams, &slot);
  __u32 b = slot / BLOCK_SIZE;
  __u64 *word = bpf_map_lookup_elem(&blocks, &b);
  if (!u || !word)
    return;
  __u64 mask = 1ULL << (slot & 63);
  if (ctl->command == CTL_TAKE) {
    ctl->result = (__sync_fetch_and_and(word, ~mask) & mask) != 0;
  } else if (ctl->command == CTL_GIVE) {
    settle_slot(u, slot);
    u->phase = PHASE_IDLE;
    u->owner = 0;
    ctl->result = !(__sync_fetch_and_or(word, mask) & mask);
  } else if (ctl->command == CTL_FINISH || ctl->command == CTL_COMPLETE) {
    if (!u->owner || (ctl->cookie && u->owner != ctl->cookie))
      return;
    if (!ctl->arg)
      u->flags |= UPSTREAM_FLAG_CLOSE;
    settle_slot(u, slot);
    pool_give(u, slot);
    ctl->result = 1;
  } else if (ctl->command == CTL_GIVE_UP) {
    if (u->owner != ctl->cookie ||
        __sync_val_compare_and_swap(&u->phase, PHASE_AWAIT, PHASE_DEAD) != PHASE_AWAIT)
      return;
    u->flags |= UPSTREAM_FLAG_CLOSE;
    pool_give(u, slot);
    ctl->result = 1;
  } else if (ctl->command == CTL_TAKE_OVER) {
    ctl->result = u->owner == ctl->cookie &&
                  __sync_val_compare_and_swap(&u->phase, PHASE_AWAIT, PHASE_AGENT) == PHASE_AWAIT;
  } else if (ctl->command == CTL_PAIR) {
    ctl->result = pair(u, slot, ctl->cookie);
  }
}
