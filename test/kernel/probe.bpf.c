// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A small object for the tests of the binding: one of everything that the binding touches. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 answer = 1;
const volatile __u64 wide = 2;
__u64 runs = 0;

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 3);
  __type(key, __u32);
  __type(value, __u8[12]);
} cells SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 2);
  __type(key, __u64);
  __type(value, __u32);
} table SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u32);
} counters SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_SOCKHASH);
  __uint(max_entries, 16);
  __type(key, __u64);
  __type(value, __u64);
} sockets SEC(".maps");

struct inner {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u64);
} inner_shape SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 2);
  __type(key, __u32);
  __array(values, struct inner);
} generations SEC(".maps") = {.values = {&inner_shape}};

SEC("tc")
int packet(struct __sk_buff *skb) {
  __u32 zero = 0;
  __u8 *cell = bpf_map_lookup_elem(&cells, &zero);
  if (cell) cell[0]++;
  __u32 *counter = bpf_map_lookup_elem(&counters, &zero);
  if (counter) *counter += 1;
  __u8 byte = 0x5a;
  bpf_skb_store_bytes(skb, 0, &byte, 1, 0);
  return answer;
}

SEC("syscall")
int control(__u64 *context) {
  __u32 zero = 0;
  void *map = bpf_map_lookup_elem(&generations, &zero);
  __u64 *value = map ? bpf_map_lookup_elem(map, &zero) : 0;
  context[1] = value ? *value : 0;
  context[0] += wide;
  return 0;
}

SEC("sk_msg")
int message(struct sk_msg_md *msg) {
  __sync_fetch_and_add(&runs, 1);
  return SK_PASS;
}

SEC("cgroup/connect4")
int refuse(struct bpf_sock_addr *address) {
  return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
