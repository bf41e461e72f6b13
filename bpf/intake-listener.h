/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Intake at the listener: requests are decided where the agent accepts them (a verdict on its socket A), for clients
 * whose own socket is not ours: of other hosts and network namespaces, or of applications whose sockets must not be in
 * a map. Answers leave by the egress of A, behind one another and behind what the agent wrote, so the client sees one
 * ordinary TCP stream.
 *
 * An skb must not change its length in a verdict. A request whose head changes its length therefore goes through the
 * dummy socket D of its upstream connection, whose sk_msg program may edit; a reply of the mesh that is shorter than
 * its request is filled up with white space, a longer one goes through a dummy, too.
 */
#pragma once
#include <bpf/bpf_core_read.h>
#include "kernel-types.h"
#include "bypass.h"

/* A: accepted sockets, by cookie. */
struct {
  __uint(type, BPF_MAP_TYPE_SOCKHASH);
  __uint(max_entries, MAX_CLIENTS);
  __type(key, __u64);
  __type(value, __u64);
} intakes SEC(".maps");

/* Their state, by cookie (verdicts cannot reach socket storage); written by the agent before the socket enters. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_CLIENTS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u64);
  __type(value, struct conn);
} intake_conns SEC(".maps");

/* D: the dummy of a pool slot. */
struct {
  __uint(type, BPF_MAP_TYPE_SOCKMAP);
  __uint(max_entries, MAX_UPSTREAMS);
  __type(key, __u32);
  __type(value, __u64);
} dummies SEC(".maps");

/* D -> its slot; written by the agent. */
struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, __u32);
} dummy_slots SEC(".maps");

/* The head that D's program puts in the place of the first `old_len` bytes that reach it; len 0: none. */
struct staged {
  __u32 len;
  __u32 old_len;
  __u8 bytes[MAX_STAGED];
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, MAX_UPSTREAMS);
  __type(key, __u32);
  __type(value, struct staged);
} stages SEC(".maps");

#define TX_ENABLED 1 /* bit of sk_psock.state */

/*
 * Whether the dummy of a slot can be used for `owner`. A send that fails, because its target has gone in that moment,
 * disables a dummy: so it must be enabled, and no thread may still be in a send for somebody else.
 */
__attribute__((noinline)) int dummy_usable(__u32 slot, __u64 owner) {
  struct upstream *u = bpf_map_lookup_elem(&upstreams, &slot);
  if (!u || u->dummy != 1)
    return 0;
  struct bpf_sock *sk = bpf_map_lookup_elem(&dummies, &slot);
  if (!sk)
    return 0;
  struct sock *dummy = (struct sock *)bpf_skc_to_tcp_sock(sk);
  int enabled = 0;
  if (dummy) {
    struct sk_psock *psock = (struct sk_psock *)((__u64)BPF_CORE_READ(dummy, sk_user_data) & USER_DATA_MASK);
    enabled = psock && BPF_CORE_READ(psock, state) & TX_ENABLED;
  }
  bpf_sk_release(sk);
  if (!enabled) {
    u->dummy = 2;
    return 0;
  }
  return !u->dummy_sk || u->dummy_owner == owner || nobody_sends(u->dummy_sk, u->dummy_cookie);
}

/* Whether A (address, cookie) can be sent to at all. */
__attribute__((noinline)) int takes_bytes(__u64 address, __u64 cookie) {
  struct sock *a = (struct sock *)address;
  if (!a || (__u64)BPF_CORE_READ(a, __sk_common.skc_cookie.counter) != cookie)
    return 0;
  unsigned char state = BPF_CORE_READ(a, __sk_common.skc_state);
  return (state == BPF_TCP_ESTABLISHED || state == BPF_TCP_CLOSE_WAIT) && !(BPF_CORE_READ(a, sk_shutdown) & 2);
}

/* Bytes of A's stream that are on their way: written by the agent and announced, but not in the send queue yet. */
static __always_inline __u32 unsent_of(struct tcp_sock *tp, struct conn *c) {
  return c->base_seq + c->native + c->sent - BPF_CORE_READ(tp, write_seq);
}

/* Whether anything that was redirected to A's egress (or passed to the agent) still waits in its backlog. */
static __always_inline __u32 backlog_of(struct tcp_sock *tp) {
  __u64 data = (__u64)BPF_CORE_READ(tp, inet_conn.icsk_inet.sk.sk_user_data) & USER_DATA_MASK;
  struct sk_psock *psock = (struct sk_psock *)data;
  return psock ? BPF_CORE_READ(psock, ingress_skb.qlen) != 0 : 0;
}

/* Bytes for the client of listener intake: to the egress of A. */
static __always_inline int to_listener_client(struct __sk_buff *skb, __u64 cookie) {
  struct conn *c = bpf_map_lookup_elem(&intake_conns, &cookie);
  if (c)
    __sync_fetch_and_add(&c->sent, skb->len);
  return bpf_sk_redirect_hash(skb, &intakes, &cookie, 0);
}

/* How a request reaches the upstream: as it is or edited in place; by way of D; or not from here. */
enum { BY_ITSELF = 0, BY_DUMMY = 1, BY_AGENT = 2 };

/*
 * `more`: bytes of the body that are still to come. They go through D, too, which sends each piece whole: in a backlog,
 * pieces could fall behind the next request if the server answers early.
 */
static __always_inline int way_of(struct __sk_buff *skb, const struct scratch *s, __u32 size,
                                  const struct action *action, __u64 more) {
  int dummy = action && (more || s->o != s->head_len);
  if (size > MAX_LINEAR || (more && !action) || (dummy && s->o > MAX_STAGED))
    return BY_AGENT;
  /* in one piece, so that it is sent at once, and D's program sees the head */
  if ((dummy || size > s->head_len) && bpf_skb_pull_data(skb, size))
    return BY_AGENT;
  return dummy ? BY_DUMMY : BY_ITSELF;
}

/*
 * The answer is complete, seen on U's socket: a piece of the request that is still on its way (the server has answered
 * early) would meet the next request, so U is not used again.
 */
static __always_inline void settle(struct __sk_buff *skb, struct upstream *u) {
  struct bpf_sock *sk = skb->sk;
  struct tcp_sock *tp = sk ? bpf_skc_to_tcp_sock(sk) : 0;
  __u32 seq = tp ? BPF_CORE_READ(tp, write_seq) : 0;
  if (u->intake != INTAKE_SOCKET && u->way & WAY_PIECES &&
      (!tp || u->way & WAY_DIRECT || (__s32)(seq - u->end_seq) < 0))
    u->flags |= UPSTREAM_FLAG_LIMIT;
  u->seq = seq;
  u->sk = (__u64)tp;
}

/* The same for the agent's ends of exchanges, and for a new connection. */
static __always_inline void settle_slot(struct upstream *u, __u32 slot) {
  struct bpf_sock *sk = bpf_map_lookup_elem(&sockets, &slot);
  if (!sk)
    return;
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  if (tp)
    u->seq = BPF_CORE_READ(tp, write_seq);
  bpf_sk_release(sk);
}

/*
 * Begins the bookkeeping of an exchange on `u`. Requests to a paired server go to its socket, answers over TCP.
 * `growth`: of the head.
 */
static __always_inline void begin_listener_way(struct upstream *u, struct bpf_sock *client, int way, __u32 size,
                                               __u32 growth) {
  u->client_sk = client ? (__u64)bpf_skc_to_tcp_sock(client) : 0;
  u->end_seq = u->seq + size + growth;
  u->intake = way == BY_DUMMY ? INTAKE_LISTENER_DUMMY : INTAKE_LISTENER;
  u->behind = 0;
  u->way = u->server ? WAY_DIRECT | WAY_NATIVE : 0;
  u->taken = 0;
  u->given = way == BY_DUMMY ? size : 0;
}

/* Keeps the head for D's program. */
static __always_inline int stage(struct scratch *s, __u32 slot, __u32 old_len) {
  struct staged *st = bpf_map_lookup_elem(&stages, &slot);
  __u32 len = s->o;
  if (!st || len < 8 || len > MAX_STAGED)
    return -1;
  if (copy_bytes(st->bytes, len & (MAX_STAGED * 2 - 1), s->out))
    return -1;
  st->len = len;
  st->old_len = old_len;
  return 0;
}

/* Puts the staged head in the place of the first `old` bytes of a message. Returns 0, or a negative error. */
static __noinline int replace_staged(struct sk_msg_md *msg, struct staged *st, __u32 len, __u32 old) {
  if (!st || len > MAX_STAGED || len < 8 || msg->size < old)
    return -1;
  if (len > old) {
    if (bpf_msg_push_data(msg, 0, len - old, 0))
      return -2;
  } else if (len < old) {
    if (bpf_msg_pop_data(msg, 0, old - len, 0))
      return -3;
  }
  if (bpf_msg_pull_data(msg, 0, len, 0))
    return -4;
  return put_words(msg->data, msg->data_end, st->bytes, len, MAX_STAGED);
}

/* Sends a request that was decided on its way. Negative: it could not be changed. */
static __always_inline int send_request(struct __sk_buff *skb, struct scratch *s, struct upstream *u, __u32 slot,
                                        int way, int edited) {
  if (way == BY_DUMMY) {
    if (stage(s, slot, s->head_len))
      return -1;
    return bpf_sk_redirect_map(skb, &dummies, slot, 0);
  }
  if (edited) {
    __u32 head = s->head_len & (MAX_HEAD * 2 - 1);
    if (!head || bpf_skb_store_bytes(skb, 0, s->out, head, 0))
      return -1;
  }
  if (u->way & WAY_DIRECT) {
    __u64 server = u->server;
    return bpf_sk_redirect_hash(skb, &servers, &server, BPF_F_INGRESS);
  }
  return bpf_sk_redirect_map(skb, &sockets, slot, 0);
}

static long colon_step(__u32 index, void *context) {
  struct scratch *s = ((struct work *)context)->s;
  __u8 c = s->out[s->run_at & OUT_MASK];
  if (s->run_at >= s->o)
    return 1;
  s->run_at++;
  if (c == '\n')
    s->run_row = 1;
  else if (c == ':' && s->run_row) {
    s->run_row = 2;
    return 1;
  }
  return 0;
}

/*
 * Fills the reply in s->out up to `size` bytes, by white space before the value of its first header, and leaves it in
 * s->in (the request is not needed any more). Returns 0 when it is longer, or has no header.
 */
static __always_inline int pad_reply(struct work *w, __u32 size) {
  struct scratch *s = w->s;
  __u32 o = s->o;
  if (o > size || o > MAX_HEAD || size > MAX_HEAD)
    return 0;
  s->run_at = 0;
  s->run_row = 0;
  LOOP(512, colon_step, w);
  __u32 at = s->run_at, padding = size - o;
  if (s->run_row != 2 || at > o || at > MAX_HEAD)
    return 0;
  if (copy_bytes(s->in, at & (MAX_HEAD * 2 - 1), s->out))
    return 0;
  if (copy_bytes(&s->in[(at + padding) & IN_MASK], (o - at) & (MAX_HEAD * 2 - 1), &s->out[at & OUT_MASK]))
    return 0;
  s->o = 0;
  s->run_end = padding;
  LOOP(MAX_HEAD, pad_step, w);
  if (padding && copy_bytes(&s->in[at & IN_MASK], padding & (MAX_HEAD * 2 - 1), s->out))
    return 0;
  return 1;
}

/* Answers the request in its own place. Negative: it could not be changed. */
static __always_inline int send_reply(struct __sk_buff *skb, struct scratch *s, __u32 size, __u64 cookie) {
  FORGET(size);
  size &= MAX_HEAD * 2 - 1;
  if (!size || bpf_skb_store_bytes(skb, 0, s->in, size, 0))
    return -1;
  return to_listener_client(skb, cookie);
}

/* A reply that is longer than its request. Negative, with nothing changed: there is no dummy for it. */
static __always_inline int send_long_reply(struct __sk_buff *skb, struct conn *c, struct scratch *s, __u32 size) {
  if (s->o > MAX_STAGED || size > MAX_HEAD)
    return -1;
  __u32 slot = pool_take(REPLY_ENDPOINT);
  struct upstream *u = bpf_map_lookup_elem(&upstreams, &slot);
  if (slot == NO_SLOT || !u)
    return -1;
  if (!dummy_usable(slot, c->cookie) || stage(s, slot, size) || bpf_skb_pull_data(skb, size)) {
    pool_return(u, slot);
    return -1;
  }
  u->client_sk = skb->sk ? (__u64)bpf_skc_to_tcp_sock(skb->sk) : 0;
  c->requested++;
  c->upstream = slot;
  u->exchange = c->requested;
  u->timeout_ms = u->per_try_ms = u->idle_ms = 0;
  u->edits = 0;
  u->flags = UPSTREAM_FLAG_REQUEST_DONE;
  u->replay_len = 0;
  u->way = 0;
  u->behind = 0;
  u->given = u->taken = 0;
  u->intake = INTAKE_REPLY;
  u->owner = c->cookie;
  u->phase = PHASE_AWAIT;
  return bpf_sk_redirect_map(skb, &dummies, slot, 0);
}

/* What the agent commands about a connection, and its state but for what is unread. */
static __always_inline void ctl_gate(struct ctl *ctl, struct conn *c) {
  __u32 gate = *(volatile __u32 *)&c->gate;
  __u64 passed = *(volatile __u64 *)&c->passed;
  ctl->result = 1;
  ctl->queued = 0;
  if (ctl->command == CTL_RESUME) {
    c->native = ctl->native;
    ctl->result = 0;
    if (gate & 1 && passed == ctl->arg && !(c->flags & (CONN_FLAG_STICKY | CONN_FLAG_BROKEN))) {
      c->body_left = 0;
      c->flags &= ~CONN_FLAG_DELAYED;
      ctl->result = __sync_val_compare_and_swap(&c->gate, gate, gate & ~1u) == gate;
    }
  }
  if (ctl->command == CTL_HOLD)
    ctl->result = !(__sync_fetch_and_or(&c->gate, 1) & 1);
  if (ctl->command == CTL_NATIVE || ctl->command == CTL_COMPLETE)
    c->native = ctl->native;
  if (ctl->command == CTL_BODY_SENT)
    c->body_left = 0;
  ctl->gate = gate;
  ctl->requested = c->requested;
  ctl->replied = c->replied;
  ctl->upstream = c->upstream;
  ctl->passed = passed;
  ctl->body_left = c->body_left;
  ctl->listener = c->listener;
  ctl->flags = c->flags;
  ctl->connect_ms = c->user_timeout;
}

/* The agent's questions and commands about a connection of listener intake (see ctl_client). */
static __always_inline int ctl_intake(struct ctl *ctl) {
  __u64 cookie = ctl->cookie;
  struct conn *c = bpf_map_lookup_elem(&intake_conns, &cookie);
  if (!c)
    return 0;
  struct bpf_sock *sk = bpf_map_lookup_elem(&intakes, &cookie);
  if (!sk)
    return 1;
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  if (tp) {
    ctl_gate(ctl, c);
    /* first whether an exchange is under way: an answer that ends in between is then seen in what is queued */
    __u32 slot = c->upstream;
    struct upstream *u = bpf_map_lookup_elem(&upstreams, &slot);
    if (u && *(volatile __u64 *)&u->owner == cookie) {
      ctl->queued = QUEUED_IN_FLIGHT;
      /* the dummy's program runs before its thread has sent what it took */
      int sending = u->dummy == 1 && u->dummy_owner == cookie && !nobody_sends(u->dummy_sk, u->dummy_cookie);
      if (u->given != u->taken || sending)
        ctl->queued |= QUEUED_REQUEST;
    }
    /* a long reply is between its dummy and A for a moment: sent, but not in A's send queue */
    if (backlog_of(tp) || (__s32)unsent_of(tp, c) > 0)
      ctl->queued |= QUEUED_ANSWER;
    ctl->unread = 0;
  }
  bpf_sk_release(sk);
  return 1;
}
