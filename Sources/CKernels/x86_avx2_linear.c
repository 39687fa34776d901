// Matrix products with AVX2: weights widened to Float32 in registers, in place.
//
// Dot form, as the AVX-512 set: 16 lanes in two registers per output, K in order, one fixed tree
// at the end. A tile is 2 rows of weights by 3 tokens.
#if defined(__x86_64__)
#include "x86_avx2.h"

#define TILE_ROWS 2
#define TILE_TOKENS 3
#define TOKEN_BLOCK_BYTES 262144  // of prepared activations

typedef struct {
  const uint8_t *weights;  // first row of the tile
  size_t weight_stride;    // bytes
  const uint8_t *operand;
  size_t operand_stride;   // bytes
  size_t begin, end;       // columns of the slice
  const float *scales[TILE_ROWS];
  float *output;
  size_t output_stride;    // floats
} tile;

// Eight E4M3 codes, times 2^-8: their fields are those of a half-precision number.
CK_AVX2_INLINE __m256 e4m3_8(const uint8_t *at) {
  __m128i codes = _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)at));
  __m128i magnitude = _mm_and_si128(codes, _mm_set1_epi16(0x7f));
  __m128i nan = _mm_cmpeq_epi16(magnitude, _mm_set1_epi16(0x7f));
  __m128i sign = _mm_slli_epi16(_mm_and_si128(codes, _mm_set1_epi16(0x80)), 8);
  __m128i bits = _mm_or_si128(_mm_slli_epi16(magnitude, 7), sign);
  bits = _mm_or_si128(bits, _mm_and_si128(nan, _mm_set1_epi16(0x7e00)));
  return _mm256_cvtph_ps(bits);
}

CK_AVX2_INLINE __m256 weights8(int32_t format, const uint8_t *row, size_t k) {
  if (format == CK_FORMAT_FLOAT32) return _mm256_loadu_ps((const float *)(row + 4 * k));
  if (format == CK_FORMAT_BFLOAT16) return bfloat16_8(row + 2 * k);
  return e4m3_8(row + k);
}

typedef struct {
  __m256 low, high;
} lanes;

CK_AVX2_INLINE void add_step(
    const tile *t, int32_t format, size_t width, int rows, int tokens, size_t k,
    lanes sums[TILE_ROWS][TILE_TOKENS]) {
  uint8_t last[TILE_ROWS][64] = {{0}};
  lanes w[TILE_ROWS];
  CK_UNROLL for (int i = 0; i < rows; i++) {
    const uint8_t *row = t->weights + (size_t)i * t->weight_stride;
    size_t at = k;
    if (t->end - k < 16) {
      // The bytes behind the last row may not exist.
      memcpy(last[i], row + k * width, (t->end - k) * width);
      row = last[i], at = 0;
    }
    w[i].low = weights8(format, row, at);
    w[i].high = weights8(format, row, at + 8);
  }
  CK_UNROLL for (int j = 0; j < tokens; j++) {
    const float *x = (const float *)(t->operand + (size_t)j * t->operand_stride) + k;
    __m256 low = _mm256_load_ps(x), high = _mm256_load_ps(x + 8);
    CK_UNROLL for (int i = 0; i < rows; i++) {
      sums[i][j].low = _mm256_fmadd_ps(w[i].low, low, sums[i][j].low);
      sums[i][j].high = _mm256_fmadd_ps(w[i].high, high, sums[i][j].high);
    }
  }
}

CK_AVX2_INLINE void clear(int rows, int tokens, lanes sums[TILE_ROWS][TILE_TOKENS]) {
  CK_UNROLL for (int i = 0; i < rows; i++)
    CK_UNROLL for (int j = 0; j < tokens; j++)
      sums[i][j].low = sums[i][j].high = _mm256_setzero_ps();
}

CK_AVX2_INLINE void run_tile(
    const tile *t, int32_t format, size_t width, int rows, int tokens) {
  lanes sums[TILE_ROWS][TILE_TOKENS];
  clear(rows, tokens, sums);
  if (format != CK_FORMAT_E4M3) {
    size_t k = t->begin;
    for (; k + 16 <= t->end; k += 16) add_step(t, format, width, rows, tokens, k, sums);
    if (k < t->end) add_step(t, format, width, rows, tokens, k, sums);
  } else {
    for (size_t block = t->begin / CK_SCALE_BLOCK; block * CK_SCALE_BLOCK < t->end; block++) {
      lanes partial[TILE_ROWS][TILE_TOKENS];
      size_t k = block * CK_SCALE_BLOCK, end = k + CK_SCALE_BLOCK;
      clear(rows, tokens, partial);
      if (end > t->end) end = t->end;
      for (; k < end; k += 16) add_step(t, format, width, rows, tokens, k, partial);
      CK_UNROLL for (int i = 0; i < rows; i++) {
        const uint8_t *at = (const uint8_t *)t->scales[i] + 4 * block;
        __m256 factor = _mm256_set1_ps(ck_load_float(at) * 256);
        CK_UNROLL for (int j = 0; j < tokens; j++) {
          sums[i][j].low = _mm256_fmadd_ps(partial[i][j].low, factor, sums[i][j].low);
          sums[i][j].high = _mm256_fmadd_ps(partial[i][j].high, factor, sums[i][j].high);
        }
      }
    }
  }
  CK_UNROLL for (int i = 0; i < rows; i++)
    CK_UNROLL for (int j = 0; j < tokens; j++)
      t->output[(size_t)j * t->output_stride + (size_t)i] =
          lanes_sum(sums[i][j].low, sums[i][j].high);
}

#define TILE(name, format, width, rows, tokens)                 \
  CK_AVX2 static void name##_##rows##_##tokens(const tile *t) { \
    run_tile(t, format, width, rows, tokens);                   \
  }
#define TILES(name, format, width)                                                          \
  TILE(name, format, width, 1, 1) TILE(name, format, width, 1, 2)                           \
  TILE(name, format, width, 1, 3) TILE(name, format, width, 2, 1)                           \
  TILE(name, format, width, 2, 2) TILE(name, format, width, 2, 3)                           \
  static void (*const name##_tiles[TILE_ROWS][TILE_TOKENS])(const tile *) = {               \
      {name##_1_1, name##_1_2, name##_1_3}, {name##_2_1, name##_2_2, name##_2_3}};
TILES(float32, CK_FORMAT_FLOAT32, 4)
TILES(bfloat16, CK_FORMAT_BFLOAT16, 2)
TILES(e4m3, CK_FORMAT_E4M3, 1)

static void run_linear(
    const ck_linear *task, void (*const tiles[TILE_ROWS][TILE_TOKENS])(const tile *),
    size_t row0, size_t row1, size_t token0, size_t token1) {
  size_t slice = task->columns / task->slices;
  size_t block = TOKEN_BLOCK_BYTES / task->operand_stride / TILE_TOKENS * TILE_TOKENS;
  if (block < TILE_TOKENS) block = TILE_TOKENS;
  tile t = {
      .weight_stride = task->row_stride,
      .operand_stride = task->operand_stride,
      .output_stride = task->output_stride,
  };
  for (size_t begin = token0; begin < token1; begin += block) {
    size_t end = token1 - begin < block ? token1 : begin + block;
    // One token waits for memory: one stream of weights is the fastest.
    size_t step = end - begin == 1 ? 1 : TILE_ROWS;
    for (size_t row = row0; row < row1; row += step) {
      size_t rows = row1 - row < step ? row1 - row : step;
      t.weights = (const uint8_t *)task->values + row * t.weight_stride;
      for (size_t i = 0; i < rows; i++)
        t.scales[i] = task->scales + (row + i) / CK_SCALE_BLOCK * task->scale_stride;
      for (size_t token = begin; token < end; token += TILE_TOKENS) {
        size_t tokens = end - token < TILE_TOKENS ? end - token : TILE_TOKENS;
        t.operand = (const uint8_t *)task->operand + token * task->operand_stride;
        t.output = task->output + token * task->output_stride + row;
        for (t.begin = 0; t.begin < task->columns; t.begin = t.end) {
          t.end = t.begin + slice;
          tiles[rows - 1][tokens - 1](&t);
          t.output += task->slice_stride;
        }
      }
    }
  }
}

#define LINEAR(name)                                                                      \
  void ck_avx2_linear_##name(                                                             \
      const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,      \
      void *scratch) {                                                                    \
    (void)scratch;                                                                        \
    run_linear(task, name##_tiles, row0, row1, token0, token1);                           \
  }
LINEAR(float32)
LINEAR(bfloat16)
LINEAR(e4m3)
#endif
