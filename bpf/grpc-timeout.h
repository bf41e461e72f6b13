/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* `grpc-timeout`, read and written as Envoy does (source/common/grpc/common.cc), in milliseconds. */
#pragma once

#define N_EXPECTED 30
#define GRPC_TIMEOUT_MOST 99999999 /* what eight digits say; Envoy goes over to seconds beyond */

/* without a zero behind them: clang would put strings that loops read into a section of their own */
static const char name_grpc_timeout[12] = "grpc-timeout";
static const char name_expected[N_EXPECTED] = "x-envoy-expected-rq-timeout-ms";
/* hpack.told: which of these the request must have as the mesh says it (with no time, not at all) */
enum { TOLD_GRPC = 1, TOLD_EXPECTED = 2 };

/* Milliseconds of a value of `len` bytes, begun ones count; 0: none, odd, or more than GRPC_TIMEOUT_MOST. */
static __always_inline __u32 grpc_timeout_of(const __u8 *value, __u32 len) {
  __u64 n = 0;
  if (len < 2 || len > 9)
    return 0;
#pragma unroll
  for (__u32 k = 0; k < 8; k++) {
    if (k + 1 >= len)
      break;
    __u32 digit = value[k] - '0';
    if (digit > 9)
      return 0;
    n = n * 10 + digit;
  }
  switch (value[len - 1]) {
  case 'H':
    n *= 3600000;
    break;
  case 'M':
    n *= 60000;
    break;
  case 'S':
    n *= 1000;
    break;
  case 'm':
    break;
  case 'u':
    n = (n + 999) / 1000;
    break;
  case 'n':
    n = (n + 999999) / 1000000;
    break;
  default:
    return 0;
  }
  return n > GRPC_TIMEOUT_MOST ? 0 : n;
}

static __always_inline __u32 decimal_digits(__u32 n) {
  __u32 digits = 1;
#pragma unroll
  for (int k = 0; k < 8; k++) {
    n /= 10;
    if (n)
      digits++;
  }
  return digits;
}
