/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which connections are ours: connect(2) to an intercepted address goes to the agent's listener instead, the client's
 * socket enters the socket map once it is established, and getpeername(2) tells the address that was asked for.
 */
#pragma once
#include <bpf/bpf_endian.h>
#include "maps.h"

#define AF_INET 2
#define AF_INET6 10
#define V4_MAPPED bpf_htonl(0xffff)

static __always_inline struct conn *remember(struct bpf_sock *sk, const struct steer_key *asked,
                                             const struct steer *steer, __u16 family, int at_listener) {
  struct conn *c = bpf_sk_storage_get(&conns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
  if (!c)
    return 0;
  c->listener = steer->listener;
  c->original[0] = asked->address[0];
  c->original[1] = asked->address[1];
  c->original[2] = asked->address[2];
  c->original[3] = asked->address[3];
  c->original_port = bpf_ntohs(asked->port);
  c->family = family;
  c->flags = at_listener || steer->intake == INTAKE_LISTENER ? CONN_FLAG_LISTENER : 0;
  return c;
}

static __always_inline int steer4(struct bpf_sock_addr *ctx, int at_listener) {
  if (ctx->type != 1 /* SOCK_STREAM */ || !ctx->sk)
    return 1;
  struct steer_key key = {.port = (__u16)ctx->user_port, .family = AF_INET};
  key.address[0] = ctx->user_ip4;
  struct steer *steer = bpf_map_lookup_elem(&steers, &key);
  if (!steer || !remember(ctx->sk, &key, steer, AF_INET, at_listener))
    return 1;
  if (!steer->keep_address)
    ctx->user_ip4 = steer->address[0];
  ctx->user_port = steer->port;
  return 1;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx) { return steer4(ctx, 0); }

/* For the workloads whose sockets must not be in a map. */
SEC("cgroup/connect4")
int listener4(struct bpf_sock_addr *ctx) { return steer4(ctx, 1); }

static __always_inline int steer6(struct bpf_sock_addr *ctx, int at_listener) {
  if (ctx->type != 1 || !ctx->sk)
    return 1;
  struct steer_key key = {.port = (__u16)ctx->user_port};
  __u32 a = ctx->user_ip6[0], b = ctx->user_ip6[1], c = ctx->user_ip6[2], d = ctx->user_ip6[3];
  int mapped = !a && !b && c == V4_MAPPED;
  if (mapped) {
    key.family = AF_INET;
    key.address[0] = d;
  } else {
    key.family = AF_INET6;
    key.address[0] = a;
    key.address[1] = b;
    key.address[2] = c;
    key.address[3] = d;
  }
  struct steer *steer = bpf_map_lookup_elem(&steers, &key);
  if (!steer || !remember(ctx->sk, &key, steer, mapped ? AF_INET : AF_INET6, at_listener))
    return 1;
  if (!steer->keep_address) {
    if (mapped) {
      ctx->user_ip6[3] = steer->address[0];
    } else {
      ctx->user_ip6[0] = steer->address[0];
      ctx->user_ip6[1] = steer->address[1];
      ctx->user_ip6[2] = steer->address[2];
      ctx->user_ip6[3] = steer->address[3];
    }
  }
  ctx->user_port = steer->port;
  return 1;
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx) { return steer6(ctx, 0); }

SEC("cgroup/connect6")
int listener6(struct bpf_sock_addr *ctx) { return steer6(ctx, 1); }

/* The proxy holds links to these two as well: when the agent is gone, connections go to the proxy's own listeners. */
SEC("cgroup/connect4")
int fallback4(struct bpf_sock_addr *ctx) {
  if (ctx->type != 1)
    return 1;
  struct steer_key key = {.port = (__u16)ctx->user_port, .family = AF_INET};
  key.address[0] = ctx->user_ip4;
  struct steer *steer = bpf_map_lookup_elem(&fallbacks, &key);
  if (!steer)
    return 1;
  ctx->user_ip4 = steer->address[0];
  ctx->user_port = steer->port;
  return 1;
}

SEC("cgroup/connect6")
int fallback6(struct bpf_sock_addr *ctx) {
  if (ctx->type != 1)
    return 1;
  struct steer_key key = {.port = (__u16)ctx->user_port};
  __u32 a = ctx->user_ip6[0], b = ctx->user_ip6[1], c = ctx->user_ip6[2], d = ctx->user_ip6[3];
  int mapped = !a && !b && c == V4_MAPPED;
  key.family = mapped ? AF_INET : AF_INET6;
  key.address[0] = mapped ? d : a;
  if (!mapped) {
    key.address[1] = b;
    key.address[2] = c;
    key.address[3] = d;
  }
  struct steer *steer = bpf_map_lookup_elem(&fallbacks, &key);
  if (!steer)
    return 1;
  if (mapped) {
    ctx->user_ip6[3] = steer->address[0];
  } else {
    ctx->user_ip6[0] = steer->address[0];
    ctx->user_ip6[1] = steer->address[1];
    ctx->user_ip6[2] = steer->address[2];
    ctx->user_ip6[3] = steer->address[3];
  }
  ctx->user_port = steer->port;
  return 1;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx) {
  if (!ctx->sk)
    return 1;
  struct conn *c = bpf_sk_storage_get(&conns, ctx->sk, 0, 0);
  if (!c || c->family != AF_INET)
    return 1;
  ctx->user_ip4 = c->original[0];
  ctx->user_port = bpf_htons(c->original_port);
  return 1;
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx) {
  if (!ctx->sk)
    return 1;
  struct conn *c = bpf_sk_storage_get(&conns, ctx->sk, 0, 0);
  if (!c)
    return 1;
  if (c->family == AF_INET) {
    ctx->user_ip6[0] = 0;
    ctx->user_ip6[1] = 0;
    ctx->user_ip6[2] = V4_MAPPED;
    ctx->user_ip6[3] = c->original[0];
  } else {
    ctx->user_ip6[0] = c->original[0];
    ctx->user_ip6[1] = c->original[1];
    ctx->user_ip6[2] = c->original[2];
    ctx->user_ip6[3] = c->original[3];
  }
  ctx->user_port = bpf_htons(c->original_port);
  return 1;
}

/* The socket's own address, network order; returns its length: 4 or 16. IPv4-mapped addresses count as IPv4. */
static __always_inline void own_address(struct bpf_sock_ops *ops, struct conn *c, struct tuple *t) {
  if (ops->family == AF_INET) {
    t->address[0] = ops->local_ip4;
  } else {
    __u32 a = ops->local_ip6[0], b = ops->local_ip6[1], m = ops->local_ip6[2], d = ops->local_ip6[3];
    if (!a && !b && m == V4_MAPPED) {
      t->address[0] = d;
    } else {
      t->address[0] = a;
      t->address[1] = b;
      t->address[2] = m;
      t->address[3] = d;
    }
  }
  t->port = ops->local_port;
  c->source[0] = t->address[0];
  c->source[1] = t->address[1];
  c->source[2] = t->address[2];
  c->source[3] = t->address[3];
}

SEC("sockops")
int socket_event(struct bpf_sock_ops *ops) {
  if (ops->op == BPF_SOCK_OPS_STATE_CB) {
    if (ops->args[1] == BPF_TCP_ESTABLISHED)
      return 0;
    __u64 cookie = bpf_get_socket_cookie(ops);
    __u32 *slot = bpf_map_lookup_elem(&slots, &cookie);
    if (!slot)
      return 0;
    struct upstream *u = bpf_map_lookup_elem(&upstreams, slot);
    if (u)
      u->dead = 1; /* marked, not deleted: a segment with data and FIN gets here before its verdict runs */
    return 0;
  }
  if (ops->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
    return 0;
  struct bpf_sock *sk = ops->sk;
  if (!sk)
    return 0;
  struct conn *c = bpf_sk_storage_get(&conns, sk, 0, 0);
  if (!c) { /* perhaps one of the agent's upstreams: its end must be noticed at once */
    bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_STATE_CB_FLAG);
    return 0;
  }
  struct tuple t = {};
  __u64 cookie = bpf_get_socket_cookie(ops);
  own_address(ops, c, &t);
  c->cookie = cookie;
  c->base_seq = ops->rcv_nxt;
  if (c->flags & CONN_FLAG_LISTENER) {
    __u64 none = 0; /* one of ours, but decided where the agent accepts it */
    bpf_map_update_elem(&tuples, &t, &none, BPF_ANY);
    return 0;
  }
  bpf_map_update_elem(&tuples, &t, &cookie, BPF_ANY);
  count(COUNTER_CONNECTIONS);
  if (ops->snd_nxt != ops->snd_una || ops->data_segs_out) {
    c->flags |= CONN_FLAG_STICKY; /* data went out with the SYN (fast open): nobody has seen it */
    c->gate |= 1;
    return 0;
  }
  if (bpf_sock_hash_update(ops, &clients, &cookie, BPF_ANY)) {
    count(COUNTER_HELPER_FAILED);
    c->flags |= CONN_FLAG_STICKY;
    c->gate |= 1;
    return 0;
  }
  c->flags |= CONN_FLAG_INSERTED;
  return 0;
}
