/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The same-node bypass. S, the server's end of a pooled connection, is a socket of this node that was accepted under our
 * cgroups: requests go to S's ingress instead of U's egress, and what the server sends (on_server_message) to the
 * client's ingress. No TCP, no kernel thread between the two. Answers that are not plain are passed: they reach U over the
 * connection, as if there were no bypass.
 *
 * S enters the map when it is established, before its application can have accepted it: a thread that waits in the
 * kernel's own recv would never see redirected bytes. While S is paired, all its requests come this way: FIONREAD
 * does not count native bytes of a socket in a map, and nginx believes it.
 */
#pragma once
#include "steer.h"
#include "answer.h"
#include "log.h"
#include "order.h"
#include "proxy-end.h"

/* S: the servers' sockets at the other ends of pooled connections, by cookie. */
struct {
  __uint(type, BPF_MAP_TYPE_SOCKHASH);
  __uint(max_entries, MAX_UPSTREAMS * 2);
  __type(key, __u64);
  __type(value, __u64);
} servers SEC(".maps");

/* S -> slot; written when the agent has adopted U. */
struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct serving);
} servings SEC(".maps");

/*
 * Connections that the agent itself opens: the socket; then (established) its end, by which the server's socket finds it;
 * and, by the socket's cookie, the server's socket that met it, 0 before.
 */
struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, __u32);
} agents SEC(".maps");

/*
 * One end of a TCP connection as the other sees it. An address and a port are not enough: another namespace can have the
 * same. The sequence numbers with which both sides begin are the connection's alone.
 */
struct dial {
  __u32 address[4];
  __u32 port;
  __u32 sent;
  __u32 received;
};
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, MAX_UPSTREAMS * 2);
  __type(key, struct dial);
  __type(value, __u64);
} dials SEC(".maps");
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, MAX_UPSTREAMS * 2);
  __type(key, __u64);
  __type(value, __u64);
} met SEC(".maps");

/* Process (thread group) of the agent, in the kernel's own numbers: Envoy lives in the same cgroup. */
static volatile __u32 agent_tgid;

static __always_inline void mark_agents(struct bpf_sock *sk) {
  if (sk && agent_tgid && bpf_get_current_pid_tgid() >> 32 == agent_tgid)
    bpf_sk_storage_get(&agents, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
}

/* On the agent's cgroup. */
SEC("cgroup/connect4")
int dial4(struct bpf_sock_addr *ctx) {
  if (ctx->type == 1 && !is_of_one_client(ctx))
    mark_agents(ctx->sk);
  return 1;
}
SEC("cgroup/connect6")
int dial6(struct bpf_sock_addr *ctx) {
  if (ctx->type == 1 && !is_of_one_client(ctx))
    mark_agents(ctx->sk);
  return 1;
}

/* On the agent's cgroup: remembers its end before the server's is established. */
SEC("sockops")
int dialled(struct bpf_sock_ops *ops) {
  if (ops->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
    return 0;
  struct bpf_sock *sk = ops->sk;
  if (!sk || !bpf_sk_storage_get(&agents, sk, 0, 0))
    return 0;
  struct dial d = {.port = ops->local_port, .sent = ops->snd_nxt, .received = ops->rcv_nxt};
  address_of(d.address, ops->family, ops->local_ip4, WORDS_OF(ops->local_ip6));
  __u64 cookie = bpf_get_socket_cookie(ops), nobody = 0;
  bpf_map_update_elem(&met, &cookie, &nobody, BPF_ANY);
  bpf_map_update_elem(&dials, &d, &cookie, BPF_ANY);
  return 0;
}

static __always_inline int meet(struct bpf_sock_ops *ops) {
  struct bpf_sock *sk = ops->sk;
  if (!sk)
    return 0;
  struct dial d = {.port = bpf_ntohl(ops->remote_port), .sent = ops->rcv_nxt, .received = ops->snd_nxt};
  address_of(d.address, ops->family, ops->remote_ip4, WORDS_OF(ops->remote_ip6));
  __u64 *agents_end = bpf_map_lookup_elem(&dials, &d);
  if (!agents_end)
    return 0;
  __u64 end = *agents_end, cookie = bpf_get_socket_cookie(ops);
  if (!bpf_map_lookup_elem(&met, &end))
    return 0; /* too late: the agent uses the connection already */
  struct serving *v = bpf_sk_storage_get(&servings, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
  if (!v)
    return 0;
  v->slot = NO_SLOT;
  v->cookie = cookie;
  if (bpf_sock_hash_update(ops, &servers, &cookie, BPF_NOEXIST))
    return 0;
  bpf_map_update_elem(&met, &end, &cookie, BPF_EXIST);
  return 0;
}

/* On the applications' cgroup (that of the listening socket): a server's socket whose other end is the agent's. */
SEC("sockops")
int served(struct bpf_sock_ops *ops) { return ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB ? meet(ops) : 0; }

/* On the agent's cgroup: the same for the proxy. */
SEC("sockops")
int proxy_served(struct bpf_sock_ops *ops) {
  if (ops->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
    return 0;
  struct tuple at = {.port = ops->local_port};
  address_of(at.address, ops->family, ops->local_ip4, WORDS_OF(ops->local_ip6));
  return is_proxy(&at) ? meet(ops) : 0;
}

/* Pairs a slot with the socket of a cookie (CTL_PAIR). */
static __always_inline int pair(struct upstream *u, __u32 slot, __u64 cookie) {
  struct bpf_sock *sk = bpf_map_lookup_elem(&servers, &cookie);
  if (!sk)
    return 0;
  struct serving *v = bpf_sk_storage_get(&servings, sk, 0, 0);
  struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
  int paired = 0;
  if (v && tp) {
    v->slot = slot;
    u->server_sk = (__u64)tp;
    u->server = cookie;
    paired = 1;
    count(COUNTER_PAIRED);
  }
  bpf_sk_release(sk);
  return paired;
}

/* Begins the bookkeeping of an exchange of `c` on `slot`; `queued`: redirected bytes wait unread at the client. */
static __always_inline void begin_way(struct conn *c, struct upstream *u, __u32 slot, __u32 queued, __u64 client) {
  u->way = 0;
  u->intake = INTAKE_SOCKET;
  u->given = u->taken = 0;
  u->client_sk = client;
  note_before(c, u, slot);
  c->served = u->served;
  c->incarnation = u->incarnation;
  if (!u->server)
    return;
  /* an answer that waits in the client's backlog would be overtaken by one that comes directly */
  u->way = WAY_DIRECT | (queued ? WAY_NATIVE : 0);
}

/* Takes the slot that the connection used last, when it is idle and of this endpoint: its caches are warm. */
__attribute__((noinline)) __u32 take_again(__u32 endpoint_id, __u32 slot) {
  struct upstream *u = bpf_map_lookup_elem(&upstreams, &slot);
  if (!u || !u->server || u->endpoint != endpoint_id || u->phase != PHASE_IDLE || u->dead)
    return NO_SLOT;
  __u32 b = slot / BLOCK_SIZE;
  __u64 *word = bpf_map_lookup_elem(&blocks, &b);
  struct endpoint *e = bpf_map_lookup_elem(&endpoints, &endpoint_id);
  if (!word || !e || e->flags & ENDPOINT_FLAG_NO_POOL)
    return NO_SLOT;
  __u64 mask = 1ULL << (slot & 63);
  if (!(*(volatile __u64 *)word & mask) || !(__sync_fetch_and_and(word, ~mask) & mask))
    return NO_SLOT;
  if (u->dead || u->phase != PHASE_IDLE)
    return NO_SLOT; /* as in pool_take: the agent closes it */
  __sync_fetch_and_add(&e->active, 1);
  return slot;
}

/*
 * Writes from[0..len), at most `most` bytes (a multiple of 8, constant), to data[0..len). The last word first, overlapping: no
 * tail loop, which the verifier would walk once per exit of the other. Returns 0, or a negative error.
 */
static __always_inline int put_words(__u8 *data, const __u8 *end, const __u8 *from, __u32 len, const __u32 most) {
  __u32 last = len - 8;
  if (len < 8 || last > most - 8)
    return -1;
  __u8 *tail = data + last;
  if (tail + 8 > end)
    return -5;
  set_word(tail, word_at(from + last));
  __u32 words = len / 8;
  for (__u32 i = 0; i < most / 8; i++) {
    if (i >= words || data + 8 > end)
      break;
    set_word(data, word_at(from + i * 8));
    data += 8;
  }
  return 0;
}

/* Writes s->out[0..len) over the message from `at` on. Returns 0, or a negative error. */
__attribute__((noinline)) int overwrite(struct sk_msg_md *msg, struct scratch *s, __u32 at, __u32 len) {
  if (!s || len > MAX_OUT || at > MAX_HEAD)
    return -1;
  if (msg->data + at + len > msg->data_end && bpf_msg_pull_data(msg, 0, at + len, 0))
    return -4;
  return put_words(msg->data + at, msg->data_end, s->out, len, MAX_OUT);
}

/*
 * Puts room in front of the message for a head that is longer by `more` than the `old` bytes that it replaces, and writes
 * it, s->out[0..more + old), in two pieces: the room is a page of its own, and to make one piece of both would take another
 * page and a copy (0.4 us). Returns 0, or a negative error: -2 when nothing was changed.
 */
__attribute__((noinline)) int grow_head(struct sk_msg_md *msg, struct scratch *s, __u32 old, __u32 more) {
  if (!s || old > MAX_HEAD || more > MAX_OUT)
    return -1;
  if (bpf_msg_push_data(msg, 0, more, 0))
    return -2;
  if (more < 8 || old < 8)
    return overwrite(msg, s, 0, old + more);
  int error = put_words(msg->data, msg->data_end, s->out, more, MAX_OUT);
  if (error)
    return error;
  if (bpf_msg_pull_data(msg, more, more + old, 0))
    return -4;
  return put_words(msg->data, msg->data_end, &s->out[more], old, MAX_OUT);
}

/*
 * Edits a message's head as first_piece left it to be. A shorter head is moved back, and its front is cut off; a longer
 * one gets room in front.
 */
static __always_inline int edit_message(struct work *w, struct sk_msg_md *msg, __u32 slot) {
  struct scratch *s = w->s;
  if (!head_changes(s))
    return TO_CLIENT;
  if (!build_answer(w, slot))
    return TO_AGENT;
  __u32 cut = 0;
  if (s->o > s->head_len) {
    int error = grow_head(msg, s, s->head_len, s->o - s->head_len);
    return error == -2 ? TO_AGENT : error ? TO_AGENT + 1 /* the message is spoilt */ : TO_CLIENT;
  }
  cut = s->head_len - s->o;
  if (cut > MAX_HEAD || overwrite(msg, s, cut, s->o))
    return TO_AGENT;
  if (cut && bpf_msg_pop_data(msg, 0, cut, 0))
    return TO_AGENT + 1;
  return TO_CLIENT;
}

#define FIRST_LOOK 1024

static __always_inline int load_message(struct sk_msg_md *msg, struct scratch *s, __u32 n) {
  if (msg->data + n > msg->data_end && bpf_msg_pull_data(msg, 0, n, 0))
    return -1;
  return copy_bytes(s->in, n & (MAX_HEAD * 2 - 1), msg->data);
}

/* The first message of an answer. Nothing was changed where TO_AGENT is returned. */
static __always_inline int first_message(struct work *w, struct upstream *u, struct sk_msg_md *msg, __u32 size,
                                         int *done) {
  struct scratch *s = w->s;
  const struct image_header *header = (const void *)w->image;
  __u32 n = size > FIRST_LOOK ? FIRST_LOOK : size;
  if (load_message(msg, s, n))
    return TO_AGENT;
  scan_head(w, n, header->response_scan, header->response_classes, 1);
  if (n < size && (s->result == INCOMPLETE || (s->result == COMPLETE && s->flags & HEAD_CHUNKED))) {
    if (s->result == COMPLETE && size > MAX_HEAD)
      return TO_AGENT; /* chunks are read from the copy */
    n = size > MAX_HEAD ? MAX_HEAD : size;
    if (load_message(msg, s, n))
      return TO_AGENT;
    scan_head(w, n, header->response_scan, header->response_classes, 1);
    if (s->flags & HEAD_CHUNKED && size > MAX_HEAD)
      return TO_AGENT;
  }
  finish_response_head(s);
  return first_piece(w, u, 0, size, done);
}

/* Everything that a paired server sends. Runs with S's lock held. */
static __always_inline int server_message(struct sk_msg_md *msg, __u32 agent_carries) {
  struct bpf_sock *sk = msg->sk;
  if (!sk)
    return SK_PASS;
  struct serving *v = bpf_sk_storage_get(&servings, sk, 0, 0);
  if (!v)
    return SK_PASS;
  __u32 slot = v->slot;
  struct upstream *u = bpf_map_lookup_elem(&upstreams, &slot);
  if (!u || u->server != v->cookie)
    return SK_PASS;
  __u64 owner = u->owner;
  if (!owner || u->way & WAY_NATIVE)
    return SK_PASS;
  __u32 phase = u->phase, size = msg->size;
  int way = TO_AGENT, done = 0;
  struct scratch *first = 0; /* where its head is, while the answer must be logged */
  if (phase == PHASE_AWAIT) {
    /* whoever answers first: the server, or the agent that has lost patience */
    if (__sync_val_compare_and_swap(&u->phase, PHASE_AWAIT, PHASE_BODY) != PHASE_AWAIT)
      return SK_PASS;
    int by_agent = agent_carries && !(u->flags & UPSTREAM_FLAG_PROXY);
    struct scratch *s = by_agent || message_overtakes(u, slot) ? 0 : scratch_take();
    if (s) {
      struct work w = {.s = s, .image = current_image()};
      if (w.image)
        way = first_message(&w, u, msg, size, &done);
      if (way == TO_CLIENT)
        way = edit_message(&w, msg, slot);
      if (way == TO_CLIENT && u->log)
        first = s;
      else
        scratch_give(s);
    }
    if (way != TO_CLIENT) {
      u->body = 0; /* whoever carries it counts all of it */
      u->phase = way == TO_AGENT ? PHASE_AWAIT : PHASE_AGENT;
      u->way |= WAY_NATIVE;
      return SK_PASS;
    }
  } else if (phase == PHASE_BODY) {
    if (size <= u->remaining) {
      u->remaining -= size;
      u->body += size;
      done = !u->remaining;
      way = TO_CLIENT;
    }
  } else if (phase == PHASE_CHUNKED) {
    struct scratch *s = size > MAX_HEAD ? 0 : scratch_take();
    if (s) {
      if (!load_message(msg, s, size))
        way = next_piece(s, u, 0, size, &done);
      scratch_give(s);
    }
  } else {
    return SK_PASS;
  }
  if (way == TO_CLIENT && bpf_msg_redirect_hash(msg, &clients, &owner, BPF_F_INGRESS) != SK_PASS) {
    /*
     * The client is gone. This message was counted (and edited) as if it were sent, so from here on nobody knows where the
     * answer ends: the agent drops what comes, and the connection must not be used again.
     */
    u->dead = 1;
    way = TO_AGENT;
  }
  if (first) {
    log_answer(first, u, slot, done && way == TO_CLIENT);
    scratch_give(first);
  } else if (done && way == TO_CLIENT && u->log) {
    log_end(u, slot);
  }
  if (way != TO_CLIENT) {
    u->phase = PHASE_HANDOVER;
    u->way |= WAY_NATIVE;
    count(COUNTER_ANSWERS_AGENT);
    return SK_PASS;
  }
  u->redirected += size;
  if (done) {
    /* the last piece of the request must not come behind the next request */
    if (u->way & WAY_PIECES && !nobody_sends(u->client_sk, owner))
      u->flags |= UPSTREAM_FLAG_CLOSE;
    u->answered = bpf_ktime_get_coarse_ns();
    if (!(u->flags & UPSTREAM_FLAG_PROXY))
      count(COUNTER_BYPASSED_ANSWERS);
    pool_give(u, slot);
  }
  return SK_PASS;
}
