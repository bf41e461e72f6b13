/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What access logs are made of: records for the agent, which writes the lines. Only listeners that log have any. A
 * request is the kernel's only while the ring buffer has room enough for the ends of everything that has begun
 * (LOG_RESERVE), so that lines are not lost: what finds less goes to the proxy, which logs it itself.
 */
#pragma once
#include "rewrite.h"
#include "maps.h"

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, LOG_RING);
} request_log SEC(".maps");

/* Whether a request may begin. */
static __always_inline int log_has_room(void) {
  if (bpf_ringbuf_query(&request_log, BPF_RB_AVAIL_DATA) < LOG_RING - LOG_RESERVE)
    return 1;
  count(COUNTER_LOG_FULL);
  return 0;
}

/* Puts out s->log and `size` bytes of heads behind it, in s->out. The agent looks by itself: nobody is woken. */
static __noinline int log_put(struct scratch *s, __u32 size) {
  if (!s)
    return 0;
  if (size > MAX_OUT + MAX_HEAD)
    size = 0, s->log.request_len = s->log.answer_len = 0;
  if (bpf_ringbuf_output(&request_log, &s->log, sizeof(struct log_record) + size, BPF_RB_NO_WAKEUP))
    count(COUNTER_LOG_LOST);
  return 0;
}

static __always_inline void log_request(struct scratch *s, const struct conn *c, __u32 kind, __u32 generation,
                                        __u32 port) {
  struct log_record *r = &s->log;
  __builtin_memset(r, 0, sizeof *r);
  r->kind = kind;
  r->listener = c->listener;
  r->cookie = c->cookie;
  r->received = s->flags & HEAD_LENGTH ? s->content_length : 0;
  r->generation = generation;
  r->rule = s->rule;
  __builtin_memcpy(r->source, c->source, sizeof r->source);
  __builtin_memcpy(r->original, c->original, sizeof r->original);
  r->source_port = port;
  r->original_port = c->original_port;
}

/* A request is about to leave; its new head is in s->out. */
static __always_inline void log_begin(struct scratch *s, const struct conn *c, struct upstream *u, __u32 slot,
                                      __u32 generation, __u32 port) {
  log_request(s, c, LOG_RECORD_BEGIN, generation, port);
  struct log_record *r = &s->log;
  r->time = u->started;
  r->slot = slot;
  r->choice = s->choice;
  r->endpoint = u->endpoint;
  r->parent[0] = s->parent[0];
  r->parent[1] = s->parent[1];
  if (u->log & LOG_REQUEST)
    r->request_len = s->o;
  log_put(s, r->request_len);
}

/*
 * The head of an answer is in s->in, and s->out is free. `done`: it is complete. Called before the slot can be taken by
 * somebody else.
 */
static __always_inline void log_answer(struct scratch *s, const struct upstream *u, __u32 slot, int done) {
  struct log_record *r = &s->log;
  __builtin_memset(r, 0, sizeof *r);
  r->kind = LOG_RECORD_ANSWER | (done ? LOG_RECORD_END : 0);
  r->cookie = u->owner;
  r->time = bpf_ktime_get_ns();
  r->body = u->body;
  r->slot = slot;
  r->status = s->status;
  __u32 head = s->head_len & (MAX_HEAD * 2 - 1);
  if (u->log & LOG_ANSWER && head && head <= MAX_HEAD && !copy_bytes(s->out, head, s->in))
    r->answer_len = head;
  log_put(s, r->answer_len);
}

/* An answer is complete whose head was logged before. */
static __always_inline void log_end(const struct upstream *u, __u32 slot) {
  struct log_record *r = bpf_ringbuf_reserve(&request_log, sizeof *r, 0);
  if (!r) {
    count(COUNTER_LOG_LOST);
    return;
  }
  __builtin_memset(r, 0, sizeof *r);
  r->kind = LOG_RECORD_END;
  r->cookie = u->owner;
  r->time = bpf_ktime_get_ns();
  r->body = u->body;
  r->slot = slot;
  bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

/* The mesh's own reply is in s->out, the request's head in s->in. Returns 0 if they are too long. */
static __always_inline int log_reply(struct scratch *s, const struct conn *c, const struct action *action,
                                     __u32 generation, __u32 port) {
  struct log_record *r = &s->log;
  __u32 head = s->head_len & (MAX_HEAD * 2 - 1), o = s->o;
  if (!head || head > MAX_HEAD || o > MAX_OUT)
    return 0;
  log_request(s, c, LOG_RECORD_REPLY, generation, port);
  r->time = bpf_ktime_get_ns();
  r->body = is_head_request(s) ? 0 : action->reply_body_len;
  r->origin = action->origin;
  r->answer_len = o;
  r->request_len = head;
  if (copy_bytes(&s->out[o & OUT_MASK], head, s->in))
    return 0;
  log_put(s, o + head);
  return 1;
}

/* The port of the client of a message, or (listener intake) of an skb, in host order. */
static __always_inline __u32 client_port(struct sk_msg_md *msg, struct __sk_buff *skb) {
  return skb ? bpf_ntohl(skb->remote_port) : msg->local_port;
}

static __always_inline __u32 generation_of(const struct work *w) {
  return ((const struct image_header *)w->image)->generation;
}

/* Logs the reply in s->out if it can be given for certain. Returns 0 if it cannot, or there is no room. */
static __always_inline int log_reply_of(struct sk_msg_md *msg, struct __sk_buff *skb, const struct conn *c,
                                        struct work *w, const struct action *action, __u32 size) {
  /* in an skb, a reply that is longer than its request may find no dummy */
  if ((skb && w->s->o > size) || !log_has_room())
    return 0;
  return log_reply(w->s, c, action, generation_of(w), client_port(msg, skb));
}
