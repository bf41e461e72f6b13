/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Inbound: connections to a workload's port, from wherever they come, go to the agent's listener, by exact address and
 * port; everything else in the network namespace is left alone. While the agent is away they go to the proxy's listener
 * instead, or are refused: whoever holds the link (the proxy inherits it) keeps the policy.
 */
#pragma once
#include <bpf/bpf_endian.h>
#include "maps.h"

#define IPPROTO_TCP 6

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 4096);
  __type(key, struct steer_key);
  __type(value, __u32); /* INBOUND */
} inbounds SEC(".maps");

/* Listening sockets: the agent's, and the proxy's for the time after it. They leave the maps when they are closed. */
struct {
  __uint(type, BPF_MAP_TYPE_SOCKHASH);
  __uint(max_entries, 4096);
  __type(key, struct steer_key);
  __type(value, __u64);
} inbound_agents SEC(".maps");
struct {
  __uint(type, BPF_MAP_TYPE_SOCKHASH);
  __uint(max_entries, 4096);
  __type(key, struct steer_key);
  __type(value, __u64);
} inbound_proxies SEC(".maps");

/* Local ends of connections of the agent's or the proxy's own that are being opened: they go to the server itself. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 4096);
  __type(key, struct tuple);
  __type(value, __u32);
} exempts SEC(".maps");

SEC("sk_lookup")
int inbound(struct bpf_sk_lookup *ctx) {
  if (ctx->protocol != IPPROTO_TCP)
    return SK_PASS;
  struct steer_key key = {.port = bpf_htons((__u16)ctx->local_port)};
  struct tuple from = {.port = bpf_ntohs((__u16)ctx->remote_port)};
  if (ctx->family == AF_INET) {
    key.family = AF_INET;
    key.address[0] = ctx->local_ip4;
    from.address[0] = ctx->remote_ip4;
  } else {
    key.family = AF_INET6;
    key.address[0] = ctx->local_ip6[0];
    key.address[1] = ctx->local_ip6[1];
    key.address[2] = ctx->local_ip6[2];
    key.address[3] = ctx->local_ip6[3];
    from.address[0] = ctx->remote_ip6[0];
    from.address[1] = ctx->remote_ip6[1];
    from.address[2] = ctx->remote_ip6[2];
    from.address[3] = ctx->remote_ip6[3];
  }
  __u32 *mode = bpf_map_lookup_elem(&inbounds, &key);
  if (!mode || bpf_map_lookup_elem(&exempts, &from))
    return SK_PASS;
  struct bpf_sock *sk = bpf_map_lookup_elem(&inbound_agents, &key);
  if (!sk)
    sk = bpf_map_lookup_elem(&inbound_proxies, &key);
  if (!sk) /* the proxy's own port: it listens there itself; a workload's: refused, never open */
    return *mode == INBOUND_PROXYS ? SK_PASS : SK_DROP;
  long failed = bpf_sk_assign(ctx, sk, 0);
  bpf_sk_release(sk);
  return failed ? SK_DROP : SK_PASS;
}

/*
 * Connections that the agent and the proxy open: those to a workload's port must reach the workload. Attached to their
 * cgroup; an entry lives as long as the connection is being opened, when nobody else can have its local end.
 */
SEC("sockops")
int own_event(struct bpf_sock_ops *ops) {
  int opening = ops->op == BPF_SOCK_OPS_TCP_CONNECT_CB;
  if (!opening && ops->op != BPF_SOCK_OPS_STATE_CB)
    return 0;
  if (!opening && ops->args[0] != BPF_TCP_SYN_SENT)
    return 0;
  struct steer_key key = {.port = (__u16)(ops->remote_port >> 16)};
  struct tuple from = {.port = ops->local_port};
  if (ops->family == AF_INET) {
    key.family = AF_INET;
    key.address[0] = ops->remote_ip4;
    from.address[0] = ops->local_ip4;
  } else {
    key.family = AF_INET6;
    key.address[0] = ops->remote_ip6[0];
    key.address[1] = ops->remote_ip6[1];
    key.address[2] = ops->remote_ip6[2];
    key.address[3] = ops->remote_ip6[3];
    from.address[0] = ops->local_ip6[0];
    from.address[1] = ops->local_ip6[1];
    from.address[2] = ops->local_ip6[2];
    from.address[3] = ops->local_ip6[3];
  }
  if (!bpf_map_lookup_elem(&inbounds, &key))
    return 0;
  if (opening) {
    __u32 one = 1;
    bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
    bpf_map_update_elem(&exempts, &from, &one, BPF_ANY);
  } else {
    bpf_map_delete_elem(&exempts, &from);
  }
  return 0;
}
