// The tables that this build holds, and scalar helpers that they share.
#ifndef CK_TABLES_H
#define CK_TABLES_H

#include "ckernels.h"
#include <math.h>
#include <string.h>

extern const ck_kernels ck_reference;
#if defined(__x86_64__)
extern const ck_kernels ck_avx2;
extern const ck_kernels ck_avx512;
extern const ck_kernels ck_avx512_fma;
#elif defined(__aarch64__)
extern const ck_kernels ck_neon;
#endif

// The scalar set's entries, for the tables that have nothing better.
int32_t ck_reference_operand_kind(int32_t format, int32_t activation);
void ck_reference_prepare(
    int32_t kind, void *row, size_t bytes, const float *source, size_t begin, size_t end,
    size_t columns);
void ck_reference_linear_float32(
    const ck_linear *, size_t row0, size_t row1, size_t token0, size_t token1, void *scratch);
void ck_reference_linear_bfloat16(
    const ck_linear *, size_t row0, size_t row1, size_t token0, size_t token1, void *scratch);
void ck_reference_linear_e4m3(
    const ck_linear *, size_t row0, size_t row1, size_t token0, size_t token1, void *scratch);
void ck_reference_linear_int8(
    const ck_linear *, size_t row0, size_t row1, size_t token0, size_t token1, void *scratch);
void ck_reference_linear_int4(
    const ck_linear *, size_t row0, size_t row1, size_t token0, size_t token1, void *scratch);
void ck_reference_prepare_grid(
    float *row, const float *source, size_t begin, size_t end, size_t columns);
void ck_reference_widen_integer(
    int32_t format, float *y, const void *values, const ck_integer *, size_t row,
    size_t columns);
void ck_reference_store_bfloat16(
    const ck_kv *, size_t slot, const float *key, const float *value);
void ck_reference_store_float32(
    const ck_kv *, size_t slot, const float *key, const float *value);
void ck_reference_attend_bfloat16(
    const ck_kv *, const float *queries, size_t count, size_t start, size_t visible, float scale,
    float *out, void *scratch);
void ck_reference_attend_float32(
    const ck_kv *, const float *queries, size_t count, size_t start, size_t visible, float scale,
    float *out, void *scratch);
void ck_reference_attention_merge(
    float *state, const float *partial, size_t count, size_t dimension);
void ck_reference_attention_finish(
    float *output, const float *state, size_t count, size_t dimension);
void ck_reference_rms_norm(
    float *y, const float *x, const float *weight, size_t count, float epsilon);
void ck_reference_rotary(
    float *x, const float *cosine, const float *sine, size_t heads, size_t dimension);
void ck_reference_swiglu(float *y, const float *gate, const float *up, size_t count);
void ck_reference_add(float *y, const float *x, size_t count);
void ck_reference_combine(
    float *output, size_t output_stride, const float *slots, size_t slices, size_t count,
    const ck_term *terms, size_t term_count);
void ck_reference_round_bfloat16(float *y, const float *x, size_t count);
void ck_reference_widen(
    int32_t format, float *y, const void *row, const float *scales, size_t columns);
void ck_reference_log_sum_exp(
    const float *x, size_t count, float *largest, size_t *index, float *sum);

static inline float ck_from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

static inline uint32_t ck_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

static inline float ck_from_bfloat16(uint16_t bits) { return ck_from_bits((uint32_t)bits << 16); }

// To nearest, ties to even; NaN stays NaN.
static inline uint16_t ck_to_bfloat16(float value) {
  uint32_t bits = ck_bits(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// The low half of a pair: what hi leaves of x; nothing where hi is not finite.
static inline uint16_t ck_pair_low(float value, uint16_t high) {
  if ((high & 0x7f80) == 0x7f80) return 0;
  return ck_to_bfloat16(value - ck_from_bfloat16(high));
}

// E4M3 "fn": no infinities, magnitude 0x7f is NaN.
static inline float ck_from_e4m3(uint8_t code) {
  uint32_t sign = (uint32_t)(code & 0x80) << 24, magnitude = code & 0x7f;
  if (magnitude == 0x7f) return ck_from_bits(sign | 0x7fc00000);
  if (magnitude < 8) return ck_from_bits(sign | ck_bits((float)magnitude * 0x1p-9f));
  return ck_from_bits(sign | ((magnitude << 20) + (120u << 23)));
}

static inline float ck_load_float(const void *at) {
  float value;
  memcpy(&value, at, 4);
  return value;
}

static inline uint16_t ck_load_u16(const void *at) {
  uint16_t value;
  memcpy(&value, at, 2);
  return value;
}

// e^x to about 1 unit in the last place; 0 below -87.3, and e^88 above 88 (no overflow).
static inline float ck_exp(float x) {
  if (x < -87.3f) return 0;
  x = x > 88.0f ? 88.0f : x;
  float n = (x * 1.44269504f + 0x1.8p23f) - 0x1.8p23f;  // to the nearest integer
  if (!(n == n)) return x;
  float r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return p * ck_from_bits((uint32_t)((int32_t)n + 127) << 23);
}

// Place of element k of a split row: of every 16 the even ones come first.
static inline size_t ck_split_place(size_t k) {
  return (k & ~(size_t)15) + (k & 1) * 8 + (k & 15) / 2;
}

#endif
