/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* HTTP/2: a new stream, decided by its head. */
#pragma once
#include "h2-limits.h"
#include "h2-replies.h"
#include "h2-timeouts.h"
#include "balance.h"
#include "token.h"
#include "hpack-encode.h"

/* The frame with the head as it leaves, in space->staged; 0: it does not fit. */
static __always_inline int stage_head(struct h2_space *space, struct scratch *s, const struct frame *f) {
  struct staged *st = &space->staged;
  __u32 n = encode_block(&space->h, s, space->h.te);
  if (!n || n > MAX_STAGED - FRAME_HEAD)
    return 0;
  st->len = FRAME_HEAD + n;
  st->old_len = FRAME_HEAD + f->length;
  st->bytes[0] = 0;
  st->bytes[1] = n >> 8;
  st->bytes[2] = n;
  st->bytes[3] = HEADERS;
  st->bytes[4] = END_HEADERS | (f->flags & END_STREAM);
  st->bytes[5] = f->stream >> 24;
  st->bytes[6] = f->stream >> 16;
  st->bytes[7] = f->stream >> 8;
  st->bytes[8] = f->stream;
  FORGET(n);
  n &= MAX_STAGED - 1;
  return n && n <= MAX_STAGED - FRAME_HEAD && !copy_bytes(&st->bytes[FRAME_HEAD], n, space->h.block);
}

/* Decides about a stream by its head, in space->h.block. Returns the index of the connection to its server plus one. */
static __always_inline __u32 decide_stream(struct h2_space *space, struct scratch *s, struct h2_end *a, __u32 n,
                                           const struct frame *f, struct stream_times *times,
                                           struct h2_stream *stream) {
  const __u8 *image = current_image();
  if (!image)
    return 0;
  const struct image_header *header = (const void *)image;
  if (header->magic != IMAGE_MAGIC || a->listener >= header->n_listeners)
    return 0;
  __u32 at = image_u32(image, header->listeners + a->listener * 4);
  if (!at)
    return 0;
  const struct listener *listener = AT(struct listener, image, at);
  decode_block(&space->h, n);
  __u32 text = request_text(&space->h, s);
  if (!text)
    return 0;
  struct work w = {.s = s, .image = image};
  scan_head(&w, text, listener->scan, listener->scan_classes, 0);
  finish_stream_head(s);
  if (s->result != COMPLETE)
    return 0;
  request_token(&w, listener, a->listener, header->generation);
  __builtin_memcpy(&s->in[SOURCE_AT], a->source, 16);
  int v6 = a->source[1] || a->source[2] || a->source[3];
  __u32 action_at = decide(&w, listener, v6 ? 16 : 4);
  __u32 log = listener->log;
  if (!action_at || s->n_lots || (log && !log_has_room()))
    return 0;
  const struct action *action = AT(struct action, image, action_at);
  if (action->kind == ACTION_REPLY)
    note_reply(space, &w, action, a, f, log);
  /* what answers need of their requests, and limits, are the proxy's until the kernel keeps them by stream */
  if (action->kind != ACTION_FORWARD || action->flags & ACTION_FLAG_WHOLE || action->variables ||
      action->mirror || action->trace || !time_stream(&space->h, action, times))
    return 0;
  __u32 endpoint = choose_endpoint(&w, action);
  if (endpoint == NO_SLOT || s->breaker || s->watch || s->max_requests)
    return 0;
  struct h2_key key = {.client = a->id, .number = endpoint};
  __u32 *id = bpf_map_lookup_elem(&h2_routes, &key);
  if (!id)
    return 0;
  note_stream_retry(space, &w, action);
  space->rule = s->rule;
  stream->log = log;
  stream->edits = action->answer;
  if (log)
    note_log(space, &w, a, action);
  if (!build_request(&w, action) || !stage_head(space, s, f))
    return 0;
  return *id + 1;
}

/* A new stream. Returns 1 when the kernel has taken it. */
static __noinline int begin_stream(struct __sk_buff *skb, struct h2_end *a, __u32 offset, struct frame *f) {
  if (!a || !f)
    return 0;
  __u32 skip = 0, pad = 0, n = f->length;
  if (f->flags & PADDED) {
    __u8 byte;
    if (bpf_skb_load_bytes(skb, offset + FRAME_HEAD, &byte, 1))
      return 0;
    pad = byte;
    skip = 1;
  }
  if (f->flags & PRIORITY)
    skip += 5;
  if (n <= skip + pad || n - skip - pad > MAX_BLOCK)
    return 0;
  n -= skip + pad;
  struct h2_space *space = space_take();
  struct scratch *s = space ? scratch_take() : 0;
  __u32 id = 0;
  struct stream_times times = {};
  struct h2_stream stream = {};
  if (s) {
    __u32 size = n;
    FORGET(size);
    size &= MAX_BLOCK * 2 - 1;
    if (size && size <= MAX_BLOCK && !bpf_skb_load_bytes(skb, offset + FRAME_HEAD + skip, space->h.block, size))
      id = decide_stream(space, s, a, n, f, &times, &stream);
    scratch_give(s);
  }
  int taken = 0;
  if (id) {
    __u32 index = id - 1;
    struct h2_end *u = bpf_map_lookup_elem(&h2_ends, &index);
    struct h2_key key = {.client = a->id, .number = f->stream};
    /* D's program sees the head in one piece */
    if (u && u->open && !bpf_skb_pull_data(skb, offset + FRAME_HEAD + f->length) && take_place(u)) {
      stream.upstream = u->cookie;
      stream.id = index;
      if (f->flags & END_STREAM)
        stream.flags = H2_STREAM_CLIENT_ENDED;
      stream.flags |= is_head(&space->h) | (space->h.grpc ? H2_STREAM_GRPC : 0);
      begin_times(&stream, &times);
      if (stream.log && f->flags & END_STREAM)
        stream.complete = bpf_ktime_get_ns();
      if (space->retry)
        stream.flags |= H2_STREAM_RETRY;
      taken = (!space->retry || keep_head(skb, space, &key, offset, f)) &&
              !bpf_map_update_elem(&h2_stages, &key, &space->staged, BPF_ANY) &&
              !bpf_map_update_elem(&h2_streams, &key, &stream, BPF_ANY);
      if (!taken)
        __sync_fetch_and_add(&u->streams, -1);
      if (!taken && space->retry)
        bpf_map_delete_elem(&h2_kept, &key);
      if (taken && space->rule)
        count_rule(space->rule - 1);
      if (taken && stream.log)
        log_stream_begin(space, &stream, f->stream);
    }
  }
  if (space)
    space_give(space);
  return taken;
}
