/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What x-ratelimit headers say of a token bucket, as Envoy reckons it when the answer is made. */
#pragma once
#include "maps.h"

#define MAX_DIGITS 10

/* The first bucket that the request takes from. */
static __always_inline __u32 shown_bucket(const struct scratch *s) {
  for (__u32 i = 0; i < MAX_LOTS; i++)
    if (i < s->n_lots && s->lots[i].bucket)
      return s->lots[i].bucket - 1;
  return MAX_BUCKETS; /* not what the compiler makes */
}

/* Writes a figure of a bucket to the output, in decimal digits. Global, so that the verifier walks it once. */
__noinline int put_figure(struct scratch *s, __u32 index, __u32 figure) {
  if (!s)
    return 0;
  struct bucket *b = bpf_map_lookup_elem(&buckets, &index);
  if (!b || !b->cost || s->o > MAX_OUT - MAX_DIGITS) {
    s->overflow = 1;
    return 0;
  }
  __u64 cost = b->cost, most = b->most, second = 1000000000ULL << BUCKET_SHIFT;
  __s64 since = (__s64)((bpf_ktime_get_ns() << BUCKET_SHIFT) - *(volatile __u64 *)&b->at);
  __u64 held = since < 0 ? 0 : (__u64)since < most ? (__u64)since : most;
  __u64 number = most / cost;
  if (figure == FIGURE_REMAINING)
    number = held / cost;
  else if (figure == FIGURE_RESET)
    number = held >= cost ? 0 : (cost - held + second - 1) / second;
  int seen = 0;
  __u32 o = s->o;
  for (__u64 unit = 1000000000; unit; unit /= 10) {
    __u64 digit = number / unit % 10;
    seen |= digit || unit == 1;
    if (!seen)
      continue;
    s->out[o & OUT_MASK] = '0' + digit;
    o++;
  }
  s->o = o;
  return 0;
}
