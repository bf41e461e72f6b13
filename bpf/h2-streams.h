/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* HTTP/2: ends, windows, and the states of streams. */
#pragma once
#include "h2-frames.h"
#include "h2-maps.h"

static __always_inline struct h2_end *end_of(__u64 cookie) {
  __u32 *id = bpf_map_lookup_elem(&h2_ids, &cookie);
  return id ? bpf_map_lookup_elem(&h2_ends, id) : 0;
}

/* Takes `n` bytes out of a connection's window: all or nothing. What is undone may keep another from its own for a moment. */
static __always_inline int take_window(struct h2_end *to, __u32 n) {
  __u64 used = __sync_fetch_and_add(&to->used, n) + n;
  if (used <= *(volatile __u64 *)&to->granted)
    return 1;
  __sync_fetch_and_add(&to->used, -(__u64)n);
  return 0;
}

#define BOTH_ENDED (H2_STREAM_CLIENT_ENDED | H2_STREAM_SERVER_ENDED)
#define ANY_HELD (H2_STREAM_CLIENT_HELD | H2_STREAM_SERVER_HELD)

/* A stream is over: its place is free. */
static __always_inline void drop_stream(struct h2_key *key, __u32 id) {
  struct h2_end *u = bpf_map_lookup_elem(&h2_ends, &id);
  if (!bpf_map_delete_elem(&h2_streams, key) && u)
    __sync_fetch_and_add(&u->streams, -1);
}

/* Notes that one side has ended. A stream that both have ended is over, unless the agent still holds some of it. */
static __always_inline void end_side(struct h2_key *key, struct h2_stream *stream, __u32 side) {
  __u32 id = stream->id;
  __u32 flags = __sync_fetch_and_or(&stream->flags, side) | side;
  if ((flags & BOTH_ENDED) == BOTH_ENDED && !(flags & ANY_HELD))
    drop_stream(key, id);
}

static __always_inline int to_agent_frame(struct __sk_buff *skb, __u64 cookie) {
  return bpf_sk_redirect_hash(skb, &h2_inboxes, &cookie, BPF_F_INGRESS);
}

/* The agent carries on what this side of the stream sends. */
static __always_inline int hold(struct __sk_buff *skb, __u64 cookie, struct h2_stream *stream, const struct frame *f, __u32 held, __u32 ended) {
  if ((f->type == DATA || f->type == HEADERS) && f->flags & END_STREAM)
    held |= ended;
  /* of what may be tried again, the agent says it */
  if (f->type == HEADERS && ended == H2_STREAM_SERVER_ENDED && !(stream->flags & H2_STREAM_RETRY))
    held |= H2_STREAM_ANSWERED;
  __sync_fetch_and_or(&stream->flags, held);
  return to_agent_frame(skb, cookie);
}

/*
 * Whether a frame of an answer that is edited is the agent's: it has the server's side of the stream from the head on, and
 * gives it back when it has sent on all that it was given.
 */
static __always_inline int is_lent(struct h2_stream *stream, const struct frame *f) {
  __u32 had = *(volatile __u32 *)&stream->lent;
  if (!had) {
    if (f->type == HEADERS)
      __sync_lock_test_and_set(&stream->lent, 3);
    return f->type == HEADERS;
  }
  if (!(had & 1))
    return 0;
  if (__sync_fetch_and_add(&stream->lent, 2) & 1)
    return 1;
  __sync_fetch_and_add(&stream->lent, -2);
  return 0;
}

/* The agent has sent on `n` frames of a stream: the kernel goes on with it if there were no more. */
static __always_inline void give_back(__u64 whose, __u32 n) {
  struct h2_key key = {.client = whose, .number = whose >> 32};
  struct h2_stream *stream = bpf_map_lookup_elem(&h2_streams, &key);
  if (stream)
    __sync_val_compare_and_swap(&stream->lent, n << 1 | 1, n << 1);
}

/* To the server, through the door; in one piece where its program has to see it whole. */
static __always_inline int to_server(struct __sk_buff *skb, __u64 cookie) {
  return bpf_sk_redirect_hash(skb, &h2_doors, &cookie, 0);
}

/* Whether it may be tried again, as long as nobody has answered. */
static __always_inline int is_open(__u32 flags) {
  return (flags & (H2_STREAM_RETRY | H2_STREAM_ANSWERED)) == H2_STREAM_RETRY;
}
