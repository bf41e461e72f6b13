/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* HTTP/2: the maps, see h2.bpf.c. */
#pragma once
#include "intake-listener.h"
#include "hpack.h"

#define SOCKETS(name)                                                                                                  \
  struct {                                                                                                             \
    __uint(type, BPF_MAP_TYPE_SOCKHASH);                                                                               \
    __uint(max_entries, MAX_H2_ENDS);                                                                                  \
    __type(key, __u64);                                                                                                \
    __type(value, __u64);                                                                                              \
  } name SEC(".maps")

SOCKETS(h2_clients); /* A, by its cookie */
SOCKETS(h2_servers); /* U, by its cookie */
SOCKETS(h2_doors);   /* D, by the cookie of its U */
SOCKETS(h2_inboxes); /* what the agent reads of an A or a U, by its cookie */
SOCKETS(h2_writers); /* where the agent's frames come from */

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, MAX_H2_ENDS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct h2_end);
} h2_ends SEC(".maps");

/* Cookie of an A or a U -> its index. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_H2_ENDS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u64);
  __type(value, __u32);
} h2_ids SEC(".maps");

/* D -> the index of its U. */
struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, __u32);
} h2_door_ids SEC(".maps");

struct h2_key {
  __u32 client; /* index */
  __u32 number; /* of a stream, or an endpoint */
};

/* Client and endpoint -> the index of the connection to it. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_H2_ENDS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct h2_key);
  __type(value, __u32);
} h2_routes SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_H2_STREAMS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct h2_key);
  __type(value, struct h2_stream);
} h2_streams SEC(".maps");

/* Streams whose request is long: the index of the connection to the server. */
#define ROOM_NOTED 16384
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_H2_STREAMS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct h2_key);
  __type(value, __u32);
} h2_long SEC(".maps");

/* The frame that takes the place of the one with a stream's head, on its way through D. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_H2_STREAMS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct h2_key);
  __type(value, struct staged);
} h2_stages SEC(".maps");

/* What the agent's next frames are for: behind such an envelope come `length` bytes. */
struct h2_envelope {
  __u64 cookie; /* of an A, or a U */
  __u32 length;
  __u32 to_server; /* 0, 1, or H2_GIVE_BACK: of a stream (its client's index, and its number), of which `length` frames were sent */
};
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 64);
  __type(key, __u64);
  __type(value, struct h2_envelope);
} h2_envelopes SEC(".maps");
