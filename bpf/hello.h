/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connections whose endpoint the client's first message says: the server name and the protocols of a ClientHello (RFC
 * 8446, 4.1.2; RFC 6066, 3; RFC 7301), as Envoy's tls_inspector reads them. The message goes to the agent, which connects
 * to the endpoint and joins the two ends; then bytes go from socket to socket. What is not plainly understood is the proxy's.
 */
#pragma once
#include "direct.h"
#include "joint.h"
#include "room.h"

#define RECORD_HEAD 5
#define HANDSHAKE_HEAD 4
#define MAX_HELLO 16000
#define MAX_NAME 255
#define MAX_EXTENSIONS 64
#define MAX_OFFERED 32
#define EXTENSION_NAME 0
#define EXTENSION_PROTOCOLS 16

/* What a ClientHello says is in scratch: host_start and host_end, pos and n (protocols). */
enum { HELLO_ODD, HELLO_TLS, HELLO_PLAIN };

static __always_inline __u32 in_u16(const struct scratch *s, __u32 at) {
  return (__u32)in_at(s, at) << 8 | in_at(s, at + 1);
}

/* Whether the list in a server_name extension has one name, which is then noted. */
static __always_inline int take_name(struct scratch *s, __u32 at, __u32 length) {
  if (s->host_end || length < 5)
    return 0;
  __u32 name = in_u16(s, at + 3);
  if (in_u16(s, at) != length - 2 || in_at(s, at + 2) != 0 || name != length - 5 || !name || name > MAX_NAME)
    return 0;
  s->host_start = at + 5;
  s->host_end = at + 5 + name;
  return 1;
}

static long extension_step(__u32 index, void *context) {
  struct scratch *s = ((struct work *)context)->s;
  __u32 at = s->i, left = s->n - at;
  if (!left)
    return 1;
  s->result = HELLO_ODD;
  if (left > MAX_HELLO || left < 4)
    return 1;
  __u32 kind = in_u16(s, at), length = in_u16(s, at + 2);
  if (length > left - 4)
    return 1;
  if (kind == EXTENSION_NAME && !take_name(s, at + 4, length))
    return 1;
  if (kind == EXTENSION_PROTOCOLS) {
    if (s->len || length < 4 || in_u16(s, at + 4) != length - 2)
      return 1;
    s->pos = at + 6;
    s->len = at + 4 + length;
  }
  s->i = at + 4 + length;
  s->result = HELLO_TLS;
  return 0;
}

/* Names are letters, digits, '-' and '_', between single dots. */
static long name_step(__u32 index, void *context) {
  struct scratch *s = ((struct work *)context)->s;
  __u32 at = s->host_start + index;
  if (at >= s->host_end)
    return 1;
  __u8 c = in_at(s, at), l = c | 0x20;
  if ((l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_')
    return 0;
  if (c == '.' && index && at + 1 < s->host_end && in_at(s, at + 1) != '.')
    return 0;
  s->result = HELLO_ODD;
  return 1;
}

/* Reads in[0..n), the beginning of a message of `size` bytes. Whatever Envoy might see otherwise is odd. */
static __always_inline int read_hello(struct work *w, __u32 n, __u32 size) {
  struct scratch *s = w->s;
  s->host_start = s->host_end = s->pos = s->len = 0;
  __u8 first = in_at(s, 0);
  if (n < 8)
    return HELLO_ODD;
  /* text: no record of TLS begins so, nor the ClientHello of SSL 2 */
  if (first >= 0x20 && first < 0x7f && in_at(s, 1) >= 0x20 && in_at(s, 1) < 0x7f)
    return HELLO_PLAIN;
  __u32 record = in_u16(s, 3), version = in_u16(s, 9);
  if (first != 22 || in_at(s, 1) != 3 || in_at(s, 5) != 1 || in_at(s, 6) || version < 0x301 || version > 0x303)
    return HELLO_ODD;
  __u32 end = RECORD_HEAD + record;
  if (end > MAX_HELLO || end > size || end > n || in_u16(s, 7) + HANDSHAKE_HEAD != record)
    return HELLO_ODD;
  __u32 at = 43;
  if (at >= end || in_at(s, at) > 32)
    return HELLO_ODD;
  at += 1 + in_at(s, at);
  if (at + 2 > end)
    return HELLO_ODD;
  __u32 suites = in_u16(s, at);
  at += 2 + suites;
  if (suites < 2 || suites & 1 || at >= end || !in_at(s, at))
    return HELLO_ODD;
  at += 1 + in_at(s, at);
  s->result = HELLO_TLS;
  if (at == end)
    return HELLO_TLS;
  if (at + 2 > end || in_u16(s, at) != end - at - 2)
    return HELLO_ODD;
  s->i = at + 2;
  s->n = end;
  LOOP(MAX_EXTENSIONS, extension_step, w);
  if (s->i != s->n)
    return HELLO_ODD;
  if (s->result == HELLO_TLS && s->host_end)
    LOOP(MAX_NAME, name_step, w);
  return s->result;
}

/* One of the client's protocols: is it one that the chains name? Leaves its route in s->action. */
static long offered_step(__u32 index, void *context) {
  struct work *w = context;
  struct scratch *s = w->s;
  __u32 at = s->pos, end = s->len;
  if (at >= end)
    return 1;
  __u32 length = in_at(s, at);
  if (!length || length >= end - at) {
    s->result = HELLO_ODD;
    return 1;
  }
  s->pos = at + 1 + length;
  if (s->chosen || length > MAX_PROTOCOL) /* found already: only whether the list is well-formed is of interest */
    return 0;
  __u64 low = word_at(&s->in[(at + 1) & IN_MASK]), high = length > 8 ? word_at(&s->in[(at + 9) & IN_MASK]) : 0;
  if (length < 8)
    low &= (1ULL << (length & 7) * 8) - 1;
  if (length > 8 && length < 16)
    high &= (1ULL << (length & 7) * 8) - 1;
  for (__u32 i = 0; i < MAX_PROTOCOLS; i++) {
    if (i >= s->n_lots)
      break;
    const struct protocol *p = AT(struct protocol, w->image, s->list + i * sizeof(struct protocol));
    if (p->length == length && p->low == low && p->high == high) {
      s->chosen = 1;
      s->action = p->route;
      break;
    }
  }
  return 0;
}

/* The route for what was read; 0: the proxy. */
static __always_inline __u32 hello_route(struct work *w, const struct hello_table *table, int kind) {
  struct scratch *s = w->s;
  __u32 at = kind == HELLO_PLAIN ? table->plain : table->other;
  if (kind == HELLO_TLS && s->host_end) {
    __u32 named = run(w, table->names, table->classes, s->host_start, s->host_end);
    at = named ? named : at;
  }
  const struct hello_route *chains = AT(struct hello_route, w->image, at);
  s->action = chains->route;
  s->n_lots = chains->n_protocols;
  if (kind == HELLO_PLAIN || !s->n_lots || !s->len)
    return s->action;
  s->list = chains->protocols;
  s->chosen = 0;
  s->result = HELLO_TLS;
  LOOP(MAX_OFFERED, offered_step, w);
  return s->result == HELLO_TLS && s->pos == s->len ? s->action : 0;
}

/* The endpoint that a message says, NO_SLOT: the proxy chooses; how long connecting may take (ms) in the high word. */
static __always_inline __u64 hear(struct sk_msg_md *msg, struct conn *c, struct scratch *s, __u32 size) {
  const __u8 *image = current_image();
  if (!image)
    return NO_SLOT;
  const struct image_header *header = AT(struct image_header, image, 0);
  __u32 list = header->hellos;
  __u32 at = list && c->listener < header->n_listeners ? image_u32(image, list + c->listener * 4) : 0;
  __u32 n = size > MAX_HELLO ? MAX_HELLO : size;
  if (!at || (msg->data + n > msg->data_end && bpf_msg_pull_data(msg, 0, n, 0)))
    return NO_SLOT;
  if (copy_bytes(s->in, n & IN_MASK, msg->data))
    return NO_SLOT;
  struct work w = {.s = s, .image = image};
  int kind = read_hello(&w, n, size);
  if (kind == HELLO_ODD)
    return NO_SLOT;
  __u32 route_at = hello_route(&w, AT(struct hello_table, image, at), kind);
  if (!route_at)
    return NO_SLOT;
  const struct route *route = AT(struct route, image, route_at);
  s->connect_ms = 0;
  __u32 endpoint = choose_any(&w, AT(struct action, image, route->action), 0);
  if (endpoint != NO_SLOT)
    count_rule(route->rule);
  return (__u64)s->connect_ms << 32 | endpoint;
}

/* Whether an established socket has room for so many bytes in its send queue: a redirect that found none would spin. */
static __always_inline int may_send(const struct joint *j, __u32 size) {
  struct sock *sk = (struct sock *)j->other_sk;
  if (!psock_of(sk, j->other) || READ_AT(struct sock, sk, __sk_common.skc_state) != BPF_TCP_ESTABLISHED)
    return 0;
  return READ_AT(struct sock, sk, sk_wmem_queued) + size < (__u32)READ_AT(struct sock, sk, sk_sndbuf) / 2;
}

/* A client's message on a connection whose ends are joined. Where the server's end has no room, the agent carries on. */
static __always_inline int to_joint(struct sk_msg_md *msg, struct conn *c, __u32 size) {
  __u64 cookie = c->cookie;
  struct joint *j = bpf_map_lookup_elem(&joined, &cookie);
  if (!j || !may_send(j, size) || bpf_msg_redirect_hash(msg, &joints, &cookie, 0) != SK_PASS)
    return to_agent(c, size, COUNTER_JOINTS_FULL);
  return SK_PASS;
}

/* Everything that a client sends on such a connection. */
SEC("sk_msg")
int on_hello(struct sk_msg_md *msg) {
  struct bpf_sock *sk = msg->sk;
  struct conn *c = sk ? bpf_sk_storage_get(&conns, sk, 0, 0) : 0;
  if (!c)
    return SK_PASS;
  __u32 size = msg->size;
  if (passes(c, size))
    return SK_PASS;
  if (c->flags & CONN_FLAG_HEARD)
    return to_joint(msg, c, size);
  struct scratch *s = scratch_take();
  __u64 heard = s ? hear(msg, c, s, size) : NO_SLOT;
  if (s)
    scratch_give(s);
  __u32 endpoint = (__u32)heard;
  struct endpoint *e = endpoint == NO_SLOT ? 0 : bpf_map_lookup_elem(&endpoints, &endpoint);
  if (e)
    __sync_fetch_and_add(&e->active, 1); /* until the agent says that the connection has ended */
  c->upstream = e ? endpoint : NO_SLOT;
  c->user_timeout = heard >> 32;
  c->flags |= CONN_FLAG_HEARD;
  return to_agent(c, size, e ? COUNTER_ROUTED : COUNTER_ROUTED_PROXY);
}

/*
 * Whether a client has room for `len` bytes more of what its server sends. What is redirected meets no window (room.h), so
 * before the buffer is full the agent goes on, who writes over TCP.
 */
static __always_inline int has_room(const struct joint *j, __u32 len) {
  struct sock *sk = (struct sock *)j->other_sk;
  struct sk_psock *psock = psock_of(sk, j->other);
  return psock && READ_AT(struct sk_psock, psock, ingress_skb.qlen) < MAX_SEGMENTS &&
         unread_bytes(sk, psock) + len < (__u32)READ_AT(struct sock, sk, sk_rcvbuf) / 2;
}

/* Everything that a server sends on such a connection. */
SEC("sk_skb/stream_verdict")
int on_joint(struct __sk_buff *skb) {
  __u64 cookie = bpf_get_socket_cookie(skb);
  struct joint *j = skb->len ? bpf_map_lookup_elem(&joined, &cookie) : 0;
  if (!j || j->passing)
    return SK_PASS;
  if (!has_room(j, skb->len)) {
    j->passing = 1;
    return SK_PASS;
  }
  __u64 client = j->other;
  return bpf_sk_redirect_hash(skb, &hello_clients, &client, BPF_F_INGRESS);
}
