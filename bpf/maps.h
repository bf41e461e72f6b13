/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every map of the data plane. What each holds is described in src/layout. */
#pragma once
#include "layout.gen.h"
#include "scratch.h"

/* C: the applications' client sockets, by cookie. */
struct {
  __uint(type, BPF_MAP_TYPE_SOCKHASH);
  __uint(max_entries, MAX_CLIENTS);
  __type(key, __u64);
  __type(value, __u64);
} clients SEC(".maps");

/* Those whose first message says where they go (hello.h). */
struct {
  __uint(type, BPF_MAP_TYPE_SOCKHASH);
  __uint(max_entries, MAX_CLIENTS);
  __type(key, __u64);
  __type(value, __u64);
} hello_clients SEC(".maps");

/* U: pooled connections to endpoints, by slot. */
struct {
  __uint(type, BPF_MAP_TYPE_SOCKMAP);
  __uint(max_entries, MAX_UPSTREAMS);
  __type(key, __u32);
  __type(value, __u64);
} sockets SEC(".maps");

/* Cookie of a U -> its slot. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_UPSTREAMS * 2);
  __type(key, __u64);
  __type(value, __u32);
} slots SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, MAX_UPSTREAMS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct upstream);
} upstreams SEC(".maps");

/* The request in flight, for a replay. */
struct replay {
  __u8 bytes[MAX_REPLAY];
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, MAX_UPSTREAMS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct replay);
} replays SEC(".maps");

/* What the edits of the answer in flight need of its request. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, MAX_UPSTREAMS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct variables);
} variables SEC(".maps");

/* Bit i of word b: slot b * 64 + i is idle. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, MAX_BLOCKS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, __u64);
} blocks SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, MAX_ENDPOINTS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct endpoint);
} endpoints SEC(".maps");

/* Where endpoints are, for connections that clients open themselves; written by the agent. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, MAX_ENDPOINTS);
  __type(key, __u32);
  __type(value, struct place);
} places SEC(".maps");

/* Round robin counters; kept across generations. */
#define N_TURNS 65536
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, N_TURNS);
  __type(key, __u32);
  __type(value, __u32);
} turns SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct conn);
} conns SEC(".maps");

/* What the agent takes: in its own network namespace by that one's cookie, in the others (namespaces) by 0. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 8192);
  __type(key, struct steer_key);
  __type(value, struct steer);
} steers SEC(".maps");

/* Cookie of another network namespace -> the agent's listening sockets there; and its own addresses (port 0). */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 4096);
  __type(key, __u64);
  __type(value, struct netns);
} namespaces SEC(".maps");
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 16384);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct steer_key);
  __type(value, __u32);
} own_addresses SEC(".maps");

/* Like steers, for the time after the agent: original address -> the proxy's listener. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 8192);
  __type(key, struct steer_key);
  __type(value, struct steer);
} fallbacks SEC(".maps");

/*
 * Local end of a client socket -> its cookie, and what it asked for. LRU: an entry outlives its connection only until
 * it is needed.
 */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, MAX_CLIENTS);
  __type(key, struct tuple);
  __type(value, struct arrival);
} tuples SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, N_COUNTERS);
  __type(key, __u32);
  __type(value, __u64);
} counters SEC(".maps");

/*
 * Requests decided by each rule in the kernel: HIT_COUNTS times the counts of all rules, so that CPUs seldom meet in one cache
 * line. Mapped, and so no per-CPU map: the agent reads and clears thousands of rules at once.
 */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, MAX_RULES * HIT_COUNTS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, __u64);
} rule_hits SEC(".maps");

/* One request more that a rule has decided. What is beyond MAX_RULES is not counted. */
static __always_inline void count_rule(__u32 rule) {
  __u32 key = (bpf_get_smp_processor_id() & (HIT_COUNTS - 1)) * MAX_RULES + rule;
  __u64 *hits = rule < MAX_RULES ? bpf_map_lookup_elem(&rule_hits, &key) : 0;
  if (hits)
    __sync_fetch_and_add(hits, 1);
}

/* Requests in flight of clusters with circuit breakers. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, MAX_BREAKERS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct breaker);
} breakers SEC(".maps");

/* Token buckets of rate limits. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, MAX_BUCKETS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct bucket);
} buckets SEC(".maps");

/* Verified tokens; a value's hash says where it may be. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, MAX_TOKENS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct token);
} tokens SEC(".maps");

/* The policy: an array of one element in an array of one map. Replacing the inner map waits for running programs. */
struct image_map {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct image);
} image0 SEC(".maps");
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 1);
  __type(key, __u32);
  __array(values, struct image_map);
} policy SEC(".maps") = {.values = {&image0}};

/*
 * Work space. A per-CPU map would be overwritten when a program is preempted by another on the same CPU (sk_msg runs in
 * process context, sk_skb mostly in softirq), so each run takes an element by its `busy` word and gives it back.
 */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, N_SCRATCH);
  __type(key, __u32);
  __type(value, struct scratch);
} scratches SEC(".maps");

static __always_inline void count(__u32 counter) {
  __u64 *value = bpf_map_lookup_elem(&counters, &counter);
  if (value)
    *value += 1;
}

static __always_inline const __u8 *current_image(void) {
  __u32 zero = 0;
  void *inner = bpf_map_lookup_elem(&policy, &zero);
  if (!inner)
    return 0;
  return bpf_map_lookup_elem(inner, &zero);
}

static __always_inline struct scratch *scratch_take(void) {
  __u32 cpu = bpf_get_smp_processor_id();
  for (int level = 0; level < 4; level++) {
    __u32 index = (cpu * 4 + level) & (N_SCRATCH - 1);
    struct scratch *s = bpf_map_lookup_elem(&scratches, &index);
    if (s && __sync_lock_test_and_set(&s->busy, 1) == 0)
      return s;
  }
  count(COUNTER_SCRATCH_BUSY);
  return 0;
}

static __always_inline void scratch_give(struct scratch *s) { __sync_lock_test_and_set(&s->busy, 0); }
