/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Requests that are mirrored: they are forwarded as ever, and the agent gets a copy, which the proxy sends on. A request is
 * the kernel's only if its copy finds room, so that none is missing when the agent is slow: the proxy gets what finds none,
 * and mirrors it itself.
 */
#pragma once
#include "maps.h"
#include "rewrite.h"

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, MIRROR_RING);
} mirror_ring SEC(".maps");

/* Whether a request of so many bytes may begin: the copy is made of what was read of the message. */
__noinline int may_mirror(__u32 size) {
  if (size > MAX_HEAD)
    return 0;
  if (bpf_ringbuf_query(&mirror_ring, BPF_RB_AVAIL_DATA) < MIRROR_RING - MIRROR_RESERVE)
    return 1;
  count(COUNTER_MIRROR_FULL);
  return 0;
}

/* Draws, and puts out the new head in s->out with the body that is in s->in. */
__noinline int mirror_request(struct scratch *s, const struct mirror *m, __u32 size) {
  if (!s || !m)
    return 0;
  __u32 share = m->denominator;
  if (m->numerator < share && random_u32() % share >= m->numerator)
    return 0;
  __u32 o = s->o, head = s->head_len, body = size - head;
  if (o > MAX_OUT || size > MAX_HEAD || head > size)
    goto lost;
  FORGET(body);
  if (body > MAX_HEAD || copy_bytes(&s->out[o & OUT_MASK], body, &s->in[head & IN_MASK]))
    goto lost;
  s->mirrored.key = m->key;
  s->mirrored.head_len = o;
  s->mirrored.body_len = body;
  __u32 whole = sizeof s->mirrored + o + body;
  FORGET(whole);
  if (whole <= sizeof s->mirrored + MAX_OUT + MAX_HEAD &&
      !bpf_ringbuf_output(&mirror_ring, &s->mirrored, whole, BPF_RB_NO_WAKEUP))
    return 0;
lost:
  count(COUNTER_MIRROR_LOST);
  return 0;
}
