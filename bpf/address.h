/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Addresses as keys of maps. The same address can mean different things in different network namespaces (loopback always
 * does), so a key names the namespace by its cookie, which is never given twice.
 */
#pragma once
#include <bpf/bpf_endian.h>
#include "layout.gen.h"

#define AF_INET 2
#define AF_INET6 10
#define V4_MAPPED bpf_htonl(0xffff)

/* The four words of an address in a context. */
#define WORDS_OF(ip6) (ip6)[0], (ip6)[1], (ip6)[2], (ip6)[3]

/* Set before load: the network namespace of the agent, and of what a copy of the lookup program is attached to. */
const volatile __u64 home_netns;
const volatile __u64 lookup_netns;

/*
 * Writes an address, network order: IPv4, and IPv4-mapped, into the first word. Returns the family that it is of. `to` is
 * zero before.
 */
static __always_inline __u16 address_of(__u32 *to, __u32 family, __u32 ip4, __u32 a, __u32 b, __u32 c, __u32 d) {
  if (family == AF_INET) {
    to[0] = ip4;
    return AF_INET;
  }
  if (!a && !b && c == V4_MAPPED) {
    to[0] = d;
    return AF_INET;
  }
  to[0] = a;
  to[1] = b;
  to[2] = c;
  to[3] = d;
  return AF_INET6;
}

/* Whether an address means something else in every namespace. */
static __always_inline int is_loopback(const __u32 *address, __u16 family) {
  if (family == AF_INET)
    return (address[0] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
  return !address[0] && !address[1] && !address[2] && address[3] == bpf_htonl(1);
}
