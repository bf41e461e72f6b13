// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * HTTP/2, frame by frame: an object of its own. A is the agent's end of a client's connection, U one to a server that belongs
 * to this client alone (so streams keep their numbers), D the dummy in front of U, through which everything for the server
 * goes in order, because only a program on a sending socket may change the length of a head. The frames of a connection
 * (stream 0), and of streams that are not here, are the agent's. What it writes comes from the sockets in `h2_writers`, so
 * that no frame is cut by another; what it reads goes to sockets in `h2_inboxes`. (SK_PASS would do, but for Linux: with a
 * stream parser, bytes that were passed and not read yet when more come are counted twice in `copied_seq`; the parser is
 * then not told of the last bytes, which stay where they are.)
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "h2-begin.h"
#include "h2-door.h"

/* A frame of a stream that the kernel has begun, behind its head. */
static __noinline int more_of_client(struct __sk_buff *skb, struct h2_end *a, struct h2_stream *stream, struct frame *f,
                                     __u32 offset) {
  if (!a || !stream || !f)
    return SK_DROP;
  struct h2_key key = {.client = a->id, .number = f->stream};
  __u64 upstream = stream->upstream;
  __u32 flags = *(volatile __u32 *)&stream->flags;
  if (flags & H2_STREAM_TAKEN)
    return to_agent_frame(skb, a->cookie);
  if (is_open(flags) && f->type == WINDOW_UPDATE)
    stream->client_room += allowed_by(skb, offset, f);
  /* a head in several frames: nothing may come between them, so the agent sends them as one */
  int held = f->type != WINDOW_UPDATE && f->type != RST_STREAM && stream->flags & H2_STREAM_CLIENT_HELD;
  if (held || f->type == CONTINUATION || (f->type == HEADERS && !(f->flags & END_HEADERS)))
    return hold(skb, a->cookie, stream, f, H2_STREAM_CLIENT_HELD, H2_STREAM_CLIENT_ENDED);
  if (f->type == DATA) {
    __u32 id = stream->id;
    struct h2_end *u = bpf_map_lookup_elem(&h2_ends, &id);
    if (!u || !take_window(u, f->length))
      return hold(skb, a->cookie, stream, f, H2_STREAM_CLIENT_HELD, H2_STREAM_CLIENT_ENDED);
    if (is_open(flags) && !keep_frame(skb, &key, offset, f)) {
      __sync_fetch_and_add(&u->used, -(__u64)f->length);
      return hold(skb, a->cookie, stream, f, H2_STREAM_CLIENT_HELD, H2_STREAM_CLIENT_ENDED);
    }
    __sync_fetch_and_add(&a->came, f->length);
    if (stream->log)
      stream->received += content_of(skb, offset, f);
    __u32 before = stream->sent;
    stream->sent = before + f->length;
    /* the client may know of less room than the server has given each stream: the agent makes it known */
    if (before < ROOM_NOTED && before + f->length >= ROOM_NOTED)
      bpf_map_update_elem(&h2_long, &key, &id, BPF_ANY);
  }
  if (f->type == HEADERS && is_open(flags) && !keep_frame(skb, &key, offset, f))
    return hold(skb, a->cookie, stream, f, H2_STREAM_CLIENT_HELD, H2_STREAM_CLIENT_ENDED);
  if (f->type == RST_STREAM) {
    static const __u8 error[4] = {0, 0, 0, INTERNAL_ERROR}; /* as Envoy tells servers, whatever its client says */
    if (stream->flags & ANY_HELD) /* the agent drops what it holds, sends this on, and forgets the stream */
      return to_agent_frame(skb, a->cookie);
    if (stream->log)
      log_stream_end(stream, a->cookie, f->stream, LOG_RECORD_RESET);
    drop_stream(&key, stream->id);
    if (flags & H2_STREAM_RETRY)
      bpf_map_delete_elem(&h2_kept, &key);
    bpf_skb_store_bytes(skb, offset + FRAME_HEAD, error, sizeof error, 0);
  } else if ((f->type == DATA || f->type == HEADERS) && f->flags & END_STREAM) {
    if (stream->log)
      stream->complete = bpf_ktime_get_ns();
    end_side(&key, stream, H2_STREAM_CLIENT_ENDED);
  }
  return to_server(skb, upstream);
}

SEC("sk_skb/stream_verdict")
int on_client_frame(struct __sk_buff *skb) {
  __u64 cookie = bpf_get_socket_cookie(skb);
  __u32 offset = offset_of(skb);
  struct frame f;
  if (offset >= 1 << 30 || read_frame(skb, offset, &f) || f.length > MAX_FRAME)
    return to_agent_frame(skb, cookie);
  struct h2_end *a = end_of(cookie);
  if (!a)
    return to_agent_frame(skb, cookie);
  if (!f.stream) {
    /* from here on the client encodes without a dynamic table */
    if (f.type == SETTINGS && f.flags & ACK)
      a->open = 1;
    return to_agent_frame(skb, cookie);
  }
  struct h2_key key = {.client = a->id, .number = f.stream};
  struct h2_stream *stream = bpf_map_lookup_elem(&h2_streams, &key);
  if (!stream) {
    if (f.type != HEADERS || f.stream <= a->last_stream)
      return to_agent_frame(skb, cookie);
    a->last_stream = f.stream;
    if (!a->open || !(f.stream & 1) || !(f.flags & END_HEADERS))
      return to_agent_frame(skb, cookie);
    if (!begin_stream(skb, a, offset, &f))
      return to_agent_frame(skb, cookie);
    stream = bpf_map_lookup_elem(&h2_streams, &key);
    if (!stream)
      return to_agent_frame(skb, cookie);
    count(COUNTER_KERNEL);
    return to_server(skb, stream->upstream);
  }
  note_frame(stream, &f, 1);
  __u32 open = is_open(stream->flags);
  if (open) /* see h2_claim */
    __sync_lock_test_and_set(&a->busy, 1);
  int verdict = more_of_client(skb, a, stream, &f, offset);
  if (open)
    __sync_lock_test_and_set(&a->busy, 0);
  return verdict;
}

SEC("sk_skb/stream_verdict")
int on_server_frame(struct __sk_buff *skb) {
  __u64 cookie = bpf_get_socket_cookie(skb);
  __u32 offset = offset_of(skb);
  struct frame f;
  if (offset >= 1 << 30 || read_frame(skb, offset, &f) || f.length > MAX_FRAME || !f.stream)
    return to_agent_frame(skb, cookie);
  struct h2_end *u = end_of(cookie);
  if (!u)
    return to_agent_frame(skb, cookie);
  struct h2_key key = {.client = u->client_id, .number = f.stream};
  struct h2_stream *stream = bpf_map_lookup_elem(&h2_streams, &key);
  if (!stream || stream->upstream != cookie)
    return to_agent_frame(skb, cookie);
  note_frame(stream, &f, 0);
  __u32 flags = *(volatile __u32 *)&stream->flags;
  if (flags & H2_STREAM_TAKEN)
    return to_agent_frame(skb, cookie);
  if (is_open(flags) && f.type == WINDOW_UPDATE)
    stream->server_room += allowed_by(skb, offset, &f);
  int held = f.type != WINDOW_UPDATE && flags & H2_STREAM_SERVER_HELD;
  /* what the client is told of a reset is the agent's to say */
  if (held || f.type == RST_STREAM || f.type == CONTINUATION || (f.type == HEADERS && !(f.flags & END_HEADERS)))
    return hold(skb, cookie, stream, &f, H2_STREAM_SERVER_HELD, H2_STREAM_SERVER_ENDED);
  if (is_open(flags) && f.type <= HEADERS) {
    if (f.type != HEADERS || !is_final(skb, &key, offset, &f))
      return hold(skb, cookie, stream, &f, H2_STREAM_SERVER_HELD, H2_STREAM_SERVER_ENDED);
    /* whoever is first: the answer, or the agent, which tries again */
    if (__sync_fetch_and_or(&stream->flags, H2_STREAM_ANSWERED) & (H2_STREAM_TAKEN | H2_STREAM_SERVER_HELD))
      return to_agent_frame(skb, cookie);
    bpf_map_delete_elem(&h2_kept, &key);
  }
  /* heads that are edited are the agent's to write */
  if (stream->edits && f.type <= HEADERS && is_lent(stream, &f)) {
    if (f.flags & END_STREAM)
      return hold(skb, cookie, stream, &f, H2_STREAM_SERVER_HELD, H2_STREAM_SERVER_ENDED);
    __sync_fetch_and_or(&stream->flags, H2_STREAM_ANSWERED);
    return to_agent_frame(skb, cookie);
  }
  /* of an answer that is complete before its request, the agent tells both sides */
  if (f.type <= HEADERS && f.flags & END_STREAM && !(*(volatile __u32 *)&stream->flags & H2_STREAM_CLIENT_ENDED))
    return hold(skb, cookie, stream, &f, H2_STREAM_SERVER_HELD, H2_STREAM_SERVER_ENDED);
  __u32 client_id = u->client_id;
  __u64 client = u->client;
  if (f.type == HEADERS && stream->log && !log_stream_head(skb, u, stream, &f, offset))
    return hold(skb, cookie, stream, &f, H2_STREAM_SERVER_HELD, H2_STREAM_SERVER_ENDED);
  if (f.type == DATA) {
    struct h2_end *a = bpf_map_lookup_elem(&h2_ends, &client_id);
    if (!a || !take_window(a, f.length))
      return hold(skb, cookie, stream, &f, H2_STREAM_SERVER_HELD, H2_STREAM_SERVER_ENDED);
    __sync_fetch_and_add(&u->came, f.length);
    if (stream->log)
      stream->body += content_of(skb, offset, &f);
  }
  /* whoever is first: the answer, or the agent, for whom its time is over */
  if (f.type == HEADERS && __sync_fetch_and_or(&stream->flags, H2_STREAM_ANSWERED) & H2_STREAM_SERVER_HELD)
    return hold(skb, cookie, stream, &f, H2_STREAM_SERVER_HELD, H2_STREAM_SERVER_ENDED);
  if ((f.type == DATA || f.type == HEADERS) && f.flags & END_STREAM) {
    if (stream->log)
      log_stream_end(stream, client, f.stream, 0);
    end_side(&key, stream, H2_STREAM_SERVER_ENDED);
  }
  return bpf_sk_redirect_hash(skb, &h2_clients, &client, 0);
}

/* The agent takes bytes out of a window: behind 16 bytes, the end's index and how many. Returns 1 when it has them. */
SEC("tc")
int h2_take(struct __sk_buff *skb) {
  __u32 ask[2];
  if (bpf_skb_load_bytes(skb, 16, ask, sizeof ask))
    return 2;
  struct h2_end *end = bpf_map_lookup_elem(&h2_ends, &ask[0]);
  return end && take_window(end, ask[1]);
}

char program_license[] SEC("license") = "Dual BSD/GPL";
