/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Verified tokens. The agent verifies a token once and writes what the policies ask about it; a request that has exactly
 * this value (every byte is compared) in the same place gets these facts until they run out. Everything else about
 * tokens is the proxy's.
 */
#pragma once
#include "maps.h"
#include "rewrite.h"

/* Set before loading: makes the places of tokens unpredictable. */
const volatile __u64 token_seed = 0;

#define TOKEN_PRIME 0x9e3779b97f4a7c15ULL

/* Eight bytes of the value in s->in, zeros behind its end. `at`: offset in the value. */
static __always_inline __u64 token_word(const struct scratch *s, __u32 at) {
  __u64 word = word_at(&s->in[(s->token_at + at) & IN_MASK]);
  __u32 left = s->token_len - at;
  if (left < 8)
    word &= (1ULL << (8 * left)) - 1;
  return word;
}

static long token_hash_step(__u32 index, void *context) {
  struct scratch *s = ((struct work *)context)->s;
  __u32 at = index * 8;
  if (at >= s->token_len)
    return 1;
  __u64 hash = (s->token_hash ^ token_word(s, at)) * TOKEN_PRIME;
  s->token_hash = hash ^ hash >> 29;
  return 0;
}

struct token_work {
  struct scratch *s;
  const struct token *token;
};

static long token_compare_step(__u32 index, void *context) {
  struct token_work *w = context;
  __u32 at = index * 8;
  if (at >= w->s->token_len)
    return 1;
  if (*(const volatile __u64 *)&w->token->bytes[at & (MAX_TOKEN - 8)] != token_word(w->s, at)) {
    w->s->token_same = 0;
    return 1;
  }
  return 0;
}

/* Whether `token` is this value's; then its facts are in s->token_facts. */
static __always_inline int token_is(struct scratch *s, struct token *token, __u32 listener, __u32 generation, __u32 place) {
  __u32 serial = __sync_fetch_and_add(&token->serial, 0);
  if (serial & 1 || token->hash != s->token_hash || token->generation != generation || token->listener != listener ||
      token->place != place || token->length != s->token_len)
    return 0;
  __u64 now = bpf_ktime_get_boot_ns();
  if (token->until <= now)
    return 0;
  struct token_work w = {.s = s, .token = token};
  s->token_same = 1;
  bpf_loop(MAX_TOKEN / 8, token_compare_step, &w, 0);
  if (!s->token_same)
    return 0;
  __u64 facts[TOKEN_WORDS];
  for (int i = 0; i < TOKEN_WORDS; i++)
    facts[i] = *(volatile __u64 *)&token->facts[i];
  __u32 n_lines = *(volatile __u32 *)&token->n_lines;
  if (n_lines > MAX_TOKEN_LINES || copy_bytes(&s->in[TOKEN_LINES_AT], n_lines & (MAX_TOKEN_LINES * 2 - 1), token->lines))
    return 0;
  /* the agent may have put another token here meanwhile */
  if (__sync_fetch_and_add(&token->serial, 0) != serial)
    return 0;
  token->used = now;
  for (int i = 0; i < TOKEN_WORDS; i++)
    s->token_facts[i] = facts[i];
  s->token_lines = n_lines;
  return 1;
}

static long token_place_step(__u32 index, void *context) {
  struct work *w = context;
  struct scratch *s = w->s;
  const struct token_place *p =
      AT(struct token_place, w->image, s->list + index * sizeof(struct token_place));
  __u32 at = s->path_end + 1, end = s->target_end;
  if (p->kind == TOKEN_PLACE_QUERY) {
    if (at > end)
      return 0;
  } else {
    __u32 slot = p->slot & (MAX_SLOTS - 1);
    if (!(s->present & (1ULL << slot)))
      return 0;
    const struct line *line = &s->lines[(s->first[slot] - 1) & (MAX_LINES - 1)];
    at = line->vstart;
    end = line->vend;
  }
  if (p->kind != TOKEN_PLACE_HEADER) {
    if (!capture_over(w, p->find, p->find_classes, at, end))
      return 0;
    at = s->cap[0];
    end = s->cap[1];
  }
  s->token_at = at;
  s->token_len = end > at ? end - at : 0;
  s->token_place = index;
  s->token_places++;
  return 0;
}

/*
 * What is known of the token that was found. A global function, so that the verifier walks it once and not on every path of
 * its caller.
 */
__noinline int look_up_token(struct scratch *s, __u32 index, __u32 generation) {
  if (!s)
    return 0;
  struct work w = {.s = s};
  /* of none, and of several, the agent learns nothing */
  if (s->token_places != 1 || !s->token_len || s->token_len > MAX_TOKEN)
    return 0;
  s->token_hash = token_seed ^ s->token_len;
  bpf_loop(MAX_TOKEN / 8, token_hash_step, &w, 0);
  s->token_unknown = 1;
  for (__u32 way = 0; way < TOKEN_WAYS; way++) {
    __u32 key = (__u32)(s->token_hash + way) & (MAX_TOKENS - 1);
    struct token *token = bpf_map_lookup_elem(&tokens, &key);
    if (token && token_is(s, token, index, generation, s->token_place)) {
      s->token_unknown = 0;
      count(COUNTER_TOKEN_KNOWN);
      return 0;
    }
  }
  return 0;
}

/* After the head is scanned: finds the request's token, and what is known of it. `index`: the listener's. */
static __always_inline void request_token(struct work *w, const struct listener *listener, __u32 index, __u32 generation) {
  struct scratch *s = w->s;
  for (int i = 0; i < TOKEN_WORDS; i++)
    s->token_facts[i] = 0;
  s->token_unknown = 0;
  s->token_lines = 0;
  s->token_places = 0;
  s->list = listener->token_places;
  __u32 n = listener->n_token_places;
  if (n)
    LOOP(n > MAX_TOKEN_PLACES ? MAX_TOKEN_PLACES : n, token_place_step, w);
  look_up_token(s, index, generation);
}
