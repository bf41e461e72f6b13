/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is drawn for a request once nothing can lead it to the proxy any more: chances of faults, and tokens of rate
 * limits. The proxy draws for the requests that it gets (for tokens it asks the agent, which takes them here, too), so
 * each request is drawn for once. A token that is refused changes nothing: such a request may still go to the proxy.
 */
#pragma once
#include "maps.h"
#include "rewrite.h"

#define BUCKET_TRIES 128

/*
 * Takes a token (or only looks), as Envoy's AtomicTokenBucketImpl does. Returns 1 if there is one, 0 if not, negative if
 * that could not be found out. A global function, so that the verifier walks it once.
 */
__noinline int bucket_take(__u32 index, int take) {
  struct bucket *b = bpf_map_lookup_elem(&buckets, &index);
  if (!b)
    return -1;
  __s64 cost = b->cost, most = b->most;
  if (!cost)
    return -1;
  __s64 now = bpf_ktime_get_ns() << BUCKET_SHIFT;
  for (int i = 0; i < BUCKET_TRIES; i++) {
    __s64 old = *(volatile __s64 *)&b->at;
    __s64 from = old > now - most ? old : now - most;
    if (from + cost > now)
      return 0;
    if (!take || __sync_val_compare_and_swap(&b->at, (__u64)old, (__u64)(from + cost)) == (__u64)old)
      return 1;
  }
  return -1;
}

/*
 * Draws. Returns 0 when the request passes, the offset of the reply that it gets, REPLY_DELAYED, or negative: nobody
 * knows.
 */
__noinline int draw_lots(struct scratch *s) {
  if (!s)
    return -1;
  for (__u32 i = 0; i < MAX_LOTS; i++) {
    if (i >= s->n_lots)
      break;
    const struct lot *lot = &s->lots[i];
    int reply = lot->reply;
    if (lot->bucket) {
      int token = bucket_take(lot->bucket - 1, 1);
      if (token < 0)
        return -1;
      if (!token)
        return reply;
    } else if (lot->denominator && random_u32() % lot->denominator < lot->numerator) {
      return reply;
    }
  }
  return 0;
}

/* Whether the kernel can give the reply of each lot from `from` on. */
static __always_inline int can_answer(struct work *w, __u32 from) {
  struct scratch *s = w->s;
  for (__u32 i = 0; i < MAX_LOTS; i++)
    if (i >= from && i < s->n_lots && s->lots[i].reply != REPLY_DELAYED &&
        !replies(s, AT(struct action, w->image, s->lots[i].reply)))
      return 0;
  return 1;
}

/*
 * Looks at what is to be drawn before a server is chosen. Returns 1 if the kernel may draw, 0 if the request is the
 * proxy's, or the offset of a reply: no token is left in the first bucket. `in_skb`: a reply that is longer than its
 * request may find no way then, so only what needs no reply after something was drawn is decided.
 */
static __always_inline int before_draw(struct work *w, const struct action *action, int in_skb, int silent) {
  struct scratch *s = w->s;
  __u32 bucket = s->lots[0].bucket;
  if (bucket && !bucket_take(bucket - 1, 0)) {
    __u32 refusal = s->lots[0].reply;
    return !silent && replies(s, AT(struct action, w->image, refusal)) ? refusal : 0;
  }
  if (in_skb && (!bucket || s->n_lots > 1 || action->kind != ACTION_FORWARD))
    return 0;
  if (silent && (!bucket || s->n_lots > 1))
    return 0;
  return can_answer(w, bucket ? 1 : 0);
}

/* The agent's draw, for the proxy. */
static __always_inline void ctl_draw(struct ctl *ctl) {
  int token = bucket_take(ctl->slot, 1);
  ctl->result = token > 0;
  ctl->passed = token < 0;
}
