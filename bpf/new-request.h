/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A request from its first bytes to the connection that it takes. */
#pragma once
#include "forward.h"

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
