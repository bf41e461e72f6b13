/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How much may wait for a client in the kernel. What is redirected into a socket meets no window: Linux moves it on
 * only while the socket's receive buffer has room, asks again every 4 ms or so when it has not, and keeps the rest in
 * a backlog without limit. So answers that do not fit into the buffer, and clients that do not read, are the agent's,
 * who writes over TCP.
 */
#pragma once
#include <bpf/bpf_core_read.h>
#include "kernel-types.h"
#include "maps.h"

/* The client's psock; 0 when the socket is not `cookie`'s any more. */
static __always_inline struct sk_psock *psock_of(struct sock *sk, __u64 cookie) {
  if (!sk || (__u64)BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) != cookie)
    return 0;
  return (struct sk_psock *)((__u64)BPF_CORE_READ(sk, sk_user_data) & USER_DATA_MASK);
}

/* Redirected bytes in the socket's queue; where the kernel does not count them, the memory that they take. */
static __always_inline __u32 unread_bytes(struct sock *sk, struct sk_psock *psock) {
  if (bpf_core_field_exists(psock->msg_tot_len))
    return READ_AT(struct sk_psock, psock, msg_tot_len);
  return READ_AT(struct sock, sk, sk_backlog.rmem_alloc.counter);
}

/* Whether a client has left so much unread that its next request must wait until it has read (by way of the agent). */
static __always_inline int is_crowded(struct sock *sk, struct sk_psock *psock) {
  return unread_bytes(sk, psock) > MAX_UNREAD || READ_AT(struct sk_psock, psock, ingress_skb.qlen) > MAX_BACKLOG;
}

/*
 * The longest body that may wait unread at the client (address, cookie). Its receive buffer grows as TCP finds that it
 * reads fast, which TCP finds out when the agent writes: so an answer that is too long is carried, and of the next
 * ones those that fit are redirected. `direct`: sent by a server on this node; then nothing stands still while the
 * buffer is full.
 */
__attribute__((noinline)) __u32 room_of(__u64 address, __u64 cookie, __u32 direct) {
  struct sock *sk = (struct sock *)address;
  if (!psock_of(sk, cookie))
    return 0;
  __u32 buffer = BPF_CORE_READ(sk, sk_rcvbuf), room = buffer - buffer / 4;
  if (direct && room < MAX_UNREAD)
    return MAX_UNREAD;
  return room > MAX_KERNEL_BODY ? MAX_KERNEL_BODY : room;
}

/* Whether an answer comes in so many small segments that they fill a backlog. */
__attribute__((noinline)) int is_piling_up(__u64 address, __u64 cookie) {
  struct sk_psock *psock = psock_of((struct sock *)address, cookie);
  return psock && BPF_CORE_READ(psock, ingress_skb.qlen) > MAX_SEGMENTS;
}

/* What of redirected bytes waits for a client: any; too many; some in its queue, which it could have read. */
enum { UNREAD = 1, UNREAD_CROWD = 2, UNREAD_QUEUE = 4 };

/* What the client has not read yet: bytes of the native queue, and of redirected ones the bits above. */
static __always_inline void unread_of(struct bpf_sock *sk, struct conn *c, __u32 *native, __u32 *queued) {
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  *native = 1;
  *queued = UNREAD;
  if (!tp)
    return;
  *native = c->base_seq + c->native - tp->copied_seq;
  __u64 data = (__u64)tp->inet_conn.icsk_inet.sk.sk_user_data & USER_DATA_MASK;
  struct sk_psock *psock = (struct sk_psock *)data;
  if (!psock)
    return;
  /* in this order: what the kernel thread moves in between is then seen in the queue, and not missed in both */
  __u32 backlog = READ_AT(struct sk_psock, psock, ingress_skb.qlen);
  void *next = READ_AT(struct sk_psock, psock, ingress_msg.next);
  __u64 head_at = data + bpf_core_field_offset(struct sk_psock, ingress_msg);
  int in_queue = (__u64)next != head_at;
  *queued = (in_queue || backlog ? UNREAD : 0) | (is_crowded((struct sock *)tp, psock) ? UNREAD_CROWD : 0) |
            (in_queue ? UNREAD_QUEUE : 0);
}
