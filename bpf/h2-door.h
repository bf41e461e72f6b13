/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* HTTP/2: the dummies in front of connections to servers, and the agent's own frames. */
#pragma once
#include "h2-streams.h"

/* What goes to a server, frame by frame, each perhaps in pieces. */
SEC("sk_msg")
int on_door(struct sk_msg_md *msg) {
  struct bpf_sock *sk = msg->sk;
  if (!sk)
    return SK_PASS;
  __u32 *id = bpf_sk_storage_get(&h2_door_ids, sk, 0, 0);
  struct h2_end *u = id ? bpf_map_lookup_elem(&h2_ends, id) : 0;
  if (!u)
    return SK_PASS;
  __u32 size = msg->size;
  if (u->door_left) {
    if (size > u->door_left)
      return SK_PASS;
    u->door_left -= size;
  } else {
    /* one frame may come in pieces that are cut anywhere, also in its header; a head that is staged comes whole */
    __u32 have = u->head_len & 15, n = FRAME_HEAD - have;
    if (have >= FRAME_HEAD)
      return SK_PASS;
    if (n > size)
      n = size;
    FORGET(n);
    n &= 15;
    if (!n || (msg->data + n > msg->data_end && bpf_msg_pull_data(msg, 0, n, 0)) ||
        bpf_probe_read_kernel(&u->head[have], n, msg->data))
      return SK_PASS;
    const __u8 *b = u->head;
    if (have + n < FRAME_HEAD) {
      u->head_len = have + n;
      __u64 server = u->cookie;
      bpf_msg_redirect_hash(msg, &h2_servers, &server, 0);
      return SK_PASS;
    }
    u->head_len = 0;
    if (b[3] == DATA)
      u->passed += b[0] << 16 | b[1] << 8 | b[2];
    __u32 whole = FRAME_HEAD + (b[0] << 16 | b[1] << 8 | b[2]) - have;
    if (size > whole)
      return SK_PASS;
    if (b[3] == HEADERS && !have) {
      struct h2_key key = {.client = u->client_id, .number = (b[5] << 24 | b[6] << 16 | b[7] << 8 | b[8]) & 0x7fffffff};
      struct staged *st = bpf_map_lookup_elem(&h2_stages, &key);
      if (st) {
        __u32 len = st->len;
        if (size != whole || st->old_len != whole || replace_staged(msg, st, len, whole))
          return SK_PASS;
        bpf_map_delete_elem(&h2_stages, &key);
        size = whole;
      }
    }
    u->door_left = whole - size;
  }
  __u64 cookie = u->cookie;
  bpf_msg_redirect_hash(msg, &h2_servers, &cookie, 0); /* refused, it passes, and the agent gives the connection up */
  return SK_PASS;
}

/* The agent's frames: an envelope, then what is in it. */
SEC("sk_skb/stream_parser")
int h2_parse_writer(struct __sk_buff *skb) {
  __u64 cookie = bpf_get_socket_cookie(skb);
  struct h2_envelope *open = bpf_map_lookup_elem(&h2_envelopes, &cookie);
  if (!open)
    return -1;
  __u32 length = open->length;
  return length ? length : sizeof(struct h2_envelope);
}

SEC("sk_skb/stream_verdict")
int on_writer(struct __sk_buff *skb) {
  __u32 offset = offset_of(skb);
  __u64 cookie = bpf_get_socket_cookie(skb);
  struct h2_envelope *open = bpf_map_lookup_elem(&h2_envelopes, &cookie);
  if (!open || offset >= 1 << 30)
    return SK_DROP;
  if (!open->length) {
    if (bpf_skb_load_bytes(skb, offset, open, sizeof *open)) {
      open->length = 0;
    } else if (open->to_server == H2_GIVE_BACK) { /* behind what was sent before, which is in A's queue by now */
      give_back(open->cookie, open->length);
      open->length = 0;
    }
    return SK_DROP;
  }
  open->length = 0;
  __u64 to = open->cookie;
  return open->to_server ? to_server(skb, to) : bpf_sk_redirect_hash(skb, &h2_clients, &to, 0);
}
