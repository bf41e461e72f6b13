/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a forward action to an endpoint: weighted cluster, then the cluster's load balancing. */
#pragma once
#include "pool.h"
#include "hash.h"
#include "outlier.h"

static long weighted_step(__u32 index, void *context) {
  struct work *w = context;
  const struct weighted_cluster *choice =
      AT(struct weighted_cluster, w->image, w->s->list + index * sizeof(struct weighted_cluster));
  w->s->run_row = choice->cluster;
  w->s->choice = index;
  if (w->s->run_at < choice->weight)
    return 1;
  w->s->run_at -= choice->weight;
  return 0;
}

/* The endpoint at a place of a list; leaves in s->watch where its failures are counted. */
static __always_inline __u32 endpoint_at(struct work *w, __u32 list, __u32 index) {
  const struct endpoint_ref *ref = AT(struct endpoint_ref, w->image,
                                      list + sizeof(struct endpoint_list) + index * sizeof(struct endpoint_ref));
  w->s->watch = ref->watch;
  return ref->id;
}

/* The next turn of a counter; there is one in the map for each index that the agent has given out. */
static __always_inline __u32 turn(__u32 counter) {
  __u32 index = counter & (N_TURNS - 1);
  __u32 *next = bpf_map_lookup_elem(&turns, &index);
  return next ? __sync_fetch_and_add(next, 1) : 0;
}

static long set_step(__u32 index, void *context) {
  struct work *w = context;
  w->s->run_row = w->s->list + index * sizeof(struct host_set);
  __u32 share = AT(struct host_set, w->image, w->s->run_row)->share;
  if (w->s->run_at < share)
    return 1;
  w->s->run_at -= share;
  return 0;
}

/* The set of equally good hosts whose turn it is (Envoy: choosePriority), of n at s->run_row. */
static __always_inline const struct host_set *choose_set(struct work *w, __u32 n) {
  struct scratch *s = w->s;
  if (n > 1) {
    s->list = s->run_row;
    s->run_at = s->hashed ? s->hash % 100 : bpf_get_prandom_u32() % 100;
    LOOP(n > MAX_HOST_SETS ? MAX_HOST_SETS : n, set_step, w);
  }
  return AT(struct host_set, w->image, s->run_row);
}

static __always_inline __u32 choose_any(struct work *w, const struct action *action, int hashes) {
  struct scratch *s = w->s;
  __u32 n = action->n_clusters;
  if (!n || !action->total_weight)
    return NO_SLOT;
  s->list = action->clusters;
  s->run_at = n > 1 ? bpf_get_prandom_u32() % action->total_weight : 0;
  LOOP(n > 64 ? 64 : n, weighted_step, w);
  const struct cluster *cluster = AT(struct cluster, w->image, s->run_row);
  __u32 lb = cluster->lb;
  s->max_requests = cluster->max_requests;
  s->breaker = cluster->breaker;
  if (!hashes)
    s->connect_ms = cluster->connect_ms;
  /* read once: the agent may switch to others */
  __u32 sets = *(volatile const __u32 *)&cluster->sets;
  __u32 n_sets = AT(struct host_sets, w->image, sets)->n;
  if (!n_sets)
    return NO_SLOT;
  s->hashed = 0;
  if (hashes && (lb == LB_RING_HASH || lb == LB_MAGLEV)) {
    request_hash(w, action);
    if (s->stop)
      return NO_SLOT;
  }
  s->run_row = sets + sizeof(struct host_sets);
  const struct host_set *set = choose_set(w, n_sets);
  __u32 lists = set->lists, n_lists = set->n_lists;
  if (n_lists > 1)
    lists += turn(set->counter) % n_lists * sizeof(struct host_list);
  const struct host_list *choice = AT(struct host_list, w->image, lists);
  __u32 list = choice->endpoints, counter = choice->counter;
  __u32 count = AT(struct endpoint_list, w->image, list)->n;
  if (!count)
    return NO_SLOT;
  if (s->hashed)
    return endpoint_at(w, list, table_member(w, set));
  if (count == 1)
    return endpoint_at(w, list, 0);
  if (lb == LB_ROUND_ROBIN)
    return endpoint_at(w, list, turn(counter) % count);
  __u32 one = bpf_get_prandom_u32() % count;
  __u32 first = endpoint_at(w, list, one);
  if (lb != LB_LEAST_REQUEST)
    return first;
  /* least request: the less busy of two drawn at random */
  __u32 second = endpoint_at(w, list, bpf_get_prandom_u32() % count);
  struct endpoint *a = bpf_map_lookup_elem(&endpoints, &first);
  struct endpoint *b = bpf_map_lookup_elem(&endpoints, &second);
  return a && b && b->active < a->active ? second : endpoint_at(w, list, one);
}

/* Chooses the endpoint id for a forward action; NO_SLOT when its cluster has none, or the proxy must choose. */
static __always_inline __u32 choose_endpoint(struct work *w, const struct action *action) {
  w->s->watch = 0;
  __u32 endpoint = choose_any(w, action, 1);
  return is_tripped(w->s->watch) ? NO_SLOT : endpoint;
}
