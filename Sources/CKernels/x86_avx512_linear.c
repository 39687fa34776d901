// Matrix products with AVX-512, BF16 and Float32 weights in place.
//
// Dot form: both operands lie along K, and every output has one accumulator vector that takes K
// in order; at the end its lanes are added by one fixed tree. So one token and a thousand give
// the same bits, weights are read where they are, and a tile of 4 rows of weights by 6 rows of
// activations needs 10 loads for 24 dot products. A pair (hi, lo) is two rows of activations whose
// accumulators are added before the tree.
//
// Two loops share that order. One or two rows of activations that stay in the first cache take
// one row of weights after the other: a single stream is what the hardware prefetches best.
// Otherwise groups of rows are walked in blocks of columns, so that activations are read from the
// first cache, with the accumulators in scratch between blocks; meanwhile the next group, which
// lies behind this one in memory, is prefetched in the order of its addresses. Prefetching the
// rows' own streams, or a single stream that runs well by itself, made both slower.
#if defined(__x86_64__)
#include "x86_avx512.h"

#define TILE_ROWS 4
#define TILE_OPERANDS 6            // prepared rows; a pair has two for each token
#define GROUP_ROWS 8
#define STREAM_BYTES 20480         // of prepared rows that stay in the first cache
#define BLOCK_BYTES 2048           // of each row, between trips of the accumulators to scratch
#define WIDE_OPERANDS 24           // from here the trips cost more than the blocks give
#define OPERAND_BLOCK_BYTES 360448 // of prepared rows that stay in the second cache

typedef struct {
  const uint8_t *weights;
  size_t weight_stride;   // bytes
  const uint8_t *operand;
  size_t operand_stride;  // bytes from prepared row to prepared row
  float *sums;            // [rows][sum_stride] vectors
  size_t sum_stride;      // prepared rows of the token block
  size_t begin, end;      // bytes of each row
  int first, last;        // the block that begins, that ends a slice
  float *output;          // [tokens][output_stride]
  size_t output_stride;   // floats
  const uint8_t *ahead;   // what to prefetch meanwhile
} tile;

CK_AVX512_INLINE __m512 add_product(__m512 sum, __m512i w, __m512i x, int half) {
  return half ? _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)x)
              : _mm512_fmadd_ps(_mm512_castsi512_ps(w), _mm512_castsi512_ps(x), sum);
}

CK_AVX512_INLINE __mmask32 byte_tail(size_t bytes) {
  return (__mmask32)((1u << bytes / 2) - 1);
}

// Keeps the accumulators for the next block, or adds up their lanes and writes the outputs.
CK_AVX512_INLINE void finish_tile(
    const tile *t, int rows, int operands, int parts, __m512 sums[TILE_ROWS][TILE_OPERANDS]) {
  if (!t->last) {
    CK_UNROLL for (int i = 0; i < rows; i++)
      CK_UNROLL for (int j = 0; j < operands; j++)
        _mm512_store_ps(t->sums + 16 * (i * t->sum_stride + j), sums[i][j]);
    return;
  }
  CK_UNROLL for (int j = 0; j < operands / parts; j++) {
    float *output = t->output + j * t->output_stride;
    __m512 v[TILE_ROWS];
    CK_UNROLL for (int i = 0; i < rows; i++)
      v[i] = parts == 1 ? sums[i][j] : _mm512_add_ps(sums[i][2 * j], sums[i][2 * j + 1]);
    if (rows == 4)
      _mm_storeu_ps(output, lanes_sum4(v[0], v[1], v[2], v[3]));
    else
      CK_UNROLL for (int i = 0; i < rows; i++) output[i] = lanes_sum(v[i]);
  }
}

CK_AVX512_INLINE void add_tile(
    const tile *t, int rows, int operands, int parts, int half, int prefetch) {
  __m512 sums[TILE_ROWS][TILE_OPERANDS];
  CK_UNROLL for (int i = 0; i < rows; i++)
    CK_UNROLL for (int j = 0; j < operands; j++)
      sums[i][j] = t->first ? _mm512_setzero_ps()
                            : _mm512_load_ps(t->sums + 16 * (i * t->sum_stride + j));
  size_t full = t->begin + (t->end - t->begin) / 64 * 64;
  const uint8_t *ahead = t->ahead;
  for (size_t k = t->begin; k < full; k += 64, ahead += 64 * rows) {
    __m512i w[TILE_ROWS];
    CK_UNROLL for (int i = 0; i < rows; i++) {
      w[i] = _mm512_loadu_si512(t->weights + i * t->weight_stride + k);
      if (prefetch) _mm_prefetch((const char *)ahead + 64 * i, _MM_HINT_T1);
    }
    CK_UNROLL for (int j = 0; j < operands; j++) {
      __m512i x = _mm512_load_si512(t->operand + j * t->operand_stride + k);
      CK_UNROLL for (int i = 0; i < rows; i++) sums[i][j] = add_product(sums[i][j], w[i], x, half);
    }
  }
  if (full < t->end) {
    __mmask32 mask = byte_tail(t->end - full);
    CK_UNROLL for (int i = 0; i < rows; i++) {
      __m512i w = _mm512_maskz_loadu_epi16(mask, t->weights + i * t->weight_stride + full);
      CK_UNROLL for (int j = 0; j < operands; j++) {
        __m512i x = _mm512_load_si512(t->operand + j * t->operand_stride + full);
        sums[i][j] = add_product(sums[i][j], w, x, half);
      }
    }
  }
  finish_tile(t, rows, operands, parts, sums);
}

// One function per number of prepared rows: four rows of weights with and without prefetching,
// or one row.
#define TILE(type, half, operands, parts)                                                      \
  CK_AVX512 static void type##_4_##operands##_ahead(const tile *t) {                           \
    add_tile(t, 4, operands, parts, half, 1);                                                  \
  }                                                                                            \
  CK_AVX512 static void type##_4_##operands(const tile *t) {                                   \
    add_tile(t, 4, operands, parts, half, 0);                                                  \
  }                                                                                            \
  CK_AVX512 static void type##_1_##operands(const tile *t) {                                   \
    add_tile(t, 1, operands, parts, half, 0);                                                  \
  }
#define TILES(type, half)                                                                      \
  TILE(type, half, 1, 1) TILE(type, half, 2, 1) TILE(type, half, 3, 1)                         \
  TILE(type, half, 4, 1) TILE(type, half, 5, 1) TILE(type, half, 6, 1)                         \
  static const tile_fn type##_tiles[3][TILE_OPERANDS] = {                                      \
      {type##_4_1_ahead, type##_4_2_ahead, type##_4_3_ahead,                                   \
       type##_4_4_ahead, type##_4_5_ahead, type##_4_6_ahead},                                  \
      {type##_4_1, type##_4_2, type##_4_3, type##_4_4, type##_4_5, type##_4_6},                \
      {type##_1_1, type##_1_2, type##_1_3, type##_1_4, type##_1_5, type##_1_6},                \
  };
typedef void (*tile_fn)(const tile *t);
TILES(bfloat16, 1)
TILES(float32, 0)
TILE(pair, 1, 2, 2) TILE(pair, 1, 4, 2) TILE(pair, 1, 6, 2)
static const tile_fn pair_tiles[3][TILE_OPERANDS] = {
    {NULL, pair_4_2_ahead, NULL, pair_4_4_ahead, NULL, pair_4_6_ahead},
    {NULL, pair_4_2, NULL, pair_4_4, NULL, pair_4_6},
    {NULL, pair_1_2, NULL, pair_1_4, NULL, pair_1_6},
};

// ---- Groups of rows in blocks of columns.

// The rows of a group over all columns, for `operands` prepared rows from t.operand.
static void run_group(
    tile t, const tile_fn tiles[3][TILE_OPERANDS], size_t rows, size_t bytes, size_t slices,
    size_t slice_stride, size_t operands, size_t parts) {
  const uint8_t *weights = t.weights, *operand = t.operand;
  const uint8_t *ahead = weights + rows * t.weight_stride;
  float *sums = t.sums, *output = t.output;
  size_t slice = bytes / slices, slice_end = slice;
  size_t block = operands >= WIDE_OPERANDS ? bytes : BLOCK_BYTES;
  t.sum_stride = operands;
  for (t.begin = 0; t.begin < bytes; t.begin = t.end) {
    t.first = t.begin + slice == slice_end;
    t.end = slice_end - t.begin < block ? slice_end : t.begin + block;
    t.last = t.end == slice_end;
    for (size_t i = 0; i < rows;) {
      size_t step = rows - i >= TILE_ROWS ? TILE_ROWS : 1;
      t.weights = weights + i * t.weight_stride;
      t.ahead = ahead;
      for (size_t j = 0; j < operands; j += TILE_OPERANDS) {
        size_t count = operands - j < TILE_OPERANDS ? operands - j : TILE_OPERANDS;
        t.operand = operand + j * t.operand_stride;
        t.sums = sums + 16 * (i * operands + j);
        t.output = output + j / parts * t.output_stride + i;
        tiles[step == 1 ? 2 : j > 0][count - 1](&t);
      }
      ahead += step * (t.end - t.begin);
      i += step;
    }
    if (t.last) slice_end += slice, output += slice_stride;
  }
}

static void run_groups(
    const ck_linear *task, const tile_fn tiles[3][TILE_OPERANDS], size_t width, size_t parts,
    size_t row0, size_t row1, size_t token0, size_t token1, void *scratch) {
  size_t bytes = task->columns * width, stride = task->row_stride;
  size_t step = TILE_OPERANDS / parts;
  size_t block = OPERAND_BLOCK_BYTES / task->operand_stride / step * step;
  if (block < step) block = step;
  if (block > 96) block = 96;
  for (size_t token = token0; token < token1; token += block) {
    size_t tokens = token1 - token < block ? token1 - token : block;
    for (size_t row = row0; row < row1; row += GROUP_ROWS) {
      size_t rows = row1 - row < GROUP_ROWS ? row1 - row : GROUP_ROWS;
      tile t = {
          .weights = (const uint8_t *)task->values + row * stride,
          .weight_stride = stride,
          .operand = (const uint8_t *)task->operand + token * task->operand_stride,
          .operand_stride = task->operand_stride / parts,
          .sums = scratch,
          .output = task->output + token * task->output_stride + row,
          .output_stride = task->output_stride,
      };
      run_group(
          t, tiles, rows, bytes, task->slices, task->slice_stride, tokens * parts, parts);
    }
  }
}

// ---- One row of weights after the other, for one or two prepared rows.

CK_AVX512_INLINE void stream(
    const ck_linear *task, size_t row0, size_t row1, size_t token, int operands, int parts,
    size_t width) {
  size_t slice = task->columns / task->slices * width;
  size_t stride = task->operand_stride / (size_t)parts;
  const uint8_t *x = (const uint8_t *)task->operand + token * task->operand_stride;
  float *output = task->output + token * task->output_stride;
  int half = width == 2;
  for (size_t row = row0; row < row1; row++) {
    const uint8_t *w = (const uint8_t *)task->values + row * task->row_stride;
    size_t k = 0;
    for (size_t s = 0; s < task->slices; s++) {
      size_t end = (s + 1) * slice, full = k + slice / 64 * 64;
      __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
      for (; k < full; k += 64) {
        __m512i v = _mm512_loadu_si512(w + k);
        CK_UNROLL for (int j = 0; j < operands; j++)
          sums[j] = add_product(sums[j], v, _mm512_load_si512(x + j * stride + k), half);
      }
      if (k < end) {
        __m512i v = _mm512_maskz_loadu_epi16(byte_tail(end - k), w + k);
        CK_UNROLL for (int j = 0; j < operands; j++)
          sums[j] = add_product(sums[j], v, _mm512_load_si512(x + j * stride + k), half);
        k = end;
      }
      float *at = output + s * task->slice_stride + row;
      if (parts == 2) sums[0] = _mm512_add_ps(sums[0], sums[1]);
      *at = lanes_sum(sums[0]);
      if (parts == 1 && operands == 2) at[task->output_stride] = lanes_sum(sums[1]);
    }
  }
}

CK_AVX512 void ck_avx512_linear_bfloat16(
    const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,
    void *scratch) {
  size_t parts = task->operand_kind == CK_OPERAND_PAIR ? 2 : 1, tokens = token1 - token0;
  int fits = tokens * parts * task->columns * 2 <= STREAM_BYTES;
  if (fits && tokens == 1 && parts == 1)
    stream(task, row0, row1, token0, 1, 1, 2);
  else if (fits && tokens == 2 && parts == 1)
    stream(task, row0, row1, token0, 2, 1, 2);
  else if (fits && tokens == 1)
    stream(task, row0, row1, token0, 2, 2, 2);
  else
    run_groups(
        task, parts == 2 ? pair_tiles : bfloat16_tiles, 2, parts, row0, row1, token0, token1,
        scratch);
}

CK_AVX512 void ck_avx512_linear_float32(
    const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,
    void *scratch) {
  size_t tokens = token1 - token0;
  int fits = tokens * task->columns * 4 <= STREAM_BYTES;
  if (fits && tokens == 1)
    stream(task, row0, row1, token0, 1, 1, 4);
  else if (fits && tokens == 2)
    stream(task, row0, row1, token0, 2, 1, 4);
  else
    run_groups(task, float32_tiles, 4, 1, row0, row1, token0, token1, scratch);
}
#endif
