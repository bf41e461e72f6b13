/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which connections are ours: connect(2) to an intercepted address goes to the agent's listener instead, the client's
 * socket enters the socket map once it is established, and getpeername(2) tells the address that was asked for.
 */
#pragma once
#include "address.h"
#include "direct.h"

#define ECONNREFUSED 111

static __always_inline struct conn *remember(struct bpf_sock *sk, const struct steer_key *asked,
                                             const struct steer *steer, int at_listener) {
  struct conn *c = bpf_sk_storage_get(&conns, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
  if (!c)
    return 0;
  c->listener = steer->listener;
  c->original[0] = asked->address[0];
  c->original[1] = asked->address[1];
  c->original[2] = asked->address[2];
  c->original[3] = asked->address[3];
  c->original_port = bpf_ntohs(asked->port);
  c->family = asked->family;
  c->flags = at_listener || steer->intake == INTAKE_LISTENER ? CONN_FLAG_LISTENER : 0;
  if (steer->hello)
    c->flags |= CONN_FLAG_HELLO;
  return c;
}

/* Whether the address of `key` is one of the namespace's own, which are left alone there. */
static __always_inline int is_own_address(struct steer_key *key) {
  __u16 port = key->port;
  key->port = 0;
  void *own = bpf_map_lookup_elem(&own_addresses, key);
  key->port = port;
  return own != 0;
}

/*
 * Finds what an address means to an application of a namespace: entries of the agent's own namespace name it, those that
 * hold for all others have the namespace 0. `map` is steers or fallbacks.
 */
static __always_inline struct steer *look_up(void *map, struct steer_key *key, __u64 netns) {
  key->netns = netns;
  if (netns == home_netns)
    return bpf_map_lookup_elem(map, key);
  if (is_own_address(key))
    return 0;
  key->netns = 0;
  return bpf_map_lookup_elem(map, key);
}

/* A connection to a listener about connections is about to be opened: where to; 0: it is the proxy's. */
static __always_inline struct place *go_direct(struct bpf_sock_addr *ctx, const struct steer *steer,
                                               const struct steer_key *asked, __u64 netns, int at_listener) {
  __u64 chosen;
  struct place *to = direct_place(ctx->sk, steer->listener, asked, netns, &chosen);
  struct conn *c = to ? remember(ctx->sk, asked, steer, at_listener) : 0;
  if (!c)
    return 0;
  open_direct(ctx, c, chosen);
  return to;
}

/* Where a socket of IPv6 connects to: `mapped`, to an address of IPv4, as it asked for one. */
static __always_inline void lead6(struct bpf_sock_addr *ctx, int mapped, __u32 to4, const __u32 *to) {
  if (mapped) {
    ctx->user_ip6[3] = to4;
    return;
  }
  ctx->user_ip6[0] = to[0];
  ctx->user_ip6[1] = to[1];
  ctx->user_ip6[2] = to[2];
  ctx->user_ip6[3] = to[3];
}

static __always_inline int steer4(struct bpf_sock_addr *ctx, int at_listener) {
  if (ctx->type != 1 /* SOCK_STREAM */ || !ctx->sk)
    return 1;
  struct steer_key key = {.port = (__u16)ctx->user_port, .family = AF_INET};
  key.address[0] = ctx->user_ip4;
  __u64 netns = bpf_get_netns_cookie(ctx);
  struct steer *steer = look_up(&steers, &key, netns);
  if (!steer)
    return 1;
  if (steer->direct) {
    struct place *to = go_direct(ctx, steer, &key, netns, at_listener);
    if (!to)
      return 1;
    ctx->user_ip4 = to->address[0];
    ctx->user_port = to->port;
    return 1;
  }
  __u32 address = steer->keep_address ? key.address[0] : steer->address[0];
  __u16 port = steer->port;
  if (netns != home_netns) {
    struct netns *n = bpf_map_lookup_elem(&namespaces, &netns);
    if (!n || !n->port4)
      return 1; /* nobody listens there: refused by the fallback */
    address = n->address4;
    port = n->port4;
  }
  if (!remember(ctx->sk, &key, steer, at_listener))
    return 1;
  ctx->user_ip4 = address;
  ctx->user_port = port;
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
  key.family = address_of(key.address, AF_INET6, 0, WORDS_OF(ctx->user_ip6));
  __u64 netns = bpf_get_netns_cookie(ctx);
  struct steer *steer = look_up(&steers, &key, netns);
  if (!steer)
    return 1;
  int mapped = key.family == AF_INET;
  if (steer->direct) {
    struct place *to = go_direct(ctx, steer, &key, netns, at_listener);
    if (!to)
      return 1;
    lead6(ctx, mapped, to->address[0], to->address);
    ctx->user_port = to->port;
    return 1;
  }
  struct netns *n = 0;
  if (netns != home_netns) {
    n = bpf_map_lookup_elem(&namespaces, &netns);
    if (!n || !(mapped ? n->port4 : n->port6))
      return 1;
  }
  if (!remember(ctx->sk, &key, steer, at_listener))
    return 1;
  if (n)
    lead6(ctx, mapped, n->address4, n->address6);
  else if (!steer->keep_address)
    lead6(ctx, mapped, steer->address[0], steer->address);
  ctx->user_port = !n ? steer->port : mapped ? n->port4 : n->port6;
  return 1;
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx) { return steer6(ctx, 0); }

SEC("cgroup/connect6")
int listener6(struct bpf_sock_addr *ctx) { return steer6(ctx, 1); }

/* From another namespace the proxy's listener cannot be reached: an error at once, and no way around the policy. */
static __always_inline int refuse(void) {
  bpf_set_retval(-ECONNREFUSED);
  return 0;
}

/* The proxy holds links to these two as well: when the agent is gone, connections go to the proxy's own listeners. */
SEC("cgroup/connect4")
int fallback4(struct bpf_sock_addr *ctx) {
  if (ctx->type != 1)
    return 1;
  struct steer_key key = {.port = (__u16)ctx->user_port, .family = AF_INET};
  key.address[0] = ctx->user_ip4;
  struct steer *steer = look_up(&fallbacks, &key, bpf_get_netns_cookie(ctx));
  if (!steer)
    return 1;
  if (steer->refuse)
    return refuse();
  ctx->user_ip4 = steer->address[0];
  ctx->user_port = steer->port;
  return 1;
}

SEC("cgroup/connect6")
int fallback6(struct bpf_sock_addr *ctx) {
  if (ctx->type != 1)
    return 1;
  struct steer_key key = {.port = (__u16)ctx->user_port};
  key.family = address_of(key.address, AF_INET6, 0, WORDS_OF(ctx->user_ip6));
  struct steer *steer = look_up(&fallbacks, &key, bpf_get_netns_cookie(ctx));
  if (!steer)
    return 1;
  if (steer->refuse)
    return refuse();
  lead6(ctx, key.family == AF_INET, steer->address[0], steer->address);
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

/* Notes the socket's own end, by which the agent will know whom it accepts. */
static __always_inline void own_end(struct bpf_sock_ops *ops, struct conn *c, struct tuple *t) {
  t->netns = bpf_get_netns_cookie(ops);
  t->port = ops->local_port;
  address_of(t->address, ops->family, ops->local_ip4, WORDS_OF(ops->local_ip6));
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
  if (c->flags & CONN_FLAG_DIRECT)
    return 0;
  struct tuple t = {};
  __u64 cookie = bpf_get_socket_cookie(ops);
  own_end(ops, c, &t);
  struct arrival arrival = {.cookie = cookie, .listener = c->listener, .port = c->original_port, .family = c->family};
  arrival.address[0] = c->original[0];
  arrival.address[1] = c->original[1];
  arrival.address[2] = c->original[2];
  arrival.address[3] = c->original[3];
  c->cookie = cookie;
  c->base_seq = ops->rcv_nxt;
  if (c->flags & CONN_FLAG_LISTENER) {
    arrival.cookie = 0; /* one of ours, but decided where the agent accepts it */
    bpf_map_update_elem(&tuples, &t, &arrival, BPF_ANY);
    return 0;
  }
  bpf_map_update_elem(&tuples, &t, &arrival, BPF_ANY);
  count(COUNTER_CONNECTIONS);
  if (ops->snd_nxt != ops->snd_una || ops->data_segs_out) {
    c->flags |= CONN_FLAG_STICKY; /* data went out with the SYN (fast open): nobody has seen it */
    c->gate |= 1;
    return 0;
  }
  int hello = c->flags & CONN_FLAG_HELLO;
  if (hello ? bpf_sock_hash_update(ops, &hello_clients, &cookie, BPF_ANY)
            : bpf_sock_hash_update(ops, &clients, &cookie, BPF_ANY)) {
    count(COUNTER_HELPER_FAILED);
    c->flags |= CONN_FLAG_STICKY;
    c->gate |= 1;
    return 0;
  }
  c->flags |= CONN_FLAG_INSERTED;
  return 0;
}
