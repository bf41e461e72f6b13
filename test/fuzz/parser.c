/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * libFuzzer over the data plane's parser, matcher, rewriter and framing, with the address and undefined-behaviour
 * sanitizers. Beyond "does not crash" it checks what the kernel relies on: nothing depends on bytes behind the message,
 * a head that is accepted has one reading, what is sent on is a strict head again, and an answer ends where RFC 9112
 * says, however it is cut.
 *
 * An input is a byte of mode, a byte of choice (listener, or seed of the cuts), and the bytes on the wire.
 */
#define _GNU_SOURCE
#include "native.h"
#include "oracle.h"

#define REQUIRE(what)                                                                                                  \
  do {                                                                                                                 \
    if (!(what)) {                                                                                                     \
      fprintf(stderr, "violated: %s (line %d)\n", #what, __LINE__);                                                    \
      abort();                                                                                                         \
    }                                                                                                                  \
  } while (0)

enum { MODE_ANSWER = 1, MODE_TO_HEAD = 2, MODE_V6 = 4 };

static uint8_t *image;
static struct scratch *one, *two;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  (void)argc, (void)argv;
  image = load_image(getenv("SIDESTEP_FUZZ_IMAGE"));
  one = calloc(1, sizeof *one);
  two = calloc(1, sizeof *two);
  return 0;
}

/* Policy literals aside, a head that leaves the kernel must be as strict as one that it accepts. */
static void check_sent(const struct scratch *s, const struct head *in) {
  static struct head sent;
  REQUIRE(s->o <= MAX_OUT);
  REQUIRE(read_head(&sent, s->out, s->o, 0));
  REQUIRE(sent.len == s->o);
  REQUIRE(sent.method_len == in->method_len && !memcmp(sent.method, in->method, in->method_len));
  REQUIRE(count_named(&sent, "host", 0) == 1);
  REQUIRE(count_named(&sent, "connection", 0) == 0 && count_named(&sent, "transfer-encoding", 0) == 0);
  const struct field *before = 0, *after = 0;
  int n = count_named(in, "content-length", &before);
  /* POST, PUT, PATCH and OPTIONS without a length get `content-length: 0`, as from Envoy */
  int empty = !n && (in->method[0] == 'P' || in->method[0] == 'O');
  REQUIRE(count_named(&sent, "content-length", &after) == n + empty);
  if (n || empty)
    REQUIRE(read_decimal(after) == (n ? read_decimal(before) : 0));
}

static void check_request(const struct scratch *s, const uint8_t *data, uint32_t n) {
  static struct head h;
  REQUIRE(read_head(&h, data, n, 0));
  REQUIRE(h.len == s->head_len);
  REQUIRE(h.n == s->n_lines);
  REQUIRE(s->method_end == h.method_len);
  REQUIRE(s->target_end == h.method_len + 1 + h.target_len);
  REQUIRE(s->path_end > s->method_end && s->path_end <= s->target_end);
  const uint8_t *query = memchr(h.target, '?', h.target_len);
  REQUIRE(s->path_end == (query ? (uint32_t)(query - data) : s->target_end));
  for (uint32_t i = 0; i < h.n; i++) {
    const struct line *line = &s->lines[i];
    REQUIRE(data + line->start == h.fields[i].name);
    REQUIRE((uint32_t)(line->vend - line->vstart) == h.fields[i].value_len);
    REQUIRE(!h.fields[i].value_len || data + line->vstart == h.fields[i].value);
  }
  /* one reading only: nothing that another parser could frame differently */
  const struct field *length = 0, *host = 0;
  int lengths = count_named(&h, "content-length", &length);
  REQUIRE(lengths <= 1);
  REQUIRE(!lengths == !(s->flags & HEAD_LENGTH));
  if (lengths)
    REQUIRE(read_decimal(length) >= 0 && (uint64_t)read_decimal(length) == s->content_length);
  REQUIRE(count_named(&h, "transfer-encoding", 0) == 0);
  REQUIRE(count_named(&h, "upgrade", 0) == 0 && count_named(&h, "expect", 0) == 0);
  REQUIRE(count_named(&h, "host", &host) == 1);
  REQUIRE(data + s->host_start == host->value && s->host_end - s->host_start == host->value_len);
}

static void fuzz_request(uint8_t mode, uint8_t choice, const uint8_t *data, uint32_t size) {
  static const uint8_t source[16] = {10, 1, 2, 3};
  const struct listener *listener = listener_at(image, choice);
  if (!listener)
    return;
  uint32_t n = size > MAX_HEAD ? MAX_HEAD : size;
  /* what lies behind the message, and what an earlier run left in the work space, must not matter */
  memset(one->in, 0, sizeof one->in);
  memset(two->in, '\n', sizeof two->in);
  memset(two->out, 0xee, sizeof two->out);
  struct outcome a = handle_request(one, image, listener, data, size, source, mode & MODE_V6);
  struct outcome b = handle_request(two, image, listener, data, size, source, mode & MODE_V6);
  REQUIRE(!memcmp(&a, &b, sizeof a));
  if (a.built) {
    REQUIRE(one->o == two->o && one->o <= MAX_OUT);
    REQUIRE(!memcmp(one->out, two->out, one->o));
  }
  struct work again = {.s = one, .image = image};
  if (is_left(&again, n)) /* goes to the proxy beside the requests of others: its end must be beyond doubt, too */
    check_request(one, data, n);
  if (a.result != COMPLETE)
    return;
  check_request(one, data, n);
  if (a.kind == ACTION_FORWARD && a.built) {
    static struct head h;
    REQUIRE(read_head(&h, data, n, 0));
    check_sent(one, &h);
  }
  /* a shorter piece of it is incomplete, never something else */
  uint32_t cut = choice * 31u % one->head_len;
  struct work w = {.s = two, .image = image};
  scan_head(&w, cut, listener->scan, listener->scan_classes, 0);
  REQUIRE(two->result == INCOMPLETE);
}

static void check_answer_head(const struct scratch *s, const struct head *in) {
  static struct head out;
  REQUIRE(s->o == s->head_len);
  REQUIRE(read_head(&out, s->out, s->o, 1));
  REQUIRE(out.len == s->head_len && out.status == in->status && out.minor == 1);
  REQUIRE(count_named(&out, "connection", 0) == 0 && count_named(&out, "keep-alive", 0) == 0);
  uint32_t at = 0;
  for (uint32_t i = 0; i < out.n; i++, at++) {
    /* the lines that stay are the ones received, in their order */
    while (at < in->n && !(out.fields[i].name_len == in->fields[at].name_len &&
                           !memcmp(out.fields[i].name, in->fields[at].name, out.fields[i].name_len) &&
                           out.fields[i].value_len == in->fields[at].value_len &&
                           !memcmp(out.fields[i].value, in->fields[at].value, out.fields[i].value_len)))
      at++;
    REQUIRE(at < in->n);
  }
}

/* Behind the first empty line. */
static uint32_t head_end(const uint8_t *data, uint32_t size) {
  const uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
  return end ? (uint32_t)(end - data) + 4 : size;
}

/* Feeds an answer in pieces; `seed` chooses the cuts. */
static void fuzz_answer(uint8_t mode, uint8_t seed, const uint8_t *data, uint32_t size) {
  const struct image_header *header = (const void *)image;
  struct upstream u = {.phase = PHASE_AWAIT, .flags = UPSTREAM_FLAG_REQUEST_DONE | (mode & MODE_TO_HEAD ? UPSTREAM_FLAG_HEAD : 0)};
  struct work w = {.s = one, .image = image};
  static struct head h;
  uint32_t at = 0, random = seed * 2654435761u + 1;
  int64_t end = BODY_INCOMPLETE;
  while (at < size) {
    random = random * 1664525u + 1013904223u;
    uint32_t len = seed ? random >> 16 & (random & 1 ? 7 : 4095) : size - at;
    if (!at && seed > 3) /* mostly a whole head first: what comes in less is the agent's */
      len += head_end(data, size);
    len = len ? len : 1;
    len = len > size - at ? size - at : len;
    len = len > IN_MASK ? IN_MASK : len;
    memset(one->in, 'x', sizeof one->in);
    memcpy(one->in, data + at, len);
    int done = 0, way;
    if (!at) {
      scan_head(&w, len > MAX_HEAD ? MAX_HEAD : len, header->response_scan, header->response_classes, 1);
      finish_response_head(one);
      one->o = 0;
      way = first_piece(&w, &u, 0, len, &done);
        if (way == TO_CLIENT)
          way = edit_skb(&w, 0, 0);
      if (way == TO_AGENT)
        return;
      REQUIRE(one->result == COMPLETE);
      REQUIRE(read_head(&h, data, len, 1));
      REQUIRE(h.len == one->head_len && h.status == (int)one->status);
      if (one->o)
        check_answer_head(one, &h);
      else
        REQUIRE(count_named(&h, "connection", 0) == 0 && h.minor == 1);
      end = answer_end(&h, data, size, mode & MODE_TO_HEAD);
      REQUIRE(done || u.phase == PHASE_BODY || u.phase == PHASE_CHUNKED);
    } else {
      way = next_piece(one, &u, 0, len, &done);
      if (way == TO_AGENT)
        return;
    }
    at += len;
    u.redirected += len;
    if (done)
      REQUIRE(end == (int64_t)at);
    else
      REQUIRE(end < 0 || end > (int64_t)at);
    if (done)
      return;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 3 || size > MAX_HEAD + 4096)
    return 0;
  if (data[0] & MODE_ANSWER)
    fuzz_answer(data[0], data[1], data + 2, size - 2);
  else
    fuzz_request(data[0], data[1], data + 2, size - 2);
  return 0;
}
