/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The few members of kernel structures that the programs read; libbpf relocates them (CO-RE). */
#pragma once
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define __reloc __attribute__((preserve_access_index))

struct list_head {
  struct list_head *next, *prev;
} __reloc;

struct sk_buff_list {
  void *next, *prev;
};

struct sk_buff_head {
  __u32 qlen;
} __reloc;

typedef struct {
  int counter;
} atomic_t;
typedef struct {
  __s64 counter;
} atomic64_t;
typedef struct {
  atomic_t refs;
} refcount_t;

struct sock_common {
  atomic64_t skc_cookie;
  volatile unsigned char skc_state;
} __reloc;

struct wait_queue_entry {
  void *func;
  struct list_head entry;
} __reloc;
struct wait_queue_head {
  struct list_head head;
} __reloc;
struct socket_wq {
  struct wait_queue_head wait;
} __reloc;

struct sock_backlog {
  atomic_t rmem_alloc;
} __reloc;

struct qspinlock {
  atomic_t val;
} __reloc;
struct raw_spinlock {
  struct qspinlock raw_lock;
} __reloc;
struct spinlock {
  struct raw_spinlock rlock; /* not in kernels with PREEMPT_RT */
} __reloc;
struct socket_lock {
  struct spinlock slock;
  int owned;
} __reloc;

struct sock {
  struct sock_common __sk_common;
  struct socket_lock sk_lock;
  struct sk_buff_head sk_receive_queue;
  struct sock_backlog sk_backlog;
  int sk_rcvbuf;
  int sk_sndbuf;
  int sk_wmem_queued;
  void *sk_user_data;
  unsigned char sk_shutdown;
  struct socket_wq *sk_wq;
} __reloc;

struct inet_sock {
  struct sock sk;
} __reloc;
struct inet_connection_sock {
  struct inet_sock icsk_inet;
} __reloc;
struct tcp_sock {
  struct inet_connection_sock inet_conn;
  __u32 copied_seq;
  __u32 rcv_nxt;
  __u32 write_seq;
} __reloc;

struct sk_psock {
  struct sk_buff_head ingress_skb;
  struct list_head ingress_msg;
  __u32 msg_tot_len;
  unsigned long state;
  refcount_t refcnt;
} __reloc;

/* The low bits of sk_user_data are tags (SK_USER_DATA_PTRMASK). */
#define USER_DATA_MASK (~7ULL)

extern void *bpf_rdonly_cast(const void *object, __u32 type) __ksym __weak;

/* A member of a structure at an address: where the kernel can (6.2 and later) by a load, else by a call of 20 ns. */
#define READ_AT(type, address, member)                                                                                 \
  ({                                                                                                                   \
    typeof(((type *)0)->member) _value;                                                                                \
    if (bpf_rdonly_cast) {                                                                                             \
      const type *_object = bpf_rdonly_cast((const void *)(address), bpf_core_type_id_kernel(type));                   \
      _value = *(const volatile typeof(_value) *)&_object->member;                                                     \
    } else {                                                                                                           \
      _value = BPF_CORE_READ((type *)(address), member);                                                               \
    }                                                                                                                  \
    _value;                                                                                                            \
  })
