/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Decisions that were made before (src/layout/decisions.ts). The programs of several processors write them without a lock: an odd version
 * says that somebody is at it, and a version that is another after reading that what was read may be torn. Processors that show
 * stores and loads in another order than x86 would need barriers here.
 */
#pragma once
#include "scratch.h"

#ifdef SIDESTEP_NATIVE
static inline int recall_decision(struct scratch *s, __u32 host_rows, __u32 host_classes, __u32 generation) { return 0; }
static inline int keep_decision(struct scratch *s, __u32 host_rows, __u32 host_classes, __u32 generation) { return 0; }
#else
#include "maps.h"

#define READ_U32(at) (*(volatile const __u32 *)(at))
#define WRITE_U32(at, value) (*(volatile __u32 *)(at) = (value))
#define IN_ORDER() asm volatile("" ::: "memory")

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, MAX_DECISIONS);
  __type(key, __u32);
  __type(value, struct decision);
} decisions SEC(".maps");

/* The bits of word `i` of a text of `length` bytes. No branches: the verifier would follow each. */
static __always_inline __u64 bits_of(__u32 length, int i) {
  __u64 whole = ~((__s64)((__u64)length - 8 * i - 8) >> 63), begun = ~((__s64)((__u64)length - 8 * i) >> 63);
  return whole | (begun & ((1ULL << ((length & 7) * 8)) - 1));
}

/* The words of in[at..at + length) as s->text[from..to); returns what they add to the hash. */
static __always_inline __u64 text_words(struct scratch *s, int from, int to, __u32 at, __u32 length) {
  __u64 hash = 0;
#pragma clang loop unroll(disable)
  for (int k = from; k < to; k++) {
    __u64 word = word_at(&s->in[(at + 8 * (k - from)) & IN_MASK]) & bits_of(length, k - from);
    s->text[k] = word;
    hash += (word ^ word >> 32) * (0x9e3779b97f4a7c15ULL * (2 * k + 1));
  }
  return hash;
}

/* Whether `d` is about the text. No branches: the words behind it are zero on both sides. */
static __always_inline int is_decision(const struct decision *d, const struct scratch *s, __u32 host_rows,
                                       __u32 host_classes, __u32 generation) {
  __u64 differ = (d->generation ^ generation) | (d->host_rows ^ host_rows) | (d->host_classes ^ host_classes) |
                 (d->path_len ^ (s->path_end - s->method_end - 1)) | (d->host_len ^ (s->host_end - s->host_start));
#pragma clang loop unroll(disable)
  for (int k = 0; k < DECISION_WORDS; k++)
    differ |= d->words[k] ^ s->text[k];
  return !differ;
}

/*
 * Looks for the decision about the scanned request's host and path: 1, with s->found_host and s->found_list; or 0, and
 * s->decision is where it may be remembered, plus one.
 */
static __always_inline int recall_decision(struct scratch *s, __u32 host_rows, __u32 host_classes, __u32 generation) {
  if (!s)
    return 0;
  s->decision = 0;
  __u32 path_at = s->method_end + 1, path_len = s->path_end - path_at, host_len = s->host_end - s->host_start;
  if (path_len > 8 * DECISION_PATH || host_len > 8 * (DECISION_WORDS - DECISION_PATH))
    return 0;
  __u64 hash = host_rows + text_words(s, 0, DECISION_PATH, path_at, path_len);
  hash += text_words(s, DECISION_PATH, DECISION_WORDS, s->host_start, host_len);
  hash ^= hash >> 32;
  hash *= 0x9e3779b97f4a7c15ULL;
  __u32 key = hash >> 32 & (MAX_DECISIONS - 1);
  const struct decision *d = bpf_map_lookup_elem(&decisions, &key);
  if (!d)
    return 0;
  __u32 version = READ_U32(&d->version);
  IN_ORDER();
  if (!(version & 1) && is_decision(d, s, host_rows, host_classes, generation)) {
    s->found_host = d->virtual_host;
    s->found_list = d->list;
    IN_ORDER();
    if (READ_U32(&d->version) == version) {
      count(COUNTER_RECALLED);
      return 1;
    }
  }
  s->decision = key + 1;
  s->asked = hash >> 40;
  return 0;
}

/*
 * Remembers what the automata said, in s->found_host and s->found_list. What another text has is taken only when this one
 * is asked for a second time with no third in between: paths that come once do not drive out those that come often.
 */
static __always_inline int keep_decision(struct scratch *s, __u32 host_rows, __u32 host_classes, __u32 generation) {
  if (!s || !s->decision)
    return 0;
  __u32 key = s->decision - 1;
  struct decision *d = bpf_map_lookup_elem(&decisions, &key);
  if (!d)
    return 0;
  if (READ_U32(&d->generation) == generation && READ_U32(&d->asked) != s->asked) {
    WRITE_U32(&d->asked, s->asked);
    return 0;
  }
  __u32 version = READ_U32(&d->version);
  if (version & 1 || __sync_val_compare_and_swap(&d->version, version, version + 1) != version)
    return 0;
  IN_ORDER();
  d->generation = generation;
  d->host_rows = host_rows;
  d->host_classes = host_classes;
  d->path_len = s->path_end - s->method_end - 1;
  d->host_len = s->host_end - s->host_start;
  d->virtual_host = s->found_host;
  d->list = s->found_list;
#pragma clang loop unroll(disable)
  for (int k = 0; k < DECISION_WORDS; k++)
    d->words[k] = s->text[k];
  IN_ORDER();
  WRITE_U32(&d->version, version + 2);
  return 0;
}
#endif
