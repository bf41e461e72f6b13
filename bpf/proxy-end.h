/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The proxy that the agent has started is a server on this node, too: its ends of pooled connections are paired like
 * those of servers (bypass.h), so what the kernel leaves to it goes from socket to socket, and so do its answers. It lives in
 * the agent's cgroup, where the agent accepts connections itself (its dummies), so its ends are known by the address at
 * which it listens.
 */
#pragma once
#include "address.h"
#include "maps.h"

/* Where the proxy listens for pooled connections; written by the agent. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_ENDPOINTS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct tuple);
  __type(value, __u32);
} proxies SEC(".maps");

static __always_inline int is_proxy(struct tuple *t) {
  t->netns = home_netns;
  return bpf_map_lookup_elem(&proxies, t) != 0;
}

/*
 * Whether a connection that the agent opens is one client's alone: it binds those, and pooled ones never. They are not
 * paired.
 */
static __always_inline int is_of_one_client(struct bpf_sock_addr *ctx) { return ctx->sk && ctx->sk->src_port; }
