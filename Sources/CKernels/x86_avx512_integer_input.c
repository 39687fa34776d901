// Activations as integers, for the products of x86_avx512_integer.c.
#if defined(__x86_64__)
#include "x86_avx512.h"

#include "integer.h"

#define BLOCK CK_SCALE_BLOCK

static const float grid_limits[4] = {0, 127, 32639, 8355000};

// The integers of 16 columns, in parts of 8 bits; bytes of even columns first.
CK_AVX512_INLINE void store_parts(uint8_t *row, size_t part_bytes, size_t parts, __m512i v) {
  const __m128i split = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
  for (size_t part = parts; part-- > 0;) {
    __m128i bytes = _mm_shuffle_epi8(_mm512_cvtepi32_epi8(v), split);
    _mm_storel_epi64((__m128i *)(row + part * part_bytes), bytes);
    _mm_storeh_pi((__m64 *)(row + part * part_bytes + BLOCK / 2), _mm_castsi128_ps(bytes));
    // What is left once the low byte, with its sign, is taken off.
    __m512i low = _mm512_srai_epi32(_mm512_slli_epi32(v, 24), 24);
    v = _mm512_srai_epi32(_mm512_sub_epi32(v, low), 8);
  }
}

CK_AVX512 void ck_avx512_prepare_integer(
    int32_t kind, void *row, size_t bytes, const float *source, size_t begin, size_t end) {
  ck_integer_row layout = ck_integer_layout(kind, bytes);
  uint8_t *base = row;
  for (size_t k0 = begin; k0 < end; k0 += BLOCK, source += BLOCK) {
    __m512 x[8], top = _mm512_setzero_ps();
    __mmask16 wrong = 0;
    size_t left = end - k0;
    CK_UNROLL for (size_t i = 0; i < 8; i++) {
      __mmask16 mask = 16 * i < left ? tail_mask16(left - 16 * i) : 0;
      x[i] = _mm512_maskz_loadu_ps(mask, source + 16 * i);
      __m512 magnitude = _mm512_abs_ps(x[i]);
      top = _mm512_max_ps(top, magnitude);
      wrong |= _mm512_cmp_ps_mask(magnitude, _mm512_set1_ps(3.4028234e38f), _CMP_NLE_UQ);
    }
    float largest = _mm512_reduce_max_ps(top), limit = grid_limits[layout.parts];
    // What is too small for the reciprocal is nothing; what is not finite spoils the block.
    int none = wrong != 0 || largest < 0x1p-100f;
    float factor = wrong != 0 ? NAN : none ? 0 : largest / limit;
    __m512 inverse = _mm512_set1_ps(none ? 0 : limit / largest);
    __m512i sum = _mm512_setzero_si512();
    float *sums = (float *)(base + layout.sums) + k0 / CK_CHUNK;
    CK_UNROLL for (size_t i = 0; i < 8; i++) {
      __m512i v = none ? _mm512_setzero_si512()
                       : _mm512_cvtps_epi32(_mm512_mul_ps(x[i], inverse));
      store_parts(base + k0 + 8 * i, layout.part_bytes, layout.parts, v);
      sum = i % 2 == 0 ? v : _mm512_add_epi32(sum, v);
      if (i % 2 == 1) sums[i / 2] = (float)_mm512_reduce_add_epi32(sum) * factor;
    }
    ((float *)(base + layout.factors))[k0 / BLOCK] = factor;
  }
}
#endif
