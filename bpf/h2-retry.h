/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Streams that may be tried again: until the server has answered, what the client has sent is kept, and heads of answers are
 * looked at. What might be tried again is the agent's to decide.
 */
#pragma once
#include "h2-streams.h"

/* Streams that are not answered yet. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_H2_KEPT_STREAMS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct h2_key);
  __type(value, struct h2_kept);
} h2_kept SEC(".maps");

struct h2_space {
  __u32 busy, rule; /* rule: index of the one that has decided plus one; 0: none */
  __u32 retry, pad; /* retry: the stream may be tried again, and `kept` says when */
  struct hpack h;
  struct staged staged;
  struct h2_kept kept;
  struct h2_reply reply;
  struct log_record log;
  __u8 logged[MAX_BLOCK * 2]; /* goes out together with it */
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, N_SCRATCH);
  __type(key, __u32);
  __type(value, struct h2_space);
} h2_spaces SEC(".maps");

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

/* What of the answer has the stream tried again. */
static __always_inline void note_stream_retry(struct h2_space *space, struct work *w, const struct action *action) {
  struct h2_kept *kept = &space->kept;
  space->retry = action->flags & ACTION_FLAG_RETRY;
  if (!space->retry)
    return;
  for (__u32 i = 0; i < STATUS_WORDS; i++)
    kept->retry[i] = image_u64(w->image, action->retry + i * 8);
  kept->streams = action->retry_streams;
  kept->resets = action->flags & ACTION_FLAG_RETRY_RESETS ? 1 : 0;
  kept->left = action->flags >> 4;
  kept->backoff_ms = action->backoff_ms;
  kept->choice = w->s->choice;
}

/* Begins what is kept of a stream with the frame of its head. 0: there is no room. */
static __always_inline int keep_head(struct __sk_buff *skb, struct h2_space *space, struct h2_key *key, __u32 offset,
                                     const struct frame *f) {
  __u32 n = FRAME_HEAD + f->length;
  FORGET(n);
  n &= 8191;
  if (n < FRAME_HEAD || n > MAX_H2_KEPT || bpf_skb_load_bytes(skb, offset, space->kept.bytes, n))
    return 0;
  space->kept.len = n;
  return !bpf_map_update_elem(&h2_kept, key, &space->kept, BPF_ANY);
}

/* Appends at most `most` bytes behind at most the rest: sizes that the verifier knows. */
#define APPEND(most)                                                                                                   \
  if (at <= MAX_H2_KEPT - (most) && n <= (most))                                                                       \
  return bpf_skb_load_bytes(skb, offset, &kept->bytes[at], n)

static __noinline int append(struct __sk_buff *skb, struct h2_kept *kept, __u32 offset, __u32 n) {
  if (!kept)
    return -1;
  __u32 at = kept->len;
  if (!n)
    return -1;
  APPEND(128);
  APPEND(512);
  APPEND(1024);
  APPEND(2048);
  APPEND(3072);
  return -1;
}

/* Keeps another frame of the client's. 0: there is no room, so the agent keeps it, and all that follows. */
static __always_inline int keep_frame(struct __sk_buff *skb, struct h2_key *key, __u32 offset, const struct frame *f) {
  struct h2_kept *kept = bpf_map_lookup_elem(&h2_kept, key);
  __u32 n = FRAME_HEAD + f->length;
  if (!kept || append(skb, kept, offset, n))
    return 0;
  kept->len += n;
  return 1;
}

static const char name_status[] = "grpc-status";
static const __u8 name_status_coded[] = {0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f}; /* by Huffman's code */

/* Whether a name of `len` bytes (with the bit for Huffman's code) is grpc-status. */
static __always_inline int is_status(const __u8 *at, __u32 len) {
  if (len == 11)
    return word_at(at) == word_at(name_status) && at[8] == 't' && at[9] == 'u' && at[10] == 's';
  return len == (8 | 128) && word_at(at) == word_at(name_status_coded);
}

/* Skips a string. Returns its length byte, 255: it is not one byte. */
static __always_inline __u32 skip_string(struct hpack *h) {
  __u8 first = h->block[h->at & (MAX_BLOCK - 1)];
  if (h->at >= h->end)
    return spoil(h, BLOCK_BAD);
  __u32 len = hpack_integer(h, 127);
  if (h->result)
    return 0;
  h->at += len;
  return (first & 127) == 127 ? 255 : first;
}

/* One field of an answer's head; `state` counts the ones with gRPC's status, and `acc` is where its value begins. */
static long answer_step(__u32 index, void *context) {
  struct hpack *h = *(struct hpack **)context;
  if (h->at >= h->end || h->result)
    return 1;
  __u8 first = h->block[h->at & (MAX_BLOCK - 1)];
  if (first & 0x80) {
    hpack_integer(h, 127);
    return 0;
  }
  if ((first & 0xe0) == 0x20) {
    h->result = BLOCK_BAD;
    return 1;
  }
  __u32 entry = hpack_integer(h, first & 0x40 ? 63 : 15);
  int found = 0;
  if (!entry && !h->result) {
    __u32 name = h->at + 1;
    found = is_status(&h->block[name & (MAX_BLOCK - 1)], skip_string(h));
  }
  if (found) {
    h->state++;
    h->acc = h->at;
  }
  if (!h->result)
    skip_string(h);
  return 0;
}

/* The decimal number of `most` digits at most that the string at h->at is; above 999: it is none. */
static __always_inline __u32 number_at(struct hpack *h, __u32 most) {
  h->to = 0;
  __u32 len = hpack_string(h), value = 0;
  if (h->result || !len || len > most)
    return 1000;
  for (__u32 k = 0; k < 3; k++) {
    __u8 c = text_at(h, k);
    if (k >= len)
      break;
    if (c < '0' || c > '9')
      return 1000;
    value = value * 10 + c - '0';
  }
  return value;
}

/* Whether the block of an answer's head (h->block[0..n)) says nothing that is tried again. Uncertain: 0. */
static __always_inline int is_final_block(struct hpack *h, __u32 n, const struct h2_kept *kept) {
  h->result = BLOCK_OK;
  h->at = 0;
  h->end = n;
  for (int k = 0; k < 2 && h->block[h->at & (MAX_BLOCK - 1)] == 0x20; k++)
    h->at++; /* the size of the table is 0 */
  __u8 first = h->block[h->at & (MAX_BLOCK - 1)];
  h->at++;
  __u32 status;
  if (first >= 0x88 && first <= 0x8e) {
    const char *text = static_fields[first & 63].value;
    status = (text[0] - '0') * 100 + (text[1] - '0') * 10 + text[2] - '0';
  } else if (first == 0x48 || first == 8 || first == 0x18) {
    status = number_at(h, 3);
  } else {
    return 0;
  }
  __u32 bit = status - 200;
  if (h->result || bit >= STATUS_WORDS * 64 || status > 599 || kept->retry[bit >> 6 & 7] >> (bit & 63) & 1)
    return 0;
  if (!(kept->streams & ~RETRY_STREAMS_REFUSED))
    return 1;
  h->state = 0;
  LOOP(MAX_LINES, answer_step, &h);
  if (h->result || h->at != h->end || h->state > 1)
    return 0;
  if (!h->state)
    return 1;
  h->at = h->acc;
  __u32 found = number_at(h, 2);
  return found < 32 && !(kept->streams >> found & 1 & (found > 0));
}

/* Whether the head of an answer says nothing that is tried again. Uncertain: 0. */
static __noinline int is_final(struct __sk_buff *skb, struct h2_key *key, __u32 offset, struct frame *f) {
  if (!key || !f || f->flags & (PADDED | PRIORITY))
    return 0;
  struct h2_kept *kept = bpf_map_lookup_elem(&h2_kept, key);
  struct h2_space *space = kept ? space_take() : 0;
  if (!space)
    return 0;
  __u32 n = f->length;
  FORGET(n);
  n &= MAX_BLOCK * 2 - 1;
  int found = n && n <= MAX_BLOCK && !bpf_skb_load_bytes(skb, offset + FRAME_HEAD, space->h.block, n) &&
              is_final_block(&space->h, n, kept);
  space_give(space);
  return found;
}

/* What a WINDOW_UPDATE allows. */
static __always_inline __u32 allowed_by(struct __sk_buff *skb, __u32 offset, const struct frame *f) {
  __u8 b[4];
  if (f->length != 4 || bpf_skb_load_bytes(skb, offset + FRAME_HEAD, b, sizeof b))
    return 0;
  return (b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3]) & 0x7fffffff;
}

/*
 * The agent takes a stream, or says that it is answered: behind 16 bytes, the client's index, the stream's number and flags
 * to set. Returns the flags it had and H2_CLAIM. When it is BUSY, a program may still be at a frame of the client's.
 */
SEC("tc")
int h2_claim(struct __sk_buff *skb) {
  __u32 ask[3];
  if (bpf_skb_load_bytes(skb, 16, ask, sizeof ask))
    return 0;
  struct h2_key key = {.client = ask[0], .number = ask[1]};
  struct h2_stream *stream = bpf_map_lookup_elem(&h2_streams, &key);
  struct h2_end *a = bpf_map_lookup_elem(&h2_ends, &ask[0]);
  if (!stream || !a)
    return 0;
  __u32 had = __sync_fetch_and_or(&stream->flags, ask[2]);
  if (ask[2] & H2_STREAM_ANSWERED)
    bpf_map_delete_elem(&h2_kept, &key);
  return had | H2_CLAIM_FOUND | (__sync_fetch_and_or(&a->busy, 0) ? H2_CLAIM_BUSY : 0);
}
