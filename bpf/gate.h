/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The gate of a connection: whether the kernel or the agent has what the client sends (ARCHITECTURE.md has the state table). */
#pragma once
#include "scratch.h"

/* Leaves the rest of this connection to the agent until it resumes (CTL_RESUME). */
static __always_inline int to_agent(struct conn *c, __u32 size, __u32 why) {
  __sync_fetch_and_add(&c->passed, size);
  __sync_fetch_and_add(&c->gate, 2); /* counts the message, and sets the agent bit, which CTL_HOLD may have set meanwhile */
  __sync_fetch_and_or(&c->gate, 1);
  count(why);
  return SK_PASS;
}

/* Whether the connection is the agent's at this moment; then the message is counted. */
static __always_inline int passes(struct conn *c, __u32 size) {
  if (!(c->gate & 1))
    return 0;
  __sync_fetch_and_add(&c->passed, size);
  if (__sync_fetch_and_add(&c->gate, 2) & 1)
    return 1;
  /* the agent resumed in between: this message is the kernel's after all */
  __sync_fetch_and_add(&c->passed, -(__u64)size);
  return 0;
}
