// Matrix products with AVX2, INT8 and INT4 weights: widened to Float32 in registers, in place.
//
// A step is a chunk of 32 columns: its partial sum in 16 lanes is multiplied by the chunk's
// factor, or, where the whole row has one factor, the sum is multiplied at the end.
#if defined(__x86_64__)
#include "x86_avx2.h"

#include "integer.h"

#define TILE_TOKENS 3
#define TOKEN_BLOCK_BYTES 262144  // of prepared activations

typedef struct {
  __m256 low, high;
} lanes;

// 16 bytes as two vectors of floats, less `zero`.
CK_AVX2_INLINE lanes widen16(__m128i codes, __m256i zero) {
  __m256i low = _mm256_cvtepi8_epi32(codes);
  __m256i high = _mm256_cvtepi8_epi32(_mm_srli_si128(codes, 8));
  lanes w = {_mm256_cvtepi32_ps(_mm256_sub_epi32(low, zero)),
             _mm256_cvtepi32_ps(_mm256_sub_epi32(high, zero))};
  return w;
}

// The chunk from column k: 32 elements, zeros beyond the row.
CK_AVX2_INLINE void load_chunk(
    int four, const uint8_t *row, size_t k, size_t left, __m256i zero, lanes w[2]) {
  uint8_t last[32] = {0};
  const uint8_t *at = row + (four ? k / 2 : k);
  if (left < CK_CHUNK) {
    // The bytes behind the last row may not exist. INT4 rows are whole chunks.
    memcpy(last, at, left);
    at = last;
  }
  __m128i first = _mm_loadu_si128((const __m128i *)at);
  if (four) {
    const __m128i mask = _mm_set1_epi8(15);
    __m128i even = _mm_and_si128(first, mask);
    __m128i odd = _mm_and_si128(_mm_srli_epi16(first, 4), mask);
    w[0] = widen16(_mm_unpacklo_epi8(even, odd), zero);
    w[1] = widen16(_mm_unpackhi_epi8(even, odd), zero);
  } else {
    w[0] = widen16(first, zero);
    w[1] = widen16(_mm_loadu_si128((const __m128i *)(at + 16)), zero);
  }
}

// One row of weights over the slice of columns [begin, end).
CK_AVX2_INLINE void run_slice(
    const ck_linear *task, int four, size_t row, size_t begin, size_t end, size_t token,
    int tokens) {
  const ck_integer *integer = &task->integer;
  const uint8_t *values = (const uint8_t *)task->values + row * task->row_stride;
  const uint8_t *operand = (const uint8_t *)task->operand + token * task->operand_stride;
  lanes sums[TILE_TOKENS];
  CK_UNROLL for (int j = 0; j < tokens; j++) sums[j].low = sums[j].high = _mm256_setzero_ps();
  for (size_t k = begin; k < end; k += CK_CHUNK) {
    size_t group = ck_group_of(integer, k);
    lanes w[2];
    load_chunk(four, values, k, end - k,
               _mm256_set1_epi32(four ? ck_zero(integer, row, group) : 0), w);
    __m256 factor = _mm256_set1_ps(integer->group == 0 ? 1 : ck_factor(integer, row, group));
    CK_UNROLL for (int j = 0; j < tokens; j++) {
      const float *x = (const float *)(operand + (size_t)j * task->operand_stride) + k;
      __m256 low = _mm256_mul_ps(w[0].low, _mm256_load_ps(x));
      __m256 high = _mm256_mul_ps(w[0].high, _mm256_load_ps(x + 8));
      // A row of activations ends with zeros up to a multiple of 16 columns only.
      if (end - k > 16) {
        low = _mm256_fmadd_ps(w[1].low, _mm256_load_ps(x + 16), low);
        high = _mm256_fmadd_ps(w[1].high, _mm256_load_ps(x + 24), high);
      }
      sums[j].low = _mm256_fmadd_ps(low, factor, sums[j].low);
      sums[j].high = _mm256_fmadd_ps(high, factor, sums[j].high);
    }
  }
  float last = integer->group == 0 ? ck_factor(integer, row, 0) : 1;
  float *output = task->output + begin / (end - begin) * task->slice_stride + row;
  CK_UNROLL for (int j = 0; j < tokens; j++)
    output[(token + (size_t)j) * task->output_stride] =
        lanes_sum(sums[j].low, sums[j].high) * last;
}

CK_AVX2_INLINE void run_row(
    const ck_linear *task, int four, size_t row, size_t token, int tokens) {
  size_t slice = task->columns / task->slices;
  for (size_t k = 0; k < task->columns; k += slice)
    run_slice(task, four, row, k, k + slice, token, tokens);
}

CK_AVX2_INLINE void run_linear(
    const ck_linear *task, int four, size_t row0, size_t row1, size_t token0, size_t token1) {
  size_t block = TOKEN_BLOCK_BYTES / task->operand_stride / TILE_TOKENS * TILE_TOKENS;
  if (block < TILE_TOKENS) block = TILE_TOKENS;
  for (size_t begin = token0; begin < token1; begin += block) {
    size_t end = token1 - begin < block ? token1 : begin + block;
    for (size_t row = row0; row < row1; row++) {
      size_t token = begin;
      for (; token + TILE_TOKENS <= end; token += TILE_TOKENS)
        run_row(task, four, row, token, TILE_TOKENS);
      for (; token < end; token++) run_row(task, four, row, token, 1);
    }
  }
}

#define LINEAR(name, four)                                                                \
  CK_AVX2 void ck_avx2_linear_##name(                                                     \
      const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,      \
      void *scratch) {                                                                    \
    (void)scratch;                                                                        \
    run_linear(task, four, row0, row1, token0, token1);                                   \
  }
LINEAR(int8, 0)
LINEAR(int4, 1)
#endif
