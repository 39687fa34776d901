// Matrix products with AVX-512, BF16 and Float32 weights in place.
//
// Dot form: both operands lie along K, and every output has one accumulator vector that takes K
// in order; at the end its lanes are added by one fixed tree. So one token and a thousand give
// the same bits, weights are read where they are, and a tile of 4 rows of weights by 6 rows of
// activations needs 10 loads for 24 dot products. A pair (hi, lo) is two rows of activations whose
// accumulators are added before the tree.
//
// Tokens come in blocks that stay in the second-level cache. Packing weights into panels lost:
// it needs a pass over memory that decoding cannot pay, and other bits for one token.
#if defined(__x86_64__)
#include "x86_avx512.h"

#define TILE_ROWS 4
#define TILE_TOKENS 6
#define TOKEN_BLOCK_BYTES 360448  // of prepared activations

typedef struct {
  const uint8_t *weights;  // first row of the tile
  size_t weight_stride;    // bytes
  const uint8_t *operand;  // first prepared row of the tile
  size_t operand_stride;   // bytes
  size_t columns;
  float *output;
  size_t output_stride;    // floats
} tile;

// Adds up the accumulators of a tile and writes the outputs.
CK_AVX512_INLINE void write_tile(
    const tile *t, int rows, int tokens, int parts, __m512 sums[TILE_ROWS][TILE_TOKENS]) {
  CK_UNROLL for (int j = 0; j < tokens / parts; j++) {
    __m512 total[TILE_ROWS];
    CK_UNROLL for (int i = 0; i < rows; i++)
      total[i] = parts == 1 ? sums[i][j] : _mm512_add_ps(sums[i][2 * j], sums[i][2 * j + 1]);
    float *output = t->output + (size_t)j * t->output_stride;
    if (rows == 4)
      _mm_storeu_ps(output, lanes_sum4(total[0], total[1], total[2], total[3]));
    else
      CK_UNROLL for (int i = 0; i < rows; i++) output[i] = lanes_sum(total[i]);
  }
}

CK_AVX512_INLINE __m512bh load_bfloat16(const uint8_t *at) {
  return (__m512bh)_mm512_loadu_si512(at);
}

CK_AVX512_INLINE void tile_bfloat16(const tile *t, int rows, int tokens, int parts) {
  __m512 sums[TILE_ROWS][TILE_TOKENS];
  CK_UNROLL for (int i = 0; i < rows; i++)
    CK_UNROLL for (int j = 0; j < tokens; j++) sums[i][j] = _mm512_setzero_ps();
  size_t full = t->columns / 32 * 64, bytes = t->columns * 2;
  for (size_t k = 0; k < full; k += 64) {
    __m512bh w[TILE_ROWS];
    CK_UNROLL for (int i = 0; i < rows; i++)
      w[i] = load_bfloat16(t->weights + (size_t)i * t->weight_stride + k);
    CK_UNROLL for (int j = 0; j < tokens; j++) {
      __m512bh x = load_bfloat16(t->operand + (size_t)j * t->operand_stride + k);
      CK_UNROLL for (int i = 0; i < rows; i++) sums[i][j] = _mm512_dpbf16_ps(sums[i][j], w[i], x);
    }
  }
  if (full < bytes) {
    __mmask32 mask = (1u << (bytes - full) / 2) - 1;
    CK_UNROLL for (int i = 0; i < rows; i++) {
      const uint8_t *at = t->weights + (size_t)i * t->weight_stride + full;
      __m512bh w = (__m512bh)_mm512_maskz_loadu_epi16(mask, at);
      CK_UNROLL for (int j = 0; j < tokens; j++) {
        __m512bh x = load_bfloat16(t->operand + (size_t)j * t->operand_stride + full);
        sums[i][j] = _mm512_dpbf16_ps(sums[i][j], w, x);
      }
    }
  }
  write_tile(t, rows, tokens, parts, sums);
}

CK_AVX512_INLINE void tile_float32(const tile *t, int rows, int tokens, int parts) {
  __m512 sums[TILE_ROWS][TILE_TOKENS];
  CK_UNROLL for (int i = 0; i < rows; i++)
    CK_UNROLL for (int j = 0; j < tokens; j++) sums[i][j] = _mm512_setzero_ps();
  size_t full = t->columns / 16 * 64, bytes = t->columns * 4;
  for (size_t k = 0; k < full; k += 64) {
    __m512 w[TILE_ROWS];
    CK_UNROLL for (int i = 0; i < rows; i++)
      w[i] = _mm512_loadu_ps(t->weights + (size_t)i * t->weight_stride + k);
    CK_UNROLL for (int j = 0; j < tokens; j++) {
      __m512 x = _mm512_loadu_ps(t->operand + (size_t)j * t->operand_stride + k);
      CK_UNROLL for (int i = 0; i < rows; i++) sums[i][j] = _mm512_fmadd_ps(w[i], x, sums[i][j]);
    }
  }
  if (full < bytes) {
    __mmask16 mask = tail_mask16((bytes - full) / 4);
    CK_UNROLL for (int i = 0; i < rows; i++) {
      __m512 w = _mm512_maskz_loadu_ps(mask, t->weights + (size_t)i * t->weight_stride + full);
      CK_UNROLL for (int j = 0; j < tokens; j++) {
        __m512 x = _mm512_loadu_ps(t->operand + (size_t)j * t->operand_stride + full);
        sums[i][j] = _mm512_fmadd_ps(w, x, sums[i][j]);
      }
    }
  }
  write_tile(t, rows, tokens, parts, sums);
}

// One function per number of prepared rows; rows of weights by four, then one by one.
#define TILES(kind, tokens, parts)                                                        \
  CK_AVX512 static void kind##_##tokens##_##parts(tile t, size_t rows) {                  \
    for (; rows >= 4; rows -= 4, t.weights += 4 * t.weight_stride, t.output += 4)         \
      tile_##kind(&t, 4, tokens, parts);                                                  \
    for (; rows > 0; rows--, t.weights += t.weight_stride, t.output++)                    \
      tile_##kind(&t, 1, tokens, parts);                                                  \
  }
// Few rows of activations wait for memory: there one stream of weights is the fastest.
#define STREAM(kind, tokens, parts)                                                       \
  CK_AVX512 static void kind##_##tokens##_##parts(tile t, size_t rows) {                  \
    for (; rows > 0; rows--, t.weights += t.weight_stride, t.output++)                    \
      tile_##kind(&t, 1, tokens, parts);                                                  \
  }
STREAM(bfloat16, 1, 1)
STREAM(bfloat16, 2, 1)
TILES(bfloat16, 3, 1)
TILES(bfloat16, 4, 1)
TILES(bfloat16, 5, 1)
TILES(bfloat16, 6, 1)
STREAM(bfloat16, 2, 2)
TILES(bfloat16, 4, 2)
TILES(bfloat16, 6, 2)
STREAM(float32, 1, 1)
STREAM(float32, 2, 1)
TILES(float32, 3, 1)
TILES(float32, 4, 1)
TILES(float32, 5, 1)
TILES(float32, 6, 1)

typedef void (*tiles_fn)(tile t, size_t rows);

// By number of prepared rows, from 1; a pair has two for each token.
static const tiles_fn bfloat16_tiles[TILE_TOKENS] = {
    bfloat16_1_1, bfloat16_2_1, bfloat16_3_1, bfloat16_4_1, bfloat16_5_1, bfloat16_6_1};
static const tiles_fn pair_tiles[TILE_TOKENS] = {
    NULL, bfloat16_2_2, NULL, bfloat16_4_2, NULL, bfloat16_6_2};
static const tiles_fn float32_tiles[TILE_TOKENS] = {
    float32_1_1, float32_2_1, float32_3_1, float32_4_1, float32_5_1, float32_6_1};

static void run_linear(
    const ck_linear *task, const tiles_fn *tiles, size_t width, size_t parts, size_t row0,
    size_t row1, size_t token0, size_t token1) {
  size_t stride = task->operand_stride / parts, step = TILE_TOKENS / parts;
  size_t block = TOKEN_BLOCK_BYTES / task->operand_stride / step * step;
  if (block < step) block = step;
  tile t = {
      .weight_stride = task->columns * width,
      .operand_stride = stride,
      .columns = task->columns,
      .output_stride = task->output_stride,
  };
  for (size_t begin = token0; begin < token1; begin += block) {
    size_t end = token1 - begin < block ? token1 : begin + block;
    // Four rows of weights at a time stay in the first cache while the block's tokens pass.
    size_t rows = end - begin > step ? TILE_ROWS : row1 - row0;
    for (size_t row = row0; row < row1; row += rows) {
      if (row1 - row < rows) rows = row1 - row;
      for (size_t token = begin; token < end; token += step) {
        size_t count = end - token < step ? end - token : step;
        t.weights = (const uint8_t *)task->values + row * t.weight_stride;
        t.operand = (const uint8_t *)task->operand + token * task->operand_stride;
        t.output = task->output + token * task->output_stride + row;
        tiles[count * parts - 1](t, rows);
      }
    }
  }
}

void ck_avx512_linear_bfloat16(
    const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,
    void *scratch) {
  (void)scratch;
  int pair = task->operand_kind == CK_OPERAND_PAIR;
  run_linear(
      task, pair ? pair_tiles : bfloat16_tiles, 2, pair ? 2 : 1, row0, row1, token0, token1);
}

void ck_avx512_linear_float32(
    const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,
    void *scratch) {
  (void)scratch;
  run_linear(task, float32_tiles, 4, 1, row0, row1, token0, token1);
}
#endif
