// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Decoder and encoder of header blocks alone: behind the first 16 bytes of the packet, a length and the block. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "hpack-encode.h"

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct scratch);
} work_space SEC(".maps");
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct hpack);
} blocks SEC(".maps");

struct outcome {
  __u32 result, te, length, fields;
  __u8 text[MAX_HEAD * 2];
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct outcome);
} outcomes SEC(".maps");

SEC("tc")
int decode_one(struct __sk_buff *skb) {
  __u32 zero = 0, n = 0;
  struct scratch *s = bpf_map_lookup_elem(&work_space, &zero);
  struct hpack *h = bpf_map_lookup_elem(&blocks, &zero);
  struct outcome *o = bpf_map_lookup_elem(&outcomes, &zero);
  if (!s || !h || !o || bpf_skb_load_bytes(skb, 16, &n, sizeof n) || !n || n > MAX_BLOCK)
    return 1;
  FORGET(n);
  n &= MAX_BLOCK * 2 - 1;
  if (!n || bpf_skb_load_bytes(skb, 20, h->block, n))
    return 2;
  decode_block(h, n);
  __u32 length = request_text(h, s);
  o->result = h->result;
  o->te = h->te;
  o->fields = h->fields;
  o->length = length;
  if (length && bpf_probe_read_kernel(o->text, length & (MAX_HEAD * 2 - 1), s->in))
    return 3;
  return 0;
}

/* Decodes, and encodes what came of it. */
SEC("tc")
int encode_one(struct __sk_buff *skb) {
  __u32 zero = 0;
  struct scratch *s = bpf_map_lookup_elem(&work_space, &zero);
  struct hpack *h = bpf_map_lookup_elem(&blocks, &zero);
  struct outcome *o = bpf_map_lookup_elem(&outcomes, &zero);
  if (!s || !h || !o)
    return 1;
  __u32 n = o->length & (MAX_HEAD * 2 - 1);
  if (!n || bpf_probe_read_kernel(s->out, n, o->text))
    return 2;
  s->o = n;
  s->flags = 0;
  n = encode_block(h, s, o->te);
  o->result = h->result;
  o->length = n;
  if (n && bpf_probe_read_kernel(o->text, n & (MAX_BLOCK - 1), h->block))
    return 3;
  return 0;
}

char program_license[] SEC("license") = "Dual BSD/GPL";
