/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Header blocks of HTTP/2 (HPACK, RFC 7541) as the text of an HTTP/1.1 head, so that the scanner and all that follows it
 * decide both. There is no dynamic table: the agent sets its size to 0 before a block gets here. What has no such text, or
 * means something that must not be lost in it, is odd: the proxy decides.
 */
#pragma once
#include "grpc-timeout.h"
#include "hpack.gen.h"
#include "http1.h"

#define MAX_BLOCK 8192
#define TEXT_MASK 16383

/* hpack.result */
enum { BLOCK_OK = 0, BLOCK_ODD = 1, BLOCK_BAD = 2 /* RFC 7541 forbids it, or a dynamic table would be needed */ };

/* hpack.pseudo[]: also the kinds of the first entries of the static table, see pseudo_of */
enum { PSEUDO_AUTHORITY = 0, PSEUDO_METHOD, PSEUDO_PATH, PSEUDO_SCHEME, PSEUDO_STATUS, N_PSEUDO };

struct hpack_text {
  __u16 at, len;
};

struct hpack {
  __u32 at, end;        /* of the block: what is not read yet */
  __u32 to;             /* of the text: where the next byte goes */
  __u32 lines_at;       /* of the text: the first header line; 0: there is none yet */
  __u32 result;
  __u32 fields, seen;   /* number of fields, and which pseudo-header fields (bits) */
  __u32 state, acc;     /* of the Huffman decoder */
  __u32 string_end;     /* of the block */
  __u32 te;             /* `te: trailers` was there; no line of the text says so */
  __u32 grpc;           /* the content type says so */
  __u32 timeouts, timeout_ms; /* how often grpc-timeout is there; what the last one says, see grpc_timeout_of */
  __u32 told;           /* headers that the request has as the mesh says it: TOLD_ */
  __u32 told_ms;        /* which say this; 0: not at all */
  struct hpack_text pseudo[8];
  __u8 block[MAX_BLOCK * 2];
  __u8 text[TEXT_MASK + 1 + MAX_BLOCK];
};

static __always_inline __u32 spoil(struct hpack *h, __u32 result) {
  h->result = result;
  return 0;
}

/* An integer with a prefix of `mask` (section 5.1), below 2^21. Bad ones set the result. */
static __always_inline __u32 hpack_integer(struct hpack *h, __u32 mask) {
  __u32 at = h->at, end = h->end;
  __u32 value = h->block[at & (MAX_BLOCK - 1)] & mask;
  at++;
  if (value == mask) {
    int k;
#pragma unroll
    for (k = 0; k < 3; k++) {
      if (at >= end)
        return spoil(h, BLOCK_BAD);
      __u32 byte = h->block[at & (MAX_BLOCK - 1)];
      at++;
      value += (byte & 127) << (7 * k);
      if (!(byte & 128))
        break;
    }
    if (k == 3)
      return spoil(h, BLOCK_ODD); /* too long for anything that the kernel takes */
  }
  h->at = at;
  return value;
}

#define HUFFMAN_UNROLL 4

/* Four bits: perhaps a symbol, which is written in any case and stays when it is one. */
#define HUFFMAN_NIBBLE(bits)                                                                                           \
  cell = huffman_cells[((cell & 255) << 4 | (bits)) & 4095];                                                           \
  acc |= cell;                                                                                                         \
  h->text[to & TEXT_MASK] = cell >> 8;                                                                                 \
  to += cell >> 16 & 1

static long huffman_step(__u32 index, void *context) {
  struct hpack *h = *(struct hpack **)context;
  __u32 at = h->at, end = h->string_end, to = h->to, cell = h->state, acc = h->acc;
  for (int k = 0; k < HUFFMAN_UNROLL && at < end; k++) {
    __u32 byte = h->block[at & (MAX_BLOCK - 1)];
    HUFFMAN_NIBBLE(byte >> 4);
    HUFFMAN_NIBBLE(byte & 15);
    at++;
  }
  h->at = at;
  h->to = to;
  h->state = cell;
  h->acc = acc;
  return at >= end;
}

/* Whether text[at..] has eight bytes from 0x20 to 0x7e; `state` is where the string ends. */
static long plain_step(__u32 index, void *context) {
  struct hpack *h = *(struct hpack **)context;
  __u32 at = h->acc, end = h->state;
  if (at >= end)
    return 1;
  __u64 word = word_at(&h->text[at & TEXT_MASK]), delete = word ^ EACH_BYTE(0x7f);
  __u64 odd = ((word - EACH_BYTE(0x20)) | word | (delete - EACH_BYTE(1))) & EACH_BYTE(0x80);
  if (end - at < 8)
    odd &= (1ULL << ((end - at) * 8 & 63)) - 1;
  h->acc = at + 8;
  if (!odd)
    return 0;
  h->result = BLOCK_ODD;
  return 1;
}

/* A byte of a name (RFC 9113, section 8.2.1): what the scanner would not find odd in the text. */
static long name_step(__u32 index, void *context) {
  struct hpack *h = *(struct hpack **)context;
  __u32 at = h->acc;
  if (at >= h->to)
    return 1;
  __u8 c = h->text[at & TEXT_MASK];
  h->acc = at + 1;
  if (c > 0x20 && c < 0x7f && c != ':' && !(c >= 'A' && c <= 'Z'))
    return 0;
  h->result = BLOCK_ODD;
  return 1;
}

/* A string (section 5.2) to text[to..]. Returns its length; what is wrong sets the result. */
static __noinline int hpack_string(struct hpack *h) {
  if (!h)
    return 0;
  if (h->at >= h->end)
    return spoil(h, BLOCK_BAD);
  __u32 huffman = h->block[h->at & (MAX_BLOCK - 1)] & 128;
  __u32 len = hpack_integer(h, 127);
  if (h->result)
    return 0;
  __u32 at = h->at, end = h->end, to = h->to;
  if (at > end || len > end - at)
    return spoil(h, BLOCK_BAD);
  /* eight bits become at most 8/5 symbols */
  if (to + len * 2 > TEXT_MASK || to > MAX_HEAD)
    return spoil(h, BLOCK_ODD);
  if (!len)
    return 0;
  if (huffman) {
    h->string_end = at + len;
    h->state = 0;
    h->acc = 0;
    LOOP(MAX_BLOCK / HUFFMAN_UNROLL + 1, huffman_step, &h);
    if (h->acc & HUFFMAN_FAIL || !(h->state & HUFFMAN_END))
      return spoil(h, BLOCK_BAD);
    if (h->acc & HUFFMAN_ODD)
      return spoil(h, BLOCK_ODD);
    return h->to - to;
  }
  if (copy_bytes(&h->text[to & TEXT_MASK], len & (MAX_BLOCK - 1), &h->block[at & (MAX_BLOCK - 1)]))
    return spoil(h, BLOCK_ODD);
  h->at = at + len;
  h->to = to + len;
  h->acc = to;
  h->state = to + len;
  LOOP(MAX_BLOCK / 8 + 1, plain_step, &h);
  return h->result ? 0 : len;
}

/* The bytes of a constant of at most 32 bytes, by words. */
static __always_inline void put_constant(struct hpack *h, const char *from, __u32 len, int words) {
  __u8 *to = &h->text[h->to & TEXT_MASK];
  for (int k = 0; k < words; k++)
    set_word(to + k * 8, word_at(from + k * 8));
  h->to += len;
}

static __always_inline void put_two(struct hpack *h, char a, char b) {
  h->text[h->to & TEXT_MASK] = a;
  h->text[(h->to + 1) & TEXT_MASK] = b;
  h->to += 2;
}

/* Which pseudo-header field an entry of the static table is of. */
static __always_inline __u32 pseudo_of(__u32 index) {
  return index == 1 ? PSEUDO_AUTHORITY : index < 4 ? PSEUDO_METHOD : index < 6 ? PSEUDO_PATH : index < 8 ? PSEUDO_SCHEME
                                                                                                        : PSEUDO_STATUS;
}

#define LAST_PSEUDO 14

static const char word_trailers[] = "trailers";

static __always_inline __u8 text_at(const struct hpack *h, __u32 at) { return h->text[at & TEXT_MASK]; }

static const char name_content[] = "content-type";
static const char value_grpc[] = "application/grpc";

/* As Envoy tells gRPC: application/grpc, alone or with a plus sign behind it. */
static __always_inline void check_type(struct hpack *h, __u32 start, __u32 name_len, __u32 value_at, __u32 value_len) {
  const __u8 *name = &h->text[start & TEXT_MASK], *value = &h->text[value_at & TEXT_MASK];
  if (name_len != 12 || value_len < 16 || word_at(name) != word_at(name_content) ||
      word_at(name + 4) != word_at(name_content + 4))
    return;
  if (word_at(value) == word_at(value_grpc) && word_at(value + 8) == word_at(value_grpc + 8) &&
      (value_len == 16 || value[16] == '+'))
    h->grpc = 1;
}

static __always_inline void check_timeout(struct hpack *h, __u32 start, __u32 name_len, __u32 value_at, __u32 value_len) {
  const __u8 *name = &h->text[start & TEXT_MASK];
  if (name_len != 12 || word_at(name) != word_at(name_grpc_timeout) ||
      word_at(name + 4) != word_at(name_grpc_timeout + 4))
    return;
  h->timeouts++;
  h->timeout_ms = grpc_timeout_of(&h->text[value_at & TEXT_MASK], value_len);
}

/* Names that the text must not have: `host` stands there for :authority, and `te` is odd in HTTP/1.1. */
static __always_inline void check_name(struct hpack *h, __u32 start, __u32 name_len, __u32 value_at, __u32 value_len) {
  if (name_len == 2 && text_at(h, start) == 't' && text_at(h, start + 1) == 'e') {
    if (value_len != 8 || word_at(&h->text[value_at & TEXT_MASK]) != word_at(word_trailers)) {
      h->result = BLOCK_ODD;
    } else {
      h->te = 1;
      h->to = start;
    }
  } else if (name_len == 4 && text_at(h, start) == 'h' && text_at(h, start + 1) == 'o' &&
             text_at(h, start + 2) == 's' && text_at(h, start + 3) == 't') {
    h->result = BLOCK_ODD;
  }
}

static long field_step(__u32 index, void *context) {
  struct hpack *h = *(struct hpack **)context;
  if (h->at >= h->end || h->result)
    return 1;
  __u8 first = h->block[h->at & (MAX_BLOCK - 1)];
  if ((first & 0xe0) == 0x20) { /* the table's size: only in front, and no more than the 0 that was asked for */
    if (hpack_integer(h, 31) || h->fields)
      h->result = BLOCK_BAD;
    return h->result != BLOCK_OK;
  }
  __u32 whole = first & 0x80;
  __u32 entry = hpack_integer(h, whole ? 127 : first & 0x40 ? 63 : 15);
  if (h->result)
    return 1;
  if (entry > N_STATIC || (whole && !entry)) {
    h->result = BLOCK_BAD;
    return 1;
  }
  h->fields++;
  const struct static_field *field = &static_fields[entry & 63];
  __u32 start = h->to;
  if (start > MAX_HEAD) {
    h->result = BLOCK_ODD;
    return 1;
  }
  if (entry && entry <= LAST_PSEUDO) {
    __u32 pseudo = pseudo_of(entry);
    /* twice, or behind a header: malformed (RFC 9113, section 8.3) */
    if (h->seen & (1 << pseudo) || h->lines_at) {
      h->result = BLOCK_ODD;
      return 1;
    }
    h->seen |= 1 << pseudo;
    __u32 len = field->value_len;
    if (whole)
      put_constant(h, field->value, len, 2);
    else
      len = hpack_string(h);
    h->pseudo[pseudo & 7].at = start;
    h->pseudo[pseudo & 7].len = len;
    return h->result != BLOCK_OK;
  }
  if (!h->lines_at)
    h->lines_at = start;
  __u32 name_len = field->name_len;
  if (entry) {
    put_constant(h, field->name, name_len, 4);
  } else {
    name_len = hpack_string(h);
    if (h->result)
      return 1;
    h->acc = start;
    LOOP(MAX_BLOCK, name_step, &h);
    if (!name_len)
      h->result = BLOCK_ODD;
    if (h->result)
      return 1;
  }
  put_two(h, ':', ' ');
  __u32 value_at = h->to, value_len = field->value_len;
  if (whole)
    put_constant(h, field->value, value_len, 2);
  else
    value_len = hpack_string(h);
  if (h->result)
    return 1;
  /* white space around a value would be lost in the text */
  if (value_len && (text_at(h, value_at) == ' ' || text_at(h, h->to - 1) == ' ')) {
    h->result = BLOCK_ODD;
    return 1;
  }
  put_two(h, '\r', '\n');
  check_type(h, start, name_len, value_at, value_len);
  check_timeout(h, start, name_len, value_at, value_len);
  check_name(h, start, name_len, value_at, value_len);
  return h->result != BLOCK_OK;
}

/* Decodes block[0..n) to text and pseudo[]. Every field is looked at; anything wrong or odd is in the result. */
static __always_inline void decode_block(struct hpack *h, __u32 n) {
  h->at = h->to = h->lines_at = h->fields = h->seen = h->te = h->grpc = h->timeouts = h->told = 0;
  h->end = n;
  h->to = 1; /* so that 0 is no place for a line */
  h->result = n && n <= MAX_BLOCK ? BLOCK_OK : BLOCK_ODD;
  LOOP(MAX_LINES + N_PSEUDO + 4, field_step, &h);
  if (!h->result && (h->at < h->end || h->to > MAX_HEAD))
    h->result = BLOCK_ODD; /* too many fields, or too long */
}

static __always_inline void put_text(struct scratch *s, __u32 *o, const struct hpack *h, __u32 at, __u32 len) {
  if (len && copy_bytes(&s->in[*o & IN_MASK], len & (MAX_HEAD * 2 - 1), &h->text[at & TEXT_MASK]))
    *o = MAX_HEAD;
  *o += len;
}

static __always_inline void put_pseudo(struct scratch *s, __u32 *o, const struct hpack *h, int pseudo) {
  put_text(s, o, h, h->pseudo[pseudo].at, h->pseudo[pseudo].len);
}

static const char line_version[] = " HTTP/1.1\r\nhost: ";

/* Whether the request is for a plain "http" origin, by what CONNECT and OPTIONS * have not. */
static __always_inline int is_plain_request(const struct hpack *h) {
  __u32 need = 1 << PSEUDO_AUTHORITY | 1 << PSEUDO_METHOD | 1 << PSEUDO_PATH | 1 << PSEUDO_SCHEME;
  __u32 scheme = h->pseudo[PSEUDO_SCHEME].at;
  return h->seen == need && h->pseudo[PSEUDO_SCHEME].len == 4 && text_at(h, scheme) == 'h' &&
         text_at(h, scheme + 1) == 't' && text_at(h, scheme + 2) == 't' && text_at(h, scheme + 3) == 'p' &&
         h->pseudo[PSEUDO_METHOD].len && h->pseudo[PSEUDO_AUTHORITY].len &&
         h->pseudo[PSEUDO_PATH].len && text_at(h, h->pseudo[PSEUDO_PATH].at) == '/';
}

/* Whether method, path or authority has a space, which would cut the text otherwise; `acc` is where to look. */
static long space_step(__u32 index, void *context) {
  struct hpack *h = *(struct hpack **)context;
  __u32 at = h->acc;
  if (at >= h->state)
    return 1;
  h->acc = at + 1;
  if (text_at(h, at) != ' ')
    return 0;
  h->result = BLOCK_ODD;
  return 1;
}

/* The decoded request as text in s->in. Returns its length; 0: it has no such text (then the result is odd). */
static __always_inline __u32 request_text(struct hpack *h, struct scratch *s) {
  if (h->result || !is_plain_request(h))
    return spoil(h, h->result ? h->result : BLOCK_ODD);
  __u32 lines = h->lines_at ? h->to - h->lines_at : 0;
  h->acc = 1; /* the pseudo-header fields lie in front, without anything between them */
  h->state = h->lines_at ? h->lines_at : h->to;
  LOOP(MAX_HEAD, space_step, &h);
  if (h->result)
    return 0;
  __u32 o = 0;
  put_pseudo(s, &o, h, PSEUDO_METHOD);
  s->in[o & IN_MASK] = ' ';
  o++;
  put_pseudo(s, &o, h, PSEUDO_PATH);
  for (int k = 0; k < 17; k++)
    s->in[(o + k) & IN_MASK] = line_version[k];
  o += 17;
  put_pseudo(s, &o, h, PSEUDO_AUTHORITY);
  s->in[o & IN_MASK] = '\r';
  s->in[(o + 1) & IN_MASK] = '\n';
  o += 2;
  put_text(s, &o, h, h->lines_at, lines);
  s->in[o & IN_MASK] = '\r';
  s->in[(o + 1) & IN_MASK] = '\n';
  o += 2;
  if (o > MAX_HEAD)
    return spoil(h, BLOCK_ODD);
  return o;
}

/* Headers of a connection, which no message of HTTP/2 may have (RFC 9113, section 8.2.2). */
#define CONNECTION_SLOTS                                                                                               \
  ((1ULL << SLOT_CONNECTION) | (1ULL << SLOT_TRANSFER_ENCODING) | (1ULL << SLOT_KEEP_ALIVE) |                          \
   (1ULL << SLOT_PROXY_CONNECTION) | (1ULL << SLOT_UPGRADE))

/* After scan_head of a request's text. */
static __always_inline void finish_stream_head(struct scratch *s) {
  finish_request_head(s);
  if (s->present & CONNECTION_SLOTS)
    s->result = ODD_HEAD;
}
