/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Outlier detection. What happens to a try is counted where its answer is seen: here, or by the agent, which also
 * hears of the proxy's tries. Whoever reaches a limit says so (`tripped`); the agent then decides whether the endpoint
 * is ejected, and until it has, the endpoint is not chosen here. Envoy: DetectorHostMonitorImpl::putHttpResponseCode.
 */
#pragma once
#include "maps.h"

#ifdef SIDESTEP_NATIVE
static __always_inline void count_try(struct upstream *u, __u32 status) {}
#else
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, MAX_DETECTORS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct detector);
} detectors SEC(".maps");

static __always_inline void trip(struct detector *d, __u32 which) {
  __u32 all = 0;
  __sync_fetch_and_or(&d->tripped, which);
  struct detector *sum = bpf_map_lookup_elem(&detectors, &all);
  if (sum)
    __sync_fetch_and_add(&sum->tripped, 1);
}

/* The head of a try's answer has come. */
static __always_inline void count_try(struct upstream *u, __u32 status) {
  __u32 watch = u->watch;
  if (!watch || u->counted)
    return;
  struct detector *d = bpf_map_lookup_elem(&detectors, &watch);
  if (!d)
    return;
  u->counted = 1;
  if (status < 500 || status > 599) {
    if (d->failures)
      d->failures = 0;
    if (d->gateway)
      d->gateway = 0;
    return;
  }
  if (status < 502 || status > 504)
    d->gateway = 0;
  else if (__sync_fetch_and_add(&d->gateway, 1) + 1 == d->gateway_limit)
    trip(d, TRIPPED_GATEWAY);
  if (__sync_fetch_and_add(&d->failures, 1) + 1 == d->limit)
    trip(d, TRIPPED_FAILURES);
}

/* Whether a limit was reached that the agent has not seen yet. */
static __always_inline int is_tripped(__u32 watch) {
  struct detector *d = watch ? bpf_map_lookup_elem(&detectors, &watch) : 0;
  return d && d->tripped;
}
#endif
