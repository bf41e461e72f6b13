/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The two ends of connections that were decided by their first message (hello.h), and how they know each other. */
#pragma once
#include "maps.h"

/* The agent's connections to endpoints, by the cookie of the client's socket; and what either end leads to, by its own. */
struct {
  __uint(type, BPF_MAP_TYPE_SOCKHASH);
  __uint(max_entries, MAX_JOINTS);
  __type(key, __u64);
  __type(value, __u64);
} joints SEC(".maps");
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_JOINTS * 2);
  __type(key, __u64);
  __type(value, struct joint);
} joined SEC(".maps");

/*
 * Makes the two ends know each other. Asked before the agent puts its socket into `joints`, so that the verdict there knows
 * at once whose it is; and again (result 1) when it has, so that the client's messages go there.
 */
static __always_inline int join_ends(__u64 client, __u64 own) {
  struct joint to_client = {.other = client}, to_server = {.other = own};
  struct bpf_sock *sk = bpf_map_lookup_elem(&hello_clients, &client);
  if (!sk)
    return 0;
  to_client.other_sk = (__u64)bpf_skc_to_tcp_sock(sk);
  struct conn *c = bpf_sk_storage_get(&conns, sk, 0, 0);
  if (c)
    c->flags |= CONN_FLAG_HEARD; /* or has been silent for so long that it is the proxy's */
  bpf_sk_release(sk);
  bpf_map_update_elem(&joined, &own, &to_client, BPF_NOEXIST);
  sk = bpf_map_lookup_elem(&joints, &client);
  if (!sk)
    return 0;
  to_server.other_sk = (__u64)bpf_skc_to_tcp_sock(sk);
  bpf_sk_release(sk);
  return bpf_map_lookup_elem(&joined, &own) && !bpf_map_update_elem(&joined, &client, &to_server, BPF_ANY);
}
