/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Generated from src/layout by `npm run generate`. Do not edit. */
#pragma once

#define IMAGE_SIZE 16777216
#define IMAGE_SLACK 2304
#define IMAGE_MAGIC 1398031696
#define MAX_HEAD 8192
#define MAX_LINES 64
#define PLAIN_ROW 2147483648
#define FACT_WORDS 16
#define TOKEN_WORDS 2
#define TOKEN_WORD 14
#define MAX_JOBS 64
#define MAX_LITERALS 256
#define MAX_RBAC_LITERALS 2048
#define MAX_CANDIDATES 512
#define MAX_RBAC 24
#define MAX_LOTS 8
#define NODE_KEYS 5
#define MAX_FAILS 3
#define MAX_SLOTS 64
#define MAX_WATCHED_SLOTS 128
#define MAX_TOKEN_PLACES 8
#define MAX_TOKEN_LINES 1024
#define REPLY_PROXY 1
#define REPLY_DELAYED 2
#define MAX_PROTOCOL 16
#define MAX_PROTOCOLS 8
#define MAX_PIECES 16
#define FIGURE_SHIFT 4
#define MAX_ADDS 32
#define MAX_MATCHES 16
#define MAX_LITERAL 4096
#define STATUS_WORDS 7
#define MAX_HASHES 8
#define MAX_VARIABLES 4
#define MAX_ANSWER_EDITS 4096
#define MAX_TABLE 131072
#define MAX_HOST_SETS 64
#define MAX_UPSTREAMS 4096
#define BLOCK_SIZE 64
#define MAX_BLOCKS 64
#define MAX_ENDPOINTS 1024
#define ENDPOINT_BLOCKS 16
#define REPLY_ENDPOINT 0
#define MAX_CLIENTS 65536
#define MAX_JOINTS 16384
#define MAX_REPLAY 2048
#define MAX_KERNEL_BODY 1048576
#define MAX_KERNEL_CHUNKED 4096
#define MAX_UNREAD 262144
#define MAX_BACKLOG 4
#define MAX_SEGMENTS 32
#define MAX_STAGED 4096
#define MAX_LINEAR 16384
#define MAX_VARIABLE_BYTES 496
#define MAX_RULES 16384
#define MAX_DETECTORS 4096
#define HIT_COUNTS 16
#define MAX_BUCKETS 4096
#define BUCKET_SHIFT 4
#define MAX_BREAKERS 1024
#define N_COUNTERS 32
#define MAX_DECISIONS 16384
#define DECISION_WORDS 12
#define DECISION_PATH 7
#define MAX_TOKENS 4096
#define TOKEN_WAYS 4
#define MAX_TOKEN 2048
#define LOG_RING 4194304
#define LOG_RESERVE 1048576
#define MIRROR_RING 4194304
#define MIRROR_RESERVE 1048576
#define MAX_H2_ENDS 16384
#define MAX_H2_STREAMS 65536
#define MAX_H2_STAGED 4096
#define MAX_H2_KEPT 3840
#define MAX_H2_KEPT_STREAMS 8192
#define MAX_H2_REPLIES 256
#define MAX_H2_REPLY 4080
#define H2_GIVE_BACK 2

#define SCAN_NONE 0
#define SCAN_METHOD_END 1
#define SCAN_QUERY 2
#define SCAN_TARGET_END 3
#define SCAN_LINE 4
#define SCAN_NAME_END 5
#define SCAN_VALUE 6
#define SCAN_VALUE_END 7
#define SCAN_HEAD_END 8
#define SCAN_ODD 9

#define SLOT_OTHER 0
#define SLOT_HOST 1
#define SLOT_CONTENT_LENGTH 2
#define SLOT_TRANSFER_ENCODING 3
#define SLOT_CONNECTION 4
#define SLOT_KEEP_ALIVE 5
#define SLOT_PROXY_CONNECTION 6
#define SLOT_TE 7
#define SLOT_UPGRADE 8
#define SLOT_EXPECT 9
#define SLOT_X_REQUEST_ID 10
#define SLOT_X_FORWARDED_PROTO 11
#define SLOT_X_FORWARDED_FOR 12
#define SLOT_TRAILER 13
#define SLOT_ODD 14
#define SLOT_FIRST_FREE 15

#define STATE_ROW 0
#define STATE_NODE 1
#define STATE_SINK 2

#define FIELD_METHOD 0
#define FIELD_HOST 1
#define FIELD_PATH 2
#define FIELD_QUERY 3
#define FIELD_TARGET 4
#define FIELD_SOURCE_IP 5
#define FIELD_HEADER 6

#define TOKEN_PLACE_HEADER 0
#define TOKEN_PLACE_COOKIE 1
#define TOKEN_PLACE_QUERY 2

#define RBAC_ALLOW 0
#define RBAC_DENY 1

#define LOG_ON 1
#define LOG_REQUEST 2
#define LOG_ANSWER 4
#define LOG_SPANS 8

#define LITERAL_PRODUCT_END 1
#define LITERAL_END 2
#define LITERAL_ANY 4

#define ROUTE_FLAG_UNKNOWN 1

#define ACTION_PROXY 0
#define ACTION_FORWARD 1
#define ACTION_REPLY 2

#define ACTION_FLAG_RETRY 1
#define ACTION_FLAG_RETRY_RESETS 2
#define ACTION_FLAG_WHOLE 4

#define RETRY_STREAMS_REFUSED 1

#define TIMES_GRPC 1
#define TIMES_DURATION 2
#define TIMES_HEADER 4
#define TIMES_QUIET 8

#define HASH_HEADER 0
#define HASH_HOST 1
#define HASH_TARGET 2
#define HASH_METHOD 3
#define HASH_COOKIE 4
#define HASH_QUERY 5
#define HASH_SOURCE_IP 6

#define HASH_FLAG_TERMINAL 1
#define HASH_FLAG_GENERATED 2

#define PIECE_LITERAL 0
#define PIECE_PATH_FROM 1
#define PIECE_QUERY 2
#define PIECE_HOST 3
#define PIECE_HOST_NAME 4
#define PIECE_CAPTURE 5
#define PIECE_HEADER 6
#define PIECE_SOURCE_IP 7
#define PIECE_BUCKET 8
#define PIECE_FIGURE 9
#define PIECE_RANDOM 10
#define PIECE_REQUEST_ID 11
#define PIECE_SAMPLED 12
#define PIECE_UUID 13
#define PIECE_ENDPOINT 14
#define PIECE_BASE64 15

#define FIGURE_LIMIT 1
#define FIGURE_REMAINING 2
#define FIGURE_RESET 3

#define ADD_ALWAYS 0
#define ADD_IF_ABSENT 1
#define ADD_IF_PRESENT 2
#define ADD_REQUEST_ID 3
#define ADD_ORIGINAL_TARGET 4
#define ADD_EMPTY_LENGTH 5
#define ADD_TOKEN_LINES 6
#define ADD_IF_SAMPLED 7

#define ORIGIN_ROUTE 0
#define ORIGIN_NO_ROUTE 1
#define ORIGIN_RBAC 2
#define ORIGIN_FAULT 3
#define ORIGIN_FILTER 4

#define TRACER_NONE 0
#define TRACER_ZIPKIN 1
#define TRACER_OPENTELEMETRY 2

#define LB_ROUND_ROBIN 0
#define LB_RANDOM 1
#define LB_LEAST_REQUEST 2
#define LB_RING_HASH 3
#define LB_MAGLEV 4

#define PHASE_IDLE 0
#define PHASE_AWAIT 1
#define PHASE_BODY 2
#define PHASE_CHUNKED 3
#define PHASE_AGENT 4
#define PHASE_HANDOVER 5
#define PHASE_DEAD 6
#define PHASE_DELIVER 7

#define CHUNK_SIZE 0
#define CHUNK_EXTENSION 1
#define CHUNK_DATA 2
#define CHUNK_DATA_END 3
#define CHUNK_END 4

#define UPSTREAM_FLAG_HEAD 1
#define UPSTREAM_FLAG_CLOSE 2
#define UPSTREAM_FLAG_RETRY 4
#define UPSTREAM_FLAG_PROXY 8
#define UPSTREAM_FLAG_REQUEST_DONE 16
#define UPSTREAM_FLAG_CHUNKED 32
#define UPSTREAM_FLAG_LIMIT 64
#define UPSTREAM_FLAG_RETRY_RESETS 128
#define UPSTREAM_FLAG_RETRIES_SHIFT 8

#define WAY_DIRECT 1
#define WAY_NATIVE 2
#define WAY_PIECES 4
#define WAY_DUMMY 8
#define WAY_WHOLE 16
#define WAY_MISSED 32

#define ENDPOINT_FLAG_NO_POOL 1

#define CONN_FLAG_INSERTED 1
#define CONN_FLAG_STICKY 2
#define CONN_FLAG_BROKEN 4
#define CONN_FLAG_LISTENER 8
#define CONN_FLAG_PIPELINES 16
#define CONN_FLAG_CHAIN 256
#define CONN_FLAG_TOLD 512
#define CONN_FLAG_DIRECT 32
#define CONN_FLAG_COUNTED 64
#define CONN_FLAG_DELAYED 128
#define CONN_FLAG_HELLO 1024
#define CONN_FLAG_HEARD 2048

#define INTAKE_SOCKET 0
#define INTAKE_LISTENER 1
#define INTAKE_LISTENER_DUMMY 2
#define INTAKE_REPLY 3

#define QUEUED_ANSWER 1
#define QUEUED_REQUEST 2
#define QUEUED_IN_FLIGHT 4

#define CTL_QUERY 0
#define CTL_RESUME 1
#define CTL_DETACH 2
#define CTL_FINISH 3
#define CTL_TAKE 4
#define CTL_GIVE 5
#define CTL_NATIVE 6
#define CTL_BODY_SENT 7
#define CTL_PAIR 8
#define CTL_GIVE_UP 9
#define CTL_HELLO 10
#define CTL_TAKE_OVER 11
#define CTL_NOW 12
#define CTL_DRAW 13
#define CTL_ENTER 14
#define CTL_LEAVE 15
#define CTL_UNCOUNT 16
#define CTL_COMPLETE 17
#define CTL_HOLD 18
#define CTL_JOIN 19

#define INBOUND_PROXYS 0
#define INBOUND_WORKLOADS 1

#define COUNTER_KERNEL 0
#define COUNTER_PROXY 1
#define COUNTER_AGENT 2
#define COUNTER_REPLIES 3
#define COUNTER_ANSWERS_AGENT 4
#define COUNTER_POOL_EMPTY 5
#define COUNTER_HELPER_FAILED 6
#define COUNTER_REDIRECT_FAILED 7
#define COUNTER_ODD 8
#define COUNTER_PARTIAL 9
#define COUNTER_BODY_AGENT 10
#define COUNTER_PIPELINED 11
#define COUNTER_SCRATCH_BUSY 12
#define COUNTER_CONNECTIONS 13
#define COUNTER_UNREAD 14
#define COUNTER_BYPASSED 15
#define COUNTER_BYPASSED_ANSWERS 16
#define COUNTER_PAIRED 17
#define COUNTER_BEHIND 18
#define COUNTER_TOKEN_KNOWN 19
#define COUNTER_TOKEN_UNKNOWN 20
#define COUNTER_LOG_FULL 21
#define COUNTER_LOG_LOST 22
#define COUNTER_GROWN 23
#define COUNTER_ROUTED 24
#define COUNTER_ROUTED_PROXY 25
#define COUNTER_MIRROR_FULL 26
#define COUNTER_MIRROR_LOST 27
#define COUNTER_JOINTS_FULL 28
#define COUNTER_RECALLED 29

#define TRIPPED_FAILURES 1
#define TRIPPED_GATEWAY 2

#define LOG_RECORD_BEGIN 1
#define LOG_RECORD_ANSWER 2
#define LOG_RECORD_END 4
#define LOG_RECORD_REPLY 8
#define LOG_RECORD_RESET 16

#define H2_STREAM_CLIENT_ENDED 1
#define H2_STREAM_SERVER_ENDED 2
#define H2_STREAM_CLIENT_HELD 4
#define H2_STREAM_SERVER_HELD 8
#define H2_STREAM_ANSWERED 16
#define H2_STREAM_GRPC 32
#define H2_STREAM_HEAD 64
#define H2_STREAM_RETRY 128
#define H2_STREAM_TAKEN 256

#define H2_DUE_WHOLE 1
#define H2_DUE_DURATION 2
#define H2_DUE_IDLE 3
#define H2_DUE_TRY 4

#define H2_CLAIM_FOUND 1073741824
#define H2_CLAIM_BUSY 536870912

/* The first bytes of the blob. */
struct image_header {
  __u32 magic; /* IMAGE_MAGIC */
  __u32 generation; /* number of this policy generation, from 1 */
  __u32 size; /* bytes used */
  __u32 n_listeners; /* number of listeners */
  __u32 listeners; /* offset of u32[n_listeners], each the offset of a listener or 0 (everything to the proxy) */
  __u32 response_scan; /* start row of the scanner for response heads */
  __u32 response_classes; /* its class map */
  __u32 n_answer_edits; /* number of the last of the answer edits, at most MAX_ANSWER_EDITS */
  __u32 answer_edits; /* offset of u32[n_answer_edits + 1]: offsets of answer_edit by number; 0: the agent edits */
  __u32 framing_scan; /* start row of the scanner that only tells where a request ends */
  __u32 framing_classes; /* its class map */
  __u32 connections; /* offset of u32[n_listeners]: the route for connections to a listener or 0; 0: there are none */
  __u32 hellos; /* offset of u32[n_listeners]: the hello_table of a listener or 0; 0: there are none */
};
_Static_assert(sizeof(struct image_header) == 52, "image_header");
_Static_assert(__builtin_offsetof(struct image_header, magic) == 0, "image_header.magic");
_Static_assert(__builtin_offsetof(struct image_header, generation) == 4, "image_header.generation");
_Static_assert(__builtin_offsetof(struct image_header, size) == 8, "image_header.size");
_Static_assert(__builtin_offsetof(struct image_header, n_listeners) == 12, "image_header.n_listeners");
_Static_assert(__builtin_offsetof(struct image_header, listeners) == 16, "image_header.listeners");
_Static_assert(__builtin_offsetof(struct image_header, response_scan) == 20, "image_header.response_scan");
_Static_assert(__builtin_offsetof(struct image_header, response_classes) == 24, "image_header.response_classes");
_Static_assert(__builtin_offsetof(struct image_header, n_answer_edits) == 28, "image_header.n_answer_edits");
_Static_assert(__builtin_offsetof(struct image_header, answer_edits) == 32, "image_header.answer_edits");
_Static_assert(__builtin_offsetof(struct image_header, framing_scan) == 36, "image_header.framing_scan");
_Static_assert(__builtin_offsetof(struct image_header, framing_classes) == 40, "image_header.framing_classes");
_Static_assert(__builtin_offsetof(struct image_header, connections) == 44, "image_header.connections");
_Static_assert(__builtin_offsetof(struct image_header, hellos) == 48, "image_header.hellos");

/* A state whose next bytes are nearly always the same: see src/compile/forms.ts. */
struct node {
  __u32 accept; /* where the input ends here */
  __u32 fail; /* state to go on from, at the first byte of the chain, when the input is another */
  __u32 end; /* what acceptance means behind the chain (an offset that is a multiple of 8, like a row) */
  __u16 length; /* bytes of the chain, at most 8 */
  __u16 on; /* 1: `other` is the state behind the chain, with which to go on */
  __u64 want; /* the chain, its first byte lowest */
  __u64 mask; /* bits of the input that must be as in `want` */
  __u64 keys; /* class map entries of the byte behind the chain, the first lowest; 0: no more */
  __u32 to[5]; /* states that they lead to */
  __u32 other; /* state that any other byte leads to */
};
_Static_assert(sizeof(struct node) == 64, "node");
_Static_assert(__builtin_offsetof(struct node, accept) == 0, "node.accept");
_Static_assert(__builtin_offsetof(struct node, fail) == 4, "node.fail");
_Static_assert(__builtin_offsetof(struct node, end) == 8, "node.end");
_Static_assert(__builtin_offsetof(struct node, length) == 12, "node.length");
_Static_assert(__builtin_offsetof(struct node, on) == 14, "node.on");
_Static_assert(__builtin_offsetof(struct node, want) == 16, "node.want");
_Static_assert(__builtin_offsetof(struct node, mask) == 24, "node.mask");
_Static_assert(__builtin_offsetof(struct node, keys) == 32, "node.keys");
_Static_assert(__builtin_offsetof(struct node, to) == 40, "node.to");
_Static_assert(__builtin_offsetof(struct node, other) == 60, "node.other");

/* What is decided for connections to one listener. */
struct listener {
  __u32 scan; /* start row of the scanner for request heads */
  __u32 scan_classes; /* its class map */
  __u32 host; /* start row of the automaton over the Host value; accept: offset of a virtual_host or 0 */
  __u32 host_classes; /* its class map */
  __u32 jobs; /* offset of job[n_jobs], run for every request (before the host is known) */
  __u32 n_jobs; /* at most MAX_JOBS */
  __u32 rbac; /* rbac_list for requests without a route, and for routes that do not say otherwise */
  __u32 not_found; /* action when no virtual host or no route matches */
  __u32 denied; /* action when RBAC denies */
  __u32 proxy_endpoint; /* endpoint id of the proxy listener that stands behind this one, plus one; 0: none */
  __u32 token_places; /* offset of token_place[n_token_places]: where tokens are looked up */
  __u32 n_token_places; /* at most MAX_TOKEN_PLACES */
  __u32 log; /* LOG; 0: its requests are not logged */
  __u32 remembers; /* 1: where hosts and paths lead is remembered (src/layout/decisions.ts) */
};
_Static_assert(sizeof(struct listener) == 56, "listener");
_Static_assert(__builtin_offsetof(struct listener, scan) == 0, "listener.scan");
_Static_assert(__builtin_offsetof(struct listener, scan_classes) == 4, "listener.scan_classes");
_Static_assert(__builtin_offsetof(struct listener, host) == 8, "listener.host");
_Static_assert(__builtin_offsetof(struct listener, host_classes) == 12, "listener.host_classes");
_Static_assert(__builtin_offsetof(struct listener, jobs) == 16, "listener.jobs");
_Static_assert(__builtin_offsetof(struct listener, n_jobs) == 20, "listener.n_jobs");
_Static_assert(__builtin_offsetof(struct listener, rbac) == 24, "listener.rbac");
_Static_assert(__builtin_offsetof(struct listener, not_found) == 28, "listener.not_found");
_Static_assert(__builtin_offsetof(struct listener, denied) == 32, "listener.denied");
_Static_assert(__builtin_offsetof(struct listener, proxy_endpoint) == 36, "listener.proxy_endpoint");
_Static_assert(__builtin_offsetof(struct listener, token_places) == 40, "listener.token_places");
_Static_assert(__builtin_offsetof(struct listener, n_token_places) == 44, "listener.n_token_places");
_Static_assert(__builtin_offsetof(struct listener, log) == 48, "listener.log");
_Static_assert(__builtin_offsetof(struct listener, remembers) == 52, "listener.remembers");

/* Where a token may be; of several in a request none is known. */
struct token_place {
  __u32 kind; /* TOKEN_PLACE */
  __u32 slot; /* HEADER and COOKIE: of the header */
  __u32 find; /* COOKIE and QUERY: start row of the capturing automaton that finds the value: registers 0 and 1 */
  __u32 find_classes; /* its class map */
};
_Static_assert(sizeof(struct token_place) == 16, "token_place");
_Static_assert(__builtin_offsetof(struct token_place, kind) == 0, "token_place.kind");
_Static_assert(__builtin_offsetof(struct token_place, slot) == 4, "token_place.slot");
_Static_assert(__builtin_offsetof(struct token_place, find) == 8, "token_place.find");
_Static_assert(__builtin_offsetof(struct token_place, find_classes) == 12, "token_place.find_classes");

/* The routes of a set of domains. */
struct virtual_host {
  __u32 path; /* start row of the path automaton; accept: offset of a candidate list */
  __u32 path_classes; /* its class map */
  __u32 jobs; /* offset of job[n_jobs] */
  __u32 n_jobs; /* at most MAX_JOBS */
};
_Static_assert(sizeof(struct virtual_host) == 16, "virtual_host");
_Static_assert(__builtin_offsetof(struct virtual_host, path) == 0, "virtual_host.path");
_Static_assert(__builtin_offsetof(struct virtual_host, path_classes) == 4, "virtual_host.path_classes");
_Static_assert(__builtin_offsetof(struct virtual_host, jobs) == 8, "virtual_host.jobs");
_Static_assert(__builtin_offsetof(struct virtual_host, n_jobs) == 12, "virtual_host.n_jobs");

/* One automaton over one field; accept: 0 or the offset of a u64 mask of facts. */
struct job {
  __u32 dfa; /* start row */
  __u32 classes; /* class map */
  __u8 field; /* FIELD */
  __u8 slot; /* header slot for FIELD.HEADER */
  __u8 word; /* word of the facts that the mask is or-ed into */
  __u8 pad; /* zero */
};
_Static_assert(sizeof(struct job) == 12, "job");
_Static_assert(__builtin_offsetof(struct job, dfa) == 0, "job.dfa");
_Static_assert(__builtin_offsetof(struct job, classes) == 4, "job.classes");
_Static_assert(__builtin_offsetof(struct job, field) == 8, "job.field");
_Static_assert(__builtin_offsetof(struct job, slot) == 9, "job.slot");
_Static_assert(__builtin_offsetof(struct job, word) == 10, "job.word");
_Static_assert(__builtin_offsetof(struct job, pad) == 11, "job.pad");

/* One rule: when it applies and what is done. */
struct route {
  __u32 flags; /* ROUTE_FLAG */
  __u32 condition; /* offset of literals; 0: always */
  __u32 rbac; /* offset of an rbac_list, replaces the listener's; 0: the listener's own */
  __u32 action; /* offset of an action; 0: the proxy */
  __u32 rule; /* index of the rule for counting */
  __u32 pad; /* zero */
};
_Static_assert(sizeof(struct route) == 24, "route");
_Static_assert(__builtin_offsetof(struct route, flags) == 0, "route.flags");
_Static_assert(__builtin_offsetof(struct route, condition) == 4, "route.condition");
_Static_assert(__builtin_offsetof(struct route, rbac) == 8, "route.rbac");
_Static_assert(__builtin_offsetof(struct route, action) == 12, "route.action");
_Static_assert(__builtin_offsetof(struct route, rule) == 16, "route.rule");
_Static_assert(__builtin_offsetof(struct route, pad) == 20, "route.pad");

/* Conditions are sums of products: a run of literals up to a PRODUCT_END is a product; the list ends at END. */
struct literal {
  __u32 word; /* word of the facts */
  __u32 flags; /* LITERAL */
  __u64 mask; /* facts looked at */
  __u64 want; /* what they must be (ANY: what they must not be) */
};
_Static_assert(sizeof(struct literal) == 24, "literal");
_Static_assert(__builtin_offsetof(struct literal, word) == 0, "literal.word");
_Static_assert(__builtin_offsetof(struct literal, flags) == 4, "literal.flags");
_Static_assert(__builtin_offsetof(struct literal, mask) == 8, "literal.mask");
_Static_assert(__builtin_offsetof(struct literal, want) == 16, "literal.want");

/* u32 n, then n entries evaluated in order; the first that denies decides. */
struct rbac_list {
  __u32 n; /* at most MAX_RBAC */
  __u32 pad; /* zero */
};
_Static_assert(sizeof(struct rbac_list) == 8, "rbac_list");
_Static_assert(__builtin_offsetof(struct rbac_list, n) == 0, "rbac_list.n");
_Static_assert(__builtin_offsetof(struct rbac_list, pad) == 4, "rbac_list.pad");

/* ALLOW stops what does not match; DENY stops what matches. */
struct rbac_entry {
  __u32 action; /* RBAC */
  __u32 never; /* 1: the condition never matches */
  __u32 condition; /* offset of literals; 0 with never == 0: always matches */
  __u32 reply; /* offset of the action for what is stopped; 0: the listener's `denied`; REPLY_PROXY: the proxy; REPLY_DELAYED */
  __u32 numerator; /* with a denominator: stops this share of what it would stop, drawn per request */
  __u32 denominator; /* 0: always */
  __u32 bucket; /* index plus one of a bucket: stops what it would stop only when no token is left; 0: none */
  __u32 pad; /* zero */
};
_Static_assert(sizeof(struct rbac_entry) == 32, "rbac_entry");
_Static_assert(__builtin_offsetof(struct rbac_entry, action) == 0, "rbac_entry.action");
_Static_assert(__builtin_offsetof(struct rbac_entry, never) == 4, "rbac_entry.never");
_Static_assert(__builtin_offsetof(struct rbac_entry, condition) == 8, "rbac_entry.condition");
_Static_assert(__builtin_offsetof(struct rbac_entry, reply) == 12, "rbac_entry.reply");
_Static_assert(__builtin_offsetof(struct rbac_entry, numerator) == 16, "rbac_entry.numerator");
_Static_assert(__builtin_offsetof(struct rbac_entry, denominator) == 20, "rbac_entry.denominator");
_Static_assert(__builtin_offsetof(struct rbac_entry, bucket) == 24, "rbac_entry.bucket");
_Static_assert(__builtin_offsetof(struct rbac_entry, pad) == 28, "rbac_entry.pad");

/* Where connections to a listener go, by their first message. */
struct hello_table {
  __u32 names; /* start row of the automaton over the server name; accept: offset of a hello_route or 0 (`other`) */
  __u32 classes; /* its class map */
  __u32 other; /* offset of the hello_route of a TLS connection without a server name, or with one that no chain names */
  __u32 plain; /* offset of the hello_route of a connection that does not begin with TLS */
};
_Static_assert(sizeof(struct hello_table) == 16, "hello_table");
_Static_assert(__builtin_offsetof(struct hello_table, names) == 0, "hello_table.names");
_Static_assert(__builtin_offsetof(struct hello_table, classes) == 4, "hello_table.classes");
_Static_assert(__builtin_offsetof(struct hello_table, other) == 8, "hello_table.other");
_Static_assert(__builtin_offsetof(struct hello_table, plain) == 12, "hello_table.plain");

/* The filter chains of a server name. */
struct hello_route {
  __u32 route; /* offset of a route, where none of the protocols is offered; 0: the proxy */
  __u32 n_protocols; /* at most MAX_PROTOCOLS */
  __u32 protocols; /* offset of protocol[n_protocols]; the first of the client’s that is one of them says the route */
  __u32 pad; /* zero */
};
_Static_assert(sizeof(struct hello_route) == 16, "hello_route");
_Static_assert(__builtin_offsetof(struct hello_route, route) == 0, "hello_route.route");
_Static_assert(__builtin_offsetof(struct hello_route, n_protocols) == 4, "hello_route.n_protocols");
_Static_assert(__builtin_offsetof(struct hello_route, protocols) == 8, "hello_route.protocols");
_Static_assert(__builtin_offsetof(struct hello_route, pad) == 12, "hello_route.pad");

/* An application protocol (ALPN) that filter chains look at. */
struct protocol {
  __u64 low; /* its first eight bytes, the first lowest, then zeros */
  __u64 high; /* the next eight */
  __u32 length; /* at most MAX_PROTOCOL */
  __u32 route; /* offset of a route; 0: the proxy */
};
_Static_assert(sizeof(struct protocol) == 24, "protocol");
_Static_assert(__builtin_offsetof(struct protocol, low) == 0, "protocol.low");
_Static_assert(__builtin_offsetof(struct protocol, high) == 8, "protocol.high");
_Static_assert(__builtin_offsetof(struct protocol, length) == 16, "protocol.length");
_Static_assert(__builtin_offsetof(struct protocol, route) == 20, "protocol.route");

/* What is done with a request. */
struct action {
  __u8 kind; /* ACTION */
  __u8 flags; /* ACTION_FLAG */
  __u16 n_adds; /* number of additions (at most MAX_ADDS) */
  __u32 timeout_ms; /* until the complete answer; 0: none */
  __u64 remove; /* bit mask of the slots whose lines are removed from the request */
  __u32 target; /* FORWARD: template of the new target, 0: as received */
  __u32 adds; /* offset of add[n_adds] */
  __u32 clusters; /* offset of weighted_cluster[n_clusters] */
  __u32 n_clusters; /* at most 64 */
  __u32 total_weight; /* sum of the weights of the clusters */
  __u32 capture; /* start row of the capturing automaton over the path, 0: none; no match: target as received */
  __u32 capture_classes; /* its class map */
  __u32 reply_head; /* REPLY: template of everything up to and including the empty line */
  __u32 reply_body; /* REPLY: offset of the body; left out for HEAD */
  __u32 reply_body_len; /* REPLY: its length in bytes */
  __u32 retry; /* offset of u64[STATUS_WORDS], the statuses that are retried; 0: none */
  __u32 per_try_ms; /* until the head of the answer; 0: none */
  __u32 idle_ms; /* for which nothing may move; 0: none */
  __u32 hashes; /* offset of hash_source[n_hashes] */
  __u32 n_hashes; /* at most MAX_HASHES */
  __u32 backoff_ms; /* the first retry waits a random time shorter than this */
  __u32 answer; /* FORWARD: number of the edits of the answer, 0: none */
  __u32 variables; /* FORWARD: offset of answer_variables that the edits need, 0: none */
  __u32 origin; /* REPLY: whose reply it is, ORIGIN; from DETAILS_SHIFT on, which of its listener’s details it has, 0: none */
  __u32 mirror; /* FORWARD: offset of a mirror, 0: nobody gets a copy */
  __u32 trace; /* FORWARD: offset of a trace, 0: requests are not traced */
  __u32 retry_streams; /* what of HTTP/2 is retried: RETRY_STREAMS, and bit n: gRPC’s status n */
  __u32 times; /* of HTTP/2: TIMES */
  __u32 grpc_ms; /* the most that grpc-timeout can ask for; 0: no limit */
  __u32 duration_ms; /* from the beginning of a stream until its end; 0: no limit */
  __u32 pad; /* zero */
};
_Static_assert(sizeof(struct action) == 120, "action");
_Static_assert(__builtin_offsetof(struct action, kind) == 0, "action.kind");
_Static_assert(__builtin_offsetof(struct action, flags) == 1, "action.flags");
_Static_assert(__builtin_offsetof(struct action, n_adds) == 2, "action.n_adds");
_Static_assert(__builtin_offsetof(struct action, timeout_ms) == 4, "action.timeout_ms");
_Static_assert(__builtin_offsetof(struct action, remove) == 8, "action.remove");
_Static_assert(__builtin_offsetof(struct action, target) == 16, "action.target");
_Static_assert(__builtin_offsetof(struct action, adds) == 20, "action.adds");
_Static_assert(__builtin_offsetof(struct action, clusters) == 24, "action.clusters");
_Static_assert(__builtin_offsetof(struct action, n_clusters) == 28, "action.n_clusters");
_Static_assert(__builtin_offsetof(struct action, total_weight) == 32, "action.total_weight");
_Static_assert(__builtin_offsetof(struct action, capture) == 36, "action.capture");
_Static_assert(__builtin_offsetof(struct action, capture_classes) == 40, "action.capture_classes");
_Static_assert(__builtin_offsetof(struct action, reply_head) == 44, "action.reply_head");
_Static_assert(__builtin_offsetof(struct action, reply_body) == 48, "action.reply_body");
_Static_assert(__builtin_offsetof(struct action, reply_body_len) == 52, "action.reply_body_len");
_Static_assert(__builtin_offsetof(struct action, retry) == 56, "action.retry");
_Static_assert(__builtin_offsetof(struct action, per_try_ms) == 60, "action.per_try_ms");
_Static_assert(__builtin_offsetof(struct action, idle_ms) == 64, "action.idle_ms");
_Static_assert(__builtin_offsetof(struct action, hashes) == 68, "action.hashes");
_Static_assert(__builtin_offsetof(struct action, n_hashes) == 72, "action.n_hashes");
_Static_assert(__builtin_offsetof(struct action, backoff_ms) == 76, "action.backoff_ms");
_Static_assert(__builtin_offsetof(struct action, answer) == 80, "action.answer");
_Static_assert(__builtin_offsetof(struct action, variables) == 84, "action.variables");
_Static_assert(__builtin_offsetof(struct action, origin) == 88, "action.origin");
_Static_assert(__builtin_offsetof(struct action, mirror) == 92, "action.mirror");
_Static_assert(__builtin_offsetof(struct action, trace) == 96, "action.trace");
_Static_assert(__builtin_offsetof(struct action, retry_streams) == 100, "action.retry_streams");
_Static_assert(__builtin_offsetof(struct action, times) == 104, "action.times");
_Static_assert(__builtin_offsetof(struct action, grpc_ms) == 108, "action.grpc_ms");
_Static_assert(__builtin_offsetof(struct action, duration_ms) == 112, "action.duration_ms");
_Static_assert(__builtin_offsetof(struct action, pad) == 116, "action.pad");

/* Copies of requests. */
struct mirror {
  __u64 key; /* what the agent tells the proxy of whom they are for */
  __u32 numerator; /* of `denominator` requests so many are copied */
  __u32 denominator; /* not 0 */
};
_Static_assert(sizeof(struct mirror) == 16, "mirror");
_Static_assert(__builtin_offsetof(struct mirror, key) == 0, "mirror.key");
_Static_assert(__builtin_offsetof(struct mirror, numerator) == 8, "mirror.numerator");
_Static_assert(__builtin_offsetof(struct mirror, denominator) == 12, "mirror.denominator");

/* How it is decided whether a request is traced, which its id then says (its version: 9, a or b), and whether its span is sampled. */
struct trace {
  __u16 random; /* ids whose first eight digits, modulo 10,000, are less: traced */
  __u16 overall; /* and not any others, whatever their version */
  __u8 tracer; /* TRACER */
  __u8 slot; /* of the header by which a span before this one says whether it is sampled */
  __u16 ids; /* not 0: requests without an id get one */
};
_Static_assert(sizeof(struct trace) == 8, "trace");
_Static_assert(__builtin_offsetof(struct trace, random) == 0, "trace.random");
_Static_assert(__builtin_offsetof(struct trace, overall) == 2, "trace.overall");
_Static_assert(__builtin_offsetof(struct trace, tracer) == 4, "trace.tracer");
_Static_assert(__builtin_offsetof(struct trace, slot) == 5, "trace.slot");
_Static_assert(__builtin_offsetof(struct trace, ids) == 6, "trace.ids");

/* One choice of a forward action. */
struct weighted_cluster {
  __u32 cluster; /* offset of a cluster */
  __u32 weight; /* its weight */
};
_Static_assert(sizeof(struct weighted_cluster) == 8, "weighted_cluster");
_Static_assert(__builtin_offsetof(struct weighted_cluster, cluster) == 0, "weighted_cluster.cluster");
_Static_assert(__builtin_offsetof(struct weighted_cluster, weight) == 4, "weighted_cluster.weight");

/* One source of the hash that chooses an endpoint. */
struct hash_source {
  __u8 kind; /* HASH */
  __u8 slot; /* header slot */
  __u16 flags; /* HASH_FLAG */
  __u32 find; /* start row of the capturing automaton */
  __u32 find_classes; /* its class map */
};
_Static_assert(sizeof(struct hash_source) == 12, "hash_source");
_Static_assert(__builtin_offsetof(struct hash_source, kind) == 0, "hash_source.kind");
_Static_assert(__builtin_offsetof(struct hash_source, slot) == 1, "hash_source.slot");
_Static_assert(__builtin_offsetof(struct hash_source, flags) == 2, "hash_source.flags");
_Static_assert(__builtin_offsetof(struct hash_source, find) == 4, "hash_source.find");
_Static_assert(__builtin_offsetof(struct hash_source, find_classes) == 8, "hash_source.find_classes");

/* u32 n, then n pieces that are concatenated. */
struct template {
  __u32 n; /* at most MAX_PIECES */
  __u32 repeat; /* not 0: for each match of the capturing automaton, looked for again behind the one before, the pieces but the last take its place; group 1 begins this many bytes, minus one, behind the first byte of the match and ends with it. Then what is left of the path, and the last piece */
};
_Static_assert(sizeof(struct template) == 8, "template");
_Static_assert(__builtin_offsetof(struct template, n) == 0, "template.n");
_Static_assert(__builtin_offsetof(struct template, repeat) == 4, "template.repeat");

/* One piece of a template. */
struct piece {
  __u8 kind; /* PIECE */
  __u8 arg; /* capture group */
  __u16 pad; /* zero */
  __u32 off; /* LITERAL: offset in the image; PATH_FROM: first byte of the path */
  __u32 len; /* LITERAL: length (at most MAX_LITERAL) */
};
_Static_assert(sizeof(struct piece) == 12, "piece");
_Static_assert(__builtin_offsetof(struct piece, kind) == 0, "piece.kind");
_Static_assert(__builtin_offsetof(struct piece, arg) == 1, "piece.arg");
_Static_assert(__builtin_offsetof(struct piece, pad) == 2, "piece.pad");
_Static_assert(__builtin_offsetof(struct piece, off) == 4, "piece.off");
_Static_assert(__builtin_offsetof(struct piece, len) == 8, "piece.len");

/* A complete header line "name: value CR LF" that is added before the empty line. */
struct add {
  __u8 when; /* ADD */
  __u8 slot; /* slot whose presence in the head as received decides (IF_ABSENT, IF_PRESENT) */
  __u8 variable; /* answers: a variable (plus one) and CR LF that follow the line, from FIGURE_SHIFT on a FIGURE; requests: `off` is a template; 0: no */
  __u8 value; /* answers: where the value begins in the line */
  __u32 off; /* offset of the line */
  __u32 len; /* its length (at most MAX_LITERAL) */
};
_Static_assert(sizeof(struct add) == 12, "add");
_Static_assert(__builtin_offsetof(struct add, when) == 0, "add.when");
_Static_assert(__builtin_offsetof(struct add, slot) == 1, "add.slot");
_Static_assert(__builtin_offsetof(struct add, variable) == 2, "add.variable");
_Static_assert(__builtin_offsetof(struct add, value) == 3, "add.value");
_Static_assert(__builtin_offsetof(struct add, off) == 4, "add.off");
_Static_assert(__builtin_offsetof(struct add, len) == 8, "add.len");

/* What is kept of a request for its answer. */
struct answer_variables {
  __u32 n; /* at most MAX_VARIABLES */
  __u32 templates[4]; /* their values */
};
_Static_assert(sizeof(struct answer_variables) == 20, "answer_variables");
_Static_assert(__builtin_offsetof(struct answer_variables, n) == 0, "answer_variables.n");
_Static_assert(__builtin_offsetof(struct answer_variables, templates) == 4, "answer_variables.templates");

/* Edits of an answer, in slots of the response scanner. */
struct answer_edit {
  __u64 remove; /* slots whose lines go */
  __u32 adds; /* offset of add[n_adds] */
  __u32 n_adds; /* at most MAX_ADDS */
  __u32 compressible; /* offset of a compressible, 0: none */
  __u32 pad; /* zero */
};
_Static_assert(sizeof(struct answer_edit) == 24, "answer_edit");
_Static_assert(__builtin_offsetof(struct answer_edit, remove) == 0, "answer_edit.remove");
_Static_assert(__builtin_offsetof(struct answer_edit, adds) == 8, "answer_edit.adds");
_Static_assert(__builtin_offsetof(struct answer_edit, n_adds) == 12, "answer_edit.n_adds");
_Static_assert(__builtin_offsetof(struct answer_edit, compressible) == 16, "answer_edit.compressible");
_Static_assert(__builtin_offsetof(struct answer_edit, pad) == 20, "answer_edit.pad");

/* One header of an answer, and what its value is tested for. */
struct look {
  __u32 slot; /* slot of the response scanner */
  __u32 start; /* start row of an automaton */
  __u32 classes; /* its class map */
};
_Static_assert(sizeof(struct look) == 12, "look");
_Static_assert(__builtin_offsetof(struct look, slot) == 0, "look.slot");
_Static_assert(__builtin_offsetof(struct look, start) == 4, "look.start");
_Static_assert(__builtin_offsetof(struct look, classes) == 8, "look.classes");

/* Answers that a compressor could have compressed get a line "vary: Accept-Encoding". */
struct compressible {
  __u64 never; /* slots whose presence tells that it could not */
  __u32 minimum; /* nor if Content-Length is less */
  __u32 looks; /* offset of look[3]: nor if the first is there and not accepted, or the second is accepted. The third is the line itself, in a list: accepted, there is nothing to do; not accepted, only the agent can do it */
  __u32 off; /* offset of the line */
  __u32 len; /* its length */
  __u32 value; /* where the value begins in the line */
  __u32 pad; /* zero */
};
_Static_assert(sizeof(struct compressible) == 32, "compressible");
_Static_assert(__builtin_offsetof(struct compressible, never) == 0, "compressible.never");
_Static_assert(__builtin_offsetof(struct compressible, minimum) == 8, "compressible.minimum");
_Static_assert(__builtin_offsetof(struct compressible, looks) == 12, "compressible.looks");
_Static_assert(__builtin_offsetof(struct compressible, off) == 16, "compressible.off");
_Static_assert(__builtin_offsetof(struct compressible, len) == 20, "compressible.len");
_Static_assert(__builtin_offsetof(struct compressible, value) == 24, "compressible.value");
_Static_assert(__builtin_offsetof(struct compressible, pad) == 28, "compressible.pad");

/* Endpoints and how one of them is chosen. */
struct cluster {
  __u32 lb; /* LB */
  __u32 sets; /* offset of host_sets; the agent changes it where who takes traffic is found out at run time */
  __u32 max_requests; /* requests after which a connection is closed; 0: any number */
  __u32 breaker; /* index plus one of the counter of its requests in flight; 0: they are not limited */
  __u32 connect_ms; /* connections that clients open themselves fail after this time; 0: as the system has it */
  __u32 pad; /* zero */
};
_Static_assert(sizeof(struct cluster) == 24, "cluster");
_Static_assert(__builtin_offsetof(struct cluster, lb) == 0, "cluster.lb");
_Static_assert(__builtin_offsetof(struct cluster, sets) == 4, "cluster.sets");
_Static_assert(__builtin_offsetof(struct cluster, max_requests) == 8, "cluster.max_requests");
_Static_assert(__builtin_offsetof(struct cluster, breaker) == 12, "cluster.breaker");
_Static_assert(__builtin_offsetof(struct cluster, connect_ms) == 16, "cluster.connect_ms");
_Static_assert(__builtin_offsetof(struct cluster, pad) == 20, "cluster.pad");

/* u32 n, then n host_sets; none: the proxy answers. */
struct host_sets {
  __u32 n; /* at most MAX_HOST_SETS */
  __u32 pad; /* zero */
};
_Static_assert(sizeof(struct host_sets) == 8, "host_sets");
_Static_assert(__builtin_offsetof(struct host_sets, n) == 0, "host_sets.n");
_Static_assert(__builtin_offsetof(struct host_sets, pad) == 4, "host_sets.pad");

/* Endpoints of one priority that are equally healthy. */
struct host_set {
  __u32 share; /* percent of the requests; those of all sets are 100 */
  __u32 lists; /* offset of host_list[n_lists], which take turns */
  __u32 n_lists; /* at least 1 */
  __u32 counter; /* index of the counter of these turns */
  __u32 table; /* hash tables: offset of u64[n_table], ascending (RING_HASH) */
  __u32 members; /* hash tables: offset of u16[n_table], indexes of endpoints in the list */
  __u32 n_table; /* at most MAX_TABLE */
  __u32 pad; /* zero */
};
_Static_assert(sizeof(struct host_set) == 32, "host_set");
_Static_assert(__builtin_offsetof(struct host_set, share) == 0, "host_set.share");
_Static_assert(__builtin_offsetof(struct host_set, lists) == 4, "host_set.lists");
_Static_assert(__builtin_offsetof(struct host_set, n_lists) == 8, "host_set.n_lists");
_Static_assert(__builtin_offsetof(struct host_set, counter) == 12, "host_set.counter");
_Static_assert(__builtin_offsetof(struct host_set, table) == 16, "host_set.table");
_Static_assert(__builtin_offsetof(struct host_set, members) == 20, "host_set.members");
_Static_assert(__builtin_offsetof(struct host_set, n_table) == 24, "host_set.n_table");
_Static_assert(__builtin_offsetof(struct host_set, pad) == 28, "host_set.pad");

/* Endpoints among which the policy chooses. */
struct host_list {
  __u32 endpoints; /* offset of an endpoint_list */
  __u32 counter; /* index of the round robin counter */
};
_Static_assert(sizeof(struct host_list) == 8, "host_list");
_Static_assert(__builtin_offsetof(struct host_list, endpoints) == 0, "host_list.endpoints");
_Static_assert(__builtin_offsetof(struct host_list, counter) == 4, "host_list.counter");

/* u32 n, then n endpoint_refs; empty: the proxy answers. */
struct endpoint_list {
  __u32 n; /* number of endpoints */
  __u32 pad; /* zero */
};
_Static_assert(sizeof(struct endpoint_list) == 8, "endpoint_list");
_Static_assert(__builtin_offsetof(struct endpoint_list, n) == 0, "endpoint_list.n");
_Static_assert(__builtin_offsetof(struct endpoint_list, pad) == 4, "endpoint_list.pad");

/* A global endpoint id. */
struct endpoint_ref {
  __u32 id; /* index into the endpoints map */
  __u32 watch; /* index into the detectors map; 0: its failures are not counted */
};
_Static_assert(sizeof(struct endpoint_ref) == 8, "endpoint_ref");
_Static_assert(__builtin_offsetof(struct endpoint_ref, id) == 0, "endpoint_ref.id");
_Static_assert(__builtin_offsetof(struct endpoint_ref, watch) == 4, "endpoint_ref.watch");

/* Per intercepted client socket (socket storage). */
struct conn {
  __u64 cookie; /* of the client socket */
  __u64 passed; /* request bytes that went to the agent */
  __u64 body_left; /* bytes of the current request body still to be sent to `upstream` */
  __u32 listener; /* index */
  __u32 gate; /* bit 0: agent mode; the rest counts messages passed (see ARCHITECTURE.md, "the gate") */
  __u32 requested; /* exchanges begun */
  __u32 done; /* exchanges whose answer is complete */
  __u32 upstream; /* pool slot of the exchange in flight; DIRECT, HEARD: endpoint id */
  __u32 flags; /* CONN_FLAG */
  __u32 native; /* bytes that the agent wrote to the connection so far (modulo 2^32) */
  __u32 base_seq; /* copied_seq at the start */
  __u32 original[4]; /* address asked for, network order; IPv4 in the first word */
  __u32 source[4]; /* own address, network order */
  __u16 original_port; /* host order */
  __u16 family; /* 2 or 10 (as asked for) */
  __u32 served; /* upstream.served when the exchange began */
  __u32 incarnation; /* upstream.incarnation when the exchange began */
  __u32 sent; /* listener intake: bytes that the kernel has redirected to the egress of A (modulo 2^32) */
  __u32 replied; /* replies of the mesh */
  __u32 user_timeout; /* DIRECT: TCP_USER_TIMEOUT that the application has set; HEARD: how long connecting may take (ms) */
};
_Static_assert(sizeof(struct conn) == 112, "conn");
_Static_assert(__builtin_offsetof(struct conn, cookie) == 0, "conn.cookie");
_Static_assert(__builtin_offsetof(struct conn, passed) == 8, "conn.passed");
_Static_assert(__builtin_offsetof(struct conn, body_left) == 16, "conn.body_left");
_Static_assert(__builtin_offsetof(struct conn, listener) == 24, "conn.listener");
_Static_assert(__builtin_offsetof(struct conn, gate) == 28, "conn.gate");
_Static_assert(__builtin_offsetof(struct conn, requested) == 32, "conn.requested");
_Static_assert(__builtin_offsetof(struct conn, done) == 36, "conn.done");
_Static_assert(__builtin_offsetof(struct conn, upstream) == 40, "conn.upstream");
_Static_assert(__builtin_offsetof(struct conn, flags) == 44, "conn.flags");
_Static_assert(__builtin_offsetof(struct conn, native) == 48, "conn.native");
_Static_assert(__builtin_offsetof(struct conn, base_seq) == 52, "conn.base_seq");
_Static_assert(__builtin_offsetof(struct conn, original) == 56, "conn.original");
_Static_assert(__builtin_offsetof(struct conn, source) == 72, "conn.source");
_Static_assert(__builtin_offsetof(struct conn, original_port) == 88, "conn.original_port");
_Static_assert(__builtin_offsetof(struct conn, family) == 90, "conn.family");
_Static_assert(__builtin_offsetof(struct conn, served) == 92, "conn.served");
_Static_assert(__builtin_offsetof(struct conn, incarnation) == 96, "conn.incarnation");
_Static_assert(__builtin_offsetof(struct conn, sent) == 100, "conn.sent");
_Static_assert(__builtin_offsetof(struct conn, replied) == 104, "conn.replied");
_Static_assert(__builtin_offsetof(struct conn, user_timeout) == 108, "conn.user_timeout");

/* Per pool slot. */
struct upstream {
  __u64 owner; /* cookie of the client socket in an exchange, 0: none */
  __u64 started; /* bpf_ktime_get_ns when the request, or its last piece so far, was sent */
  __u64 remaining; /* bytes to come of the body or chunk */
  __u64 redirected; /* bytes of this answer sent to the client by the kernel */
  __u32 exchange; /* conn.requested of the exchange */
  __u32 endpoint; /* endpoint id; written by the agent */
  __u32 timeout_ms; /* of this exchange, from the end of the request on; 0: none */
  __u32 rule; /* of this exchange */
  __u32 phase; /* PHASE */
  __u32 flags; /* UPSTREAM_FLAG */
  __u32 chunk_state; /* CHUNK */
  __u32 listener; /* of this exchange */
  __u32 replay_len; /* bytes of the request kept in the replay map; 0: none */
  __u32 incarnation; /* counts the connections that had this slot; written by the agent */
  __u32 dead; /* 1: the connection left ESTABLISHED */
  __u32 served; /* answers after which the connection was kept */
  __u32 per_try_ms; /* of this exchange, until the head of the answer; 0: none */
  __u32 backoff_ms; /* of this exchange: the first retry waits a random time shorter than this */
  __u32 choice; /* index of the cluster among those of the action */
  __u32 edits; /* of this exchange: number of the edits of its answer, 0: none */
  __u64 retry[7]; /* bitmap of the statuses from 200 on that are retried */
  __u64 server; /* cookie of the server's end where it is on this node and paired, else 0 */
  __u64 server_sk; /* address of the server's socket */
  __u64 client_sk; /* address of the client's socket of this exchange */
  __u64 answered; /* bpf_ktime_get_ns when the last message of an answer left the server directly, or anything the dummy */
  __u32 way; /* WAY */
  __u32 behind; /* slot + 1 of an exchange whose answer must have arrived before this one; 0: none */
  __u32 behind_served; /* conn.served of that exchange */
  __u32 behind_incarnation; /* conn.incarnation of that exchange */
  __u32 intake; /* INTAKE, of this exchange */
  __u32 dummy; /* 1: the slot has a dummy socket; written by the agent; 2: it is broken; written by the programs */
  __u32 given; /* bytes of this exchange that were sent to the dummy: of the request, then of the answer */
  __u32 taken; /* bytes of this exchange that the dummy has sent on */
  __u64 sk; /* address of the socket U, once an answer was complete there */
  __u32 seq; /* write_seq of U when no exchange was under way */
  __u32 end_seq; /* listener intake: write_seq of U behind all of this request */
  __u64 body; /* bytes of the body of this answer, without framing, that the kernel has sent to the client */
  __u32 log; /* of this exchange: LOG of its listener */
  __u32 idle_ms; /* of this exchange: for which nothing may move; 0: none */
  __u32 watch; /* of this exchange: index into the detectors map, 0: none */
  __u32 counted; /* 1: the status of the answer was counted there */
  __u32 breaker; /* index plus one of the breaker that counts this exchange; 0: none */
  __u32 dummy_served; /* `served` when the last answer went through the dummy */
  __u64 dummy_sk; /* address of the dummy's socket, 0: no answer has gone through it */
  __u64 dummy_cookie; /* its cookie; written by the agent */
  __u64 dummy_owner; /* cookie of the client whose bytes went through it last */
};
_Static_assert(sizeof(struct upstream) == 288, "upstream");
_Static_assert(__builtin_offsetof(struct upstream, owner) == 0, "upstream.owner");
_Static_assert(__builtin_offsetof(struct upstream, started) == 8, "upstream.started");
_Static_assert(__builtin_offsetof(struct upstream, remaining) == 16, "upstream.remaining");
_Static_assert(__builtin_offsetof(struct upstream, redirected) == 24, "upstream.redirected");
_Static_assert(__builtin_offsetof(struct upstream, exchange) == 32, "upstream.exchange");
_Static_assert(__builtin_offsetof(struct upstream, endpoint) == 36, "upstream.endpoint");
_Static_assert(__builtin_offsetof(struct upstream, timeout_ms) == 40, "upstream.timeout_ms");
_Static_assert(__builtin_offsetof(struct upstream, rule) == 44, "upstream.rule");
_Static_assert(__builtin_offsetof(struct upstream, phase) == 48, "upstream.phase");
_Static_assert(__builtin_offsetof(struct upstream, flags) == 52, "upstream.flags");
_Static_assert(__builtin_offsetof(struct upstream, chunk_state) == 56, "upstream.chunk_state");
_Static_assert(__builtin_offsetof(struct upstream, listener) == 60, "upstream.listener");
_Static_assert(__builtin_offsetof(struct upstream, replay_len) == 64, "upstream.replay_len");
_Static_assert(__builtin_offsetof(struct upstream, incarnation) == 68, "upstream.incarnation");
_Static_assert(__builtin_offsetof(struct upstream, dead) == 72, "upstream.dead");
_Static_assert(__builtin_offsetof(struct upstream, served) == 76, "upstream.served");
_Static_assert(__builtin_offsetof(struct upstream, per_try_ms) == 80, "upstream.per_try_ms");
_Static_assert(__builtin_offsetof(struct upstream, backoff_ms) == 84, "upstream.backoff_ms");
_Static_assert(__builtin_offsetof(struct upstream, choice) == 88, "upstream.choice");
_Static_assert(__builtin_offsetof(struct upstream, edits) == 92, "upstream.edits");
_Static_assert(__builtin_offsetof(struct upstream, retry) == 96, "upstream.retry");
_Static_assert(__builtin_offsetof(struct upstream, server) == 152, "upstream.server");
_Static_assert(__builtin_offsetof(struct upstream, server_sk) == 160, "upstream.server_sk");
_Static_assert(__builtin_offsetof(struct upstream, client_sk) == 168, "upstream.client_sk");
_Static_assert(__builtin_offsetof(struct upstream, answered) == 176, "upstream.answered");
_Static_assert(__builtin_offsetof(struct upstream, way) == 184, "upstream.way");
_Static_assert(__builtin_offsetof(struct upstream, behind) == 188, "upstream.behind");
_Static_assert(__builtin_offsetof(struct upstream, behind_served) == 192, "upstream.behind_served");
_Static_assert(__builtin_offsetof(struct upstream, behind_incarnation) == 196, "upstream.behind_incarnation");
_Static_assert(__builtin_offsetof(struct upstream, intake) == 200, "upstream.intake");
_Static_assert(__builtin_offsetof(struct upstream, dummy) == 204, "upstream.dummy");
_Static_assert(__builtin_offsetof(struct upstream, given) == 208, "upstream.given");
_Static_assert(__builtin_offsetof(struct upstream, taken) == 212, "upstream.taken");
_Static_assert(__builtin_offsetof(struct upstream, sk) == 216, "upstream.sk");
_Static_assert(__builtin_offsetof(struct upstream, seq) == 224, "upstream.seq");
_Static_assert(__builtin_offsetof(struct upstream, end_seq) == 228, "upstream.end_seq");
_Static_assert(__builtin_offsetof(struct upstream, body) == 232, "upstream.body");
_Static_assert(__builtin_offsetof(struct upstream, log) == 240, "upstream.log");
_Static_assert(__builtin_offsetof(struct upstream, idle_ms) == 244, "upstream.idle_ms");
_Static_assert(__builtin_offsetof(struct upstream, watch) == 248, "upstream.watch");
_Static_assert(__builtin_offsetof(struct upstream, counted) == 252, "upstream.counted");
_Static_assert(__builtin_offsetof(struct upstream, breaker) == 256, "upstream.breaker");
_Static_assert(__builtin_offsetof(struct upstream, dummy_served) == 260, "upstream.dummy_served");
_Static_assert(__builtin_offsetof(struct upstream, dummy_sk) == 264, "upstream.dummy_sk");
_Static_assert(__builtin_offsetof(struct upstream, dummy_cookie) == 272, "upstream.dummy_cookie");
_Static_assert(__builtin_offsetof(struct upstream, dummy_owner) == 280, "upstream.dummy_owner");

/* Per pool slot: what the edits of the answer need of the request. */
struct variables {
  __u32 ends[4]; /* where each variable ends in `bytes`; it begins where the one before ends */
  __u8 bytes[496]; /* their values */
};
_Static_assert(sizeof(struct variables) == 512, "variables");
_Static_assert(__builtin_offsetof(struct variables, ends) == 0, "variables.ends");
_Static_assert(__builtin_offsetof(struct variables, bytes) == 16, "variables.bytes");

/* Per endpoint id. */
struct endpoint {
  __u32 n_blocks; /* blocks in use; written by the agent */
  __u32 active; /* exchanges in flight (least request) */
  __u32 wanted; /* times that no idle connection was found */
  __u32 flags; /* ENDPOINT_FLAG; written by the agent */
  __u32 source[4]; /* own address of the connections to a proxy, zero for servers; written by the agent */
  __u16 blocks[16]; /* block numbers */
};
_Static_assert(sizeof(struct endpoint) == 64, "endpoint");
_Static_assert(__builtin_offsetof(struct endpoint, n_blocks) == 0, "endpoint.n_blocks");
_Static_assert(__builtin_offsetof(struct endpoint, active) == 4, "endpoint.active");
_Static_assert(__builtin_offsetof(struct endpoint, wanted) == 8, "endpoint.wanted");
_Static_assert(__builtin_offsetof(struct endpoint, flags) == 12, "endpoint.flags");
_Static_assert(__builtin_offsetof(struct endpoint, source) == 16, "endpoint.source");
_Static_assert(__builtin_offsetof(struct endpoint, blocks) == 32, "endpoint.blocks");

/* Per paired server's socket (socket storage). */
struct serving {
  __u64 cookie; /* its own */
  __u32 slot; /* the pool slot at its other end */
  __u32 pad; /* zero */
};
_Static_assert(sizeof(struct serving) == 16, "serving");
_Static_assert(__builtin_offsetof(struct serving, cookie) == 0, "serving.cookie");
_Static_assert(__builtin_offsetof(struct serving, slot) == 8, "serving.slot");
_Static_assert(__builtin_offsetof(struct serving, pad) == 12, "serving.pad");

/* What an end of a connection that was decided by its first message leads to. */
struct joint {
  __u64 other; /* cookie of the other end: of the client’s socket, or of the agent’s to the server */
  __u64 other_sk; /* its address */
  __u32 passing; /* 1: the agent carries what comes from the server; written by the programs */
  __u32 pad; /* zero */
};
_Static_assert(sizeof(struct joint) == 24, "joint");
_Static_assert(__builtin_offsetof(struct joint, other) == 0, "joint.other");
_Static_assert(__builtin_offsetof(struct joint, other_sk) == 8, "joint.other_sk");
_Static_assert(__builtin_offsetof(struct joint, passing) == 16, "joint.passing");
_Static_assert(__builtin_offsetof(struct joint, pad) == 20, "joint.pad");

/* Argument and answer of the control program. */
struct ctl {
  __u32 command; /* CTL */
  __u32 result; /* answer: 1 done or found, 0 not */
  __u64 cookie; /* client socket */
  __u64 arg; /* see CTL */
  __u32 native; /* see CTL */
  __u32 slot; /* upstream slot */
  __u32 queued; /* answer: QUEUED */
  __u32 unread; /* answer: bytes of the native queue that the client has not read */
  __u32 gate; /* answer */
  __u32 requested; /* answer */
  __u32 done; /* answer */
  __u32 upstream; /* answer */
  __u64 passed; /* answer */
  __u64 body_left; /* answer */
  __u32 listener; /* answer */
  __u32 flags; /* answer: CONN_FLAG */
  __u32 replied; /* answer */
  __u32 connect_ms; /* answer: conn.user_timeout */
};
_Static_assert(sizeof(struct ctl) == 88, "ctl");
_Static_assert(__builtin_offsetof(struct ctl, command) == 0, "ctl.command");
_Static_assert(__builtin_offsetof(struct ctl, result) == 4, "ctl.result");
_Static_assert(__builtin_offsetof(struct ctl, cookie) == 8, "ctl.cookie");
_Static_assert(__builtin_offsetof(struct ctl, arg) == 16, "ctl.arg");
_Static_assert(__builtin_offsetof(struct ctl, native) == 24, "ctl.native");
_Static_assert(__builtin_offsetof(struct ctl, slot) == 28, "ctl.slot");
_Static_assert(__builtin_offsetof(struct ctl, queued) == 32, "ctl.queued");
_Static_assert(__builtin_offsetof(struct ctl, unread) == 36, "ctl.unread");
_Static_assert(__builtin_offsetof(struct ctl, gate) == 40, "ctl.gate");
_Static_assert(__builtin_offsetof(struct ctl, requested) == 44, "ctl.requested");
_Static_assert(__builtin_offsetof(struct ctl, done) == 48, "ctl.done");
_Static_assert(__builtin_offsetof(struct ctl, upstream) == 52, "ctl.upstream");
_Static_assert(__builtin_offsetof(struct ctl, passed) == 56, "ctl.passed");
_Static_assert(__builtin_offsetof(struct ctl, body_left) == 64, "ctl.body_left");
_Static_assert(__builtin_offsetof(struct ctl, listener) == 72, "ctl.listener");
_Static_assert(__builtin_offsetof(struct ctl, flags) == 76, "ctl.flags");
_Static_assert(__builtin_offsetof(struct ctl, replied) == 80, "ctl.replied");
_Static_assert(__builtin_offsetof(struct ctl, connect_ms) == 84, "ctl.connect_ms");

/* An address that is intercepted. */
struct steer_key {
  __u64 netns; /* cookie of the network namespace in which it is meant; 0: in all but the agent’s */
  __u32 address[4]; /* network order; IPv4 in the first word */
  __u16 port; /* network order */
  __u16 family; /* 2 or 10 */
  __u32 pad; /* zero */
};
_Static_assert(sizeof(struct steer_key) == 32, "steer_key");
_Static_assert(__builtin_offsetof(struct steer_key, netns) == 0, "steer_key.netns");
_Static_assert(__builtin_offsetof(struct steer_key, address) == 8, "steer_key.address");
_Static_assert(__builtin_offsetof(struct steer_key, port) == 24, "steer_key.port");
_Static_assert(__builtin_offsetof(struct steer_key, family) == 26, "steer_key.family");
_Static_assert(__builtin_offsetof(struct steer_key, pad) == 28, "steer_key.pad");

/* Where the agent listens in another network namespace; port 0: not there. */
struct netns {
  __u32 address6[4]; /* network order */
  __u32 address4; /* network order */
  __u16 port4; /* network order */
  __u16 port6; /* network order */
};
_Static_assert(sizeof(struct netns) == 24, "netns");
_Static_assert(__builtin_offsetof(struct netns, address6) == 0, "netns.address6");
_Static_assert(__builtin_offsetof(struct netns, address4) == 16, "netns.address4");
_Static_assert(__builtin_offsetof(struct netns, port4) == 20, "netns.port4");
_Static_assert(__builtin_offsetof(struct netns, port6) == 22, "netns.port6");

/* A client socket and what it asked for. */
struct arrival {
  __u64 cookie; /* 0 with listener intake */
  __u32 address[4]; /* asked for, network order */
  __u32 listener; /* index */
  __u16 port; /* asked for, host order */
  __u16 family; /* of the address asked for, 2 or 10 */
};
_Static_assert(sizeof(struct arrival) == 32, "arrival");
_Static_assert(__builtin_offsetof(struct arrival, cookie) == 0, "arrival.cookie");
_Static_assert(__builtin_offsetof(struct arrival, address) == 8, "arrival.address");
_Static_assert(__builtin_offsetof(struct arrival, listener) == 24, "arrival.listener");
_Static_assert(__builtin_offsetof(struct arrival, port) == 28, "arrival.port");
_Static_assert(__builtin_offsetof(struct arrival, family) == 30, "arrival.family");

/* Where connections to an intercepted address go. */
struct steer {
  __u32 address[4]; /* network order */
  __u16 port; /* network order */
  __u16 keep_address; /* 1: only the port is replaced */
  __u32 listener; /* index */
  __u32 intake; /* INTAKE: SOCKET or LISTENER */
  __u32 refuse; /* 1: nowhere; the connection is refused */
  __u32 direct; /* 1: to an endpoint of the listener’s route for connections */
  __u32 hello; /* 1: to an endpoint that the connection’s first message says */
};
_Static_assert(sizeof(struct steer) == 40, "steer");
_Static_assert(__builtin_offsetof(struct steer, address) == 0, "steer.address");
_Static_assert(__builtin_offsetof(struct steer, port) == 16, "steer.port");
_Static_assert(__builtin_offsetof(struct steer, keep_address) == 18, "steer.keep_address");
_Static_assert(__builtin_offsetof(struct steer, listener) == 20, "steer.listener");
_Static_assert(__builtin_offsetof(struct steer, intake) == 24, "steer.intake");
_Static_assert(__builtin_offsetof(struct steer, refuse) == 28, "steer.refuse");
_Static_assert(__builtin_offsetof(struct steer, direct) == 32, "steer.direct");
_Static_assert(__builtin_offsetof(struct steer, hello) == 36, "steer.hello");

/* Where an endpoint is, by endpoint id; family 0: a name, or nobody. */
struct place {
  __u32 address[4]; /* network order */
  __u16 port; /* network order */
  __u16 family; /* 2 or 10 */
};
_Static_assert(sizeof(struct place) == 20, "place");
_Static_assert(__builtin_offsetof(struct place, address) == 0, "place.address");
_Static_assert(__builtin_offsetof(struct place, port) == 16, "place.port");
_Static_assert(__builtin_offsetof(struct place, family) == 18, "place.family");

/* Local end of a client socket. */
struct tuple {
  __u64 netns; /* cookie of its network namespace */
  __u32 address[4]; /* network order */
  __u32 port; /* host order */
  __u32 pad; /* zero */
};
_Static_assert(sizeof(struct tuple) == 32, "tuple");
_Static_assert(__builtin_offsetof(struct tuple, netns) == 0, "tuple.netns");
_Static_assert(__builtin_offsetof(struct tuple, address) == 8, "tuple.address");
_Static_assert(__builtin_offsetof(struct tuple, port) == 24, "tuple.port");
_Static_assert(__builtin_offsetof(struct tuple, pad) == 28, "tuple.pad");

/* Requests in flight of a cluster whose number is limited. */
struct breaker {
  __u32 active; /* those of the kernel and those of the proxy */
  __u32 most; /* max_requests, or max_connections; written by the agent */
  __u32 waiting; /* requests that the agent holds until there is a place, which is theirs; written by the agent */
  __u32 pad; /* zero */
};
_Static_assert(sizeof(struct breaker) == 16, "breaker");
_Static_assert(__builtin_offsetof(struct breaker, active) == 0, "breaker.active");
_Static_assert(__builtin_offsetof(struct breaker, most) == 4, "breaker.most");
_Static_assert(__builtin_offsetof(struct breaker, waiting) == 8, "breaker.waiting");
_Static_assert(__builtin_offsetof(struct breaker, pad) == 12, "breaker.pad");

/* Tokens of a rate limit; times in 1/16 ns of bpf_ktime_get_ns. */
struct bucket {
  __u64 at; /* signed: when the bucket was empty */
  __u64 cost; /* time in which one token comes; 0: no bucket here */
  __u64 most; /* time in which the bucket fills */
};
_Static_assert(sizeof(struct bucket) == 24, "bucket");
_Static_assert(__builtin_offsetof(struct bucket, at) == 0, "bucket.at");
_Static_assert(__builtin_offsetof(struct bucket, cost) == 8, "bucket.cost");
_Static_assert(__builtin_offsetof(struct bucket, most) == 16, "bucket.most");

/* What was counted of one endpoint of one cluster (outlier detection). */
struct detector {
  __u32 failures; /* 5xx in a row */
  __u32 gateway; /* 502, 503 and 504 in a row */
  __u32 limit; /* failures that eject, 0: none; written by the agent */
  __u32 gateway_limit; /* likewise */
  __u32 tripped; /* TRIPPED; in element 0: how often one was */
  __u32 pad; /* zero */
};
_Static_assert(sizeof(struct detector) == 24, "detector");
_Static_assert(__builtin_offsetof(struct detector, failures) == 0, "detector.failures");
_Static_assert(__builtin_offsetof(struct detector, gateway) == 4, "detector.gateway");
_Static_assert(__builtin_offsetof(struct detector, limit) == 8, "detector.limit");
_Static_assert(__builtin_offsetof(struct detector, gateway_limit) == 12, "detector.gateway_limit");
_Static_assert(__builtin_offsetof(struct detector, tripped) == 16, "detector.tripped");
_Static_assert(__builtin_offsetof(struct detector, pad) == 20, "detector.pad");

/* A decision: what the automata said of a path and a host. Written by the programs alone. */
struct decision {
  __u32 version; /* odd while somebody writes */
  __u32 generation; /* the image's; 0: none yet */
  __u32 host_rows; /* start row of the automaton over hosts, which with its class map decides what comes of the text */
  __u32 host_classes; /* the class map */
  __u16 path_len; /* bytes */
  __u16 host_len; /* bytes */
  __u32 asked; /* of the last text that was not found here: the rest of its hash */
  __u32 virtual_host; /* offset */
  __u32 list; /* offset of the candidate list; 0: no route */
  __u64 words[12]; /* the path, its first byte lowest, then zeros; from DECISION_PATH on the host, too */
};
_Static_assert(sizeof(struct decision) == 128, "decision");
_Static_assert(__builtin_offsetof(struct decision, version) == 0, "decision.version");
_Static_assert(__builtin_offsetof(struct decision, generation) == 4, "decision.generation");
_Static_assert(__builtin_offsetof(struct decision, host_rows) == 8, "decision.host_rows");
_Static_assert(__builtin_offsetof(struct decision, host_classes) == 12, "decision.host_classes");
_Static_assert(__builtin_offsetof(struct decision, path_len) == 16, "decision.path_len");
_Static_assert(__builtin_offsetof(struct decision, host_len) == 18, "decision.host_len");
_Static_assert(__builtin_offsetof(struct decision, asked) == 20, "decision.asked");
_Static_assert(__builtin_offsetof(struct decision, virtual_host) == 24, "decision.virtual_host");
_Static_assert(__builtin_offsetof(struct decision, list) == 28, "decision.list");
_Static_assert(__builtin_offsetof(struct decision, words) == 32, "decision.words");

/* A verified token. */
struct token {
  __u32 serial; /* even: whole */
  __u32 generation; /* of the image whose questions the facts answer; 0: empty */
  __u32 listener; /* index */
  __u32 place; /* which of the listener’s places for tokens */
  __u64 hash; /* of the value */
  __u64 until; /* bpf_ktime_get_boot_ns from which on it is not known any more */
  __u64 used; /* bpf_ktime_get_boot_ns of the last use; written by the programs */
  __u64 facts[2]; /* TOKEN_WORDS words */
  __u32 length; /* bytes of the value */
  __u32 n_lines; /* bytes of `lines` */
  __u8 bytes[2048]; /* the value; zeros behind it */
  __u8 lines[1024]; /* MAX_TOKEN_LINES bytes: header lines that come with the token */
};
_Static_assert(sizeof(struct token) == 3136, "token");
_Static_assert(__builtin_offsetof(struct token, serial) == 0, "token.serial");
_Static_assert(__builtin_offsetof(struct token, generation) == 4, "token.generation");
_Static_assert(__builtin_offsetof(struct token, listener) == 8, "token.listener");
_Static_assert(__builtin_offsetof(struct token, place) == 12, "token.place");
_Static_assert(__builtin_offsetof(struct token, hash) == 16, "token.hash");
_Static_assert(__builtin_offsetof(struct token, until) == 24, "token.until");
_Static_assert(__builtin_offsetof(struct token, used) == 32, "token.used");
_Static_assert(__builtin_offsetof(struct token, facts) == 40, "token.facts");
_Static_assert(__builtin_offsetof(struct token, length) == 56, "token.length");
_Static_assert(__builtin_offsetof(struct token, n_lines) == 60, "token.n_lines");
_Static_assert(__builtin_offsetof(struct token, bytes) == 64, "token.bytes");
_Static_assert(__builtin_offsetof(struct token, lines) == 2112, "token.lines");

/* A record of the ring buffer of requests that are logged. */
struct log_record {
  __u32 kind; /* bits of LOG_RECORD */
  __u32 listener; /* index */
  __u64 cookie; /* of the client socket; of a stream, of the agent’s end */
  __u64 time; /* when */
  __u64 received; /* BEGIN: bytes of the body that the request announces; END of a stream: that have come; ANSWER of one: when the request was complete, 0: it is not */
  __u64 body; /* END, REPLY: bytes of the answer’s body, without framing */
  __u32 slot; /* pool slot; REPLY: none; of a stream, its number */
  __u32 generation; /* BEGIN, REPLY: of the image */
  __u32 rule; /* BEGIN, REPLY: index of the rule plus one, 0: none */
  __u32 choice; /* BEGIN: index of the cluster among those of the action */
  __u32 endpoint; /* BEGIN: id; of a stream, the index of the connection to its server */
  __u32 status; /* ANSWER, REPLY */
  __u32 source[4]; /* BEGIN, REPLY: the client's address, network order; IPv4 in the first word */
  __u32 original[4]; /* BEGIN, REPLY: the address that it asked for */
  __u32 source_port; /* host order */
  __u32 original_port; /* host order */
  __u32 origin; /* REPLY: ORIGIN */
  __u32 request_len; /* bytes of the request's head that follow */
  __u32 answer_len; /* bytes of the answer's head that follow */
  __u32 pad; /* zero */
  __u64 parent[2]; /* BEGIN, where requests are traced by OpenTelemetry: digits of the id of the span before, 0: there is none */
};
_Static_assert(sizeof(struct log_record) == 136, "log_record");
_Static_assert(__builtin_offsetof(struct log_record, kind) == 0, "log_record.kind");
_Static_assert(__builtin_offsetof(struct log_record, listener) == 4, "log_record.listener");
_Static_assert(__builtin_offsetof(struct log_record, cookie) == 8, "log_record.cookie");
_Static_assert(__builtin_offsetof(struct log_record, time) == 16, "log_record.time");
_Static_assert(__builtin_offsetof(struct log_record, received) == 24, "log_record.received");
_Static_assert(__builtin_offsetof(struct log_record, body) == 32, "log_record.body");
_Static_assert(__builtin_offsetof(struct log_record, slot) == 40, "log_record.slot");
_Static_assert(__builtin_offsetof(struct log_record, generation) == 44, "log_record.generation");
_Static_assert(__builtin_offsetof(struct log_record, rule) == 48, "log_record.rule");
_Static_assert(__builtin_offsetof(struct log_record, choice) == 52, "log_record.choice");
_Static_assert(__builtin_offsetof(struct log_record, endpoint) == 56, "log_record.endpoint");
_Static_assert(__builtin_offsetof(struct log_record, status) == 60, "log_record.status");
_Static_assert(__builtin_offsetof(struct log_record, source) == 64, "log_record.source");
_Static_assert(__builtin_offsetof(struct log_record, original) == 80, "log_record.original");
_Static_assert(__builtin_offsetof(struct log_record, source_port) == 96, "log_record.source_port");
_Static_assert(__builtin_offsetof(struct log_record, original_port) == 100, "log_record.original_port");
_Static_assert(__builtin_offsetof(struct log_record, origin) == 104, "log_record.origin");
_Static_assert(__builtin_offsetof(struct log_record, request_len) == 108, "log_record.request_len");
_Static_assert(__builtin_offsetof(struct log_record, answer_len) == 112, "log_record.answer_len");
_Static_assert(__builtin_offsetof(struct log_record, pad) == 116, "log_record.pad");
_Static_assert(__builtin_offsetof(struct log_record, parent) == 120, "log_record.parent");

/* A request that is to be mirrored: its head follows, then its body. */
struct mirrored {
  __u64 key; /* mirror.key */
  __u32 head_len; /* bytes */
  __u32 body_len; /* bytes */
};
_Static_assert(sizeof(struct mirrored) == 16, "mirrored");
_Static_assert(__builtin_offsetof(struct mirrored, key) == 0, "mirrored.key");
_Static_assert(__builtin_offsetof(struct mirrored, head_len) == 8, "mirrored.head_len");
_Static_assert(__builtin_offsetof(struct mirrored, body_len) == 12, "mirrored.body_len");

/* An end of the agent’s. */
struct h2_end {
  __u64 granted; /* bytes of DATA that the peer has allowed so far; written by the agent */
  __u64 used; /* of these, sent */
  __u64 came; /* bytes of DATA of the peer that the kernel has sent on */
  __u64 client; /* cookie of the client’s connection */
  __u64 cookie; /* its own cookie */
  __u32 id; /* its own index */
  __u32 client_id; /* index of the client’s connection */
  __u32 listener; /* index; of a client’s */
  __u32 open; /* 1: the kernel may begin streams here */
  __u32 last_stream; /* of a client’s: the last one that it began */
  __u32 door_left; /* of a server’s: bytes of a frame that its dummy has still to pass on */
  __u32 source[4]; /* of a client’s: its address */
  __u8 head[32]; /* of a server’s: the beginning of a frame’s header, when its dummy got it in pieces */
  __u32 head_len; /* bytes of that */
  __u32 busy; /* of a client’s: a program is at a frame of a stream that may be tried again */
  __u64 passed; /* of a server’s: bytes of DATA that its dummy has passed on */
  __u32 streams; /* of a server’s: streams that it may take to be under way */
  __u32 max_streams; /* of a server’s: how many it allows */
};
_Static_assert(sizeof(struct h2_end) == 136, "h2_end");
_Static_assert(__builtin_offsetof(struct h2_end, granted) == 0, "h2_end.granted");
_Static_assert(__builtin_offsetof(struct h2_end, used) == 8, "h2_end.used");
_Static_assert(__builtin_offsetof(struct h2_end, came) == 16, "h2_end.came");
_Static_assert(__builtin_offsetof(struct h2_end, client) == 24, "h2_end.client");
_Static_assert(__builtin_offsetof(struct h2_end, cookie) == 32, "h2_end.cookie");
_Static_assert(__builtin_offsetof(struct h2_end, id) == 40, "h2_end.id");
_Static_assert(__builtin_offsetof(struct h2_end, client_id) == 44, "h2_end.client_id");
_Static_assert(__builtin_offsetof(struct h2_end, listener) == 48, "h2_end.listener");
_Static_assert(__builtin_offsetof(struct h2_end, open) == 52, "h2_end.open");
_Static_assert(__builtin_offsetof(struct h2_end, last_stream) == 56, "h2_end.last_stream");
_Static_assert(__builtin_offsetof(struct h2_end, door_left) == 60, "h2_end.door_left");
_Static_assert(__builtin_offsetof(struct h2_end, source) == 64, "h2_end.source");
_Static_assert(__builtin_offsetof(struct h2_end, head) == 80, "h2_end.head");
_Static_assert(__builtin_offsetof(struct h2_end, head_len) == 112, "h2_end.head_len");
_Static_assert(__builtin_offsetof(struct h2_end, busy) == 116, "h2_end.busy");
_Static_assert(__builtin_offsetof(struct h2_end, passed) == 120, "h2_end.passed");
_Static_assert(__builtin_offsetof(struct h2_end, streams) == 128, "h2_end.streams");
_Static_assert(__builtin_offsetof(struct h2_end, max_streams) == 132, "h2_end.max_streams");

/* A stream that the kernel has decided. */
struct h2_stream {
  __u64 upstream; /* cookie of the connection to its server */
  __u32 id; /* index of that */
  __u32 flags; /* H2_STREAM */
  __u32 sent; /* bytes of the request’s body */
  __u32 client_room; /* while it may be tried again: what the client, and the server, have allowed by WINDOW_UPDATE */
  __u32 server_room; /*  */
  __u32 log; /* LOG of its listener */
  __u64 latest; /* when it is over at the latest, in ns of CLOCK_MONOTONIC; 0: never */
  __u64 whole_by; /* when the answer must be complete; 0: the request has not ended, or never */
  __u64 active; /* when something came last */
  __u32 whole_ms; /* from the request’s end until the complete answer; 0: no limit */
  __u32 idle_ms; /* how long nothing may come; 0: no limit */
  __u64 received; /* of what is logged: bytes of the request’s body that the kernel has sent on */
  __u64 body; /* the same of the answer’s */
  __u32 edits; /* number of the edits of its answer; 0: none */
  __u32 lent; /* of these answers: bit 0: the agent has the server’s side; the rest counts frames that it was given */
  __u64 try_by; /* when the head of the answer must have come; 0: the request has not ended, or never */
  __u32 try_ms; /* from the request’s end until then; 0: no limit */
  __u32 pad; /*  */
  __u64 complete; /* when the kernel saw the request’s end; 0: it has not */
};
_Static_assert(sizeof(struct h2_stream) == 112, "h2_stream");
_Static_assert(__builtin_offsetof(struct h2_stream, upstream) == 0, "h2_stream.upstream");
_Static_assert(__builtin_offsetof(struct h2_stream, id) == 8, "h2_stream.id");
_Static_assert(__builtin_offsetof(struct h2_stream, flags) == 12, "h2_stream.flags");
_Static_assert(__builtin_offsetof(struct h2_stream, sent) == 16, "h2_stream.sent");
_Static_assert(__builtin_offsetof(struct h2_stream, client_room) == 20, "h2_stream.client_room");
_Static_assert(__builtin_offsetof(struct h2_stream, server_room) == 24, "h2_stream.server_room");
_Static_assert(__builtin_offsetof(struct h2_stream, log) == 28, "h2_stream.log");
_Static_assert(__builtin_offsetof(struct h2_stream, latest) == 32, "h2_stream.latest");
_Static_assert(__builtin_offsetof(struct h2_stream, whole_by) == 40, "h2_stream.whole_by");
_Static_assert(__builtin_offsetof(struct h2_stream, active) == 48, "h2_stream.active");
_Static_assert(__builtin_offsetof(struct h2_stream, whole_ms) == 56, "h2_stream.whole_ms");
_Static_assert(__builtin_offsetof(struct h2_stream, idle_ms) == 60, "h2_stream.idle_ms");
_Static_assert(__builtin_offsetof(struct h2_stream, received) == 64, "h2_stream.received");
_Static_assert(__builtin_offsetof(struct h2_stream, body) == 72, "h2_stream.body");
_Static_assert(__builtin_offsetof(struct h2_stream, edits) == 80, "h2_stream.edits");
_Static_assert(__builtin_offsetof(struct h2_stream, lent) == 84, "h2_stream.lent");
_Static_assert(__builtin_offsetof(struct h2_stream, try_by) == 88, "h2_stream.try_by");
_Static_assert(__builtin_offsetof(struct h2_stream, try_ms) == 96, "h2_stream.try_ms");
_Static_assert(__builtin_offsetof(struct h2_stream, pad) == 100, "h2_stream.pad");
_Static_assert(__builtin_offsetof(struct h2_stream, complete) == 104, "h2_stream.complete");

/* When the agent has to look at deadlines. */
struct h2_clock {
  __u64 next; /* no stream’s time is over before; 0: none has a deadline */
};
_Static_assert(sizeof(struct h2_clock) == 8, "h2_clock");
_Static_assert(__builtin_offsetof(struct h2_clock, next) == 0, "h2_clock.next");

/* A stream whose time is over. */
struct h2_due {
  __u32 why; /* H2_DUE */
  __u32 flags; /* H2_STREAM, before the agent took it over */
};
_Static_assert(sizeof(struct h2_due) == 8, "h2_due");
_Static_assert(__builtin_offsetof(struct h2_due, why) == 0, "h2_due.why");
_Static_assert(__builtin_offsetof(struct h2_due, flags) == 4, "h2_due.flags");

/* A stream that may be tried again, until it is answered. */
struct h2_kept {
  __u64 retry[7]; /* statuses that are retried */
  __u32 streams; /* RETRY_STREAMS */
  __u32 resets; /* 1: so are resets */
  __u32 left; /* retries after the first */
  __u32 backoff_ms; /* the first one waits a random time shorter than this */
  __u32 choice; /* which of the clusters with a weight it was */
  __u32 len; /* bytes that are kept */
  __u8 bytes[3840]; /* the client’s frames as they came */
};
_Static_assert(sizeof(struct h2_kept) == 3920, "h2_kept");
_Static_assert(__builtin_offsetof(struct h2_kept, retry) == 0, "h2_kept.retry");
_Static_assert(__builtin_offsetof(struct h2_kept, streams) == 56, "h2_kept.streams");
_Static_assert(__builtin_offsetof(struct h2_kept, resets) == 60, "h2_kept.resets");
_Static_assert(__builtin_offsetof(struct h2_kept, left) == 64, "h2_kept.left");
_Static_assert(__builtin_offsetof(struct h2_kept, backoff_ms) == 68, "h2_kept.backoff_ms");
_Static_assert(__builtin_offsetof(struct h2_kept, choice) == 72, "h2_kept.choice");
_Static_assert(__builtin_offsetof(struct h2_kept, len) == 76, "h2_kept.len");
_Static_assert(__builtin_offsetof(struct h2_kept, bytes) == 80, "h2_kept.bytes");

/* What the mesh itself answers on a stream, as HTTP/1.1 would have it. */
struct h2_reply {
  __u64 cookie; /* of the client’s connection */
  __u32 flags; /* H2_STREAM: GRPC, HEAD */
  __u32 len; /* bytes of the head and the body */
  __u32 origin; /* ORIGIN */
  __u32 rule; /* index of the rule plus one; 0: none */
  __u32 generation; /* of the image */
  __u32 log; /* LOG of the listener */
  __u8 bytes[4080]; /* these */
};
_Static_assert(sizeof(struct h2_reply) == 4112, "h2_reply");
_Static_assert(__builtin_offsetof(struct h2_reply, cookie) == 0, "h2_reply.cookie");
_Static_assert(__builtin_offsetof(struct h2_reply, flags) == 8, "h2_reply.flags");
_Static_assert(__builtin_offsetof(struct h2_reply, len) == 12, "h2_reply.len");
_Static_assert(__builtin_offsetof(struct h2_reply, origin) == 16, "h2_reply.origin");
_Static_assert(__builtin_offsetof(struct h2_reply, rule) == 20, "h2_reply.rule");
_Static_assert(__builtin_offsetof(struct h2_reply, generation) == 24, "h2_reply.generation");
_Static_assert(__builtin_offsetof(struct h2_reply, log) == 28, "h2_reply.log");
_Static_assert(__builtin_offsetof(struct h2_reply, bytes) == 32, "h2_reply.bytes");
