/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Access logs of streams: records as HTTP/1.1 has them (log.h), with a stream's number for a slot. Heads are header blocks as
 * they leave. Who the client is, the agent knows.
 */
#pragma once
#include "h2-retry.h"

/* Of a frame of DATA, the bytes that are no padding. */
static __always_inline __u32 content_of(struct __sk_buff *skb, __u32 offset, const struct frame *f) {
  __u8 pad = 0;
  if (!(f->flags & PADDED))
    return f->length;
  if (!f->length || bpf_skb_load_bytes(skb, offset + FRAME_HEAD, &pad, 1) || pad >= f->length)
    return 0;
  return f->length - 1 - pad;
}

/* Puts out space->log with `n` bytes behind it, in space->logged. Returns 0 when there is no room. */
static __noinline int log_stream(struct h2_space *space, __u32 n) {
  if (!space || n > MAX_BLOCK)
    return 0;
  if (!bpf_ringbuf_output(&request_log, &space->log, sizeof space->log + n, BPF_RB_NO_WAKEUP))
    return 1;
  count(COUNTER_LOG_LOST);
  return 0;
}

/* What is told of a stream that begins, but for its number. */
static __always_inline void note_log(struct h2_space *space, const struct work *w, const struct h2_end *a,
                                     const struct action *action) {
  struct log_record *r = &space->log;
  const struct scratch *s = w->s;
  __builtin_memset(r, 0, sizeof *r);
  r->kind = LOG_RECORD_BEGIN;
  r->listener = a->listener;
  r->cookie = a->cookie;
  r->generation = generation_of(w);
  r->rule = s->rule;
  r->choice = s->choice;
}

/* A stream has begun: its head is staged. */
static __always_inline void log_stream_begin(struct h2_space *space, struct h2_stream *stream, __u32 number) {
  struct log_record *r = &space->log;
  __u32 n = space->staged.len - FRAME_HEAD;
  r->time = bpf_ktime_get_ns();
  r->slot = number;
  r->endpoint = stream->id;
  FORGET(n);
  n &= MAX_STAGED - 1;
  if (stream->log & LOG_REQUEST && n && !copy_bytes(space->logged, n, &space->staged.bytes[FRAME_HEAD]))
    r->request_len = n;
  log_stream(space, r->request_len);
}

/*
 * A frame with a block from the server: the head of its answer, one of 1xx, or trailers. Returns 0 when the agent has to carry
 * it, and to log it.
 */
static __noinline int log_stream_head(struct __sk_buff *skb, struct h2_end *u, struct h2_stream *stream, struct frame *f,
                                      __u32 offset) {
  if (!u || !stream || !f || f->flags & (PADDED | PRIORITY))
    return 0;
  struct h2_space *space = space_take();
  if (!space)
    return 0;
  struct log_record *r = &space->log;
  __builtin_memset(r, 0, sizeof *r);
  r->kind = LOG_RECORD_ANSWER;
  r->cookie = u->client;
  r->time = bpf_ktime_get_ns();
  r->received = stream->complete;
  r->slot = f->stream;
  __u32 n = f->length;
  FORGET(n);
  n &= MAX_BLOCK * 2 - 1;
  int done = 0;
  if (n && n <= MAX_BLOCK && !bpf_skb_load_bytes(skb, offset + FRAME_HEAD, space->logged, n)) {
    r->answer_len = n;
    done = log_stream(space, n);
  }
  space_give(space);
  return done;
}

/* A stream is over. @reset: its client has reset it */
static __noinline int log_stream_end(struct h2_stream *stream, __u64 client, __u32 number, __u32 reset) {
  if (!stream)
    return 0;
  struct log_record *r = bpf_ringbuf_reserve(&request_log, sizeof *r, 0);
  if (!r) {
    count(COUNTER_LOG_LOST);
    return 0;
  }
  __builtin_memset(r, 0, sizeof *r);
  r->kind = LOG_RECORD_END | reset;
  r->cookie = client;
  r->time = bpf_ktime_get_ns();
  r->received = stream->received;
  r->body = stream->body;
  r->slot = number;
  bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
  return 0;
}
