// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Sidestep's data plane: HTTP/1.1 requests are decided where the application sends them (sk_msg on its socket C), go to
 * a pooled connection U (to an endpoint, or to the proxy, which is just one more endpoint), and answers come back
 * through U's verdict to C. Whatever is not plainly understood goes to the agent, which is C's peer (SK_PASS).
 * ARCHITECTURE.md has the state table.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include "kernel-types.h"
#include "steer.h"
#include "trace.h"
#include "answer.h"
#include "retry.h"
#include "balance.h"
#include "bucket.h"
#include "mirror.h"
#include "bypass.h"
#include "token.h"
#include "inbound.h"
#include "request-body.h"
#include "answer-dummy.h"
#include "ctl-run.h"

/*
 * Set before loading: answers get the headers that Envoy adds, so the agent carries them and Envoy gives the replies.
 */
const volatile __u32 envoy_headers = 0;

#include "new-request.h"
#include "chains.h"
#include "hello.h"

/* Everything that an intercepted client sends. Runs with the socket's lock held: once at a time per connection. */
SEC("sk_msg")
int on_message(struct sk_msg_md *msg) {
  struct bpf_sock *sk = msg->sk;
  if (!sk)
    return SK_PASS;
  struct conn *c = bpf_sk_storage_get(&conns, sk, 0, 0);
  if (!c)
    return SK_PASS;
  __u32 size = msg->size;
  if ((c->flags & (CONN_FLAG_CHAIN | CONN_FLAG_TOLD)) == CONN_FLAG_CHAIN)
    return prologue(msg, c, size);
  if (passes(c, size))
    return SK_PASS;
  __u32 slot = c->upstream;
  struct upstream *u = bpf_map_lookup_elem(&upstreams, &slot);
  if (c->body_left) {
    /* the agent holds an answer that came early back for a moment: the body may still complete */
    if (!in_flight(c, u) || u->dead || (u->phase != PHASE_AWAIT && u->phase != PHASE_AGENT) || size > c->body_left)
      return to_agent(c, size, COUNTER_BODY_AGENT);
    if (u->way & WAY_DIRECT) {
      __u64 server = u->server;
      u->way |= WAY_PIECES;
      if (bpf_msg_redirect_hash(msg, &servers, &server, BPF_F_INGRESS) != SK_PASS)
        return to_agent(c, size, COUNTER_BODY_AGENT);
      note_piece(c, u, size);
      return SK_PASS;
    }
    note_piece(c, u, size);
    if (bpf_msg_redirect_map(msg, &sockets, slot, 0) != SK_PASS) {
      c->flags |= CONN_FLAG_BROKEN;
      return to_agent(c, size, COUNTER_REDIRECT_FAILED);
    }
    return SK_PASS;
  }
  if (in_flight(c, u)) {
    c->flags |= CONN_FLAG_PIPELINES;
    return to_agent(c, size, COUNTER_PIPELINED);
  }
  __u32 native, queued;
  unread_of(sk, c, &native, &queued);
  if (native || queued & UNREAD_QUEUE)
    c->flags |= CONN_FLAG_PIPELINES;
  if (native || queued & UNREAD_CROWD) /* what the kernel would send now could overtake what the agent sent, or be too much */
    return to_agent(c, size, COUNTER_UNREAD);
  struct scratch *s = scratch_take();
  if (!s)
    return to_agent(c, size, COUNTER_SCRATCH_BUSY);
  int verdict = new_request(msg, 0, 0, c, s, size, any_number(s, queued));
  scratch_give(s);
  return verdict;
}

#include "on-request.h"

SEC("sk_msg")
int on_server_message(struct sk_msg_md *msg) { return server_message(msg, envoy_headers); }

/* Everything that an upstream server sends over its connection. */
SEC("sk_skb/stream_verdict")
int on_answer(struct __sk_buff *skb) {
  __u32 len = skb->len;
  if (!len) /* a FIN: redirected, it would make the client's recv fail */
    return SK_PASS;
  __u64 cookie = bpf_get_socket_cookie(skb);
  __u32 *slot_at = bpf_map_lookup_elem(&slots, &cookie);
  if (!slot_at)
    return SK_PASS;
  __u32 slot = *slot_at;
  struct upstream *u = bpf_map_lookup_elem(&upstreams, &slot);
  if (!u)
    return SK_PASS;
  __u32 phase = u->phase;
  if (phase == PHASE_IDLE || !u->owner) {
    u->dead = 1; /* nobody asked */
    return SK_PASS;
  }
  if (phase != PHASE_AWAIT && phase != PHASE_BODY && phase != PHASE_CHUNKED) {
    if (phase == PHASE_DELIVER) /* more than was asked for */
      u->dead = 1;
    return SK_PASS;
  }
  if (phase == PHASE_AWAIT && __sync_val_compare_and_swap(&u->phase, PHASE_AWAIT, PHASE_BODY) != PHASE_AWAIT)
    return SK_PASS; /* the agent has given up in this moment */
  int follows = phase == PHASE_AWAIT && follows_dummy(u, slot);
  struct scratch *s = phase == PHASE_AWAIT && !follows && is_behind(u) ? 0 : scratch_take();
  if (!s) {
    u->phase = phase == PHASE_AWAIT ? PHASE_AGENT : PHASE_HANDOVER;
    return SK_PASS;
  }
  int way = TO_AGENT, done = 0;
  if (phase == PHASE_AWAIT) {
    const __u8 *image = current_image();
    __u32 n = (len > MAX_HEAD ? MAX_HEAD : len) & (MAX_HEAD * 2 - 1);
    if (envoy_headers && !(u->flags & UPSTREAM_FLAG_PROXY))
      image = 0;
    if (image && n && !bpf_skb_load_bytes(skb, 0, s->in, n)) {
      const struct image_header *header = (const void *)image;
      struct work w = {.s = s, .image = image};
      scan_head(&w, n, header->response_scan, header->response_classes, 1);
      finish_response_head(s);
      way = first_piece(&w, u, skb, len, &done);
      if (way == TO_CLIENT)
        way = edit_skb(&w, skb, slot);
      if (way == TO_CLIENT_LONGER || (follows && way == TO_CLIENT))
        way = begin_dummy(skb, s, u, slot, len, way == TO_CLIENT_LONGER, done);
    }
    if (way == TO_CLIENT && u->log)
      log_answer(s, u, slot, done && !(u->way & WAY_DUMMY));
  } else if (u->intake != INTAKE_SOCKET || !is_piling_up(u->client_sk, u->owner)) {
    way = next_piece(s, u, skb, len, &done);
    if (way == TO_CLIENT && done && u->log && !(u->way & WAY_DUMMY))
      log_end(u, slot);
  }
  scratch_give(s);
  if (way == TO_AGENT) {
    if (phase == PHASE_AWAIT)
      u->body = 0; /* the agent counts all of it */
    u->phase = phase == PHASE_AWAIT ? PHASE_AGENT : PHASE_HANDOVER;
    count(COUNTER_ANSWERS_AGENT);
    return SK_PASS;
  }
  u->redirected += len;
  if (u->way & WAY_DUMMY)
    return to_dummy(skb, u, slot, len, done);
  __u64 owner = u->owner;
  /* at listener intake, what is sent is counted before the exchange ends: the next request then knows of it */
  int verdict = u->intake != INTAKE_SOCKET ? to_listener_client(skb, owner)
                                           : bpf_sk_redirect_hash(skb, &clients, &owner, BPF_F_INGRESS);
  if (done) {
    settle(skb, u);
    pool_give(u, slot);
  }
  return verdict;
}

#define CTL_AT 16 /* the test run takes the first bytes for an Ethernet header */

/* The agent's commands (src/layout/control.ts); run by BPF_PROG_TEST_RUN, attached to nothing. */
SEC("tc")
int control(struct __sk_buff *skb) {
  void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  struct ctl *in_packet = data + CTL_AT;
  if ((void *)(in_packet + 1) > end)
    return 1;
  struct ctl ctl;
  __builtin_memcpy(&ctl, in_packet, sizeof ctl);
  ctl_run(&ctl);
  __builtin_memcpy(in_packet, &ctl, sizeof ctl);
  return 0;
}

char program_license[] SEC("license") = "Dual BSD/GPL";
