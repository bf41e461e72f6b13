/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * HTTP/2: how many streams a server allows at once. One counts until both sides have ended it; what the agent ends counts
 * a little longer, because its frames may come behind a new head of the kernel's.
 */
#pragma once
#include "h2-streams.h"

/* A new stream, if there is room. */
static __always_inline int take_place(struct h2_end *u) {
  if (__sync_fetch_and_add(&u->streams, 1) < *(volatile __u32 *)&u->max_streams)
    return 1;
  __sync_fetch_and_add(&u->streams, -1);
  return 0;
}

/* The agent forgets a stream: behind 16 bytes, its key. Returns the index of its server's connection plus one; 0: it was gone. */
SEC("tc")
int h2_forget(struct __sk_buff *skb) {
  struct h2_key key;
  if (bpf_skb_load_bytes(skb, 16, &key, sizeof key))
    return 0;
  struct h2_stream *stream = bpf_map_lookup_elem(&h2_streams, &key);
  __u32 id = stream ? stream->id : 0;
  return stream && !bpf_map_delete_elem(&h2_streams, &key) ? id + 1 : 0;
}

/* Streams that the agent has ended count no more: behind 16 bytes, an end's cookie, its index, and how many. */
SEC("tc")
int h2_release(struct __sk_buff *skb) {
  struct {
    __u64 cookie;
    __u32 id, n;
  } ask;
  if (bpf_skb_load_bytes(skb, 16, &ask, sizeof ask))
    return 1;
  struct h2_end *u = bpf_map_lookup_elem(&h2_ends, &ask.id);
  if (u && u->cookie == ask.cookie)
    __sync_fetch_and_add(&u->streams, -ask.n);
  return 0;
}
