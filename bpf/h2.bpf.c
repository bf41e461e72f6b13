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
#include "intake-listener.h"
#include "balance.h"
#include "token.h"
#include "hpack-encode.h"

#define SOCKETS(name)                                                                                                  \
  struct {                                                                                                             \
    __uint(type, BPF_MAP_TYPE_SOCKHASH);                                                                               \
    __uint(max_entries, MAX_H2_ENDS);                                                                                  \
    __type(key, __u64);                                                                                                \
    __type(value, __u64);                                                                                              \
  } name SEC(".maps")

SOCKETS(h2_clients); /* A, by its cookie */
SOCKETS(h2_servers); /* U, by its cookie */
SOCKETS(h2_doors);   /* D, by the cookie of its U */
SOCKETS(h2_inboxes); /* what the agent reads of an A or a U, by its cookie */
SOCKETS(h2_writers); /* where the agent's frames come from */

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, MAX_H2_ENDS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct h2_end);
} h2_ends SEC(".maps");

/* Cookie of an A or a U -> its index. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_H2_ENDS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u64);
  __type(value, __u32);
} h2_ids SEC(".maps");

/* D -> the index of its U. */
struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, __u32);
} h2_door_ids SEC(".maps");

struct h2_key {
  __u32 client; /* index */
  __u32 number; /* of a stream, or an endpoint */
};

/* Client and endpoint -> the index of the connection to it. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_H2_ENDS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct h2_key);
  __type(value, __u32);
} h2_routes SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_H2_STREAMS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct h2_key);
  __type(value, struct h2_stream);
} h2_streams SEC(".maps");

/* Streams whose request is long: the index of the connection to the server. */
#define ROOM_NOTED 16384
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_H2_STREAMS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct h2_key);
  __type(value, __u32);
} h2_long SEC(".maps");

/* The frame that takes the place of the one with a stream's head, on its way through D. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_H2_STREAMS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct h2_key);
  __type(value, struct staged);
} h2_stages SEC(".maps");

/* What the agent's next frames are for: behind such an envelope come `length` bytes. */
struct h2_envelope {
  __u64 cookie; /* of an A, or a U */
  __u32 length;
  __u32 to_server;
};
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 64);
  __type(key, __u64);
  __type(value, struct h2_envelope);
} h2_envelopes SEC(".maps");

struct h2_space {
  __u32 busy, pad;
  struct hpack h;
  struct staged staged;
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, N_SCRATCH);
  __type(key, __u32);
  __type(value, struct h2_space);
} h2_spaces SEC(".maps");

enum { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, WINDOW_UPDATE = 8, CONTINUATION = 9 };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8, PRIORITY = 32 };
#define FRAME_HEAD 9
#define PREFACE 24
/* The largest frame that one may send to the agent (it leaves SETTINGS_MAX_FRAME_SIZE as it is). */
#define MAX_FRAME 16384

extern void *bpf_cast_to_kern_ctx(void *object) __ksym;

/* Where the message of a stream parser begins in its skb: struct strp_msg in the control block. */
struct sk_buff___cb {
  char cb[48];
} __attribute__((preserve_access_index));

#define STRP_OFFSET_AT 28

static __always_inline __u32 offset_of(struct __sk_buff *skb) {
  struct sk_buff___cb *kernel = bpf_cast_to_kern_ctx(skb);
  int offset = 0;
  if (bpf_probe_read_kernel(&offset, sizeof offset, &kernel->cb[STRP_OFFSET_AT]) || offset < 0 || offset > 1 << 24)
    return 1 << 30;
  return offset;
}

struct frame {
  __u32 length, type, flags, stream;
};

static __always_inline int read_frame(struct __sk_buff *skb, __u32 offset, struct frame *f) {
  __u8 b[FRAME_HEAD];
  if (bpf_skb_load_bytes(skb, offset, b, sizeof b))
    return -1;
  f->length = b[0] << 16 | b[1] << 8 | b[2];
  f->type = b[3];
  f->flags = b[4];
  f->stream = (b[5] << 24 | b[6] << 16 | b[7] << 8 | b[8]) & 0x7fffffff;
  return 0;
}

/*
 * Frames; a client begins with a preface ("PRI "), which read as a frame would be of 0x505249 bytes. What is no frame goes to
 * the agent as it is: an error of the parser would stop the socket without a word to whoever reads it.
 */
SEC("sk_skb/stream_parser")
int h2_parse(struct __sk_buff *skb) {
  __u32 offset = offset_of(skb);
  __u8 b[4];
  if (offset >= 1 << 30)
    return -1;
  if (skb->len < offset + 4 || bpf_skb_load_bytes(skb, offset, b, sizeof b))
    return 0;
  if (b[0] == 'P' && b[1] == 'R' && b[2] == 'I' && b[3] == ' ')
    return PREFACE;
  __u32 length = b[0] << 16 | b[1] << 8 | b[2];
  return length > MAX_FRAME ? (int)(skb->len - offset) : (int)(FRAME_HEAD + length);
}

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

static __always_inline struct h2_space *space_take(void) {
  __u32 cpu = bpf_get_smp_processor_id();
  for (int level = 0; level < 4; level++) {
    __u32 index = (cpu * 4 + level) & (N_SCRATCH - 1);
    struct h2_space *space = bpf_map_lookup_elem(&h2_spaces, &index);
    if (space && __sync_lock_test_and_set(&space->busy, 1) == 0)
      return space;
  }
  return 0;
}

static __always_inline void space_give(struct h2_space *space) { __sync_lock_test_and_set(&space->busy, 0); }

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
                                           const struct frame *f) {
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
  if (!action_at || s->n_lots || listener->log)
    return 0;
  const struct action *action = AT(struct action, image, action_at);
  /* retries, edits of answers, limits and timeouts are the proxy's until the kernel keeps what they need by stream */
  if (action->kind != ACTION_FORWARD || action->flags & (ACTION_FLAG_RETRY | ACTION_FLAG_WHOLE) || action->variables ||
      action->answer || action->timeout_ms || action->idle_ms || action->per_try_ms)
    return 0;
  __u32 endpoint = choose_endpoint(&w, action);
  if (endpoint == NO_SLOT || s->breaker || s->watch || s->max_requests)
    return 0;
  struct h2_key key = {.client = a->id, .number = endpoint};
  __u32 *id = bpf_map_lookup_elem(&h2_routes, &key);
  if (!id)
    return 0;
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
  if (s) {
    __u32 size = n;
    FORGET(size);
    size &= MAX_BLOCK * 2 - 1;
    if (size && size <= MAX_BLOCK && !bpf_skb_load_bytes(skb, offset + FRAME_HEAD + skip, space->h.block, size))
      id = decide_stream(space, s, a, n, f);
    scratch_give(s);
  }
  int taken = 0;
  if (id) {
    __u32 index = id - 1;
    struct h2_end *u = bpf_map_lookup_elem(&h2_ends, &index);
    struct h2_key key = {.client = a->id, .number = f->stream};
    if (u && u->open) {
      struct h2_stream stream = {.upstream = u->cookie, .id = index};
      if (f->flags & END_STREAM)
        stream.flags = H2_STREAM_CLIENT_ENDED;
      taken = !bpf_map_update_elem(&h2_stages, &key, &space->staged, BPF_ANY) &&
              !bpf_map_update_elem(&h2_streams, &key, &stream, BPF_ANY);
    }
  }
  if (space)
    space_give(space);
  return taken;
}

#define BOTH_ENDED (H2_STREAM_CLIENT_ENDED | H2_STREAM_SERVER_ENDED)
#define ANY_HELD (H2_STREAM_CLIENT_HELD | H2_STREAM_SERVER_HELD)

/* Notes that one side has ended. A stream that both have ended is over, unless the agent still holds some of it. */
static __always_inline void end_side(struct h2_key *key, struct h2_stream *stream, __u32 side) {
  __u32 flags = __sync_fetch_and_or(&stream->flags, side) | side;
  if ((flags & BOTH_ENDED) == BOTH_ENDED && !(flags & ANY_HELD))
    bpf_map_delete_elem(&h2_streams, key);
}

static __always_inline int to_agent_frame(struct __sk_buff *skb, __u64 cookie) {
  return bpf_sk_redirect_hash(skb, &h2_inboxes, &cookie, BPF_F_INGRESS);
}

/* The agent carries on what this side of the stream sends. */
static __always_inline int hold(struct __sk_buff *skb, __u64 cookie, struct h2_stream *stream, const struct frame *f, __u32 held, __u32 ended) {
  if ((f->type == DATA || f->type == HEADERS) && f->flags & END_STREAM)
    held |= ended;
  __sync_fetch_and_or(&stream->flags, held);
  return to_agent_frame(skb, cookie);
}

/* To the server, through the door; in one piece where its program has to see it whole. */
static __always_inline int to_server(struct __sk_buff *skb, __u64 cookie) {
  return bpf_sk_redirect_hash(skb, &h2_doors, &cookie, 0);
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
    /* D's program sees it in one piece */
    if (bpf_skb_pull_data(skb, offset + FRAME_HEAD + f.length)) {
      bpf_map_delete_elem(&h2_streams, &key);
      bpf_map_delete_elem(&h2_stages, &key);
      return to_agent_frame(skb, cookie);
    }
    return to_server(skb, stream->upstream);
  }
  __u64 upstream = stream->upstream;
  /* a head in several frames: nothing may come between them, so the agent sends them as one */
  int held = f.type != WINDOW_UPDATE && f.type != RST_STREAM && stream->flags & H2_STREAM_CLIENT_HELD;
  if (held || f.type == CONTINUATION || (f.type == HEADERS && !(f.flags & END_HEADERS)))
    return hold(skb, cookie, stream, &f, H2_STREAM_CLIENT_HELD, H2_STREAM_CLIENT_ENDED);
  if (f.type == DATA) {
    __u32 id = stream->id;
    struct h2_end *u = bpf_map_lookup_elem(&h2_ends, &id);
    if (!u || !take_window(u, f.length))
      return hold(skb, cookie, stream, &f, H2_STREAM_CLIENT_HELD, H2_STREAM_CLIENT_ENDED);
    __sync_fetch_and_add(&a->came, f.length);
    __u32 before = stream->sent;
    stream->sent = before + f.length;
    /* the client may know of less room than the server has given each stream: the agent makes it known */
    if (before < ROOM_NOTED && before + f.length >= ROOM_NOTED)
      bpf_map_update_elem(&h2_long, &key, &id, BPF_ANY);
  }
  if (f.type == RST_STREAM) {
    if (stream->flags & ANY_HELD) /* the agent drops what it holds, sends this on, and forgets the stream */
      return to_agent_frame(skb, cookie);
    bpf_map_delete_elem(&h2_streams, &key);
  } else if ((f.type == DATA || f.type == HEADERS) && f.flags & END_STREAM) {
    end_side(&key, stream, H2_STREAM_CLIENT_ENDED);
  }
  return to_server(skb, upstream);
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
  int held = f.type != WINDOW_UPDATE && stream->flags & H2_STREAM_SERVER_HELD;
  if (held || f.type == CONTINUATION || (f.type == HEADERS && !(f.flags & END_HEADERS)))
    return hold(skb, cookie, stream, &f, H2_STREAM_SERVER_HELD, H2_STREAM_SERVER_ENDED);
  __u32 client_id = u->client_id;
  __u64 client = u->client;
  if (f.type == DATA) {
    struct h2_end *a = bpf_map_lookup_elem(&h2_ends, &client_id);
    if (!a || !take_window(a, f.length))
      return hold(skb, cookie, stream, &f, H2_STREAM_SERVER_HELD, H2_STREAM_SERVER_ENDED);
    __sync_fetch_and_add(&u->came, f.length);
  }
  if (f.type == RST_STREAM) {
    bpf_map_delete_elem(&h2_streams, &key);
  } else if ((f.type == DATA || f.type == HEADERS) && f.flags & END_STREAM) {
    end_side(&key, stream, H2_STREAM_SERVER_ENDED);
  }
  return bpf_sk_redirect_hash(skb, &h2_clients, &client, 0);
}

/* What goes to a server, frame by frame, each perhaps in pieces. */
SEC("sk_msg")
int on_door(struct sk_msg_md *msg) {
  struct bpf_sock *sk = msg->sk;
  if (!sk)
    return SK_PASS;
  __u32 *id = bpf_sk_storage_get(&h2_door_ids, sk, 0, 0);
  struct h2_end *u = id ? bpf_map_lookup_elem(&h2_ends, id) : 0;
  if (!u)
    return SK_PASS;
  __u32 size = msg->size;
  if (u->door_left) {
    if (size > u->door_left)
      return SK_PASS;
    u->door_left -= size;
  } else {
    /* one frame may come in pieces that are cut anywhere, also in its header; a head that is staged comes whole */
    __u32 have = u->head_len & 15, n = FRAME_HEAD - have;
    if (have >= FRAME_HEAD)
      return SK_PASS;
    if (n > size)
      n = size;
    FORGET(n);
    n &= 15;
    if (!n || (msg->data + n > msg->data_end && bpf_msg_pull_data(msg, 0, n, 0)) ||
        bpf_probe_read_kernel(&u->head[have], n, msg->data))
      return SK_PASS;
    const __u8 *b = u->head;
    if (have + n < FRAME_HEAD) {
      u->head_len = have + n;
      __u64 server = u->cookie;
      bpf_msg_redirect_hash(msg, &h2_servers, &server, 0);
      return SK_PASS;
    }
    u->head_len = 0;
    __u32 whole = FRAME_HEAD + (b[0] << 16 | b[1] << 8 | b[2]) - have;
    if (size > whole)
      return SK_PASS;
    if (b[3] == HEADERS && !have) {
      struct h2_key key = {.client = u->client_id, .number = (b[5] << 24 | b[6] << 16 | b[7] << 8 | b[8]) & 0x7fffffff};
      struct staged *st = bpf_map_lookup_elem(&h2_stages, &key);
      if (st) {
        __u32 len = st->len;
        if (size != whole || st->old_len != whole || replace_staged(msg, st, len, whole))
          return SK_PASS;
        bpf_map_delete_elem(&h2_stages, &key);
        size = whole;
      }
    }
    u->door_left = whole - size;
  }
  __u64 cookie = u->cookie;
  bpf_msg_redirect_hash(msg, &h2_servers, &cookie, 0); /* refused, it passes, and the agent gives the connection up */
  return SK_PASS;
}

/* The agent's frames: an envelope, then what is in it. */
SEC("sk_skb/stream_parser")
int h2_parse_writer(struct __sk_buff *skb) {
  __u64 cookie = bpf_get_socket_cookie(skb);
  struct h2_envelope *open = bpf_map_lookup_elem(&h2_envelopes, &cookie);
  if (!open)
    return -1;
  __u32 length = open->length;
  return length ? length : sizeof(struct h2_envelope);
}

SEC("sk_skb/stream_verdict")
int on_writer(struct __sk_buff *skb) {
  __u32 offset = offset_of(skb);
  __u64 cookie = bpf_get_socket_cookie(skb);
  struct h2_envelope *open = bpf_map_lookup_elem(&h2_envelopes, &cookie);
  if (!open || offset >= 1 << 30)
    return SK_DROP;
  if (!open->length) {
    if (bpf_skb_load_bytes(skb, offset, open, sizeof *open))
      open->length = 0;
    return SK_DROP;
  }
  open->length = 0;
  __u64 to = open->cookie;
  return open->to_server ? to_server(skb, to) : bpf_sk_redirect_hash(skb, &h2_clients, &to, 0);
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
