/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The data plane's headers, built for this machine instead of for BPF. The helpers that need a kernel are never called. */
#pragma once
#define SIDESTEP_NATIVE 1
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "answer.h"

/* The policy image, in a block of exactly its size, so that the sanitizer sees a read behind it. */
static uint8_t *load_image(const char *path) {
  uint8_t *image = calloc(1, IMAGE_SIZE + IMAGE_SLACK);
  FILE *f = path ? fopen(path, "rb") : 0;
  if (!f || !fread(image, 1, IMAGE_SIZE, f)) {
    fprintf(stderr, "set SIDESTEP_FUZZ_IMAGE to a policy image (script/fuzz makes one)\n");
    exit(2);
  }
  fclose(f);
  const struct image_header *header = (const void *)image;
  if (header->magic != IMAGE_MAGIC || !header->n_listeners) {
    fprintf(stderr, "%s is not a policy image\n", path);
    exit(2);
  }
  return image;
}

static const struct listener *listener_at(const uint8_t *image, uint32_t index) {
  const struct image_header *header = (const void *)image;
  uint32_t at = image_u32(image, header->listeners + index % header->n_listeners * 4);
  return at ? AT(struct listener, image, at) : 0;
}

/* What new_request (new-request.h) does with a head, up to the bytes that would be sent. */
struct outcome {
  uint32_t result; /* of scan_head */
  uint32_t action; /* offset, 0: the proxy */
  uint32_t kind;   /* ACTION */
  uint32_t rule;
  uint32_t built; /* 0: does not fit */
};

static struct outcome handle_request(struct scratch *s, const uint8_t *image, const struct listener *listener,
                                     const uint8_t *data, uint32_t size, const uint8_t source[16], int v6) {
  struct outcome out = {0};
  struct work w = {.s = s, .image = image};
  uint32_t n = size > MAX_HEAD ? MAX_HEAD : size;
  memcpy(s->in, data, n);
  scan_head(&w, n, listener->scan, listener->scan_classes, 0);
  finish_request_head(s);
  out.result = s->result;
  if (s->result != COMPLETE)
    return out;
  memcpy(&s->in[SOURCE_AT], source, 16);
  out.action = decide(&w, listener, v6 ? 16 : 4);
  out.rule = s->rule;
  if (!out.action)
    return out;
  const struct action *action = AT(struct action, image, out.action);
  out.kind = action->kind;
  if (action->kind == ACTION_FORWARD)
    out.built = build_request(&w, action);
  else if (action->kind == ACTION_REPLY)
    out.built = replies(s, action) && build_reply(&w, action);
  return out;
}
