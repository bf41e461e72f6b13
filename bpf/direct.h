/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Listeners whose rules are about connections: which endpoint a connection goes to is decided while it is opened, and
 * nothing stands in its way afterwards. What cannot be decided so is left as it is, and goes to the proxy.
 */
#pragma once
#include "balance.h"
#include "inbound.h"

#define TCP_USER_TIMEOUT 18

/*
 * The endpoint for a connection to a listener in the low word, NO_SLOT if the proxy must choose; how long it may take to
 * be established (ms) in the high one. Not static: see pool_take.
 */
__attribute__((noinline)) __u64 route_connection(__u32 index) {
  const __u8 *image = current_image();
  if (!image)
    return NO_SLOT;
  const struct image_header *header = AT(struct image_header, image, 0);
  __u32 list = header->connections;
  __u32 at = list && index < header->n_listeners ? image_u32(image, list + index * 4) : 0;
  if (!at)
    return NO_SLOT;
  struct scratch *s = scratch_take();
  if (!s)
    return NO_SLOT;
  struct work w = {.s = s, .image = image};
  const struct route *route = AT(struct route, image, at);
  s->connect_ms = 0;
  __u32 endpoint = choose_any(&w, AT(struct action, image, route->action), 0);
  __u64 ms = s->connect_ms;
  scratch_give(s);
  if (endpoint != NO_SLOT)
    count_rule(route->rule);
  return ms << 32 | endpoint;
}

/* Whether somebody else than the endpoint would get what is sent to its address from here. */
static __always_inline int is_taken(const struct place *to, __u64 netns) {
  struct steer_key key = {.netns = netns == home_netns ? netns : 0, .port = to->port, .family = to->family};
  key.address[0] = to->address[0];
  key.address[1] = to->address[1];
  key.address[2] = to->address[2];
  key.address[3] = to->address[3];
  return bpf_map_lookup_elem(&fallbacks, &key) || bpf_map_lookup_elem(&inbounds, &key);
}

/* Whether a socket that is bound to an address of its own can connect to a place: loopback addresses lead nowhere else. */
static __always_inline int can_reach(struct bpf_sock *sk, const struct place *to) {
  __u32 own[4] = {};
  __u16 family = address_of(own, sk->family, sk->src_ip4, WORDS_OF(sk->src_ip6));
  return !is_loopback(own, family) || is_loopback(to->address, to->family);
}

/* Where a connection to what was asked for goes; 0: it is the proxy's. `chosen`: as route_connection gives it. */
static __always_inline struct place *direct_place(struct bpf_sock *sk, __u32 listener, const struct steer_key *asked, __u64 netns,
                                                  __u64 *chosen) {
  *chosen = route_connection(listener);
  __u32 endpoint = (__u32)*chosen;
  struct place *to = bpf_map_lookup_elem(&places, &endpoint);
  /* an endpoint of the other family cannot be reached by this socket, nor another namespace's loopback addresses */
  if (!to || to->family != asked->family || (netns != home_netns && is_loopback(to->address, to->family)) ||
      is_taken(to, netns) || !can_reach(sk, to)) {
    count(COUNTER_ROUTED_PROXY);
    return 0;
  }
  count(COUNTER_ROUTED);
  return to;
}

/* The connection is about to be opened to the chosen endpoint. */
static __always_inline void open_direct(struct bpf_sock_addr *ctx, struct conn *c, __u64 chosen) {
  __u32 ms = chosen >> 32, own = 0;
  c->flags = CONN_FLAG_DIRECT;
  c->upstream = (__u32)chosen;
  c->user_timeout = 0;
  if (!ms || bpf_getsockopt(ctx, IPPROTO_TCP, TCP_USER_TIMEOUT, &own, sizeof own))
    return;
  c->user_timeout = own;
  if (!own || own > ms)
    bpf_setsockopt(ctx, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
}

/* The time limit was for the establishment only. */
static __always_inline void opened_direct(struct bpf_sock_ops *ops, struct conn *c) {
  __u32 own = c->user_timeout;
  bpf_setsockopt(ops, IPPROTO_TCP, TCP_USER_TIMEOUT, &own, sizeof own);
}

/* On the cgroups of applications: counts the connections that an endpoint has. */
SEC("sockops")
int direct_event(struct bpf_sock_ops *ops) {
  __u32 op = ops->op;
  if (op != BPF_SOCK_OPS_TCP_CONNECT_CB && op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB && op != BPF_SOCK_OPS_STATE_CB)
    return 0;
  __u32 before = ops->args[0], now = ops->args[1];
  struct bpf_sock *sk = ops->sk;
  struct conn *c = sk ? bpf_sk_storage_get(&conns, sk, 0, 0) : 0;
  if (!c || !(c->flags & CONN_FLAG_DIRECT))
    return 0;
  if (op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB) {
    opened_direct(ops, c);
    return 0;
  }
  __u32 endpoint = c->upstream;
  struct endpoint *e = bpf_map_lookup_elem(&endpoints, &endpoint);
  if (op == BPF_SOCK_OPS_TCP_CONNECT_CB) {
    bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_STATE_CB_FLAG);
    if (e && !(c->flags & CONN_FLAG_COUNTED)) {
      c->flags |= CONN_FLAG_COUNTED;
      __sync_fetch_and_add(&e->active, 1);
    }
    return 0;
  }
  if (now != BPF_TCP_CLOSE)
    return 0;
  if (before == BPF_TCP_SYN_SENT)
    opened_direct(ops, c);
  if (e && c->flags & CONN_FLAG_COUNTED) {
    c->flags &= ~CONN_FLAG_COUNTED;
    __sync_fetch_and_add(&e->active, -1);
  }
  return 0;
}
