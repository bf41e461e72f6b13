/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a forward action to an endpoint: weighted cluster, then the cluster's load balancing. */
#pragma once
#include "pool.h"
#include "hash.h"

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

static __always_inline __u32 endpoint_at(const __u8 *image, __u32 list, __u32 index) {
  return AT(struct endpoint_ref, image, list + sizeof(struct endpoint_list) + index * sizeof(struct endpoint_ref))->id;
}

/* Chooses the endpoint id for a forward action; NO_SLOT when its cluster has none, or the proxy must choose. */
static __always_inline __u32 choose_endpoint(struct work *w, const struct action *action) {
  struct scratch *s = w->s;
  __u32 n = action->n_clusters;
  if (!n || !action->total_weight)
    return NO_SLOT;
  s->list = action->clusters;
  s->run_at = n > 1 ? bpf_get_prandom_u32() % action->total_weight : 0;
  LOOP(n > 64 ? 64 : n, weighted_step, w);
  const struct cluster *cluster = AT(struct cluster, w->image, s->run_row);
  __u32 lb = cluster->lb;
  /* read once: the agent may switch to another list */
  __u32 list = *(volatile const __u32 *)&cluster->endpoints;
  __u32 count = AT(struct endpoint_list, w->image, list)->n;
  s->max_requests = cluster->max_requests;
  if (!count)
    return NO_SLOT;
  if (lb == LB_RING_HASH || lb == LB_MAGLEV) {
    request_hash(w, action);
    if (s->stop)
      return NO_SLOT;
    if (s->hashed)
      return endpoint_at(w->image, list, table_member(w, cluster));
    lb = LB_RANDOM;
  }
  if (count == 1)
    return endpoint_at(w->image, list, 0);
  if (lb == LB_ROUND_ROBIN) {
    __u32 index = cluster->counter & 4095;
    __u32 *turn = bpf_map_lookup_elem(&turns, &index);
    if (!turn)
      return NO_SLOT;
    return endpoint_at(w->image, list, __sync_fetch_and_add(turn, 1) % count);
  }
  __u32 first = endpoint_at(w->image, list, bpf_get_prandom_u32() % count);
  if (lb == LB_RANDOM)
    return first;
  /* least request: the less busy of two drawn at random */
  __u32 second = endpoint_at(w->image, list, bpf_get_prandom_u32() % count);
  struct endpoint *a = bpf_map_lookup_elem(&endpoints, &first);
  struct endpoint *b = bpf_map_lookup_elem(&endpoints, &second);
  if (!a || !b)
    return first;
  return b->active < a->active ? second : first;
}
