// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The data plane's decision alone, as a program that is attached to nothing: a request in, what would be sent out. Behind
 * the first 16 bytes of the packet is the question, and behind it the request.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "answer-edit.h"
#include "bucket.h"
#include "token.h"
#include "trace.h"

struct whole_image {
  __u8 bytes[IMAGE_SIZE + IMAGE_SLACK];
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct whole_image);
} image SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct scratch);
} work_space SEC(".maps");

struct outcome {
  __u32 result; /* of scan_head */
  __u32 kind;   /* ACTION, 0: the proxy */
  __u32 rule;   /* plus one */
  __u32 length; /* of what would be sent; 0: it does not fit */
  __u32 token_places, token_place, token_unknown, pad; /* as request_token found them */
  __u64 facts[FACT_WORDS];
  __u8 out[MAX_OUT * 2];
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct outcome);
} outcomes SEC(".maps");

struct question {
  __u32 listener;
  __u32 source_len;
  __u32 length;
  __u32 draw; /* tokens of rate limits are taken; 0: as if nothing were to be drawn */
  __u8 source[16];
};

SEC("tc")
int decide_one(struct __sk_buff *skb) {
  __u32 zero = 0;
  struct scratch *s = bpf_map_lookup_elem(&work_space, &zero);
  struct outcome *o = bpf_map_lookup_elem(&outcomes, &zero);
  const __u8 *bytes = bpf_map_lookup_elem(&image, &zero);
  struct question q;
  if (!s || !o || !bytes || bpf_skb_load_bytes(skb, 16, &q, sizeof q))
    return 1;
  o->result = o->kind = o->rule = o->length = o->token_places = o->token_unknown = 0;
  const struct image_header *header = (const void *)bytes;
  if (q.listener >= header->n_listeners)
    return 2;
  __u32 at = image_u32(bytes, header->listeners + q.listener * 4);
  __u32 n = q.length > MAX_HEAD ? MAX_HEAD : q.length;
  if (!at || !n)
    return 3;
  if (bpf_skb_load_bytes(skb, 16 + sizeof q, s->in, n & (MAX_HEAD * 2 - 1)))
    return 4;
  const struct listener *listener = AT(struct listener, bytes, at);
  struct work w = {.s = s, .image = bytes};
  scan_head(&w, n, listener->scan, listener->scan_classes, 0);
  finish_request_head(s);
  o->result = s->result;
  if (s->result != COMPLETE)
    return 0;
  request_token(&w, listener, q.listener, header->generation);
  o->token_places = s->token_places;
  o->token_place = s->token_place;
  o->token_unknown = s->token_unknown;
  __builtin_memcpy(&s->in[SOURCE_AT], q.source, 16);
  __u32 action_at = decide(&w, listener, q.source_len == 16 ? 16 : 4);
  o->rule = s->rule;
  for (int i = 0; i < FACT_WORDS; i++)
    o->facts[i] = s->facts[i];
  if (!action_at)
    return 0;
  const struct action *action = AT(struct action, bytes, action_at);
  if (action->trace)
    begin_trace(s, image_u64(bytes, action->trace));
  if (action->kind == ACTION_FORWARD && action->variables && !take_variables(&w, action))
    return 0;
  /* what cannot be sent, or answered, is the proxy's before anything is drawn */
  int built = action->kind == ACTION_FORWARD ? build_request(&w, action)
                                             : action->kind == ACTION_REPLY && replies(s, action);
  if (built && !q.draw && s->n_lots && !can_answer(&w, s->lots[0].bucket ? 1 : 0))
    return 0;
  if (built && q.draw && s->n_lots) {
    int other = before_draw(&w, action, 0, 0);
    if (!other)
      return 0;
    if (other == 1)
      other = draw_lots(s);
    if (other < 0)
      return 7;
    if (other) {
      action = AT(struct action, bytes, other);
      built = replies(s, action);
    }
  }
  if (built && action->kind == ACTION_REPLY)
    built = build_reply(&w, action);
  if (!built)
    return 0;
  o->kind = action->kind;
  __u32 length = s->o;
  if (length > MAX_OUT)
    return 5;
  o->length = length;
  if (length && bpf_probe_read_kernel(o->out, length & (MAX_OUT * 2 - 1), s->out))
    return 6;
  return 0;
}

char program_license[] SEC("license") = "Dual BSD/GPL";
