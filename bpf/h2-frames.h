/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Frames of HTTP/2 (RFC 9113, section 4) in what a stream parser finds. */
#pragma once
#include <bpf/bpf_core_read.h>
#include "intake-listener.h"

enum { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, WINDOW_UPDATE = 8, CONTINUATION = 9 };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4, PADDED = 8, PRIORITY = 32 };
enum { INTERNAL_ERROR = 2 };
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
