/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Runs requests through the data plane's C code and prints what it decides, for a comparison with the reference
 * interpreter (src/compile/interpret.ts). Argument: the image. Standard input, for each request: u32 listener, u32 v6,
 * 16 bytes of source address, u32 length, the bytes. Standard output: u32 result, action kind, rule + 1, fits, length,
 * then the bytes that would be sent.
 */
#include "native.h"

static int get(void *to, size_t n) { return fread(to, 1, n, stdin) == n; }

int main(int argc, char **argv) {
  uint8_t *image = load_image(argc > 1 ? argv[1] : 0);
  struct scratch *s = calloc(1, sizeof *s);
  struct {
    uint32_t listener, v6;
    uint8_t source[16];
    uint32_t len;
  } request;
  while (get(&request, sizeof request)) {
    uint8_t *data = malloc(request.len ? request.len : 1);
    if (!get(data, request.len))
      return 1;
    struct outcome out = handle_request(s, image, listener_at(image, request.listener), data, request.len,
                                        request.source, request.v6);
    uint32_t answer[5] = {out.result, out.kind, out.rule, out.built, out.built ? s->o : 0};
    fwrite(answer, sizeof answer, 1, stdout);
    fwrite(s->out, 1, answer[4], stdout);
    free(data);
  }
  free(s);
  free(image);
  return 0;
}
