/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From a scanned request head to a route: automata over its fields give facts, the path's automaton gives the short
 * list of candidate routes, and the first whose condition holds wins. Nothing here depends on the number of routes.
 */
#pragma once
#include "http1.h"
#include "recall.h"

#define RUN_UNROLL 8
#define STATE_AT(state) ((state) & ~7u)

static long run_step(__u32 index, void *context) {
  struct work *w = context;
  struct scratch *s = w->s;
  const __u8 *image = w->image, *classes = AT(__u8, image, s->run_classes);
  __u32 at = s->run_at, end = s->run_end, state = s->run_row;
#pragma unroll
  for (int k = 0; k < RUN_UNROLL; k++) {
    if (at >= end || state & STATE_SINK) {
      s->run_row = state;
      s->run_at = end;
      return 1;
    }
    if (!(state & STATE_NODE)) {
      const __u32 *cell = AT(__u32, image + classes[in_at(s, at)] * 8, state);
      state = cell[0] == state ? cell[1] : image_u32(image, state + 4);
      at++;
      continue;
    }
    const struct node *node = AT(struct node, image, STATE_AT(state));
    if ((word_at(&s->in[at & IN_MASK]) & node->mask) != node->want || at + node->length > end) {
      state = node->fail;
      continue;
    }
    at += node->length;
    if (node->on) {
      state = node->other;
      continue;
    }
    if (at >= end) {
      state = STATE_AT(state) + __builtin_offsetof(struct node, end); /* as if it were a row */
      continue;
    }
    /* which byte of the keys is the class, by the lowest one that becomes zero */
    __u64 differ = node->keys ^ EACH_BYTE((__u64)classes[in_at(s, at)]);
    __u64 zero = (differ - EACH_BYTE(1)) & ~differ & EACH_BYTE(0x80);
    __u64 place = ((zero & -zero) >> 7) * 0x0001020304050607ULL >> 56;
    state = zero && place < NODE_KEYS ? node->to[place & 7] : node->other;
    at++;
  }
  s->run_row = state;
  s->run_at = at;
  return 0;
}

/* Runs the automaton on from s->run_row over in[at..end). */
static __always_inline void run_over(struct work *w, __u32 at, __u32 end) {
  w->s->run_at = at;
  w->s->run_end = end;
  /* each byte is a step at most, and may be looked at in vain MAX_FAILS times */
  LOOP((1 + MAX_FAILS) * MAX_HEAD / RUN_UNROLL + 1, run_step, w);
}

/* Runs an automaton over in[at..end); returns what its acceptance means. */
static __always_inline __u32 run(struct work *w, __u32 start, __u32 classes, __u32 at, __u32 end) {
  w->s->run_row = start;
  w->s->run_classes = classes;
  run_over(w, at, end);
  __u32 state = w->s->run_row;
  return state & STATE_SINK ? STATE_AT(state) : image_u32(w->image, STATE_AT(state));
}

static long job_step(__u32 index, void *context) {
  struct work *w = context;
  struct scratch *s = w->s;
  const struct job *job = AT(struct job, w->image, s->list + index * sizeof(struct job));
  __u32 accept = 0, at = 0, end = 0;
  switch (job->field) {
  case FIELD_METHOD:
    end = s->method_end;
    break;
  case FIELD_HOST:
    at = s->host_start;
    end = s->host_end;
    break;
  case FIELD_PATH:
    at = s->method_end + 1;
    end = s->path_end;
    break;
  case FIELD_QUERY:
    at = s->path_end < s->target_end ? s->path_end + 1 : s->target_end;
    end = s->target_end;
    break;
  case FIELD_TARGET:
    at = s->method_end + 1;
    end = s->target_end;
    break;
  case FIELD_SOURCE_IP:
    at = SOURCE_AT;
    end = SOURCE_AT + s->target_rest;
    break;
  default: {
    __u32 slot = job->slot & (MAX_SLOTS - 1);
    if (!(s->present & (1ULL << slot)))
      return 0;
    const struct line *line = &s->lines[(s->first[slot] - 1) & (MAX_LINES - 1)];
    at = line->vstart;
    end = line->vend;
  }
  }
  accept = run(w, job->dfa, job->classes, at, end);
  if (accept)
    s->facts[job->word & (FACT_WORDS - 1)] |= image_u64(w->image, accept);
  return 0;
}

static __always_inline void run_jobs(struct work *w, __u32 jobs, __u32 n) {
  w->s->list = jobs;
  if (n)
    LOOP(n > MAX_JOBS ? MAX_JOBS : n, job_step, w);
}

#define LITERAL_UNROLL 4

static long literal_step(__u32 index, void *context) {
  struct work *w = context;
  struct scratch *s = w->s;
  const struct literal *l =
      AT(struct literal, w->image, s->cond_state + index * (LITERAL_UNROLL * sizeof(struct literal)));
  __u32 product = s->run_at;
#pragma unroll
  for (int k = 0; k < LITERAL_UNROLL; k++) {
    __u32 flags = l[k].flags, equal = (s->facts[l[k].word & (FACT_WORDS - 1)] & l[k].mask) == l[k].want;
    if (equal == !!(flags & LITERAL_ANY))
      product = 0;
    if (flags & LITERAL_PRODUCT_END) {
      if (product) {
        s->cond_result = 1;
        return 1;
      }
      product = 1;
    }
    if (flags & LITERAL_END)
      return 1;
  }
  s->run_at = product;
  return 0;
}

/* Evaluates the condition at `off`; 0 is true. */
static __always_inline int holds(struct work *w, __u32 off) {
  if (!off)
    return 1;
  w->s->cond_state = off;
  w->s->cond_result = 0;
  w->s->run_at = 1;
  LOOP(MAX_RBAC_LITERALS / LITERAL_UNROLL + 1, literal_step, w);
  return w->s->cond_result;
}

static long candidate_step(__u32 index, void *context) {
  struct work *w = context;
  struct scratch *s = w->s;
  __u32 off = image_u32(w->image, s->list + 4 + index * 4);
  const struct route *route = AT(struct route, w->image, off);
  if (route->flags & ROUTE_FLAG_UNKNOWN) {
    s->stop = 1;
    return 1;
  }
  if (!holds(w, route->condition))
    return 0;
  s->chosen = off;
  return 1;
}

static long rbac_step(__u32 index, void *context) {
  struct work *w = context;
  struct scratch *s = w->s;
  const struct rbac_entry *e =
      AT(struct rbac_entry, w->image, s->list + sizeof(struct rbac_list) + index * sizeof(struct rbac_entry));
  int match = !e->never && holds(w, e->condition);
  if (match != (e->action == RBAC_DENY))
    return 0;
  if (e->denominator || e->bucket) {
    /* drawn when it is sure that the request does not go to the proxy, which draws itself */
    struct lot *lot = &s->lots[s->n_lots & (MAX_LOTS - 1)];
    lot->bucket = e->bucket;
    lot->numerator = e->numerator;
    lot->denominator = e->denominator;
    lot->reply = e->reply;
    if (s->n_lots++ < MAX_LOTS)
      return 0;
    s->rbac_denied = 1; /* not what the compiler makes */
    s->stop_reply = REPLY_PROXY;
    return 1;
  }
  s->rbac_denied = 1;
  s->stop_reply = e->reply;
  return 1;
}

/*
 * Which virtual host and which list of candidate routes the scanned request has: s->found_host and s->found_list, 0: none. A global
 * function, so that the verifier walks it once and not on every path of its caller.
 */
__noinline int find_candidates(struct scratch *s, const struct image *image, __u32 host_rows, __u32 host_classes,
                               __u32 remembers) {
  if (!s || !image)
    return 0;
  struct work w = {.s = s, .image = image->bytes};
  __u32 generation = ((const struct image_header *)w.image)->generation;
  if (remembers && recall_decision(s, host_rows, host_classes, generation))
    return 0;
  s->found_list = 0;
  s->found_host = run(&w, host_rows, host_classes, s->host_start, s->host_end);
  if (!s->found_host)
    return 0;
  const struct virtual_host *v = AT(struct virtual_host, w.image, s->found_host);
  s->found_list = run(&w, v->path, v->path_classes, s->method_end + 1, s->path_end);
  if (remembers)
    keep_decision(s, host_rows, host_classes, generation);
  return 0;
}

/*
 * Decides about the scanned request: the offset of an action, or 0 for the proxy. s->rule is the rule's index plus one,
 * or 0 when no rule decided. `source_len`: 4 or 16 bytes of the client's address at in[SOURCE_AT].
 */
static __always_inline __u32 decide(struct work *w, const struct listener *listener, __u32 source_len) {
  struct scratch *s = w->s;
  __builtin_memset(s->facts, 0, sizeof s->facts);
  for (int i = 0; i < TOKEN_WORDS; i++)
    s->facts[TOKEN_WORD + i] = s->token_facts[i];
  s->rule = 0;
  s->stop = 0;
  s->chosen = 0;
  s->rbac_denied = 0;
  s->n_lots = 0;
  s->target_rest = source_len;
  run_jobs(w, listener->jobs, listener->n_jobs);
  __u32 action = listener->not_found, rbac = listener->rbac;
  find_candidates(s, (const struct image *)w->image, listener->host, listener->host_classes, listener->remembers);
  __u32 host = s->found_host, list = s->found_list;
  if (host) {
    const struct virtual_host *v = AT(struct virtual_host, w->image, host);
    run_jobs(w, v->jobs, v->n_jobs);
    if (list) {
      __u32 n = image_u32(w->image, list);
      s->list = list;
      if (n)
        LOOP(n > MAX_CANDIDATES ? MAX_CANDIDATES : n, candidate_step, w);
    }
    if (s->stop)
      return 0;
    if (s->chosen) {
      const struct route *route = AT(struct route, w->image, s->chosen);
      action = route->action;
      s->rule = route->rule + 1;
      if (route->rbac)
        rbac = route->rbac;
    }
  }
  if (!action)
    return 0;
  if (rbac) {
    __u32 n = image_u32(w->image, rbac);
    s->list = rbac;
    if (n)
      LOOP(n > MAX_RBAC ? MAX_RBAC : n, rbac_step, w);
    if (s->rbac_denied) {
      if (s->stop_reply == REPLY_PROXY)
        return 0;
      return s->stop_reply ? s->stop_reply : listener->denied;
    }
  }
  return action;
}
