/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Answers whose head grows. A verdict must not change an skb's length, a program on a sending socket may change a
 * message's: so all of such an answer goes through the dummy socket D of its upstream connection, whose program puts the
 * head that was staged in the place of the received one and sends it on to the client. D moves what it gets in order.
 *
 * The exchange ends when D has sent the last piece on (PHASE_DELIVER until then), so a request that the client sends
 * meanwhile waits. D's thread may still be in its send at that moment: see arrived().
 */
#pragma once
#include "intake-listener.h"

#define SMALL_PIECE 2048 /* such an skb goes through D in one message */
#define ROOM_AT_LEAST 65536

/*
 * Whether the agent's accepted socket A takes `size` bytes at once. A part of a message that D could not send would be
 * lost to it. Nobody else sends to A meanwhile.
 */
static __always_inline int listener_has_room(__u64 cookie, __u32 size) {
  struct bpf_sock *sk = bpf_map_lookup_elem(&intakes, &cookie);
  if (!sk)
    return 0;
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  int room = 0;
  if (tp && !backlog_of(tp))
    room = BPF_CORE_READ(tp, inet_conn.icsk_inet.sk.sk_sndbuf) -
           BPF_CORE_READ(tp, inet_conn.icsk_inet.sk.sk_wmem_queued);
  bpf_sk_release(sk);
  return room > (int)(2 * size + ROOM_AT_LEAST / 4);
}

/*
 * Whether the answer before on this slot, which went through D, has perhaps not arrived yet: then this one goes
 * through D, too. (A verdict comes after the one before on the same socket.) Only a client that does not wait for
 * answers can be hurt.
 */
static __always_inline int follows_dummy(struct upstream *u, __u32 slot) {
  if (u->behind != slot + 1)
    return 0;
  if (!went_by_dummy(u, u->behind_served) || arrived(slot, u->behind_served, u->behind_incarnation)) {
    u->behind = 0;
    return 0;
  }
  return 1;
}

/*
 * Sends the first skb of an answer by D; `grown`: with the head in s->out instead of its own. Nothing was changed where
 * TO_AGENT is returned.
 */
static __always_inline int begin_dummy(struct __sk_buff *skb, struct scratch *s, struct upstream *u, __u32 slot,
                                       __u32 len, int grown, int done) {
  if (!dummy_usable(slot, u->owner)) {
    if (!u->dummy)
      u->way |= WAY_MISSED;
    return TO_AGENT;
  }
  if (u->intake == INTAKE_SOCKET && has_backlog((struct sock *)u->client_sk, u->owner)) {
    count(COUNTER_BEHIND);
    return TO_AGENT;
  }
  struct staged *st = bpf_map_lookup_elem(&stages, &slot);
  if (!st || u->given != u->taken)
    return TO_AGENT;
  st->len = 0;
  if (grown) {
    __u32 whole = len <= SMALL_PIECE ? len : s->head_len;
    if (u->intake != INTAKE_SOCKET) {
      /* sent at once, or not at all */
      if (!done || len > MAX_LINEAR || !listener_has_room(u->owner, len + s->o))
        return TO_AGENT;
      whole = len;
    }
    /* D's program must see the head in one message */
    if (s->o > MAX_STAGED || bpf_skb_pull_data(skb, whole) || stage(s, slot, s->head_len))
      return TO_AGENT;
  }
  u->way |= WAY_DUMMY;
  return TO_CLIENT;
}

/* Gives a piece of such an answer to D. The agent closes a slot's U and D together: without D there is no exchange. */
static __always_inline int to_dummy(struct __sk_buff *skb, struct upstream *u, __u32 slot, __u32 len, int done) {
  __sync_fetch_and_add(&u->given, len);
  if (done) {
    settle(skb, u);
    u->phase = PHASE_DELIVER;
    u->way |= WAY_WHOLE;
  }
  return bpf_sk_redirect_map(skb, &dummies, slot, 0);
}

/* A piece of an answer at D. What cannot be sent on goes to D's peer, and the agent gives the pair up. */
static __always_inline int deliver(struct sk_msg_md *msg, struct bpf_sock *sk, struct upstream *u, __u32 slot,
                                   struct staged *st) {
  __u64 owner = u->owner;
  __u32 len = st->len, size = msg->size;
  if (!owner)
    return SK_PASS;
  if (len) {
    st->len = 0;
    if (replace_staged(msg, st, len, st->old_len))
      return SK_PASS;
  }
  u->answered = bpf_ktime_get_coarse_ns();
  u->dummy_owner = owner;
  u->dummy_served = u->served;
  u->dummy_sk = (__u64)bpf_skc_to_tcp_sock(sk);
  if (u->intake == INTAKE_SOCKET) { /* a client that is gone in between: the agent finds D disabled, see dummy_usable */
    if (bpf_msg_redirect_hash(msg, &clients, &owner, BPF_F_INGRESS) != SK_PASS)
      return SK_PASS;
  } else {
    if (!takes_bytes(u->client_sk, owner))
      return SK_PASS;
    struct conn *c = bpf_map_lookup_elem(&intake_conns, &owner);
    if (c)
      __sync_fetch_and_add(&c->sent, msg->size);
    if (bpf_msg_redirect_hash(msg, &intakes, &owner, 0) != SK_PASS)
      return SK_PASS;
  }
  /*
   * WHOLE is set after `given` has its last value, so it is looked at first: the other way round, a piece before the last
   * could pass for it.
   */
  __u32 taken = __sync_fetch_and_add(&u->taken, size) + size;
  int whole = *(volatile __u32 *)&u->way & WAY_WHOLE;
  if (whole && taken == *(volatile __u32 *)&u->given) {
    if (u->log)
      log_end(u, slot);
    count(COUNTER_GROWN);
    pool_give(u, slot);
  }
  return SK_PASS;
}
