/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Runs answers through the data plane's C code and prints which way each goes. Argument: the image. Standard input, for
 * each answer: u32 to_head (1: to a HEAD request), u32 first (bytes of the first piece), u32 step (bytes of the others),
 * u32 length, the bytes. Standard output: u32 way, u32 done, u32 bytes seen, u32 length of the head if it was changed,
 * then that head.
 */
#include "native.h"

static int get(void *to, size_t n) { return fread(to, 1, n, stdin) == n; }

int main(int argc, char **argv) {
  uint8_t *image = load_image(argc > 1 ? argv[1] : 0);
  const struct image_header *header = (const void *)image;
  struct scratch *s = calloc(1, sizeof *s);
  struct work w = {.s = s, .image = image};
  uint32_t in[4];
  while (get(in, sizeof in)) {
    uint32_t first = in[1], step = in[2], size = in[3], at = 0, edited = 0;
    uint8_t *data = malloc(size), head[MAX_HEAD * 2];
    if (!get(data, size))
      return 1;
    struct upstream u = {.phase = PHASE_AWAIT, .flags = UPSTREAM_FLAG_REQUEST_DONE | (in[0] ? UPSTREAM_FLAG_HEAD : 0)};
    int done = 0, way = TO_CLIENT;
    while (at < size && way == TO_CLIENT && !done) {
      uint32_t len = at ? step : first;
      len = len > size - at ? size - at : len;
      memcpy(s->in, data + at, len);
      if (!at) {
        scan_head(&w, len > MAX_HEAD ? MAX_HEAD : len, header->response_scan, header->response_classes, 1);
        finish_response_head(s);
        s->o = 0;
        way = first_piece(&w, &u, 0, len, &done);
        if (way == TO_CLIENT)
          way = edit_skb(&w, 0, 0);
        edited = s->o;
        memcpy(head, s->out, edited);
      } else {
        way = next_piece(s, &u, 0, len, &done);
      }
      at += len;
      u.redirected += len;
    }
    uint32_t out[4] = {way, done, at, edited};
    fwrite(out, sizeof out, 1, stdout);
    fwrite(head, 1, edited, stdout);
    free(data);
  }
  free(s);
  free(image);
  return 0;
}
