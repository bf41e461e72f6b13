/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Pieces of the headers that tell servers of a trace of SkyWalking: UUIDs, the server's address, Base64. */
#pragma once
#include "maps.h"

/* Where what is encoded stands meanwhile: behind all that may be put out. */
#define TEXT_OUT (MAX_OUT + 64)
#define MAX_TEXT 4096

__noinline int put_uuid(struct scratch *s) {
  if (!s)
    return 0;
  if (s->o > MAX_OUT - 64) {
    s->overflow = 1;
    return 0;
  }
  __u64 id[4] = {s->id[0], s->id[1], s->id[2], s->id[3]};
  make_id(s, 4);
  put_id(s, s->o);
  s->o += 36;
  for (int k = 0; k < 4; k++)
    s->id[k] = id[k];
  return 0;
}

/* A number of at most five digits. */
static __always_inline void put_number(struct scratch *s, __u32 number) {
  int begun = 0;
#pragma unroll
  for (__u32 unit = 10000; unit; unit /= 10) {
    __u32 digit = number / unit % 10;
    if (!digit && !begun && unit > 1)
      continue;
    begun = 1;
    s->out[s->o & OUT_MASK] = '0' + digit;
    s->o++;
  }
}

__noinline int put_endpoint(struct scratch *s) {
  if (!s)
    return 0;
  __u32 endpoint = s->endpoint;
  struct place *at = bpf_map_lookup_elem(&places, &endpoint);
  if (!at || at->family != 2 || s->o > MAX_OUT - 64) {
    s->overflow = 1;
    return 0;
  }
  __u32 address = at->address[0];
  for (int k = 0; k < 4; k++) {
    put_number(s, address >> (8 * k) & 0xff);
    s->out[s->o & OUT_MASK] = k < 3 ? '.' : ':';
    s->o++;
  }
  put_number(s, __builtin_bswap16(at->port));
  return 0;
}

static __always_inline __u8 base64_digit(__u32 six) {
  six &= 63;
  return six < 26 ? 'A' + six : six < 52 ? 'a' + six - 26 : six < 62 ? '0' + six - 52 : six == 62 ? '+' : '/';
}

static long base64_step(__u32 index, void *context) {
  struct scratch *s = ((struct work *)context)->s;
  __u32 at = index * 3, len = s->text_len;
  __u32 from = TEXT_OUT + at, to = s->literal + index * 4;
  __u32 second = at + 1 < len ? s->out[(from + 1) & OUT_MASK] : 0, third = at + 2 < len ? s->out[(from + 2) & OUT_MASK] : 0;
  __u32 bits = s->out[from & OUT_MASK] << 16 | second << 8 | third;
  s->out[to & OUT_MASK] = base64_digit(bits >> 18);
  s->out[(to + 1) & OUT_MASK] = base64_digit(bits >> 12);
  s->out[(to + 2) & OUT_MASK] = at + 1 < len ? base64_digit(bits >> 6) : '=';
  s->out[(to + 3) & OUT_MASK] = at + 2 < len ? base64_digit(bits) : '=';
  return 0;
}

__noinline int put_base64(struct scratch *s) {
  if (!s)
    return 0;
  __u32 from = s->literal & OUT_MASK, len = s->o - from, groups = (len + 2) / 3;
  if (s->overflow || len > MAX_TEXT || from + groups * 4 > MAX_OUT) {
    s->overflow = 1;
    return 0;
  }
  len &= MAX_TEXT * 2 - 1;
  if (!len)
    return 0;
  if (copy_bytes(&s->out[TEXT_OUT], len, &s->out[from]))
    s->overflow = 1;
  s->text_len = len;
  struct work w = {.s = s};
  LOOP(groups > MAX_TEXT ? MAX_TEXT : groups, base64_step, &w);
  s->o = from + groups * 4;
  return 0;
}
