/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * HTTP/2: what the mesh itself answers. The kernel decides, and says what; the agent, which gets the request, gives it the
 * form of a stream. What has no room here, or is pushed out before the agent looks, is the proxy's.
 */
#pragma once
#include "h2-log.h"

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, MAX_H2_REPLIES);
  __type(key, struct h2_key);
  __type(value, struct h2_reply);
} h2_replies SEC(".maps");

/* Whether the decoded request is a HEAD. */
static __always_inline __u32 is_head(const struct hpack *h) {
  __u32 at = h->pseudo[PSEUDO_METHOD].at;
  return h->pseudo[PSEUDO_METHOD].len == 4 && text_at(h, at) == 'H' && text_at(h, at + 1) == 'E' &&
                 text_at(h, at + 2) == 'A' && text_at(h, at + 3) == 'D'
             ? H2_STREAM_HEAD
             : 0;
}

static __always_inline void note_reply(struct h2_space *space, struct work *w, const struct action *action,
                                       const struct h2_end *a, const struct frame *f, __u32 log) {
  struct h2_reply *reply = &space->reply;
  reply->cookie = a->cookie;
  reply->flags = is_head(&space->h) | (space->h.grpc ? H2_STREAM_GRPC : 0);
  reply->origin = action->origin;
  reply->rule = w->s->rule;
  reply->generation = generation_of(w);
  reply->log = log;
  if (!build_reply(w, action))
    return;
  __u32 n = w->s->o;
  FORGET(n);
  n &= 4095;
  if (!n || n > MAX_H2_REPLY || copy_bytes(reply->bytes, n, w->s->out))
    return;
  reply->len = n;
  struct h2_key key = {.client = a->id, .number = f->stream};
  if (!bpf_map_update_elem(&h2_replies, &key, reply, BPF_ANY) && reply->rule)
    count_rule(reply->rule - 1);
}
