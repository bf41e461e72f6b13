/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The order of answers. They reach a client's queue in three ways: by a verdict on U, into the backlog that a kernel
 * thread works off; from the server's or a dummy's send, at once; and as the mesh's own reply, at once. A program
 * decides first, and the kernel queues afterwards (0.5 us later, or much later when the thread or the whole processor is
 * preempted), so an exchange is over before its answer is queued. A client that waits for its answers never notices. One
 * that pipelines must not get them in another order, so what could overtake is left to the agent.
 */
#pragma once
#include "room.h"

extern const void woken_wake_function __ksym __weak;

/*
 * Whether no thread is on its way through a send on this socket. A verdict decides first and the kernel queues the
 * message at its target later, perhaps much later when the thread is preempted; a thread inside a call holds a
 * reference to the socket's psock, beside the map's one. A thread that waits in recv holds one, too, and is known by how
 * it waits. Returns 0 also when the socket is gone.
 */
__attribute__((noinline)) int nobody_sends(__u64 address, __u64 cookie) {
  struct sock *sk = (struct sock *)address;
  if (!cookie || (__u64)BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) != cookie)
    return 0;
  struct sk_psock *psock = (struct sk_psock *)((__u64)BPF_CORE_READ(sk, sk_user_data) & USER_DATA_MASK);
  if (!psock)
    return 0;
  int holders = BPF_CORE_READ(psock, refcnt.refs.counter);
  if (holders == 1)
    return 1;
  if (holders != 2)
    return 0;
  struct socket_wq *wq = BPF_CORE_READ(sk, sk_wq);
  __u64 first = (__u64)BPF_CORE_READ(wq, wait.head.next);
  struct wait_queue_entry *waiter = (void *)(first - bpf_core_field_offset(struct wait_queue_entry, entry));
  return (__u64)BPF_CORE_READ(waiter, func) == (__u64)&woken_wake_function;
}

#define SENT_LONG_AGO 250000000ULL /* ns; longer than any thread stays preempted inside the kernel */

/* Whether the answer of an exchange went through the slot's dummy socket, which sends one after the other. */
static __always_inline int went_by_dummy(const struct upstream *u, __u32 served) {
  return u->dummy_sk && u->dummy_served == served;
}

/*
 * Whether a verdict runs on U at this moment, or something else that holds the socket's lock: what the verdict has
 * decided is perhaps not queued yet. `slots` says whether the address is still U's.
 */
static __always_inline int is_receiving(const struct upstream *u, __u32 slot) {
  struct sock *sk = (struct sock *)u->sk;
  __u64 cookie = sk ? (__u64)BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) : 0;
  __u32 *slot_at = cookie ? bpf_map_lookup_elem(&slots, &cookie) : 0;
  if (!slot_at || *slot_at != slot)
    return 0;
  if (BPF_CORE_READ(sk, sk_lock.owned))
    return 1;
  return bpf_core_field_exists(sk->sk_lock.slock.rlock) && BPF_CORE_READ(sk, sk_lock.slock.rlock.raw_lock.val.counter);
}

/* Whether the answer of an earlier exchange has certainly reached its client's queue or backlog. */
__attribute__((noinline)) int arrived(__u32 slot, __u32 served, __u32 incarnation) {
  struct upstream *u = bpf_map_lookup_elem(&upstreams, &slot);
  if (!u || u->incarnation != incarnation)
    return 1;
  if (went_by_dummy(u, served))
    return bpf_ktime_get_ns() - u->answered > SENT_LONG_AGO || nobody_sends(u->dummy_sk, u->dummy_cookie);
  if (u->served - served >= 2) /* the server has answered somebody else since */
    return 1;
  if (is_receiving(u, slot))
    return 0;
  if (!u->server || bpf_ktime_get_ns() - u->answered > SENT_LONG_AGO)
    return 1;
  return nobody_sends(u->server_sk, u->server);
}

/* Whether redirected bytes wait for the kernel thread: a message would overtake them. */
static __always_inline int has_backlog(struct sock *sk, __u64 cookie) {
  struct sk_psock *psock = psock_of(sk, cookie);
  return psock && BPF_CORE_READ(psock, ingress_skb.qlen);
}

/* Remembers for the exchange that begins on `u` which answer it must not overtake; c is that of the exchange before. */
static __always_inline void note_before(const struct conn *c, struct upstream *u, __u32 slot) {
  __u32 before = c->upstream;
  u->behind = 0;
  if (!c->requested)
    return;
  struct upstream *last = bpf_map_lookup_elem(&upstreams, &before);
  if (!last || last->incarnation != c->incarnation)
    return;
  /*
   * a thread of a server's can be between its decision and the queue for long, so that is for all clients; a verdict
   * cannot
   */
  if (c->flags & CONN_FLAG_PIPELINES || went_by_dummy(last, c->served) || (last->server && before != slot)) {
    u->behind = before + 1;
    u->behind_served = c->served;
    u->behind_incarnation = c->incarnation;
  }
}

/* Whether an answer seen by a verdict must be left to the agent, because the one before has perhaps not arrived. */
static __always_inline int is_behind(struct upstream *u) {
  if (!u->behind)
    return 0;
  if (!arrived(u->behind - 1, u->behind_served, u->behind_incarnation)) {
    count(COUNTER_BEHIND);
    return 1;
  }
  u->behind = 0;
  return 0;
}

/* The same for an answer seen in its server's send. What this server sent to this client before is not behind it. */
static __always_inline int message_overtakes(struct upstream *u, __u32 slot) {
  if (!u->behind)
    return 0;
  int same = u->behind == slot + 1 && !went_by_dummy(u, u->behind_served);
  if (same ? is_receiving(u, slot) : !arrived(u->behind - 1, u->behind_served, u->behind_incarnation)) {
    count(COUNTER_BEHIND);
    return 1;
  }
  u->behind = 0;
  return has_backlog((struct sock *)u->client_sk, u->owner);
}

/*
 * Whether a reply to `sk`, which is queued at once, could overtake an answer. `queued`: what unread_of said; an answer can
 * have come into the backlog since.
 */
static __always_inline int reply_overtakes(const struct conn *c, struct bpf_sock *sk, __u32 queued) {
  if (queued)
    return 1;
  if (!c->requested)
    return 0;
  return !arrived(c->upstream, c->served, c->incarnation) || has_backlog((struct sock *)bpf_skc_to_tcp_sock(sk), c->cookie);
}

/* Whether the connection waits for the end of an answer that the slot brings. */
static __always_inline int in_flight(struct conn *c, struct upstream *u) {
  return u && u->owner == c->cookie && u->exchange == c->requested;
}
