/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Makes the heads of edited answers with the data plane's C code. Argument: the image. Standard input, for each answer:
 * u32 number of the edits, u32 ends[4] and 496 bytes of variables, u32 length, the head. Standard output: u32 kind (0 the
 * agent's, 1 built), u32 padded (1: the head also fits at its own length), u32 length, then the built head, then, if it
 * was padded, u32 length and the padded head.
 */
#include "native.h"

static int get(void *to, size_t n) { return fread(to, 1, n, stdin) == n; }

int main(int argc, char **argv) {
  uint8_t *image = load_image(argc > 1 ? argv[1] : 0);
  const struct image_header *header = (const void *)image;
  struct scratch *s = calloc(1, sizeof *s);
  struct work w = {.s = s, .image = image};
  uint32_t number;
  while (get(&number, sizeof number)) {
    struct variables v;
    uint32_t size;
    if (!get(&v, sizeof v) || !get(&size, sizeof size) || size > MAX_HEAD)
      return 1;
    memset(s, 0xee, sizeof *s);
    if (!get(s->in, size))
      return 1;
    struct upstream u = {.phase = PHASE_AWAIT, .flags = UPSTREAM_FLAG_REQUEST_DONE, .edits = number};
    int done = 0;
    scan_head(&w, size, header->response_scan, header->response_classes, 1);
    finish_response_head(s);
    uint32_t out[3] = {0};
    if (first_piece(&w, &u, 0, size, &done) == TO_CLIENT && !load_variables(s, &v) && build_edited_answer(&w)) {
      out[0] = 1;
      out[2] = s->o;
      uint8_t *built = malloc(s->o);
      memcpy(built, s->out, s->o);
      out[1] = pad_answer(&w);
      fwrite(out, sizeof out, 1, stdout);
      fwrite(built, 1, out[2], stdout);
      free(built);
      if (out[1]) {
        fwrite(&s->o, sizeof s->o, 1, stdout);
        fwrite(s->out, 1, s->o, stdout);
      }
    } else {
      fwrite(out, sizeof out, 1, stdout);
    }
  }
  free(s);
  free(image);
  return 0;
}
