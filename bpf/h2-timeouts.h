/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * HTTP/2: how long a stream may take. A stream has its deadline, in the clock of bpf_ktime_get_ns; h2_clock.next is never
 * later than the first of all, so that the agent looks at one word, and has the streams walked through only when it is time.
 */
#pragma once
#include "h2-streams.h"
#include "grpc-timeout.h"

#define MS 1000000ULL

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct h2_clock);
} h2_clock SEC(".maps");

/* Streams whose time is over: H2_DUE, and their flags, as they were. What both sides send is the agent's from then on. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_H2_STREAMS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct h2_key);
  __type(value, struct h2_due);
} h2_due SEC(".maps");

/* What a new stream is given, in milliseconds; 0: no end. */
struct stream_times {
  __u32 whole;    /* from the request's end on */
  __u32 duration; /* from its beginning on */
  __u32 idle;
  __u32 first; /* from the request's end on, until the head of the answer */
};

static __noinline int expect_deadline(__u64 at) {
  __u32 zero = 0;
  struct h2_clock *clock = bpf_map_lookup_elem(&h2_clock, &zero);
  if (!clock)
    return 0;
#pragma unroll
  for (int k = 0; k < 4; k++) {
    __u64 next = *(volatile __u64 *)&clock->next;
    if (next && next <= at)
      return 0;
    if (__sync_val_compare_and_swap(&clock->next, next, at) == next)
      return 0;
  }
  *(volatile __u64 *)&clock->next = 1; /* others are at it, too: one walk more than needed */
  return 0;
}

/*
 * How long the stream may take, as Envoy finds it out (FilterUtility::finalTimeout, refreshDurationTimeout), and what its
 * server is told of that. Returns 0 where a header says it in a way that is the proxy's to read.
 */
static __always_inline int time_stream(struct hpack *h, const struct action *action, struct stream_times *t) {
  __u32 how = action->times;
  __u32 said = h->timeouts ? h->timeout_ms : 0;
  t->idle = action->idle_ms;
  t->whole = action->timeout_ms;
  t->duration = action->duration_ms;
  t->first = action->per_try_ms;
  if (!(how & (TIMES_GRPC | TIMES_HEADER)))
    how = how & TIMES_DURATION;
  else if (h->timeouts > 1 || (h->timeouts && !said))
    return 0;
  if (how & TIMES_GRPC && h->grpc) {
    if (action->grpc_ms && (!said || said > action->grpc_ms))
      said = action->grpc_ms;
    t->whole = said;
    if (said && t->first >= said)
      t->first = 0;
    __u32 told = t->first ? t->first : said;
    h->told = (told ? TOLD_GRPC : 0) | (how & TIMES_QUIET ? 0 : TOLD_EXPECTED);
    h->told_ms = told;
  } else if (how & TIMES_HEADER && said) {
    t->duration = action->grpc_ms && said > action->grpc_ms ? action->grpc_ms : said;
  }
  if (how & TIMES_DURATION && h->grpc && t->duration) {
    h->told = TOLD_GRPC;
    h->told_ms = t->duration;
  }
  return h->told_ms <= GRPC_TIMEOUT_MOST || !h->told;
}

/* Gives a new stream its times. */
static __always_inline void begin_times(struct h2_stream *stream, const struct stream_times *t) {
  if (!t->whole && !t->duration && !t->idle && !t->first)
    return;
  __u64 now = bpf_ktime_get_ns(), first = 0;
  stream->whole_ms = t->whole;
  stream->try_ms = t->first;
  if (t->duration)
    first = stream->latest = now + t->duration * MS;
  if (t->whole && stream->flags & H2_STREAM_CLIENT_ENDED) {
    stream->whole_by = now + t->whole * MS;
    if (!first || stream->whole_by < first)
      first = stream->whole_by;
  }
  if (t->first && stream->flags & H2_STREAM_CLIENT_ENDED) {
    stream->try_by = now + t->first * MS;
    if (!first || stream->try_by < first)
      first = stream->try_by;
  }
  if (t->idle) {
    stream->idle_ms = t->idle;
    stream->active = now;
    if (!first || now + t->idle * MS < first)
      first = now + t->idle * MS;
  }
  if (first)
    expect_deadline(first);
}

/* A frame has come: with the request's last one, the time for the whole answer begins. */
static __always_inline void note_frame(struct h2_stream *stream, const struct frame *f, int of_client) {
  if (!(stream->idle_ms | stream->whole_ms | stream->try_ms) || (f->type > HEADERS && f->type != CONTINUATION))
    return;
  __u64 now = bpf_ktime_get_ns();
  stream->active = now;
  if (!of_client || f->type == CONTINUATION || !(f->flags & END_STREAM))
    return;
  if (stream->whole_ms) {
    stream->whole_by = now + stream->whole_ms * MS;
    expect_deadline(stream->whole_by);
  }
  if (stream->try_ms) {
    stream->try_by = now + stream->try_ms * MS;
    expect_deadline(stream->try_by);
  }
}

struct due_context {
  __u64 now;
  __u32 n, pad;
};

static long due_step(void *map, struct h2_key *key, struct h2_stream *stream, struct due_context *context) {
  __u32 flags = *(volatile __u32 *)&stream->flags;
  if (flags & (H2_STREAM_SERVER_ENDED | H2_STREAM_TAKEN)) /* of what is tried again, the agent sees to it */
    return 0;
  __u64 at = 0;
  struct h2_due due = {};
  if (stream->latest) {
    at = stream->latest;
    due.why = H2_DUE_DURATION;
  }
  if (stream->whole_by && (!at || stream->whole_by < at)) {
    at = stream->whole_by;
    due.why = H2_DUE_WHOLE;
  }
  if (stream->idle_ms && (!at || stream->active + stream->idle_ms * MS < at)) {
    at = stream->active + stream->idle_ms * MS;
    due.why = H2_DUE_IDLE;
  }
  /* from the head of the answer on, the time of a try does not matter */
  if (stream->try_by && !(flags & H2_STREAM_ANSWERED) && (!at || stream->try_by < at)) {
    at = stream->try_by;
    due.why = H2_DUE_TRY;
  }
  if (!at)
    return 0;
  if (at > context->now) {
    expect_deadline(at);
    return 0;
  }
  /* an answer that begins from now on does not reach the client */
  due.flags = __sync_fetch_and_or(&stream->flags, ANY_HELD);
  stream->try_by = stream->try_ms = 0;
  if (due.why == H2_DUE_TRY) {
    expect_deadline(context->now); /* the others still count */
  } else {
    stream->latest = stream->whole_by = 0;
    stream->idle_ms = stream->whole_ms = 0;
  }
  if (bpf_map_update_elem(&h2_due, key, &due, BPF_ANY)) {
    stream->latest = context->now; /* no memory: once more */
    expect_deadline(context->now);
  }
  context->n++;
  return 0;
}

/* Finds the streams whose time is over. */
SEC("tc")
int h2_overdue(struct __sk_buff *skb) {
  __u32 zero = 0;
  struct h2_clock *clock = bpf_map_lookup_elem(&h2_clock, &zero);
  if (!clock)
    return 0;
  *(volatile __u64 *)&clock->next = 0;
  struct due_context context = {.now = bpf_ktime_get_ns()};
  bpf_for_each_map_elem(&h2_streams, due_step, &context, 0);
  return context.n;
}
