/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is noted of a request that may be tried again: the request itself, and which answers are not for its client. */
#pragma once
#include "maps.h"

static __always_inline void keep_for_replay(struct upstream *u, __u32 slot, struct scratch *s, __u32 size) {
  u->replay_len = 0;
  if (size > MAX_REPLAY)
    return;
  struct replay *r = bpf_map_lookup_elem(&replays, &slot);
  if (!r)
    return;
  FORGET(size);
  if (size <= MAX_REPLAY && !copy_bytes(r->bytes, size, s->in))
    u->replay_len = size;
}

/* What the answer must be for the request to be tried again; the flags that say so. */
static __always_inline __u32 note_retry(struct upstream *u, struct work *w, const struct action *action) {
  for (__u32 i = 0; i < STATUS_WORDS; i++)
    u->retry[i] = image_u64(w->image, action->retry + i * 8);
  u->backoff_ms = action->backoff_ms;
  u->choice = w->s->choice;
  __u32 flags = UPSTREAM_FLAG_RETRY | (action->flags >> 4) << UPSTREAM_FLAG_RETRIES_SHIFT;
  return action->flags & ACTION_FLAG_RETRY_RESETS ? flags | UPSTREAM_FLAG_RETRY_RESETS : flags;
}
