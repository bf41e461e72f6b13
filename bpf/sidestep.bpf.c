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

/* Leaves the rest of this connection to the agent until it resumes (CTL_RESUME). */
static __always_inline int to_agent(struct conn *c, __u32 size, __u32 why) {
  __sync_fetch_and_add(&c->passed, size);
  __sync_fetch_and_add(&c->gate, 2); /* counts the message, and sets the agent bit, which CTL_HOLD may have set meanwhile */
  __sync_fetch_and_or(&c->gate, 1);
  count(why);
  return SK_PASS;
}

/* Whether the connection is the agent's at this moment; then the message is counted. */
static __always_inline int passes(struct conn *c, __u32 size) {
  if (!(c->gate & 1))
    return 0;
  __sync_fetch_and_add(&c->passed, size);
  if (__sync_fetch_and_add(&c->gate, 2) & 1)
    return 1;
  /* the agent resumed in between: this message is the kernel's after all */
  __sync_fetch_and_add(&c->passed, -(__u64)size);
  return 0;
}

/*
 * Replaces the first `old` bytes of the message by s->out[0..s->o). Returns 0, or a negative error. Not static: see
 * pool_take.
 */
__noinline int replace_head(struct sk_msg_md *msg, struct scratch *s, __u32 old) {
  if (!s)
    return -1;
  __u32 len = s->o;
  if (len > old)
    return grow_head(msg, s, old, len - old);
  if (len < old && bpf_msg_pop_data(msg, 0, old - len, 0))
    return -3;
  return overwrite(msg, s, 0, len);
}

/* Answers the request in the message's place. `draw`: what is drawn may give it another answer. */
static __always_inline int reply(struct sk_msg_md *msg, struct __sk_buff *skb, struct conn *c, struct work *w,
                                 const struct action *action, __u32 size, int draw) {
  struct scratch *s = w->s;
  const struct listener *listener = AT(struct listener, w->image, s->action);
  __u64 length = s->flags & HEAD_LENGTH ? s->content_length : 0;
  if (size - s->head_len != length || size > MAX_HEAD)
    return to_agent(c, size, size - s->head_len > length ? COUNTER_PIPELINED : COUNTER_BODY_AGENT);
  if (!build_reply(w, action))
    return to_agent(c, size, COUNTER_ODD);
  /* before the draw: a request that goes to the proxy after it would be drawn for twice */
  if (draw && listener->log && !log_has_room())
    return to_agent(c, size, COUNTER_AGENT);
  int other = draw ? draw_lots(s) : 0;
  if (other == REPLY_DELAYED)
    c->flags |= CONN_FLAG_DELAYED;
  if (other < 0 || other == REPLY_DELAYED)
    return to_agent(c, size, COUNTER_AGENT);
  const struct action *given = other ? AT(struct action, w->image, other) : action;
  if (draw && !build_reply(w, given)) /* after the draw, of which it may tell */
    return to_agent(c, size, COUNTER_ODD);
  if (listener->log && !log_reply_of(msg, skb, c, w, given, size)) {
    if (!draw)
      return to_agent(c, size, COUNTER_AGENT);
    count(COUNTER_LOG_LOST);
  }
  int padded = skb && pad_reply(w, size);
  if (!skb && replace_head(msg, s, size)) {
    c->flags |= CONN_FLAG_BROKEN;
    return to_agent(c, size, COUNTER_HELPER_FAILED);
  }
  __u64 cookie = c->cookie;
  c->replied++;
  if (skb) {
    int verdict = padded ? send_reply(skb, s, size, cookie) : send_long_reply(skb, c, s, size);
    if (verdict < 0)
      return to_agent(c, size, padded ? COUNTER_HELPER_FAILED : COUNTER_POOL_EMPTY);
    count(COUNTER_KERNEL);
    count(COUNTER_REPLIES);
    return verdict;
  }
  count(COUNTER_KERNEL);
  count(COUNTER_REPLIES);
  if (bpf_msg_redirect_hash(msg, &clients, &cookie, BPF_F_INGRESS) != SK_PASS) {
    c->flags |= CONN_FLAG_BROKEN;
    return to_agent(c, size, COUNTER_REDIRECT_FAILED);
  }
  return SK_PASS;
}

/* Sends the request to an idle connection of the endpoint. `size`: bytes of the message. */
static __always_inline int forward(struct sk_msg_md *msg, struct __sk_buff *skb, struct conn *c, struct work *w,
                                   const struct action *action, __u32 endpoint, __u32 size, __u32 queued,
                                   int *struck) {
  struct scratch *s = w->s;
  __u32 body = size - s->head_len;
  __u64 length = s->flags & HEAD_LENGTH ? s->content_length : 0;
  if (body > length) {
    c->flags |= CONN_FLAG_PIPELINES;
    return to_agent(c, size, COUNTER_PIPELINED);
  }
  if (length > MAX_KERNEL_BODY)
    return to_agent(c, size, COUNTER_BODY_AGENT);
  /* a retriable request must be here as a whole and fit, so that it can be replayed */
  if (action && action->flags & ACTION_FLAG_RETRY && (size > MAX_REPLAY || body < length))
    action = 0;
  if (action && action->flags & ACTION_FLAG_WHOLE && body < length)
    action = 0;
  s->endpoint = endpoint;
  if (action && action->trace)
    begin_trace(s, image_u64(w->image, action->trace));
  if (action && action->variables && !take_variables(w, action))
    action = 0;
  const struct listener *listener = AT(struct listener, w->image, s->action);
  if (action && listener->log && !log_has_room())
    action = 0;
  if (action && action->mirror && !may_mirror(size))
    action = 0;
  if (!action) {
    endpoint = listener->proxy_endpoint - 1;
    struct endpoint *proxy = bpf_map_lookup_elem(&endpoints, &endpoint);
    /* the proxy must see the client's own address; the agent binds to it where it is another than the pool's */
    if (!proxy || (proxy->source[0] && proxy->source[0] != c->source[0]) || proxy->source[1] != c->source[1] ||
        proxy->source[2] != c->source[2] || proxy->source[3] != c->source[3])
      return to_agent(c, size, COUNTER_AGENT);
  } else if (!build_request(w, action)) {
    return to_agent(c, size, COUNTER_ODD);
  }
  int way = BY_ITSELF;
  if (skb) {
    way = way_of(skb, s, size, action, length - body);
    if (way == BY_AGENT)
      return to_agent(c, size, COUNTER_AGENT);
  }
  /* before a connection could be missed: there are to be no more than may be in use */
  if (action && s->breaker && breaker_full(s->breaker - 1))
    return to_agent(c, size, COUNTER_AGENT);
  __u32 slot = take_again(endpoint, c->upstream);
  if (slot == NO_SLOT)
    slot = pool_take(endpoint);
  if (slot == NO_SLOT)
    return to_agent(c, size, COUNTER_POOL_EMPTY);
  struct upstream *u = bpf_map_lookup_elem(&upstreams, &slot);
  if (!u)
    return to_agent(c, size, COUNTER_HELPER_FAILED);
  if (way == BY_DUMMY && !dummy_usable(slot, c->cookie)) {
    pool_return(u, slot);
    return to_agent(c, size, COUNTER_POOL_EMPTY);
  }
  u->breaker = action ? s->breaker : 0;
  if (u->breaker && !breaker_enter(u->breaker - 1)) {
    u->breaker = 0;
    pool_return(u, slot);
    return to_agent(c, size, COUNTER_AGENT);
  }
  if (action && s->n_lots && (*struck = draw_lots(s))) {
    uncount(u);
    pool_return(u, slot);
    return SK_PASS;
  }
  if (action && action->mirror)
    mirror_request(s, AT(struct mirror, w->image, action->mirror), size);
  if (skb)
    begin_listener_way(u, skb->sk, way, size, action ? s->o - s->head_len : 0);
  else
    begin_way(c, u, slot, queued, (__u64)bpf_skc_to_tcp_sock(msg->sk));
  c->requested++;
  c->upstream = slot;
  c->body_left = length - body;
  u->exchange = c->requested;
  u->started = bpf_ktime_get_ns();
  u->remaining = 0;
  u->redirected = 0;
  u->listener = c->listener;
  u->rule = s->rule;
  u->watch = action ? s->watch : 0, u->counted = 0;
  u->timeout_ms = action ? action->timeout_ms : 0;
  u->idle_ms = action ? action->idle_ms : 0;
  u->edits = action ? action->answer : 0;
  u->log = action && (s->sampled || !(listener->log & LOG_SPANS)) ? listener->log : 0;
  u->body = 0;
  if (action && action->variables) {
    struct variables *v = bpf_map_lookup_elem(&variables, &slot);
    if (v)
      keep_variables(s, v);
  }
  __u32 flags = 0;
  if (is_head_request(s))
    flags |= UPSTREAM_FLAG_HEAD;
  if (!action)
    flags |= UPSTREAM_FLAG_PROXY;
  else if (action->flags & ACTION_FLAG_RETRY)
    flags |= note_retry(u, w, action);
  u->per_try_ms = action ? action->per_try_ms : 0;
  if (action && s->max_requests && u->served + 1 >= s->max_requests)
    flags |= UPSTREAM_FLAG_LIMIT;
  if (!c->body_left)
    flags |= UPSTREAM_FLAG_REQUEST_DONE;
  u->flags = flags;
  u->replay_len = 0;
  if (flags & UPSTREAM_FLAG_RETRY)
    keep_for_replay(u, slot, s, size);
  u->owner = c->cookie;
  u->phase = PHASE_AWAIT;
  if (u->log)
    log_begin(s, c, u, slot, generation_of(w), client_port(msg, skb));
  if (skb) {
    int verdict = send_request(skb, s, u, slot, way, action != 0);
    if (verdict >= 0) {
      count(action ? COUNTER_KERNEL : COUNTER_PROXY);
      return verdict;
    }
    c->flags |= CONN_FLAG_BROKEN;
    return to_agent(c, size, COUNTER_HELPER_FAILED);
  }
  if (action && replace_head(msg, s, s->head_len)) {
    c->flags |= CONN_FLAG_BROKEN;
    return to_agent(c, size, COUNTER_HELPER_FAILED);
  }
  count(action ? COUNTER_KERNEL : COUNTER_PROXY);
  if (u->way & WAY_DIRECT) {
    __u64 server = u->server;
    if (bpf_msg_redirect_hash(msg, &servers, &server, BPF_F_INGRESS) == SK_PASS) {
      if (action)
        count(COUNTER_BYPASSED);
      return SK_PASS;
    }
    u->way = WAY_NATIVE; /* the server is gone: so will be the connection, and the agent says so */
  }
  if (bpf_msg_redirect_map(msg, &sockets, slot, 0) != SK_PASS) {
    c->flags |= CONN_FLAG_BROKEN;
    return to_agent(c, size, COUNTER_REDIRECT_FAILED);
  }
  return SK_PASS;
}

/* A new request, of a client's message or (listener intake, `in_skb`) in an skb: the other is null. */
static __always_inline int new_request(struct sk_msg_md *msg, struct __sk_buff *skb, const int in_skb, struct conn *c,
                                       struct scratch *s, __u32 size, __u32 queued) {
  const __u8 *image = current_image();
  if (!image)
    return to_agent(c, size, COUNTER_HELPER_FAILED);
  const struct image_header *header = (const void *)image;
  if (header->magic != IMAGE_MAGIC || c->listener >= header->n_listeners)
    return to_agent(c, size, COUNTER_ODD);
  __u32 at = image_u32(image, header->listeners + c->listener * 4);
  if (!at)
    return to_agent(c, size, COUNTER_ODD);
  const struct listener *listener = AT(struct listener, image, at);
  __u32 n = size > MAX_HEAD ? MAX_HEAD : size;
  if (skb) {
    FORGET(n);
    n &= MAX_HEAD * 2 - 1;
    if (!n || bpf_skb_load_bytes(skb, 0, s->in, n))
      return to_agent(c, size, COUNTER_HELPER_FAILED);
  } else {
    if (msg->data + n > msg->data_end && bpf_msg_pull_data(msg, 0, n, 0))
      return to_agent(c, size, COUNTER_HELPER_FAILED);
    if (copy_bytes(s->in, n & (MAX_HEAD * 2 - 1), msg->data))
      return to_agent(c, size, COUNTER_HELPER_FAILED);
  }
  struct work w = {.s = s, .image = image};
  scan_head(&w, n, listener->scan, listener->scan_classes, 0);
  finish_request_head(s);
  int odd = s->result != COMPLETE, left = odd && is_left(&w, n);
  if (odd && !left)
    return to_agent(c, size, s->result == INCOMPLETE ? COUNTER_PARTIAL : COUNTER_ODD);
  if (left)
    s->rule = s->token_unknown = 0;
  else
    request_token(&w, listener, c->listener, header->generation);
  __builtin_memcpy(&s->in[SOURCE_AT], c->source, 16);
  int v6 = c->source[1] || c->source[2] || c->source[3];
  __u32 action_at = left ? 0 : decide(&w, listener, v6 ? 16 : 4);
  s->action = at;
  __u32 rule = s->rule;
  int verdict = SK_PASS;
  const struct action *action = 0;
  if (action_at)
    action = AT(struct action, image, action_at);
  if (action && action->kind == ACTION_REPLY && (envoy_headers || !replies(s, action)))
    action = 0;
  int draw = action && s->n_lots;
  if (draw) {
    int may = before_draw(&w, action, in_skb, envoy_headers);
    if (!may)
      action = 0;
    else if (!in_skb && reply_overtakes(c, msg->sk, queued))
      return to_agent(c, size, COUNTER_UNREAD); /* as below: it may become a reply */
    if (may > 1) {
      action = AT(struct action, image, may);
      draw = 0;
    }
  }
  const struct action *answer = 0;
  if (action && action->kind == ACTION_REPLY) {
    /* a reply does not wait behind an answer that is still in the backlog, or on its way there */
    if (!in_skb && reply_overtakes(c, msg->sk, queued))
      return to_agent(c, size, COUNTER_UNREAD);
    answer = action;
  } else {
    __u32 endpoint = NO_SLOT;
    if (action && action->kind == ACTION_FORWARD)
      endpoint = choose_endpoint(&w, action);
    if (endpoint == NO_SLOT)
      action = 0;
    if (!action && s->token_unknown) /* by way of the agent, which learns the token while the proxy decides */
      return to_agent(c, size, COUNTER_TOKEN_UNKNOWN);
    if (!action && !listener->proxy_endpoint)
      return to_agent(c, size, COUNTER_AGENT);
    int struck = 0;
    verdict = forward(msg, skb, c, &w, action, endpoint, size, queued, &struck);
    draw = 0;
    if (struck == REPLY_DELAYED)
      c->flags |= CONN_FLAG_DELAYED;
    if (struck > 0 && struck != REPLY_DELAYED && !envoy_headers && replies(s, AT(struct action, image, struck)))
      answer = AT(struct action, image, struck);
    else if (struck)
      return to_agent(c, size, COUNTER_AGENT);
  }
  if (answer)
    verdict = reply(msg, skb, c, &w, answer, size, draw);
  if (rule && action && !(c->gate & 1))
    count_rule(rule - 1);
  return verdict;
}

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
