/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether a request is traced, and whether its span is sampled, as the proxy decides it: the id says so, or its digits
 * decide; a span before this one may have decided for the whole trace. Guards leave odd ids and contexts to the proxy.
 */
#pragma once
#include "rewrite.h"

#define SHARES 10000
#define ID_SECOND 9
#define ID_VERSION 14
#define ID_FOURTH 19
#define ID_FIFTH 24
#define ID_LAST 28
/* in `traceparent`: the id of the span before, and the last digit of the flags */
#define PARENT_ID 36
#define PARENT_SAMPLED 54

/* The number with these eight hexadecimal digits (lower case), the highest in the lowest byte. */
static __always_inline __u32 number_of(__u64 digits) {
  __u64 x = (digits & EACH_BYTE(0x0f)) + (digits >> 6 & EACH_BYTE(1)) * 9;
  x = (x << 4 | x >> 8) & 0x00ff00ff00ff00ffULL;
  x = (x | x >> 8) & 0x0000ffff0000ffffULL;
  return __builtin_bswap32((__u32)(x | x >> 16));
}

/* Where a header's value begins in s->in; 0: there is none. */
static __always_inline __u32 value_start(const struct scratch *s, __u32 slot) {
  slot &= MAX_SLOTS - 1;
  if (!(s->present & (1ULL << slot)))
    return 0;
  return s->lines[(s->first[slot] - 1) & (MAX_LINES - 1)].vstart;
}

#define IN_WORD(s, at) word_at(&(s)->in[(at) & IN_MASK])

/* Decides, by the words of a struct trace: fills s->id, s->sampled and s->parent. */
__noinline int begin_trace(struct scratch *s, __u64 how) {
  if (!s)
    return 0;
  __u32 random = how & 0xffff, overall = how >> 16 & 0xffff, tracer = how >> 32 & 0xff, ids = how >> 48;
  int traced = 0;
  __u32 v = value_start(s, SLOT_X_REQUEST_ID);
  if (v) {
    s->id[0] = IN_WORD(s, v);
    s->id[1] = (IN_WORD(s, v + ID_SECOND) & 0xffffffff) | IN_WORD(s, v + ID_VERSION) << 32;
    s->id[2] = (IN_WORD(s, v + ID_FOURTH) & 0xffffffff) | IN_WORD(s, v + ID_FIFTH) << 32;
    s->id[3] = IN_WORD(s, v + ID_LAST);
  } else if (ids) {
    make_id(s, 4);
  }
  if (v || ids) {
    __u32 share = number_of(s->id[0]) % SHARES;
    __u8 version = s->id[1] >> 32, was = version;
    traced = version == '9' || version == 'a' || version == 'b';
    if (!traced && share < random) {
      traced = 1;
      version = '9';
    }
    if (traced && share >= overall) {
      traced = 0;
      version = '4';
    }
    s->id[1] ^= (__u64)(was ^ version) << 32;
  }
  __u32 context = tracer == TRACER_NONE ? 0 : value_start(s, how >> 40 & 0xff);
  s->parent[0] = 0;
  s->parent[1] = 0;
  if (context && tracer == TRACER_ZIPKIN) {
    traced = in_at(s, context) == '1';
  } else if (context) {
    s->parent[0] = IN_WORD(s, context + PARENT_ID);
    s->parent[1] = IN_WORD(s, context + PARENT_ID + 8);
    traced = traced && in_at(s, context + PARENT_SAMPLED) == '1';
  }
  s->sampled = traced;
  return 0;
}
