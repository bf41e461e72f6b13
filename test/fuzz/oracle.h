/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A second, plain reading of HTTP/1.1 heads and bodies, straight from RFC 9112 and without any table, against which the
 * fuzzer holds the data plane.
 */
#pragma once
#include <ctype.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

struct field {
  const uint8_t *name, *value;
  uint32_t name_len, value_len;
};
struct head {
  const uint8_t *method, *target; /* of a request */
  uint32_t method_len, target_len;
  int status, minor; /* of a response */
  uint32_t n, len;   /* fields; bytes including the empty line */
  struct field fields[256];
};

static int is_tchar(uint8_t c) { return isalnum(c) || (c && strchr("!#$%&'*+-.^_`|~", c)); }

/* Reads a head in the strict form. Returns 1, or 0 when it is incomplete or not strict. */
static int read_head(struct head *h, const uint8_t *p, uint32_t size, int response) {
  const uint8_t *end = p + size, *start = p;
  memset(h, 0, sizeof *h);
  if (response) {
    if (size < 14 || memcmp(p, "HTTP/1.", 7) || (p[7] != '0' && p[7] != '1') || p[8] != ' ')
      return 0;
    h->minor = p[7] - '0';
    for (int i = 9; i < 12; i++) {
      if (!isdigit(p[i]))
        return 0;
      h->status = h->status * 10 + p[i] - '0';
    }
    for (p += 12; p < end && *p != '\r'; p++)
      if (*p == '\n' || !*p)
        return 0;
  } else {
    h->method = p;
    while (p < end && is_tchar(*p))
      p++;
    h->method_len = p - h->method;
    if (!h->method_len || p == end || *p++ != ' ')
      return 0;
    h->target = p;
    while (p < end && *p > ' ' && *p < 127)
      p++;
    h->target_len = p - h->target;
    if (!h->target_len || end - p < 9 || memcmp(p, " HTTP/1.1", 9))
      return 0;
    p += 9;
  }
  for (;;) {
    if (end - p < 2 || p[0] != '\r' || p[1] != '\n')
      return 0;
    p += 2;
    if (end - p >= 2 && p[0] == '\r' && p[1] == '\n') {
      h->len = p + 2 - start;
      return 1;
    }
    if (h->n == 256)
      return 0;
    struct field *f = &h->fields[h->n++];
    f->name = p;
    while (p < end && is_tchar(*p))
      p++;
    f->name_len = p - f->name;
    if (!f->name_len || p == end || *p++ != ':')
      return 0;
    while (p < end && (*p == ' ' || *p == '\t'))
      p++;
    f->value = p;
    while (p < end && *p != '\r') {
      if ((*p < ' ' && *p != '\t') || *p == 127)
        return 0;
      p++;
    }
    const uint8_t *last = p;
    while (last > f->value && (last[-1] == ' ' || last[-1] == '\t'))
      last--;
    f->value_len = last - f->value;
  }
}

static int named(const struct field *f, const char *name) {
  return f->name_len == strlen(name) && !strncasecmp((const char *)f->name, name, f->name_len);
}
static int valued(const struct field *f, const char *value) {
  return f->value_len == strlen(value) && !strncasecmp((const char *)f->value, value, f->value_len);
}
static int count_named(const struct head *h, const char *name, const struct field **found) {
  int n = 0;
  for (uint32_t i = 0; i < h->n; i++)
    if (named(&h->fields[i], name)) {
      n++;
      if (found)
        *found = &h->fields[i];
    }
  return n;
}

/* Decimal digits only, at most 18; -1 otherwise. */
static int64_t read_decimal(const struct field *f) {
  int64_t value = 0;
  if (!f->value_len || f->value_len > 18)
    return -1;
  for (uint32_t i = 0; i < f->value_len; i++) {
    if (!isdigit(f->value[i]))
      return -1;
    value = value * 10 + f->value[i] - '0';
  }
  return value;
}

enum { BODY_INCOMPLETE = -1, BODY_BAD = -2 };

/* Where a chunked body without extensions and trailers ends (RFC 9112 section 7.1): an offset, or BODY_*. */
static int64_t chunked_end(const uint8_t *p, uint32_t size) {
  uint64_t at = 0;
  for (;;) {
    uint64_t length = 0;
    int digits = 0;
    for (; at < size && isxdigit(p[at]); at++, digits++) { /* any number of leading zeros */
      if (length >> 56)
        return BODY_BAD;
      length = length * 16 + (isdigit(p[at]) ? p[at] - '0' : tolower(p[at]) - 'a' + 10);
    }
    for (const char *c = "\r\n"; *c; c++, at++) {
      if (at >= size)
        return BODY_INCOMPLETE;
      if (!digits || p[at] != *c)
        return BODY_BAD;
    }
    at += length;
    for (const char *c = "\r\n"; *c; c++, at++) {
      if (at >= size)
        return BODY_INCOMPLETE;
      if (p[at] != *c)
        return BODY_BAD;
    }
    if (!length)
      return at;
  }
}

/*
 * Where an answer ends: an offset, BODY_INCOMPLETE when it is not all there, BODY_BAD when it is not plainly framed or
 * ends with the connection.
 */
static int64_t answer_end(const struct head *h, const uint8_t *p, uint32_t size, int to_head) {
  const struct field *length = 0, *coding = 0;
  int lengths = count_named(h, "content-length", &length), codings = count_named(h, "transfer-encoding", &coding);
  if (to_head || h->status == 204 || h->status == 304)
    return h->len;
  if (lengths + codings != 1)
    return BODY_BAD;
  if (lengths) {
    int64_t n = read_decimal(length);
    if (n < 0)
      return BODY_BAD;
    return h->len + n > size ? BODY_INCOMPLETE : h->len + n;
  }
  if (!valued(coding, "chunked") || h->minor == 0)
    return BODY_BAD;
  int64_t end = chunked_end(p + h->len, size - h->len);
  return end < 0 ? end : h->len + end;
}
