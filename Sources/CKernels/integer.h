// INT8 and INT4 weights: what the sets share.
#ifndef CK_INTEGER_H
#define CK_INTEGER_H

#include "tables.h"

#define CK_CHUNK 32  // columns: every group is a number of chunks, the last of a row may be cut

static inline float ck_from_float16(uint16_t bits) {
  uint32_t magnitude = bits & 0x7fff, sign = (uint32_t)(bits & 0x8000) << 16;
  if (magnitude < 0x400) return ck_from_bits(sign | ck_bits((float)magnitude * 0x1p-24f));
  uint32_t exponent = magnitude >= 0x7c00 ? 255u << 23 : ((magnitude >> 10) + 112) << 23;
  return ck_from_bits(sign | exponent | (magnitude << 13 & 0x7fffff));
}

// The factor of a group (0 where the whole row has one).
static inline float ck_factor(const ck_integer *integer, size_t row, size_t group) {
  size_t at = row * integer->factor_stride + group;
  const uint8_t *factors = integer->factors;
  if (integer->factor_type == CK_FACTOR_FLOAT32) return ck_load_float(factors + 4 * at);
  uint16_t bits = ck_load_u16(factors + 2 * at);
  return integer->factor_type == CK_FACTOR_BFLOAT16 ? ck_from_bfloat16(bits)
                                                    : ck_from_float16(bits);
}

// The stored element of INT4 that stands for zero.
static inline int ck_zero(const ck_integer *integer, size_t row, size_t group) {
  if (integer->zeros == NULL) return 8;
  size_t at = row + integer->zero_row;
  const uint8_t *words = integer->zeros;
  uint32_t word;
  memcpy(&word, words + 4 * (at / 8 * integer->zero_stride + group), 4);
  return (int)(word >> at % 8 * 4 & 15);
}

static inline size_t ck_group_of(const ck_integer *integer, size_t column) {
  return integer->group == 0 ? 0 : column / integer->group;
}

#endif
