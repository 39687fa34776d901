// What the AVX2 files share. 16 lanes of a sum are two registers.
#ifndef CK_X86_AVX2_H
#define CK_X86_AVX2_H

#include <immintrin.h>

#include "tables.h"

#define CK_AVX2 __attribute__((target("avx2,fma,f16c")))
#define CK_AVX2_INLINE CK_AVX2 __attribute__((always_inline)) static inline
#define CK_UNROLL _Pragma("clang loop unroll(full)")

// The first `left` lanes set.
CK_AVX2_INLINE __m256i lane_mask(size_t left) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(left < 8 ? (int)left : 8), lanes);
}

CK_AVX2_INLINE __m256 load8(const float *at, size_t left) {
  return left >= 8 ? _mm256_loadu_ps(at) : _mm256_maskload_ps(at, lane_mask(left));
}

CK_AVX2_INLINE void store8(float *at, __m256 v, size_t left) {
  if (left >= 8)
    _mm256_storeu_ps(at, v);
  else
    _mm256_maskstore_ps(at, lane_mask(left), v);
}

// The sum of 16 lanes by one fixed tree.
CK_AVX2_INLINE float lanes_sum(__m256 a, __m256 b) {
  __m256 eight = _mm256_add_ps(a, b);
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
}

CK_AVX2_INLINE __m256 bfloat16_8(const void *at) {
  __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)at));
  return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

// Rounded to bfloat16 and widened again, as ck_to_bfloat16.
CK_AVX2_INLINE __m256 round8(__m256 x) {
  __m256i bits = _mm256_castps_si256(x);
  __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  up = _mm256_and_si256(up, _mm256_set1_epi32((int)0xffff0000));
  __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  quiet = _mm256_and_si256(quiet, _mm256_set1_epi32((int)0xffff0000));
  __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
  return _mm256_blendv_ps(_mm256_castsi256_ps(up), _mm256_castsi256_ps(quiet), nan);
}

// e^x as ck_exp: 0 below -87.3, e^88 above 88; NaN stays NaN.
CK_AVX2_INLINE __m256 exp8(__m256 x) {
  __m256 keep = _mm256_cmp_ps(x, _mm256_set1_ps(-87.3f), _CMP_NLT_UQ);
  x = _mm256_min_ps(_mm256_set1_ps(88.0f), x);
  __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), 8);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  r = _mm256_fmadd_ps(n, _mm256_set1_ps(2.12194440e-4f), r);
  __m256 p = _mm256_set1_ps(1.9875691500e-4f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
  p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), _mm256_add_ps(r, _mm256_set1_ps(1.0f)));
  __m256i power = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  p = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(power, 23)));
  __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
  return _mm256_and_ps(keep, _mm256_blendv_ps(p, x, nan));
}

// Entries of the table that live in files of their own.
void ck_avx2_linear_float32(
    const ck_linear *, size_t row0, size_t row1, size_t token0, size_t token1, void *scratch);
void ck_avx2_linear_bfloat16(
    const ck_linear *, size_t row0, size_t row1, size_t token0, size_t token1, void *scratch);
void ck_avx2_linear_e4m3(
    const ck_linear *, size_t row0, size_t row1, size_t token0, size_t token1, void *scratch);
void ck_avx2_linear_int8(
    const ck_linear *, size_t row0, size_t row1, size_t token0, size_t token1, void *scratch);
void ck_avx2_linear_int4(
    const ck_linear *, size_t row0, size_t row1, size_t token0, size_t token1, void *scratch);
void ck_avx2_attend_bfloat16(
    const ck_kv *kv, const float *queries, size_t count, size_t start, size_t visible,
    float scale, float *out, void *scratch);
void ck_avx2_attend_float32(
    const ck_kv *kv, const float *queries, size_t count, size_t start, size_t visible,
    float scale, float *out, void *scratch);

#endif
