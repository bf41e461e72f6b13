/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The way back: the text of a head that was built for a request (s->out, by rewrite.h) as a header block. Nothing is
 * compressed but what the static table has as a whole: fields are literals, without indexing and without Huffman's code.
 */
#pragma once
#include "hpack.h"

/* A work space for the walk over s->out: it shares h->block, which is not needed any more, for the block. */
struct encoding {
  struct scratch *s;
  struct hpack *h;
};

/* Looks for `run_classes` (a character) in out[run_at..run_end) by words. */
static long find_step(__u32 index, void *context) {
  struct scratch *s = ((struct encoding *)context)->s;
  __u32 at = s->run_at;
  if (at >= s->run_end)
    return 1;
  __u64 word = word_at(&s->out[at & OUT_MASK]) ^ EACH_BYTE((__u64)s->run_classes);
  /* the lowest byte that is zero: what borrows comes from below */
  __u64 zero = (word - EACH_BYTE(1)) & ~word & EACH_BYTE(0x80);
  if (!zero) {
    s->run_at = at + 8;
    return 0;
  }
  __u64 below = (zero & -zero) - 1;
  s->run_at = at + (((below & EACH_BYTE(1)) * EACH_BYTE(1)) >> 56) - 1;
  return 1;
}

/* Where the character is, in out[at..s->o); s->o when it is not there. */
static __always_inline __u32 find(struct encoding *e, __u32 at, __u8 c) {
  struct scratch *s = e->s;
  s->run_at = at;
  s->run_end = s->o;
  s->run_classes = c;
  LOOP(MAX_OUT / 8 + 1, find_step, e);
  return s->run_at < s->o ? s->run_at : s->o;
}

static __always_inline void block_byte(struct hpack *h, __u8 byte) {
  h->block[h->to & (MAX_BLOCK - 1)] = byte;
  h->to++;
}

/* An integer with a prefix of `most`, and what stands before it. */
static __always_inline void block_integer(struct hpack *h, __u32 value, __u32 most, __u8 first) {
  if (value < most) {
    block_byte(h, first | value);
    return;
  }
  block_byte(h, first | most);
  value -= most;
  for (int k = 0; k < 2 && value >= 128; k++) {
    block_byte(h, value | 128);
    value >>= 7;
  }
  block_byte(h, value);
}

/* out[at..end) as a string. A global function, so that the verifier walks it once. */
__noinline int block_string(struct hpack *h, struct scratch *s, __u32 at, __u32 end) {
  if (!h || !s)
    return 0;
  __u32 len = end - at;
  if (end < at || h->to + len + 8 > MAX_BLOCK)
    return spoil(h, BLOCK_ODD);
  block_integer(h, len, 127, 0);
  if (len && copy_bytes(&h->block[h->to & (MAX_BLOCK - 1)], len & (MAX_BLOCK - 1), &s->out[at & OUT_MASK]))
    return spoil(h, BLOCK_ODD);
  h->to += len;
  return 0;
}

static __always_inline int out_is(const struct scratch *s, __u32 at, __u32 end, const char *word, __u32 len) {
  if (end - at != len)
    return 0;
  for (__u32 i = 0; i < len; i++)
    if (s->out[(at + i) & OUT_MASK] != (__u8)word[i])
      return 0;
  return 1;
}

static const char name_host[] = "host";
static const char name_length[] = "content-length";
static const char te_field[] = "\0\2te\10trailers";

/* A header with a number, and a unit behind it (0: none). */
static __always_inline void block_number(struct hpack *h, const char *name, __u32 name_len, __u32 n, char unit) {
  block_byte(h, 0);
  block_byte(h, name_len);
  for (__u32 k = 0; k < name_len; k++)
    block_byte(h, name[k]);
  __u32 digits = decimal_digits(n), at = h->to + digits;
  block_byte(h, digits + (unit ? 1 : 0));
#pragma unroll
  for (__u32 k = 0; k < 8; k++) {
    if (k >= digits)
      break;
    h->block[(at - k) & (MAX_BLOCK - 1)] = '0' + n % 10;
    n /= 10;
  }
  h->to += digits;
  if (unit)
    block_byte(h, unit);
}

/* One line of the head. The one for the host is noted only: it goes in front. */
static long line_step(__u32 index, void *context) {
  struct encoding *e = context;
  struct scratch *s = e->s;
  struct hpack *h = e->h;
  __u32 start = s->pos;
  if (start + 2 >= s->o || h->result)
    return 1;
  __u32 colon = find(e, start, ':');
  __u32 end = find(e, colon, '\r');
  s->pos = end + 2;
  if (end >= s->o || colon == start) {
    h->result = BLOCK_ODD;
    return 1;
  }
  __u32 value = s->out[(colon + 1) & OUT_MASK] == ' ' ? colon + 2 : colon + 1;
  int is_host = out_is(s, start, colon, name_host, 4);
  if (s->kept) { /* the first walk: only the host */
    if (is_host) {
      h->pseudo[PSEUDO_AUTHORITY].at = value;
      h->pseudo[PSEUDO_AUTHORITY].len = end - value;
      return 1;
    }
    return 0;
  }
  /* a length of nothing is said in HTTP/1.1 only, see ADD_EMPTY_LENGTH */
  if (is_host || (!(s->flags & HEAD_LENGTH) && out_is(s, start, colon, name_length, 14)))
    return 0;
  if (h->told && ((h->told & TOLD_GRPC && out_is(s, start, colon, name_grpc_timeout, 12)) ||
                  (h->told & TOLD_EXPECTED && out_is(s, start, colon, name_expected, N_EXPECTED))))
    return 0;
  block_byte(h, 0);
  block_string(e->h, e->s, start, colon);
  block_string(e->h, e->s, value, end);
  return h->result != BLOCK_OK;
}

/*
 * The head in s->out[0..s->o) as a block in h->block. Returns its length; 0: it has none. `trailers`: the client can take
 * trailers (te).
 */
static __always_inline __u32 encode_block(struct hpack *h, struct scratch *s, int trailers) {
  struct encoding encoding = {.s = s, .h = h}, *e = &encoding;
  h->result = BLOCK_OK;
  h->to = 0;
  __u32 method_end = find(e, 0, ' '), target_end = find(e, method_end + 1, ' '), lines = find(e, target_end, '\n') + 1;
  if (lines > s->o)
    return 0;
  h->pseudo[PSEUDO_AUTHORITY].len = 0;
  s->kept = 1;
  s->pos = lines;
  LOOP(MAX_LINES * 2, line_step, e);
  __u32 host = h->pseudo[PSEUDO_AUTHORITY].at, host_len = h->pseudo[PSEUDO_AUTHORITY].len;
  if (!host_len)
    return 0;
  if (method_end == 4 && s->out[0] == 'P' && s->out[1] == 'O') {
    block_byte(h, 0x83); /* :method POST */
  } else if (method_end == 3 && s->out[0] == 'G') {
    block_byte(h, 0x82); /* :method GET */
  } else {
    block_byte(h, 2);
    block_string(e->h, e->s, 0, method_end);
  }
  block_byte(h, 0x86); /* :scheme http */
  block_byte(h, 1);    /* :authority */
  block_string(e->h, e->s, host, host + host_len);
  block_byte(h, 4); /* :path */
  block_string(e->h, e->s, method_end + 1, target_end);
  if (trailers) {
    for (__u32 k = 0; k < sizeof(te_field) - 1; k++)
      block_byte(h, te_field[k]);
  }
  s->kept = 0;
  s->pos = lines;
  LOOP(MAX_LINES * 2, line_step, e);
  if (h->told && h->told_ms && h->told_ms <= GRPC_TIMEOUT_MOST && h->to < MAX_BLOCK - 128) {
    if (h->told & TOLD_EXPECTED)
      block_number(h, name_expected, N_EXPECTED, h->told_ms, 0);
    if (h->told & TOLD_GRPC)
      block_number(h, name_grpc_timeout, 12, h->told_ms, 'm');
  }
  return h->result || h->to > MAX_BLOCK - 8 ? 0 : h->to;
}
