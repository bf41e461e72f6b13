/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What becomes of a request that is decided: an answer in its place, or the way to a pooled connection. */
#pragma once
#include "gate.h"

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
