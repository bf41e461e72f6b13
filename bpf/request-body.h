/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Bodies of requests that come in pieces. */
#pragma once
#include "maps.h"

/*
 * Another piece goes to the upstream. The times of the route run from the end of the request (as in Envoy); until then the
 * agent looks at the time since the last piece.
 */
static __always_inline void note_piece(struct conn *c, struct upstream *u, __u32 size) {
  u->started = bpf_ktime_get_ns();
  c->body_left -= size;
  if (!c->body_left)
    __sync_fetch_and_or(&u->flags, UPSTREAM_FLAG_REQUEST_DONE);
}
