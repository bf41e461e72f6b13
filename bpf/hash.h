/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Consistent hashing: XXH64 of what the hash sources of an action find in the request, and the tables it leads into. */
#pragma once
#include "rewrite.h"

#define XXH_1 0x9e3779b185ebca87ULL
#define XXH_2 0xc2b2ae3d27d4eb4fULL
#define XXH_3 0x165667b19e3779f9ULL
#define XXH_4 0x85ebca77c2b2ae63ULL
#define XXH_5 0x27d4eb2f165667c5ULL

static __always_inline __u64 rotate(__u64 x, int by) { return x << by | x >> (64 - by); }
static __always_inline __u64 xxh_round(__u64 lane, __u64 word) { return rotate(lane + word * XXH_2, 31) * XXH_1; }
static __always_inline __u64 in_word(const struct scratch *s, __u32 at) { return word_at(&s->in[at & IN_MASK]); }

static long stripe_step(__u32 index, void *context) {
  struct work *w = context;
  struct scratch *s = w->s;
  __u32 at = s->run_at;
  if (at + 32 > s->run_end)
    return 1;
  for (int k = 0; k < 4; k++)
    s->lanes[k] = xxh_round(s->lanes[k], in_word(s, at + 8 * k));
  s->run_at = at + 32;
  return 0;
}

/* XXH64 with seed 0 of in[at..end), into s->hash_value. A global function, so that the verifier walks it once. */
__noinline int xxh64(struct scratch *s, __u32 at, __u32 end) {
  if (!s)
    return 0;
  struct work w = {.s = s};
  __u32 len = end - at;
  __u64 h = XXH_5;
  s->run_at = at;
  s->run_end = end;
  if (len >= 32) {
    s->lanes[0] = XXH_1 + XXH_2;
    s->lanes[1] = XXH_2;
    s->lanes[2] = 0;
    s->lanes[3] = -XXH_1;
    LOOP(MAX_HEAD / 32, stripe_step, &w);
    h = rotate(s->lanes[0], 1) + rotate(s->lanes[1], 7) + rotate(s->lanes[2], 12) + rotate(s->lanes[3], 18);
    for (int k = 0; k < 4; k++)
      h = (h ^ xxh_round(0, s->lanes[k])) * XXH_1 + XXH_4;
  }
  at = s->run_at;
  h += len;
  for (int k = 0; k < 3; k++) {
    if (at + 8 > end)
      break;
    h = rotate(h ^ xxh_round(0, in_word(s, at)), 27) * XXH_1 + XXH_4;
    at += 8;
  }
  if (at + 4 <= end) {
    h = rotate(h ^ (in_word(s, at) & 0xffffffff) * XXH_1, 23) * XXH_2 + XXH_3;
    at += 4;
  }
  for (int k = 0; k < 3; k++) {
    if (at >= end)
      break;
    h = rotate(h ^ in_at(s, at) * XXH_5, 11) * XXH_1;
    at++;
  }
  h = (h ^ h >> 33) * XXH_2;
  h = (h ^ h >> 29) * XXH_3;
  s->hash_value = h ^ h >> 32;
  return 0;
}

static long source_step(__u32 index, void *context) {
  struct work *w = context;
  struct scratch *s = w->s;
  const struct hash_source *source =
      AT(struct hash_source, w->image, s->list + index * sizeof(struct hash_source));
  __u32 at = 0, end = 0, found = 1;
  __u32 kind = source->kind;
  if (kind == HASH_HEADER || kind == HASH_COOKIE) {
    __u32 slot = source->slot & (MAX_SLOTS - 1);
    found = (s->present & (1ULL << slot)) != 0;
    if (found) {
      const struct line *line = &s->lines[(s->first[slot] - 1) & (MAX_LINES - 1)];
      at = line->vstart;
      end = line->vend;
    }
  } else if (kind == HASH_HOST) {
    at = s->host_start;
    end = s->host_end;
  } else if (kind == HASH_TARGET) {
    at = s->method_end + 1;
    end = s->target_end;
  } else if (kind == HASH_METHOD) {
    end = s->method_end;
  } else if (kind == HASH_QUERY) {
    at = s->path_end + 1;
    end = s->target_end;
    found = s->path_end < s->target_end;
  } else {
    if (s->target_rest != 4) { /* IPv6: its text has many forms */
      s->stop = 1;
      return 1;
    }
    at = TEXT_AT;
    end = TEXT_AT + address_text(s);
  }
  if (found && (kind == HASH_COOKIE || kind == HASH_QUERY)) {
    found = capture_over(w, source->find, source->find_classes, at, end);
    if (found) {
      at = s->cap[0];
      end = s->cap[1];
    }
  }
  if (kind == HASH_COOKIE) {
    if (found && end >= at + 2 && in_at(s, at) == '"' && in_at(s, end - 1) == '"') {
      at++;
      end--;
    }
    found = found && end > at;
    if (!found && source->flags & HASH_FLAG_GENERATED) {
      s->stop = 1;
      return 1;
    }
  }
  if (found && end >= at && end <= TEXT_AT + 16) {
    xxh64(s, at, end);
    s->hash = (s->hashed ? rotate(s->hash, 1) : 0) ^ s->hash_value;
    s->hashed = 1;
  }
  return s->hashed && source->flags & HASH_FLAG_TERMINAL;
}

/* Leaves s->hash and s->hashed (whether there is one), or s->stop: the proxy decides. */
static __always_inline void request_hash(struct work *w, const struct action *action) {
  struct scratch *s = w->s;
  __u32 n = action->n_hashes;
  s->hash = 0;
  s->hashed = 0;
  s->stop = 0;
  s->list = action->hashes;
  if (n)
    LOOP(n > MAX_HASHES ? MAX_HASHES : n, source_step, w);
}

static long ring_step(__u32 index, void *context) {
  struct work *w = context;
  struct scratch *s = w->s;
  if (s->run_at >= s->run_end)
    return 1;
  __u32 middle = (s->run_at + s->run_end) >> 1;
  if (image_u64(w->image, s->list + middle * 8) < s->hash)
    s->run_at = middle + 1;
  else
    s->run_end = middle;
  return 0;
}

/* The index of the endpoint that s->hash leads to. */
static __always_inline __u32 table_member(struct work *w, const struct host_set *set) {
  struct scratch *s = w->s;
  __u32 n = set->n_table, entry;
  if (set->table) {
    s->list = set->table;
    s->run_at = 0;
    s->run_end = n;
    LOOP(20, ring_step, w);
    entry = s->run_at < n ? s->run_at : 0;
  } else {
    entry = n ? s->hash % n : 0;
  }
  return *(const __u16 *)(w->image + ((set->members + entry * 2) & (IMAGE_SIZE - 1)));
}
