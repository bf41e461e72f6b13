/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The entry points of listener intake: see intake-listener.h. They share new_request with on_message. */
#pragma once

/*
 * Everything that a client of listener intake sends. The agent makes this run for what had come before it accepted, too
 * (it changes SO_RCVLOWAT, which tells the socket's owner that data is there), so nothing is ever read around it. Runs
 * with the socket's lock held: once at a time per connection.
 */
SEC("sk_skb/stream_verdict")
int on_request(struct __sk_buff *skb) {
  __u32 size = skb->len;
  if (!size) /* a FIN */
    return SK_PASS;
  __u64 cookie = bpf_get_socket_cookie(skb);
  struct conn *c = bpf_map_lookup_elem(&intake_conns, &cookie);
  struct bpf_sock *sk = skb->sk;
  if (!c || !sk)
    return SK_PASS;
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  if (!tp)
    return to_agent(c, size, COUNTER_HELPER_FAILED);
  if (!(c->flags & CONN_FLAG_INSERTED)) {
    /* nobody can have written before the first bytes came */
    c->base_seq = BPF_CORE_READ(tp, write_seq);
    c->flags |= CONN_FLAG_INSERTED;
    count(COUNTER_CONNECTIONS);
  }
  if (passes(c, size))
    return SK_PASS;
  __u32 slot = c->upstream;
  struct upstream *u = bpf_map_lookup_elem(&upstreams, &slot);
  if (c->body_left) {
    if (!in_flight(c, u) || u->dead || (u->phase != PHASE_AWAIT && u->phase != PHASE_AGENT) || size > c->body_left)
      return to_agent(c, size, COUNTER_BODY_AGENT);
    note_piece(c, u, size);
    /* the way that its head went: two ways would overtake each other */
    __sync_fetch_and_add(&u->given, size);
    u->end_seq += size;
    u->way |= WAY_PIECES;
    return bpf_sk_redirect_map(skb, &dummies, slot, 0);
  }
  if (in_flight(c, u))
    return to_agent(c, size, COUNTER_PIPELINED);
  if (unsent_of(tp, c)) /* what the kernel would send now could overtake what the agent sends */
    return to_agent(c, size, COUNTER_UNREAD);
  struct scratch *s = scratch_take();
  if (!s)
    return to_agent(c, size, COUNTER_SCRATCH_BUSY);
  int verdict = new_request(0, skb, 1, c, s, size, 0);
  scratch_give(s);
  return verdict;
}

/*
 * What reaches the dummy of a slot: a request whose head is to be replaced, then perhaps more of its body; or an answer,
 * likewise. Nothing is dropped here, that would disable the dummy for ever: what cannot be sent on goes to its peer, and
 * the agent, who listens there, gives the pair up.
 */
SEC("sk_msg")
int on_dummy(struct sk_msg_md *msg) {
  struct bpf_sock *sk = msg->sk;
  if (!sk)
    return SK_PASS;
  __u32 *slot_at = bpf_sk_storage_get(&dummy_slots, sk, 0, 0);
  if (!slot_at)
    return SK_PASS;
  __u32 slot = *slot_at;
  struct staged *st = bpf_map_lookup_elem(&stages, &slot);
  struct upstream *u = bpf_map_lookup_elem(&upstreams, &slot);
  if (!st || !u)
    return SK_PASS;
  if (u->way & WAY_DUMMY)
    return deliver(msg, sk, u, slot, st);
  if (u->dead)
    return SK_PASS;
  u->answered = bpf_ktime_get_coarse_ns();
  u->dummy_owner = u->owner;
  u->dummy_sk = (__u64)bpf_skc_to_tcp_sock(sk);
  __u32 len = st->len, size = msg->size;
  if (len) {
    st->len = 0;
    if (replace_staged(msg, st, len, st->old_len))
      return SK_PASS;
  }
  if (u->intake == INTAKE_REPLY) {
    __u64 owner = u->owner;
    if (!takes_bytes(u->client_sk, owner))
      return SK_PASS;
    struct conn *c = bpf_map_lookup_elem(&intake_conns, &owner);
    if (c) /* before the slot is given back: until it is sent, the next request of this client must not overtake it */
      __sync_fetch_and_add(&c->sent, msg->size);
    pool_give(u, slot);
    bpf_msg_redirect_hash(msg, &intakes, &owner, 0);
    return SK_PASS;
  }
  __sync_fetch_and_add(&u->taken, size);
  if (u->way & WAY_DIRECT) {
    __u64 server = u->server;
    if (bpf_msg_redirect_hash(msg, &servers, &server, BPF_F_INGRESS) == SK_PASS)
      return SK_PASS;
    u->way = WAY_NATIVE; /* the server is gone: so will be the connection, and the agent says so */
  }
  bpf_msg_redirect_map(msg, &sockets, slot, 0); /* refused, it passes, too */
  return SK_PASS;
}
