/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Work space of one program run, and the primitives that differ between BPF and the native build for the fuzzer. */
#pragma once
#include "layout.gen.h"

#define N_SCRATCH 128
#define IN_MASK 16383
#define OUT_MASK 16383
/* Where the source address lies in `in`, behind any head. */
#define SOURCE_AT (MAX_HEAD + 64)
/* Where the header lines lie that come with a token. */
#define TOKEN_LINES_AT 12288
#define MAX_OUT 8192

struct line {
  __u16 start;  /* first byte of the name */
  __u16 vstart; /* first byte of the value */
  __u16 vend;   /* behind the last byte of the value */
  __u16 next;   /* behind the line's LF */
};

/* What is drawn for the request at the end: see bucket.h. */
struct lot {
  __u32 bucket; /* index plus one; 0: a chance */
  __u32 numerator, denominator;
  __u32 reply;
};

struct scratch {
  __u32 busy;
  /* scanner */
  __u32 i, n, row, classes;
  __u32 method_end, path_end, target_end, head_len;
  __u32 result; /* 0 incomplete, 1 complete, 2 odd */
  __u32 n_lines;
  __u32 slot; /* of the current line */
  __u32 flags;
  __u64 watched; /* bit mask of the slots from MAX_SLOTS on */
  __u64 present; /* bit mask of slots seen */
  __u64 content_length;
  __u32 host_start, host_end;
  __u32 status;
  /* matching */
  __u32 run_row, run_classes, run_at, run_end;
  __u32 chosen; /* offset of the route */
  __u32 stop;   /* 1: to the proxy */
  __u32 cond_state, cond_result;
  __u32 list, adds, rbac_denied, stop_reply;
  /* the path and the host as words, where their decision is (plus one) or would be, and what it says: recall.h */
  __u64 text[DECISION_WORDS];
  __u32 decision, asked, found_host, found_list;
  __u32 n_lots;
  struct lot lots[MAX_LOTS];
  __u32 action, rule;
  /* the request's token: what is known of it, and whether the agent should look at it */
  __u64 token_facts[TOKEN_WORDS], token_hash;
  __u32 token_at, token_len, token_same, token_unknown, token_place, token_places;
  __u32 token_lines; /* bytes at in[TOKEN_LINES_AT] */
  __u64 facts[FACT_WORDS];
  /* output */
  __u32 o, overflow, copied_to, kept;
  __u32 edits;    /* answers: offset of an answer_edit, 0: none */
  __u32 value_at; /* answers: where the last value begins in `out` */
  __u32 ends[MAX_VARIABLES];
  __u64 remove;
  __u32 cap[8];
  /* chunked parser */
  __u32 pos, len, chunk_state, chunk_done;
  __u64 chunk_left, chunk_bytes; /* of data, without framing */
  __u32 target_rest;
  __u32 pad;
  /* consistent hashing */
  __u64 hash, hash_value, lanes[4];
  __u64 id[4];     /* digits of the request id that was made last, or of a request that is traced */
  __u64 parent[2]; /* digits of the id of the span before, 0: there is none */
  __u32 sampled;  /* the request's span is */
  __u32 literal;  /* where in `out` the last literal ends */
  __u32 endpoint; /* to which the request goes */
  __u32 text_len; /* of what is encoded */
  __u64 random[2]; /* the last random digits that were put out */
  __u32 hashed, max_requests, breaker, connect_ms;
  __u32 choice, watch; /* where the failures of the chosen endpoint are counted, 0: nowhere */
  struct line lines[MAX_LINES];
  __u8 line_slot[MAX_LINES];
  __u8 first[64];     /* slot -> line index + 1, where `present` */
  __u8 in[IN_MASK + 1 + 8]; /* eight more, so that a word may start at the last */
  union { /* heads that go with these are in `out` */
    struct log_record log;
    struct {
      __u8 before[sizeof(struct log_record) - sizeof(struct mirrored)];
      struct mirrored mirrored;
    };
  };
  __u8 out[OUT_MASK + 1 + MAX_HEAD];
};

/* scratch.flags */
#define HEAD_CHUNKED 1
#define HEAD_CLOSE 2
#define HEAD_LENGTH 4
#define HEAD_ODD 8
#define HEAD_HTTP10 16
#define HEAD_KEEP_ALIVE 32
#define HEAD_LEFT 64 /* a request that only the proxy knows what to do with, but where it ends is certain */

#ifdef SIDESTEP_NATIVE
#include <string.h>
#define LOOP(n, fn, ctx)                                                                                               \
  do {                                                                                                                 \
    for (__u32 _i = 0; _i < (__u32)(n); _i++)                                                                          \
      if (fn(_i, ctx))                                                                                                 \
        break;                                                                                                         \
  } while (0)
static inline int copy_bytes(void *to, __u32 n, const void *from) {
  memcpy(to, from, n);
  return 0;
}
#else
#define LOOP(n, fn, ctx) bpf_loop(n, fn, ctx, 0)
#define copy_bytes(to, n, from) bpf_probe_read_kernel(to, n, from)
#endif

/*
 * Makes clang forget what it knows of a value, so that the checks that follow stay in the program: the verifier does not
 * remember the bounds of everything that was on the stack meanwhile.
 */
#define FORGET(value) asm volatile("" : "+r"(value))

/* The policy: src/layout/image.ts. */
struct image {
  __u8 bytes[IMAGE_SIZE + IMAGE_SLACK];
};

/*
 * The number itself, by way of memory: for the verifier it could be any then, so that it walks what follows once, and not once
 * for each of the numbers that it may be. `s->list` is not in use.
 */
static __always_inline __u32 any_number(struct scratch *s, __u32 number) {
  *(volatile __u32 *)&s->list = number;
  return *(volatile __u32 *)&s->list;
}

struct work {
  struct scratch *s;
  const __u8 *image;
};

/*
 * The word at an address that need not be aligned. By way of void: from the address of an array of bytes clang knows that it
 * is perhaps not aligned, and reads eight bytes one by one (three times as slow).
 */
static __always_inline __u64 word_at(const void *at) {
#ifdef SIDESTEP_NATIVE
  __u64 word;
  memcpy(&word, at, sizeof word);
  return word;
#else
  return *(const __u64 *)at;
#endif
}
static __always_inline void set_word(void *at, __u64 word) {
#ifdef SIDESTEP_NATIVE
  memcpy(at, &word, sizeof word);
#else
  *(__u64 *)at = word;
#endif
}

static __always_inline __u32 image_u32(const __u8 *image, __u32 off) {
  return *(const __u32 *)(image + (off & (IMAGE_SIZE - 1)));
}
static __always_inline __u64 image_u64(const __u8 *image, __u32 off) {
  return *(const __u64 *)(image + (off & (IMAGE_SIZE - 1)));
}
#define AT(type, image, off) ((const type *)((image) + ((off) & (IMAGE_SIZE - 1))))
