/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Edits of answers: the head that the client gets, made in s->out from the scanned one in s->in. It may be longer than
 * the one received; a verdict, which must not change an skb's length, pads it or leaves it to the agent.
 */
#pragma once
#include "rewrite.h"

/*
 * Where the variables of an exchange lie in `in`, behind any head and the source address; s->ends says where each
 * ends.
 */
#define VARIABLES_AT (SOURCE_AT + 64)

static long variable_step(__u32 index, void *context) {
  struct work *w = context;
  struct scratch *s = w->s;
  const struct answer_variables *v = AT(struct answer_variables, w->image, s->cond_state);
  put_template(w, v->templates[index & (MAX_VARIABLES - 1)]);
  s->ends[index & (MAX_VARIABLES - 1)] = s->o;
  return 0;
}

/* Takes what the answer's edits need out of the scanned request. Returns 0 when it is too much to be kept. */
static __always_inline int take_variables(struct work *w, const struct action *action) {
  struct scratch *s = w->s;
  __u32 n = image_u32(w->image, action->variables);
  s->o = 0;
  s->overflow = 0;
  s->cond_state = action->variables;
  __builtin_memset(s->ends, 0, sizeof s->ends);
  if (n)
    LOOP(n > MAX_VARIABLES ? MAX_VARIABLES : n, variable_step, w);
  if (s->overflow || s->o > MAX_VARIABLE_BYTES)
    return 0;
  if (s->o && copy_bytes(&s->in[VARIABLES_AT], s->o & 511, s->out))
    return 0;
  return 1;
}

/* Keeps them for the answer, and has them again. Return 0 on success. */
static __always_inline int keep_variables(const struct scratch *s, struct variables *v) {
  for (int k = 0; k < MAX_VARIABLES; k++)
    v->ends[k] = s->ends[k];
  return copy_bytes(v->bytes, MAX_VARIABLE_BYTES, &s->in[VARIABLES_AT]);
}
static __always_inline int load_variables(struct scratch *s, const struct variables *v) {
  for (int k = 0; k < MAX_VARIABLES; k++)
    s->ends[k] = v->ends[k];
  return copy_bytes(&s->in[VARIABLES_AT], MAX_VARIABLE_BYTES, v->bytes);
}

/* Offset of the edits with this number, as the image in force has them; 0: only the agent can do them. */
static __always_inline __u32 answer_edits(const __u8 *image, __u32 number) {
  const struct image_header *header = (const void *)image;
  if (!number || number > header->n_answer_edits)
    return 0;
  return image_u32(image, header->answer_edits + number * 4);
}

static long answer_add_step(__u32 index, void *context) {
  struct work *w = context;
  struct scratch *s = w->s;
  const struct add *a = AT(struct add, w->image, s->list + index * sizeof(struct add));
  __u64 present = s->present & (1ULL << (a->slot & (MAX_SLOTS - 1)));
  if (a->when == ADD_IF_ABSENT ? !!present : a->when == ADD_IF_PRESENT ? !present : 0)
    return 0;
  s->value_at = s->o + a->value;
  put_image(w, a->off, a->len);
  if (a->variable) {
    __u32 k = (a->variable - 1) & (MAX_VARIABLES - 1), figure = a->variable >> FIGURE_SHIFT;
    __u32 at = k ? s->ends[(k - 1) & (MAX_VARIABLES - 1)] : 0, end = s->ends[k];
#ifndef SIDESTEP_NATIVE
    if (figure)
      put_figure(s, in_at(s, VARIABLES_AT + at) | in_at(s, VARIABLES_AT + at + 1) << 8, figure);
    else
#endif
    if (end > at)
      put_in(s, VARIABLES_AT + at, end - at);
    put_byte(s, '\r');
    put_byte(s, '\n');
  }
  return 0;
}

/* What a look finds in the head: -1 when there is no such header. */
static __noinline int look_at(struct scratch *s, const __u8 *image, __u32 off) {
  if (!s || !image)
    return -1;
  struct work w = {.s = s, .image = image};
  const struct look *l = AT(struct look, image, off);
  __u32 slot = l->slot & (MAX_SLOTS - 1);
  if (!(s->present & (1ULL << slot)))
    return -1;
  const struct line *line = &s->lines[(s->first[slot] - 1) & (MAX_LINES - 1)];
  return !!run(&w, l->start, l->classes, line->vstart, line->vend);
}

/* Adds the line to an answer that could have been compressed. Returns 0 when only the agent can do it. */
static __always_inline int put_compressible(struct work *w, __u32 off) {
  struct scratch *s = w->s;
  const struct compressible *c = AT(struct compressible, w->image, off);
  if (s->present & c->never || (s->flags & HEAD_LENGTH && s->content_length < c->minimum))
    return 1;
  if (look_at(s, w->image, c->looks) == 0 || look_at(s, w->image, c->looks + sizeof(struct look)) == 1)
    return 1;
  int listed = look_at(s, w->image, c->looks + 2 * sizeof(struct look));
  if (listed >= 0)
    return listed;
  s->value_at = s->o + c->value;
  put_image(w, c->off, c->len);
  return 1;
}

/*
 * The head of the answer: HTTP/1.1, without the lines in s->remove, and with the edits at s->edits (0: none), whose
 * variables have been loaded. Leaves s->value_at, where the last value begins (0: there is none). Returns 0 when it does
 * not fit.
 */
static __always_inline int build_edited_answer(struct work *w) {
  struct scratch *s = w->s;
  const struct answer_edit *e = s->edits ? AT(struct answer_edit, w->image, s->edits) : 0;
  s->o = 0;
  s->overflow = 0;
  s->value_at = 0;
  if (e)
    s->remove |= e->remove;
  put_kept_lines(w, 0);
  if (s->overflow)
    return 0;
  if (s->kept) {
    const struct line *line = &s->lines[(s->kept - 1) & (MAX_LINES - 1)];
    __u32 value = line->next - line->vstart;
    if (value < s->o)
      s->value_at = s->o - value;
  }
  if (e && e->n_adds) {
    s->list = e->adds;
    LOOP(e->n_adds > MAX_ADDS ? MAX_ADDS : e->n_adds, answer_add_step, w);
  }
  if (e && e->compressible && !put_compressible(w, e->compressible))
    return 0;
  put_byte(s, '\r');
  put_byte(s, '\n');
  s->out[7] = '1';
  return !s->overflow;
}

static long pad_step(__u32 index, void *context) {
  struct scratch *s = ((struct work *)context)->s;
  if (s->o >= s->run_end)
    return 1;
  s->out[s->o & OUT_MASK] = ' ';
  s->o++;
  return 0;
}

/*
 * Brings a built head to the length of the received one: what is missing is put as white space before the last value.
 * Before, not behind it: both are allowed (RFC 9112 section 5), but Python's http.client keeps white space behind a
 * value, and then takes `chunked   ` for no chunked body. Returns 0 when the head is longer, or has no line.
 */
static __always_inline int pad_answer(struct work *w) {
  struct scratch *s = w->s;
  if (s->o > s->head_len)
    return 0;
  __u32 padding = s->head_len - s->o;
  if (!padding)
    return 1;
  __u32 at = s->value_at, tail = s->o - at;
  if (!at || at > s->o || tail >= MAX_HEAD || padding > MAX_HEAD)
    return 0;
  /* behind the received head, which the access log needs */
  if (copy_bytes(&s->in[MAX_HEAD], tail & (MAX_HEAD - 1), &s->out[at & OUT_MASK]))
    return 0;
  s->o = at;
  s->run_end = at + padding;
  LOOP(MAX_HEAD, pad_step, w);
  put_in(s, MAX_HEAD, tail);
  return !s->overflow && s->o == s->head_len;
}
