// What the AVX-512 files share.
#ifndef CK_X86_AVX512_H
#define CK_X86_AVX512_H

#include <immintrin.h>

#include "tables.h"

// Files that multiply with BF16 dot products say so before they include this one; the others run
// on CPUs without them.
#ifdef CK_AVX512_DOTS
#define CK_AVX512_TARGET \
  "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,avx2,fma,f16c"
#else
#define CK_AVX512_TARGET "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"
#endif
#define CK_AVX512 __attribute__((target(CK_AVX512_TARGET)))
#define CK_AVX512_INLINE \
  CK_AVX512 __attribute__((always_inline)) static inline

// Full loops over a register tile: the arrays must become registers.
#define CK_UNROLL _Pragma("clang loop unroll(full)")

CK_AVX512_INLINE __mmask16 tail_mask16(size_t count) {
  return (__mmask16)(count >= 16 ? 0xffff : (1u << count) - 1);
}

// The sum of 16 lanes: within each quarter (0 + 2) + (1 + 3), then quarters (0 + 2) + (1 + 3).
CK_AVX512_INLINE float lanes_sum(__m512 v) {
  v = _mm512_add_ps(v, _mm512_permute_ps(v, 0x4e));
  v = _mm512_add_ps(v, _mm512_permute_ps(v, 0xb1));
  __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  return _mm_cvtss_f32(quarter);
}

// The same sums of four vectors at once.
CK_AVX512_INLINE __m128 lanes_sum4(__m512 a, __m512 b, __m512 c, __m512 d) {
  __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  __m512 v = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
  __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// e^x as ck_exp: 0 below -87.3, e^88 above 88; NaN stays NaN.
CK_AVX512_INLINE __m512 exp16(__m512 x) {
  __mmask16 keep = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.3f), _CMP_NLT_UQ);
  x = _mm512_min_ps(_mm512_set1_ps(88.0f), x);
  __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 8);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fmadd_ps(n, _mm512_set1_ps(2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
  p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
  return _mm512_maskz_scalef_ps(keep, p, n);
}

// To bfloat16, to nearest even, as ck_to_bfloat16: vcvtneps2bf16 would flush small numbers.
CK_AVX512_INLINE __m256i round16(__m512 x) {
  __m512i bits = _mm512_castps_si512(x);
  __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  up = _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(up, 16));
}

CK_AVX512_INLINE __m512 widen16(__m256i bits) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

// The even ones of 32 lanes of BF16 widened, and the odd ones.
CK_AVX512_INLINE __m512 even16(__m512i v) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
}
CK_AVX512_INLINE __m512 odd16(__m512i v) {
  return _mm512_castsi512_ps(_mm512_maskz_mov_epi16(0xaaaaaaaa, v));
}

// Entries of the table that live in files of their own.
void ck_avx512_linear_bfloat16(
    const ck_linear *, size_t row0, size_t row1, size_t token0, size_t token1, void *scratch);
void ck_avx512_linear_e4m3(
    const ck_linear *, size_t row0, size_t row1, size_t token0, size_t token1, void *scratch);
void ck_avx512_fma_linear_float32(
    const ck_linear *, size_t row0, size_t row1, size_t token0, size_t token1, void *scratch);
void ck_avx512_fma_linear_bfloat16(
    const ck_linear *, size_t row0, size_t row1, size_t token0, size_t token1, void *scratch);
void ck_avx512_fma_linear_e4m3(
    const ck_linear *, size_t row0, size_t row1, size_t token0, size_t token1, void *scratch);
void ck_avx512_linear_int8(
    const ck_linear *, size_t row0, size_t row1, size_t token0, size_t token1, void *scratch);
void ck_avx512_linear_int4(
    const ck_linear *, size_t row0, size_t row1, size_t token0, size_t token1, void *scratch);
void ck_avx512_prepare_integer(
    int32_t kind, void *row, size_t bytes, const float *source, size_t begin, size_t end);
void ck_avx512_attend_bfloat16(
    const ck_kv *kv, const float *queries, size_t count, size_t start, size_t visible,
    float scale, float *out, void *scratch);
void ck_avx512_fma_attend_bfloat16(
    const ck_kv *kv, const float *queries, size_t count, size_t start, size_t visible,
    float scale, float *out, void *scratch);
void ck_avx512_attend_float32(
    const ck_kv *kv, const float *queries, size_t count, size_t start, size_t visible,
    float scale, float *out, void *scratch);

#endif
