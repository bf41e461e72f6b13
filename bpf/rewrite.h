/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Builds the head that goes upstream, or the mesh's own reply, in s->out. */
#pragma once
#include "match.h"
#ifndef SIDESTEP_NATIVE
#include "figure.h"
#endif

static __always_inline void put_in(struct scratch *s, __u32 at, __u32 len) {
  if (len > MAX_HEAD || s->o + len > MAX_OUT) {
    s->overflow = 1;
    return;
  }
  if (!len)
    return;
  if (copy_bytes(&s->out[s->o & OUT_MASK], len & (MAX_HEAD * 2 - 1), &s->in[at & IN_MASK]))
    s->overflow = 1;
  s->o += len;
}

#define SHORT_LITERAL 64

static __always_inline void put_image(struct work *w, __u32 off, __u32 len) {
  struct scratch *s = w->s;
  if (len > MAX_LITERAL || s->o + len > MAX_OUT) {
    s->overflow = 1;
    return;
  }
  const __u8 *from = w->image + (off & (IMAGE_SIZE - 1));
  __u8 *to = &s->out[s->o & OUT_MASK];
  s->o += len;
  if (len <= SHORT_LITERAL) { /* with what follows it, over which the next piece is written: a call takes longer */
    for (__u32 k = 0; k < SHORT_LITERAL; k += 8)
      set_word(to + k, word_at(from + k));
    return;
  }
  if (copy_bytes(to, len & (MAX_LITERAL * 2 - 1), from))
    s->overflow = 1;
}

static __always_inline void put_byte(struct scratch *s, __u8 c) {
  if (s->o >= MAX_OUT) {
    s->overflow = 1;
    return;
  }
  s->out[s->o & OUT_MASK] = c;
  s->o++;
}

static __always_inline __u32 random_u32(void) {
#ifdef SIDESTEP_NATIVE
  return 0x12345678;
#else
  return bpf_get_prandom_u32();
#endif
}

static const char request_id_name[] = "x-request-id: ";

/* The eight hexadecimal digits of a number as characters, the lowest digit in the lowest byte. */
static __always_inline __u64 hex_digits(__u32 number) {
  __u64 x = number;
  x = (x | x << 16) & 0x0000ffff0000ffffULL;
  x = (x | x << 8) & 0x00ff00ff00ff00ffULL;
  x = (x | x << 4) & EACH_BYTE(0x0f);
  return x + EACH_BYTE('0') + ((x + EACH_BYTE(6)) >> 4 & EACH_BYTE(1)) * ('a' - '0' - 10);
}

static __always_inline void put_word(struct scratch *s, __u32 at, __u64 word) {
  set_word(&s->out[at & OUT_MASK], word);
}

/* The digits of a random UUID, variant 1 (RFC 9562), as Envoy makes them. */
static __always_inline void make_id(struct scratch *s, __u32 version) {
  /* 8-4-4-4-12 digits; the first of the third group is the version, that of the fourth has the variant */
  s->id[0] = hex_digits(random_u32());
  s->id[1] = hex_digits((random_u32() & 0xfff0ffff) | (version & 0xf) << 16);
  s->id[2] = hex_digits((random_u32() & 0xfffffff3) | 8);
  s->id[3] = hex_digits(random_u32());
}

/* 36 bytes at `o`. */
static __always_inline void put_id(struct scratch *s, __u32 o) {
  __u64 second = s->id[1], third = s->id[2];
  put_word(s, o, s->id[0]);
  put_word(s, o + 8, '-' | second << 8);
  put_word(s, o + 13, '-' | (second >> 32) << 8);
  put_word(s, o + 18, '-' | third << 8);
  put_word(s, o + 23, '-' | (third >> 32) << 8);
  put_word(s, o + 28, s->id[3]);
}

/* An id of a version, or the one that there is if there is no version; `line`: with its name. */
__noinline int put_request_id(struct scratch *s, __u32 version, __u32 line) {
  if (!s)
    return 0;
  if (s->o > MAX_OUT - 64) {
    s->overflow = 1;
    return 0;
  }
  __u32 o = s->o, name = sizeof(request_id_name) - 1;
  if (version)
    make_id(s, version);
  if (!line) {
    put_id(s, o);
    s->o = o + 36;
    return 0;
  }
  put_word(s, o, word_at(request_id_name));
  put_word(s, o + name - 8, word_at(&request_id_name[name - 8]));
  o += name;
  put_id(s, o);
  o += 36;
  s->out[o & OUT_MASK] = '\r';
  o++;
  s->out[o & OUT_MASK] = '\n';
  o++;
  s->o = o;
  return 0;
}

/* Sixteen random digits, or the last ones once more. */
__noinline int put_random(struct scratch *s, __u32 again) {
  if (!s)
    return 0;
  if (s->o > MAX_OUT - 64) {
    s->overflow = 1;
    return 0;
  }
  if (!again) {
    s->random[0] = hex_digits(random_u32());
    s->random[1] = hex_digits(random_u32());
  }
  put_word(s, s->o, s->random[0]);
  put_word(s, s->o + 8, s->random[1]);
  s->o += 16;
  return 0;
}

#ifndef SIDESTEP_NATIVE
#include "base64.h"
#endif

static long capture_step(__u32 index, void *context) {
  struct work *w = context;
  struct scratch *s = w->s;
  if (s->run_at >= s->run_end)
    return 1;
  __u32 class = w->image[(s->run_classes + in_at(s, s->run_at)) & (IMAGE_SIZE - 1)];
  __u32 cell = image_u32(w->image, s->run_row + class * 4);
  __u32 mask = cell >> 24;
  if (mask) {
    for (int k = 0; k < 8; k++)
      if (mask & (1 << k))
        s->cap[k] = s->run_at;
  }
  s->run_row = cell & (IMAGE_SIZE - 1);
  s->run_at++;
  return 0;
}

/* Runs a capturing automaton over in[at..end). Returns 1 when it matches; the registers are positions in s->in. */
static __always_inline int capture_over(struct work *w, __u32 start, __u32 classes, __u32 at, __u32 end) {
  struct scratch *s = w->s;
  __builtin_memset(s->cap, 0, sizeof s->cap);
  s->run_row = start;
  s->run_classes = classes;
  s->run_at = at;
  s->run_end = end;
  LOOP(MAX_HEAD, capture_step, w);
  __u32 accept = image_u32(w->image, s->run_row);
  if (!(accept & 1))
    return 0;
  for (int k = 0; k < 8; k++)
    if (accept & (0x100 << k))
      s->cap[k] = end;
  return 1;
}

/* Over the path. */
static __always_inline int capture(struct work *w, __u32 start, __u32 classes, __u32 at) {
  return capture_over(w, start, classes, at, w->s->path_end);
}

/* Where the text of an IPv4 address is made, behind the address itself. */
#define TEXT_AT (SOURCE_AT + 32)

/* The source address as text at in[TEXT_AT]; its length. A global function, so that the verifier walks it once. */
__noinline int address_text(struct scratch *s) {
  if (!s)
    return 0;
  __u32 o = 0;
  for (int k = 0; k < 4; k++) {
    __u32 byte = in_at(s, SOURCE_AT + k);
    if (k)
      s->in[(TEXT_AT + o++) & IN_MASK] = '.';
    if (byte >= 100)
      s->in[(TEXT_AT + o++) & IN_MASK] = '0' + byte / 100;
    if (byte >= 10)
      s->in[(TEXT_AT + o++) & IN_MASK] = '0' + byte / 10 % 10;
    s->in[(TEXT_AT + o++) & IN_MASK] = '0' + byte % 10;
  }
  return o;
}

static long piece_step(__u32 index, void *context) {
  struct work *w = context;
  struct scratch *s = w->s;
  const struct piece *p =
      AT(struct piece, w->image, s->list + sizeof(struct template) + index * sizeof(struct piece));
  __u32 at = 0, end = 0;
  switch (p->kind) {
  case PIECE_LITERAL:
    put_image(w, p->off, p->len);
    s->literal = s->o;
    return 0;
  case PIECE_PATH_FROM:
    at = s->method_end + 1 + p->off;
    end = s->path_end;
    break;
  case PIECE_QUERY:
    at = s->path_end;
    end = s->target_end;
    break;
  case PIECE_HOST:
    at = s->host_start;
    end = s->host_end;
    break;
  case PIECE_HOST_NAME: {
    at = s->host_start;
    end = s->host_end;
    __u32 cut = end;
    for (int k = 0; k < 6; k++) { /* a port is at most five digits behind the last colon */
      if (cut <= at)
        break;
      __u8 c = in_at(s, cut - 1);
      cut--;
      if (c == ':') {
        end = cut;
        break;
      }
      if (c < '0' || c > '9')
        break;
    }
    break;
  }
  case PIECE_HEADER: {
    __u32 slot = p->arg & (MAX_SLOTS - 1);
    if (!(s->present & (1ULL << slot)))
      return 0;
    const struct line *line = &s->lines[(s->first[slot] - 1) & (MAX_LINES - 1)];
    at = line->vstart + p->off;
    end = p->len ? at + p->len : line->vend;
    break;
  }
  case PIECE_SAMPLED:
    put_byte(s, s->sampled ? '1' : '0');
    return 0;
  case PIECE_SOURCE_IP:
    if (s->target_rest != 4) { /* IPv6: its text has many forms */
      s->overflow = 1;
      return 1;
    }
    at = TEXT_AT;
    end = TEXT_AT + address_text(s);
    break;
  case PIECE_CAPTURE: {
    __u32 group = (p->arg - 1) & 3;
    at = s->cap[(group * 2) & 7];
    end = s->cap[(group * 2 + 1) & 7];
    break;
  }
  case PIECE_RANDOM:
    put_random(s, p->arg);
    return 0;
  case PIECE_REQUEST_ID:
    put_request_id(s, 0, 0);
    return 0;
#ifndef SIDESTEP_NATIVE
  case PIECE_UUID:
    put_uuid(s);
    return 0;
  case PIECE_ENDPOINT:
    put_endpoint(s);
    return 0;
  case PIECE_BASE64:
    put_base64(s);
    return 0;
  case PIECE_BUCKET: {
    __u32 bucket = shown_bucket(s);
    put_byte(s, bucket);
    put_byte(s, bucket >> 8);
    return 0;
  }
  case PIECE_FIGURE:
    put_figure(s, p->off ? p->off - 1 : shown_bucket(s), p->arg);
    return 0;
#endif
  default:
    s->overflow = 1;
    return 1;
  }
  if (end > at)
    put_in(s, at, end - at);
  return 0;
}

static __always_inline void put_template(struct work *w, __u32 off) {
  __u32 n = image_u32(w->image, off);
  w->s->list = off;
  if (n)
    LOOP(n > MAX_PIECES ? MAX_PIECES : n, piece_step, w);
}

/* One match of a rewrite that replaces all: what stands before it, then what takes its place. */
static long replace_step(__u32 index, void *context) {
  struct work *w = context;
  struct scratch *s = w->s;
  const struct action *action = AT(struct action, w->image, s->cond_state);
  const struct template *t = AT(struct template, w->image, action->target);
  if (!capture(w, action->capture, action->capture_classes, s->pos))
    return 1;
  if (index >= MAX_MATCHES) {
    s->overflow = 1;
    return 1;
  }
  __u32 begin = s->cap[0] - (t->repeat - 1), end = s->cap[1];
  if (begin < s->pos || end <= s->pos || end > s->path_end) {
    s->overflow = 1; /* not what the compiler makes */
    return 1;
  }
  put_in(s, s->pos, begin - s->pos);
  s->pos = end;
  s->list = action->target;
  __u32 n = t->n - 1;
  if (n)
    LOOP(n > MAX_PIECES ? MAX_PIECES : n, piece_step, w);
  return 0;
}

/* The path with every match replaced, then the query. */
static __always_inline void replace_all(struct work *w, __u32 action_at) {
  struct scratch *s = w->s;
  s->pos = s->method_end + 1;
  s->cond_state = action_at;
  LOOP(MAX_MATCHES + 1, replace_step, w);
  put_in(s, s->pos, s->path_end - s->pos);
  put_in(s, s->path_end, s->target_end - s->path_end);
}

static long keep_step(__u32 index, void *context) {
  struct scratch *s = ((struct work *)context)->s;
  const struct line *line = &s->lines[index & (MAX_LINES - 1)];
  __u32 slot = s->line_slot[index & (MAX_LINES - 1)] & (MAX_SLOTS - 1);
  if (s->remove & (1ULL << slot) && slot) {
    if (line->start > s->copied_to)
      put_in(s, s->copied_to, line->start - s->copied_to);
    s->copied_to = line->next;
  } else {
    s->kept = index + 1;
  }
  return 0;
}

/* A line that is added: as it stands, or made of the request. */
static __always_inline void put_added(struct work *w, const struct add *a) {
  if (a->variable)
    put_template(w, a->off);
  else
    put_image(w, a->off, a->len);
}

static long add_step(__u32 index, void *context) {
  struct work *w = context;
  struct scratch *s = w->s;
  const struct add *a = AT(struct add, w->image, s->adds + index * sizeof(struct add));
  __u64 present = s->present & (1ULL << (a->slot & (MAX_SLOTS - 1)));
  switch (a->when) {
  case ADD_IF_ABSENT:
    if (!present)
      put_added(w, a);
    break;
  case ADD_IF_PRESENT:
    if (present)
      put_added(w, a);
    break;
  case ADD_REQUEST_ID:
    if (a->off || !(s->present & (1ULL << SLOT_X_REQUEST_ID)))
      put_request_id(s, a->off ? 0 : 4, 1);
    break;
  case ADD_EMPTY_LENGTH:
    if (!(s->flags & HEAD_LENGTH) && (in_at(s, 0) == 'P' || in_at(s, 0) == 'O'))
      put_image(w, a->off, a->len);
    break;
  case ADD_IF_SAMPLED:
    if (s->sampled)
      put_added(w, a);
    break;
  case ADD_TOKEN_LINES:
    put_in(s, TOKEN_LINES_AT, s->token_lines);
    break;
  case ADD_ORIGINAL_TARGET:
    put_image(w, a->off, a->len);
    put_in(s, s->method_end + 1, s->target_end - s->method_end - 1);
    put_byte(s, '\r');
    put_byte(s, '\n');
    break;
  default:
    put_added(w, a);
  }
  return 0;
}

/*
 * Copies in[from..head_len-2) to the output without the lines whose slots are in s->remove. `from` is the start of a
 * line, or lies before the first one.
 */
static __always_inline void put_kept_lines(struct work *w, __u32 from) {
  struct scratch *s = w->s;
  s->copied_to = from;
  s->kept = s->present & s->remove ? 0 : s->n_lines;
  if (s->present & s->remove)
    LOOP(s->n_lines > MAX_LINES ? MAX_LINES : s->n_lines, keep_step, w);
  if (s->head_len - 2 > s->copied_to)
    put_in(s, s->copied_to, s->head_len - 2 - s->copied_to);
}

/* The head of a forwarded request. Returns 0 when it does not fit. */
static __always_inline int build_request(struct work *w, const struct action *action) {
  struct scratch *s = w->s;
  s->o = 0;
  s->overflow = 0;
  s->remove = action->remove;
  __u32 from = 0;
  if (action->target && AT(struct template, w->image, action->target)->repeat) {
    put_in(s, 0, s->method_end + 1);
    replace_all(w, (const __u8 *)action - w->image);
    from = s->target_end;
  } else if (action->target) {
    int rewrite = 1;
    if (action->capture)
      rewrite = capture(w, action->capture, action->capture_classes, s->method_end + 1);
    if (rewrite) {
      put_in(s, 0, s->method_end + 1);
      put_template(w, action->target);
      from = s->target_end;
    }
  }
  put_kept_lines(w, from);
  s->adds = action->adds;
  if (action->n_adds)
    LOOP(action->n_adds > MAX_ADDS ? MAX_ADDS : action->n_adds, add_step, w);
  put_byte(s, '\r');
  put_byte(s, '\n');
  return !s->overflow;
}

static __always_inline int is_head_request(const struct scratch *s) { return s->method_end == 4 && in_at(s, 0) == 'H'; }

/*
 * Whether the kernel gives this reply. Envoy closes the connection when it answers before a request's body has come, and
 * announces a chunked body where it answers HEAD without a length: both are left to it.
 */
static __always_inline int replies(const struct scratch *s, const struct action *action) {
  if (s->flags & HEAD_LENGTH && s->content_length)
    return 0;
  return action->reply_body_len || !is_head_request(s);
}

/* A reply of the mesh itself. Returns 0 when it does not fit. */
static __always_inline int build_reply(struct work *w, const struct action *action) {
  struct scratch *s = w->s;
  s->o = 0;
  s->overflow = 0;
  put_template(w, action->reply_head);
  if (!is_head_request(s) && action->reply_body_len)
    put_image(w, action->reply_body, action->reply_body_len);
  return !s->overflow;
}
