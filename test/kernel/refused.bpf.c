// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The verifier must refuse this: it reads through a pointer that may be null. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u32);
} cells SEC(".maps");

SEC("tc")
int packet(struct __sk_buff *skb) {
  __u32 zero = 0;
  return *(volatile __u32 *)bpf_map_lookup_elem(&cells, &zero);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
