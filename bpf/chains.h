/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Filter chains whose connections the proxy hands on, without TLS (src/proxy/chains.ts). The proxy's end is then a client
 * as any other; on whose behalf it speaks it says by the PROXY protocol, in a message of its own before everything else.
 */
#pragma once
#include "address.h"
#include "maps.h"

/* Where the agent takes them: a port of 127.0.0.1, host order. 0: nowhere. */
const volatile __u32 chain_port;

/* The proxy connects to 127.255.0.0/16: the other two bytes are the number of the listener. */
#define CHAIN_NET 0x7fff
#define LOOPBACK 0x7f000001

#define PROLOGUE_HEAD 16
#define PROLOGUE4 (PROLOGUE_HEAD + 12)
#define PROLOGUE6 (PROLOGUE_HEAD + 36)
#define PROXY_TCP4 0x1121 /* version 2, PROXY; TCP over IPv4; as a little-endian word */
#define PROXY_TCP6 0x2121

/* On the agent's cgroup. Without it nobody listens where the proxy connects to. */
SEC("cgroup/connect4")
int chain4(struct bpf_sock_addr *ctx) {
  __u32 to = bpf_ntohl(ctx->user_ip4);
  if (ctx->type != 1 || !ctx->sk || !chain_port || bpf_ntohs((__u16)ctx->user_port) != chain_port ||
      to >> 16 != CHAIN_NET)
    return 1;
  struct conn *c = bpf_sk_storage_get(&conns, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
  if (!c)
    return 1;
  c->listener = to & 0xffff;
  c->original[0] = ctx->user_ip4;
  c->original_port = chain_port;
  c->family = AF_INET;
  c->flags = CONN_FLAG_CHAIN;
  ctx->user_ip4 = bpf_htonl(LOOPBACK);
  return 1;
}

static __always_inline void take_end(__u32 to[4], const __u32 *from, int v6) {
  int mapped = v6 && !from[0] && !from[1] && from[2] == V4_MAPPED;
  to[0] = mapped ? from[3] : from[0];
  to[1] = v6 && !mapped ? from[1] : 0;
  to[2] = v6 && !mapped ? from[2] : 0;
  to[3] = v6 && !mapped ? from[3] : 0;
}

/* The first message of such a connection: the agent gets it, too. Nonzero: it says who the client is. */
static __noinline int read_prologue(struct sk_msg_md *msg, struct conn *c) {
  if (!c || bpf_msg_pull_data(msg, 0, PROLOGUE4, 0))
    return 0;
  __u8 *p = msg->data;
  if ((void *)p + PROLOGUE4 > msg->data_end)
    return 0;
  const __u32 *words = (void *)p;
  if (words[0] != 0xa0d0a0d || words[1] != 0x510a0d00 || words[2] != 0xa544955)
    return 0;
  __u32 length = PROLOGUE_HEAD + ((__u32)p[14] << 8 | p[15]);
  __u16 kind = *(__u16 *)(p + 12);
  if (kind == PROXY_TCP4) {
    take_end(c->source, &words[4], 0);
    take_end(c->original, &words[5], 0);
    c->original_port = bpf_ntohs(*(__u16 *)(p + 26));
    return length;
  }
  if (kind != PROXY_TCP6 || bpf_msg_pull_data(msg, 0, PROLOGUE6, 0))
    return 0;
  p = msg->data;
  if ((void *)p + PROLOGUE6 > msg->data_end)
    return 0;
  words = (void *)p;
  take_end(c->source, &words[4], 1);
  take_end(c->original, &words[8], 1);
  c->original_port = bpf_ntohs(*(__u16 *)(p + 50));
  c->family = AF_INET6;
  return length;
}

/* What comes with the prologue, or what is none, is the agent's. */
static __always_inline int prologue(struct sk_msg_md *msg, struct conn *c, __u32 size) {
  c->flags |= CONN_FLAG_TOLD;
  __u32 length = read_prologue(msg, c);
  if (length == size)
    return SK_PASS;
  if (!length || length > size)
    c->flags |= CONN_FLAG_STICKY;
  return to_agent(c, length < size ? size - length : size, COUNTER_ODD);
}
