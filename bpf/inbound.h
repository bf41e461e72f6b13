/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Inbound: connections to a workload's port, from wherever they come, go to the agent's listener, by exact address and
 * port; everything else in the network namespace is left alone. While the agent is away they go to the proxy's listener
 * instead, or are refused: whoever holds the link (the proxy inherits it) keeps the policy.
 */
#pragma once
#include "address.h"
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

/*
 * Connections of the agent's or the proxy's own that are being opened: they go to the server itself. Those between
 * loopback addresses are known by their namespace, too.
 */
struct exempt {
  __u64 netns;
  __u32 from[4];
  __u32 to[4];
  __u32 from_port; /* both in host order */
  __u32 to_port;
};
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 4096);
  __type(key, struct exempt);
  __type(value, __u32);
} exempts SEC(".maps");

static __always_inline void key_of(struct steer_key *key, const struct exempt *e, __u16 family, __u64 netns) {
  key->netns = netns;
  key->family = family;
  key->port = bpf_htons((__u16)e->to_port);
  key->address[0] = e->to[0];
  key->address[1] = e->to[1];
  key->address[2] = e->to[2];
  key->address[3] = e->to[3];
}

/* Attached to network namespaces, in copies that differ by `lookup_netns`. */
SEC("sk_lookup")
int inbound(struct bpf_sk_lookup *ctx) {
  if (ctx->protocol != IPPROTO_TCP)
    return SK_PASS;
  struct exempt own = {.from_port = bpf_ntohs((__u16)ctx->remote_port), .to_port = ctx->local_port};
  __u16 family = address_of(own.to, ctx->family, ctx->local_ip4, WORDS_OF(ctx->local_ip6));
  address_of(own.from, ctx->family, ctx->remote_ip4, WORDS_OF(ctx->remote_ip6));
  struct steer_key key = {};
  key_of(&key, &own, family, lookup_netns);
  __u32 *mode = bpf_map_lookup_elem(&inbounds, &key);
  if (!mode)
    return SK_PASS;
  if (is_loopback(own.to, family))
    own.netns = lookup_netns;
  if (bpf_map_lookup_elem(&exempts, &own))
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
  struct exempt own = {.from_port = ops->local_port, .to_port = bpf_ntohl(ops->remote_port)};
  __u16 family = address_of(own.to, ops->family, ops->remote_ip4, WORDS_OF(ops->remote_ip6));
  address_of(own.from, ops->family, ops->local_ip4, WORDS_OF(ops->local_ip6));
  if (is_loopback(own.to, family))
    own.netns = bpf_get_netns_cookie(ops);
  /* the namespace where another address is cannot be known here: 0 stands for whichever it is */
  struct steer_key key = {};
  key_of(&key, &own, family, own.netns);
  if (!bpf_map_lookup_elem(&inbounds, &key))
    return 0;
  if (opening) {
    __u32 one = 1;
    bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
    bpf_map_update_elem(&exempts, &own, &one, BPF_ANY);
  } else {
    bpf_map_delete_elem(&exempts, &own);
  }
  return 0;
}
