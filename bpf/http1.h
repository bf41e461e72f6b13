/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Heads of HTTP/1.1 messages (RFC 9112). The grammar itself is a table of the image (a scanner, see
 * src/layout/image.ts); this file walks it and notes where things are. Whatever is not the strict grammar, or means
 * something that the kernel does not do, is "odd": the proxy decides.
 */
#pragma once
#include "scratch.h"

enum { INCOMPLETE = 0, COMPLETE = 1, ODD_HEAD = 2 };

static __always_inline __u8 lower(__u8 c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; }

static __always_inline __u8 in_at(const struct scratch *s, __u32 i) { return s->in[i & IN_MASK]; }

/* Whether in[at..end) is `word` (lower case, at most 10 bytes), ignoring case. */
static __always_inline int is_word(const struct scratch *s, __u32 at, __u32 end, const char *word, __u32 len) {
  if (end - at != len)
    return 0;
  for (__u32 i = 0; i < len; i++)
    if (lower(in_at(s, at + i)) != (__u8)word[i])
      return 0;
  return 1;
}

/* global, not literals in functions: clang 14 breaks the object's BTF with those */
static const char word_keep_alive[] = "keep-alive";
static const char word_close[] = "close";
static const char word_chunked[] = "chunked";
static const char word_http[] = "http";
static const char word_https[] = "https";

/* Decimal digits only, 1 to 18 of them, else odd (RFC 9110 section 8.6). */
static __always_inline void note_length(struct scratch *s, __u32 at, __u32 end) {
  __u64 value = 0;
  if (end <= at || end - at > 18) {
    s->flags |= HEAD_ODD;
    return;
  }
  for (__u32 i = 0; i < 18; i++) {
    if (at + i >= end)
      break;
    __u8 c = in_at(s, at + i);
    if (c < '0' || c > '9') {
      s->flags |= HEAD_ODD;
      return;
    }
    value = value * 10 + (c - '0');
  }
  s->flags |= HEAD_LENGTH;
  s->content_length = value;
}

/* What says where a message ends, or could mean more than one message: nothing is certain when one of these is odd. */
#define FRAMING_SLOTS                                                                                                  \
  ((1ULL << SLOT_HOST) | (1ULL << SLOT_CONTENT_LENGTH) | (1ULL << SLOT_TRANSFER_ENCODING) | (1ULL << SLOT_CONNECTION) | \
   (1ULL << SLOT_KEEP_ALIVE) | (1ULL << SLOT_PROXY_CONNECTION) | (1ULL << SLOT_UPGRADE) | (1ULL << SLOT_EXPECT) |      \
   (1ULL << SLOT_TRAILER))

/*
 * Called at the end of each line whose name has a slot: what the framing needs to know. A global function, as the next one, so
 * that the verifier walks it once and not for each byte of the unrolled loop.
 */
__noinline int note_header(struct scratch *s, __u32 is_response) {
  if (!s)
    return 0;
  __u32 index = (s->n_lines - 1) & (MAX_LINES - 1);
  struct line *line = &s->lines[index];
  if (s->slot >= MAX_SLOTS) {
    __u64 watched = 1ULL << (s->slot & (MAX_SLOTS - 1));
    if (s->watched & watched)
      s->flags |= HEAD_LEFT;
    s->watched |= watched;
    return 0;
  }
  __u32 slot = s->slot & (MAX_SLOTS - 1);
  __u32 at = line->vstart, end = line->vend;
  __u64 bit = 1ULL << slot;
  /*
   * A name that somebody asks for, twice: Envoy joins some such headers and not others, and matchers see them in more
   * than one way.
   */
  if (s->present & bit)
    s->flags |= FRAMING_SLOTS & bit ? HEAD_ODD : HEAD_LEFT;
  s->first[slot] = index + 1;
  switch (slot) {
  case SLOT_HOST:
    if (is_response)
      break;
    if (at == end)
      s->flags |= HEAD_ODD;
    s->host_start = at;
    s->host_end = end;
    break;
  case SLOT_CONTENT_LENGTH:
    note_length(s, at, end);
    break;
  case SLOT_TRANSFER_ENCODING:
    if (is_response && is_word(s, at, end, word_chunked, 7))
      s->flags |= HEAD_CHUNKED;
    else
      s->flags |= HEAD_ODD;
    break;
  case SLOT_CONNECTION:
    if (is_word(s, at, end, word_keep_alive, 10))
      s->flags |= HEAD_KEEP_ALIVE;
    else if (is_response && is_word(s, at, end, word_close, 5))
      s->flags |= HEAD_CLOSE;
    else
      s->flags |= HEAD_ODD;
    break;
  case SLOT_X_FORWARDED_PROTO:
    if (!is_response && !is_word(s, at, end, word_http, 4) && !is_word(s, at, end, word_https, 5))
      s->flags |= HEAD_LEFT;
    break;
  case SLOT_TE:
  case SLOT_ODD:
    if (!is_response)
      s->flags |= HEAD_LEFT;
    break;
  case SLOT_PROXY_CONNECTION:
  case SLOT_EXPECT:
    if (!is_response)
      s->flags |= HEAD_ODD;
    break;
  case SLOT_UPGRADE:
  case SLOT_TRAILER:
    s->flags |= HEAD_ODD;
    break;
  default:
    break;
  }
  s->present |= bit;
  return 0;
}

/* One action of the scanner at byte `i`. Returns 1 to stop. */
__noinline int scan_action(struct scratch *s, __u32 action, __u32 i, __u32 slot) {
  if (!s)
    return 1;
  __u32 is_response = action & 0x100;
  action &= 0xff;
  if (action == SCAN_METHOD_END) {
    s->method_end = i;
  } else if (action == SCAN_QUERY) {
    s->path_end = i;
  } else if (action == SCAN_TARGET_END) {
    s->target_end = i;
    if (!s->path_end)
      s->path_end = i;
  } else if (action == SCAN_LINE) {
    if (s->n_lines >= MAX_LINES) {
      s->result = ODD_HEAD;
      return 1;
    }
    s->lines[s->n_lines & (MAX_LINES - 1)].start = i;
    s->lines[s->n_lines & (MAX_LINES - 1)].vstart = 0;
    s->n_lines++;
  } else if (action == SCAN_NAME_END) {
    s->slot = slot & (MAX_WATCHED_SLOTS - 1);
    s->line_slot[(s->n_lines - 1) & (MAX_LINES - 1)] = slot < MAX_SLOTS ? slot : SLOT_OTHER;
  } else if (action == SCAN_VALUE) {
    s->lines[(s->n_lines - 1) & (MAX_LINES - 1)].vstart = i;
  } else if (action == SCAN_VALUE_END) {
    struct line *line = &s->lines[(s->n_lines - 1) & (MAX_LINES - 1)];
    __u32 end = i;
    line->next = i + 2;
    if (!line->vstart) {
      line->vstart = i;
    } else {
      /* optional white space behind the value is not part of it */
      int k;
      for (k = 0; k < 16; k++) {
        __u8 c = in_at(s, end - 1);
        if (c != ' ' && c != '\t')
          break;
        end--;
      }
      if (k == 16)
        s->flags |= HEAD_ODD;
    }
    line->vend = end;
    if (s->slot)
      note_header(s, is_response);
  } else if (action == SCAN_HEAD_END) {
    s->head_len = i + 1;
    s->result = COMPLETE;
    return 1;
  } else {
    s->result = ODD_HEAD;
    return 1;
  }
  return 0;
}

#define SCAN_UNROLL 8
#define EACH_BYTE(c) (0x0101010101010101ULL * (c))

/* Skips bytes from 0x20 to 0x7e by words, at most 64 bytes: most of a head are values, 1 ns a word. */
static __always_inline __u32 skip_plain(const struct scratch *s, __u32 i, __u32 n) {
  for (int k = 0; k < 8; k++) {
    if (i + 8 > n)
      break;
    __u64 word = word_at(&s->in[i & IN_MASK]);
    __u64 delete = word ^ EACH_BYTE(0x7f);
    __u64 odd = ((word - EACH_BYTE(0x20)) | word | (delete - EACH_BYTE(1))) & EACH_BYTE(0x80);
    if (odd) {
      /* the lowest bit that is set is right (what borrows comes from below): as many plain bytes are before it */
      __u64 below = (odd & -odd) - 1;
      i += ((below & EACH_BYTE(1)) * EACH_BYTE(1) >> 56) - 1;
      break;
    }
    i += 8;
  }
  return i;
}

static long scan_step(__u32 index, void *context) {
  struct work *w = context;
  struct scratch *s = w->s;
  const __u8 *image = w->image, *classes = AT(__u8, image, s->classes);
  __u32 i = s->i, row = s->row, n = s->n;
  if (image_u32(image, row) == PLAIN_ROW)
    i = skip_plain(s, i, n);
#pragma unroll
  for (int k = 0; k < SCAN_UNROLL; k++) {
    if (i >= n) {
      s->i = i;
      s->row = row;
      return 1;
    }
    /* what one byte must wait for of the one before: a mask, a sum and a load */
    __u32 cell = *AT(__u32, image + classes[in_at(s, i)] * 4, row);
    __u32 action = cell >> 24;
    if (action) {
      __u32 slot = image_u32(image, row);
      if (scan_action(s, action | (s->pad ? 0x100 : 0), i, slot)) {
        s->i = i;
        return 1;
      }
    }
    row = cell & (IMAGE_SIZE - 1);
    i++;
    if (action == SCAN_VALUE)
      break; /* to skip from here on */
  }
  s->i = i;
  s->row = row;
  return 0;
}

/*
 * Scans the head in s->in[0..n). Leaves s->result and, when complete, where everything is.
 * `start` and `classes`: the scanner; `is_response` chooses what the framing headers mean.
 */
static __always_inline void scan_head(struct work *w, __u32 n, __u32 start, __u32 classes, int is_response) {
  struct scratch *s = w->s;
  s->i = 0;
  s->n = n > MAX_HEAD ? MAX_HEAD : n;
  s->row = start;
  s->classes = classes;
  s->method_end = s->path_end = s->target_end = s->head_len = 0;
  s->result = INCOMPLETE;
  s->n_lines = 0;
  s->slot = 0;
  s->flags = 0;
  s->present = 0;
  s->watched = 0;
  s->content_length = 0;
  s->host_start = s->host_end = 0;
  s->pad = is_response;
  LOOP(MAX_HEAD / SCAN_UNROLL + MAX_LINES + 1, scan_step, w);
  if (s->result == COMPLETE && s->flags & (HEAD_ODD | HEAD_LEFT))
    s->result = ODD_HEAD;
  if (s->result == INCOMPLETE && n >= MAX_HEAD)
    s->result = ODD_HEAD;
}

/* After scan_head of a request: checks that concern the whole head. */
static __always_inline void finish_request_head(struct scratch *s) {
  if (s->result == COMPLETE && !(s->present & (1ULL << SLOT_HOST)))
    s->result = ODD_HEAD;
}

/*
 * Whether a request that was found odd is so only in what it asks for: its head follows the grammar, and it ends where
 * Content-Length says. Such a one may share a connection to the proxy; what is odd otherwise gets one of its own, by way of
 * the agent. Scans the head again, without regard to policies.
 */
static __always_inline int is_left(struct work *w, __u32 n) {
  struct scratch *s = w->s;
  const struct image_header *header = (const void *)w->image;
  if (s->result != ODD_HEAD)
    return 0;
  scan_head(w, n, header->framing_scan, header->framing_classes, 0);
  return s->head_len && !(s->flags & HEAD_ODD) && s->present & (1ULL << SLOT_HOST);
}

/* After scan_head of a response: status and version, whose places the scanner has fixed. */
static __always_inline void finish_response_head(struct scratch *s) {
  if (s->result != COMPLETE)
    return;
  s->status = (in_at(s, 9) - '0') * 100 + (in_at(s, 10) - '0') * 10 + (in_at(s, 11) - '0');
  if (in_at(s, 7) == '0') {
    s->flags |= HEAD_HTTP10;
    if (!(s->flags & HEAD_KEEP_ALIVE))
      s->flags |= HEAD_CLOSE;
  }
  if (s->flags & HEAD_CHUNKED && s->flags & (HEAD_LENGTH | HEAD_HTTP10))
    s->result = ODD_HEAD;
}
