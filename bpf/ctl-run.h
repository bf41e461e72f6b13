/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The agent's commands: which is which, and those about clients. */
#pragma once
#include "ctl-slot.h"
#include "joint.h"

/* Whether a message for this client may have been decided, but not queued yet. */
static __always_inline int on_its_way(struct conn *c, struct upstream *u, int under_way) {
  if (!c->requested)
    return 0;
  /* what was redirected of an answer that the agent carries on has arrived: the server sends one after the other */
  if (under_way && u)
    return (u->behind && !arrived(u->behind - 1, u->behind_served, u->behind_incarnation)) ||
           (u->way & WAY_DUMMY && (u->given != u->taken || !arrived(c->upstream, u->served, u->incarnation)));
  return !arrived(c->upstream, c->served, c->incarnation);
}

static __always_inline void ctl_client(struct ctl *ctl) {
  if (ctl_intake(ctl))
    return;
  __u64 cookie = ctl->cookie;
  struct bpf_sock *sk = bpf_map_lookup_elem(&clients, &cookie);
  if (!sk)
    sk = bpf_map_lookup_elem(&hello_clients, &cookie);
  if (!sk)
    return;
  struct conn *c = bpf_sk_storage_get(&conns, sk, 0, 0);
  if (c) {
    __u32 native = 0, queued = 0;
    ctl_gate(ctl, c);
    __u32 slot = c->upstream;
    struct upstream *u = bpf_map_lookup_elem(&upstreams, &slot);
    /* in this order: an answer that ends meanwhile is on its way, and what arrives meanwhile is in the queue */
    int under_way = in_flight(c, u), coming = on_its_way(c, u, under_way);
    unread_of(sk, c, &native, &queued);
    ctl->queued = (queued || coming ? QUEUED_ANSWER : 0) | (under_way ? QUEUED_IN_FLIGHT : 0);
    ctl->unread = native;
  }
  bpf_sk_release(sk);
}

/* One of them (src/layout/control.ts). */
static __always_inline void ctl_run(struct ctl *ctl) {
  ctl->result = 0;
  if (ctl->command == CTL_HELLO)
    agent_tgid = bpf_get_current_pid_tgid() >> 32;
  else if (ctl->command == CTL_QUERY || ctl->command == CTL_RESUME || ctl->command == CTL_NATIVE ||
           ctl->command == CTL_BODY_SENT || ctl->command == CTL_HOLD)
    ctl_client(ctl);
  else if (ctl->command == CTL_JOIN)
    ctl->result = join_ends(ctl->cookie, ctl->arg);
  else if (ctl->command == CTL_NOW)
    ctl->passed = bpf_ktime_get_boot_ns();
  else if (ctl->command == CTL_COMPLETE) {
    ctl_client(ctl);
    ctl->result = 0;
    ctl_slot(ctl);
  } else if (ctl->command >= CTL_ENTER)
    ctl_breaker(ctl);
  else if (ctl->command == CTL_DRAW)
    ctl_draw(ctl);
  else
    ctl_slot(ctl);
}
