/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Answers: where they end (RFC 9112 section 6), and which way each goes. The way is chosen at the first byte: to the
 * client's socket, or (SK_PASS) to the agent, which reads the connection and writes to the client natively. Mixing the
 * two within an answer reorders bytes, except behind the agent's barrier (PHASE_HANDOVER).
 */
#pragma once
#include "pool.h"
#ifndef SIDESTEP_NATIVE
#include "room.h"
#endif
#include "answer-edit.h"
#include "outlier.h"

/* `skb` is 0 where all bytes are in s->in (a message of a server on this node). */
struct chunk_work {
  struct scratch *s;
  struct __sk_buff *skb;
};

enum { CHUNKS_MORE = 0, CHUNKS_COMPLETE = 1, CHUNKS_BAD = 2 };

/* One step of the chunked parser (RFC 9112 section 7.1): a byte of framing, or the rest of a chunk's data at once. */
static long chunk_step(__u32 index, void *context) {
  struct chunk_work *w = context;
  struct scratch *s = w->s;
  if (s->pos >= s->len)
    return 1;
  if (s->chunk_state == CHUNK_DATA) {
    __u64 left = s->len - s->pos;
    if (s->chunk_left > left) {
      s->chunk_left -= left;
      s->chunk_bytes += left;
      s->pos = s->len;
      return 1;
    }
    s->pos += s->chunk_left;
    s->chunk_bytes += s->chunk_left;
    s->chunk_left = 0;
    s->chunk_state = CHUNK_DATA_END;
    return 0;
  }
  __u8 c;
  if (!w->skb) {
    c = s->in[s->pos & IN_MASK];
#ifndef SIDESTEP_NATIVE
  } else if (bpf_skb_load_bytes(w->skb, s->pos, &c, 1)) {
    s->chunk_done = CHUNKS_BAD;
    return 1;
#endif
  }
  s->pos++;
  switch (s->chunk_state) {
  case CHUNK_SIZE: {
    __u32 digit;
    if (c >= '0' && c <= '9')
      digit = c - '0';
    else if (lower(c) >= 'a' && lower(c) <= 'f')
      digit = lower(c) - 'a' + 10;
    else if (c == '\r' && s->chunk_left >> 32) {
      s->chunk_state = CHUNK_EXTENSION;
      return 0;
    } else {
      s->chunk_done = CHUNKS_BAD; /* extensions are for the agent, too */
      return 1;
    }
    /* bit 32: a digit was seen; at most 7 digits (256 MiB) */
    if ((__u32)s->chunk_left >> 24) {
      s->chunk_done = CHUNKS_BAD;
      return 1;
    }
    s->chunk_left = (1ULL << 32) | (((__u32)s->chunk_left << 4) | digit);
    return 0;
  }
  case CHUNK_EXTENSION:
    if (c != '\n') {
      s->chunk_done = CHUNKS_BAD;
      return 1;
    }
    s->chunk_left = (__u32)s->chunk_left;
    s->chunk_state = s->chunk_left ? CHUNK_DATA : CHUNK_END;
    s->chunk_left = s->chunk_left ? s->chunk_left : 2;
    return 0;
  case CHUNK_DATA_END: /* chunk_left counts: 0 CR, 1 LF */
    if (c != (s->chunk_left ? '\n' : '\r')) {
      s->chunk_done = CHUNKS_BAD;
      return 1;
    }
    if (s->chunk_left) {
      s->chunk_left = 0;
      s->chunk_state = CHUNK_SIZE;
    } else {
      s->chunk_left = 1;
    }
    return 0;
  default: /* CHUNK_END: CR LF, or a trailer (which the proxy would drop) */
    if (c != (s->chunk_left == 2 ? '\r' : '\n')) {
      s->chunk_done = CHUNKS_BAD;
      return 1;
    }
    s->chunk_left--;
    if (!s->chunk_left) {
      s->chunk_done = CHUNKS_COMPLETE;
      return 1;
    }
    return 0;
  }
}

#define MAX_CHUNK_STEPS 2048

/*
 * Parses on in s->[pos, len). Leaves s->chunk_done; CHUNKS_BAD also when bytes follow the end or the steps do not
 * suffice.
 */
static __always_inline void parse_chunks(struct scratch *s, struct __sk_buff *skb) {
  struct chunk_work w = {.s = s, .skb = skb};
  s->chunk_done = CHUNKS_MORE;
  s->chunk_bytes = 0;
  LOOP(MAX_CHUNK_STEPS, chunk_step, &w);
  if (s->pos < s->len)
    s->chunk_done = CHUNKS_BAD;
}

/* TO_CLIENT_LONGER: to the client, with the longer head that was built */
enum { TO_CLIENT = 0, TO_AGENT = 1, TO_CLIENT_LONGER = 2 };

/* What removal bits hop-by-hop headers of an answer have; Envoy removes them, too. */
#define HOP_BY_HOP                                                                                                     \
  ((1ULL << SLOT_CONNECTION) | (1ULL << SLOT_KEEP_ALIVE) | (1ULL << SLOT_PROXY_CONNECTION))
#define FRAMING ((1ULL << SLOT_CONTENT_LENGTH) | (1ULL << SLOT_TRANSFER_ENCODING))

static __always_inline int is_retried(const struct upstream *u, __u32 status) {
  __u32 bit = status - 200;
  if (bit >= STATUS_WORDS * 64)
    return 0;
  return u->retry[bit >> 6] >> (bit & 63) & 1;
}

#define SURELY_FITS 2048 /* a socket's receive buffer is never smaller */

/* The longest body that may be sent to the client this way. */
static __always_inline __u32 longest_body(const struct upstream *u, const struct scratch *s, struct __sk_buff *skb) {
#ifndef SIDESTEP_NATIVE
  if (u->intake == INTAKE_SOCKET && s->content_length > SURELY_FITS)
    return room_of(u->client_sk, u->owner, !skb);
#endif
  return MAX_KERNEL_BODY;
}

/*
 * The first skb (or message: skb 0) of an answer. `len` bytes; at most MAX_HEAD of them are in s->in. How the head
 * changes is left in s->remove and s->edits; see edit_skb and edit_message.
 */
static __always_inline int first_piece(struct work *w, struct upstream *u, struct __sk_buff *skb, __u32 len,
                                       int *done) {
  struct scratch *s = w->s;
  if (s->result != COMPLETE || s->status < 200)
    return TO_AGENT;
  count_try(u, s->status);
  /* the proxy wants the connection to end: the client's does, too, and that is the agent's to do */
  if (u->flags & UPSTREAM_FLAG_PROXY && s->flags & HEAD_CLOSE)
    return TO_AGENT;
  /* answered before the request has come completely: Envoy closes the client's connection behind it */
  if (!(u->flags & UPSTREAM_FLAG_REQUEST_DONE))
    return TO_AGENT;
  if (u->flags & UPSTREAM_FLAG_RETRY && is_retried(u, s->status))
    return TO_AGENT;
  __u32 edits = answer_edits(w->image, u->edits);
  if (u->edits && !edits)
    return TO_AGENT;
  __u32 body = len - s->head_len;
  int bodiless = u->flags & UPSTREAM_FLAG_HEAD || s->status == 204 || s->status == 304;
  __u64 remove = HOP_BY_HOP;
  if (s->status == 204) {
    if (s->flags & HEAD_CHUNKED || s->content_length)
      return TO_AGENT; /* Envoy takes that for no answer */
    remove |= FRAMING;
  } else if (s->status == 304) {
    if (s->flags & HEAD_CHUNKED)
      return TO_AGENT;
  } else if (bodiless && !(s->flags & (HEAD_LENGTH | HEAD_CHUNKED))) {
    return TO_AGENT; /* Envoy announces chunks */
  }
  if (bodiless || (s->flags & HEAD_LENGTH && s->content_length == 0)) {
    if (body)
      return TO_AGENT;
    *done = 1;
  } else if (s->flags & HEAD_CHUNKED) {
    s->pos = s->head_len;
    s->len = len;
    s->chunk_state = CHUNK_SIZE;
    s->chunk_left = 0;
    parse_chunks(s, skb);
    if (s->chunk_done == CHUNKS_BAD || (len > MAX_KERNEL_CHUNKED && s->chunk_done == CHUNKS_MORE))
      return TO_AGENT;
    *done = s->chunk_done == CHUNKS_COMPLETE;
    u->phase = PHASE_CHUNKED;
    u->flags |= UPSTREAM_FLAG_CHUNKED;
    u->chunk_state = s->chunk_state;
    u->remaining = s->chunk_left;
    u->body = s->chunk_bytes;
  } else if (s->flags & HEAD_LENGTH) {
    if (s->content_length > longest_body(u, s, skb) || body > s->content_length)
      return TO_AGENT;
    *done = body == s->content_length;
    u->phase = PHASE_BODY;
    u->remaining = s->content_length - body;
    u->body = body;
  } else {
    return TO_AGENT; /* ends with the connection */
  }
  s->remove = remove;
  s->edits = edits;
  if (s->flags & HEAD_CLOSE)
    u->flags |= UPSTREAM_FLAG_CLOSE;
  return TO_CLIENT;
}

static __always_inline int head_changes(const struct scratch *s) {
  return s->edits || s->present & s->remove || s->flags & HEAD_HTTP10;
}

/* The head that the client gets, in s->out, as first_piece has left it to be. Returns 0 when it does not fit. */
static __always_inline int build_answer(struct work *w, __u32 slot) {
#ifndef SIDESTEP_NATIVE
  struct scratch *s = w->s;
  if (s->edits) {
    struct variables *v = bpf_map_lookup_elem(&variables, &slot);
    if (!v || load_variables(s, v))
      return 0;
  }
#endif
  return build_edited_answer(w);
}

/*
 * Edits an skb's head, at equal length, as first_piece left it to be. Where it would become longer, nothing is changed,
 * and it is in s->out.
 */
static __always_inline int edit_skb(struct work *w, struct __sk_buff *skb, __u32 slot) {
  struct scratch *s = w->s;
  if (!head_changes(s))
    return TO_CLIENT;
  if (!build_answer(w, slot))
    return TO_AGENT;
  if (s->o > s->head_len)
    return TO_CLIENT_LONGER;
  if (!pad_answer(w))
    return TO_AGENT;
#ifndef SIDESTEP_NATIVE
  __u32 head = s->head_len & (MAX_HEAD * 2 - 1);
  if (!head || bpf_skb_store_bytes(skb, 0, s->out, head, 0))
    return TO_AGENT;
#endif
  return TO_CLIENT;
}

/* A later skb of an answer. */
static __always_inline int next_piece(struct scratch *s, struct upstream *u, struct __sk_buff *skb, __u32 len,
                                      int *done) {
  if (u->phase == PHASE_BODY) {
    if (len > u->remaining)
      return TO_AGENT;
    u->remaining -= len;
    u->body += len;
    *done = !u->remaining;
    return TO_CLIENT;
  }
  s->pos = 0;
  s->len = len;
  s->chunk_state = u->chunk_state;
  s->chunk_left = u->remaining;
  parse_chunks(s, skb);
  if (s->chunk_done == CHUNKS_BAD)
    return TO_AGENT;
  if (u->redirected + len > MAX_KERNEL_CHUNKED && s->chunk_done == CHUNKS_MORE)
    return TO_AGENT;
  u->chunk_state = s->chunk_state;
  u->remaining = s->chunk_left;
  u->body += s->chunk_bytes;
  *done = s->chunk_done == CHUNKS_COMPLETE;
  return TO_CLIENT;
}
