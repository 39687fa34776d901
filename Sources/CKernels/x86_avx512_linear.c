// Matrix products with AVX-512, BF16 and Float32 weights in place.
//
// Dot form: both operands lie along K, and every output has one accumulator vector that takes K
// in order; at the end its lanes are added by one fixed tree. So one token and a thousand give
// the same bits, weights are read where they are, and a tile of 4 rows of weights by 6 rows of
// activations needs 10 loads for 24 dot products. A pair (hi, lo) is two rows of activations whose
// accumulators are added before the tree.
//
// Two loops share that order. Up to four rows of activations that stay in the first cache take one
// row of weights after the other: a single stream is what the hardware prefetches best. One row of
// activations leaves the core room to run ahead; with more of them the stream is prefetched into
// the second cache as well (from 70 to 90 % of the read bandwidth at four).
// Otherwise groups of rows are walked in blocks of columns, so that activations are read from the
// first cache, with the accumulators in scratch between blocks; the first tile of activations
// prefetches the rows to come in the order in which they will be read, the others find them in
// the second cache.
#if defined(__x86_64__)
#include "x86_avx512.h"

#define TILE_ROWS 4
#define TILE_OPERANDS 6            // prepared rows; a pair has two for each token
#define GROUP_ROWS 32
#define STREAM_OPERANDS 4
#define STREAM_BYTES 20480         // of prepared rows that stay in the first cache
#define AHEAD_BYTES 16384          // between a line's prefetch and its use
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
  const uint8_t *ahead;   // the row to prefetch meanwhile, others at its stride
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
  for (size_t k = t->begin; k < full; k += 64) {
    __m512i w[TILE_ROWS];
    CK_UNROLL for (int i = 0; i < rows; i++) {
      w[i] = _mm512_loadu_si512(t->weights + i * t->weight_stride + k);
      if (prefetch)
        _mm_prefetch((const char *)t->ahead + i * t->weight_stride + k, _MM_HINT_T1);
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

// How many rows before its use a block of a row is prefetched.
static size_t rows_ahead(size_t block, size_t rows) {
  size_t distance = (AHEAD_BYTES / block + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
  if (distance < TILE_ROWS) distance = TILE_ROWS;
  return distance < rows ? distance : rows;
}

typedef struct {
  const uint8_t *weights, *operand;
  const uint8_t *after;  // the next group's first row
  float *sums, *output;
  const tile_fn (*tiles)[TILE_OPERANDS];
  size_t rows, bytes, operands, parts;
} group;

// Rows [row0, row1) of a block of columns for all operands; t says which block.
static void run_block(const group *g, tile t, size_t row0, size_t row1) {
  size_t distance = rows_ahead(t.end - t.begin, g->rows);
  size_t passes = (g->operands + TILE_OPERANDS - 1) / TILE_OPERANDS;
  for (size_t j = 0, count; j < g->operands; j += count, passes--) {
    // Tiles of about one size: small ones are slow.
    count = (g->operands - j + passes - 1) / passes;
    count = (count + g->parts - 1) / g->parts * g->parts;
    t.operand = g->operand + j * t.operand_stride;
    for (size_t i = row0; i < row1;) {
      size_t step = row1 - i >= TILE_ROWS ? TILE_ROWS : 1;
      t.weights = g->weights + i * t.weight_stride;
      // The rows of this block to come, then those of the next block, or of the next group.
      t.ahead = t.weights + distance * t.weight_stride;
      if (i + distance >= g->rows && t.end < g->bytes)
        t.ahead += t.end - t.begin - g->rows * t.weight_stride;
      else if (i + distance >= g->rows)
        t.ahead = g->after + (i + distance - g->rows) * t.weight_stride - t.begin;
      t.sums = g->sums + 16 * (i * g->operands + j);
      t.output = g->output + j / g->parts * t.output_stride + i;
      g->tiles[step == 1 ? 2 : j > 0][count - 1](&t);
      i += step;
    }
  }
}

// The rows of a group over all columns.
static void run_group(group g, tile t, size_t slices, size_t slice_stride) {
  size_t slice = g.bytes / slices, slice_end = slice;
  size_t block = g.operands >= WIDE_OPERANDS ? g.bytes : BLOCK_BYTES;
  t.sum_stride = g.operands;
  for (t.begin = 0; t.begin < g.bytes; t.begin = t.end) {
    t.first = t.begin + slice == slice_end;
    t.end = slice_end - t.begin < block ? slice_end : t.begin + block;
    t.last = t.end == slice_end;
    // Operands that stay in the first cache pass a few rows at a time; otherwise rows pass a few
    // operands at a time.
    size_t some = g.operands * (t.end - t.begin) <= STREAM_BYTES ? TILE_ROWS : g.rows;
    for (size_t i = 0; i < g.rows; i += some)
      run_block(&g, t, i, g.rows - i < some ? g.rows : i + some);
    if (t.last) slice_end += slice, g.output += slice_stride;
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
      group g = {
          .weights = (const uint8_t *)task->values + row * stride,
          .operand = (const uint8_t *)task->operand + token * task->operand_stride,
          .sums = scratch,
          .output = task->output + token * task->output_stride + row,
          .tiles = tiles,
          .rows = row1 - row < GROUP_ROWS ? row1 - row : GROUP_ROWS,
          .after = (const uint8_t *)task->values + (row + GROUP_ROWS) * stride,
          .bytes = bytes,
          .operands = tokens * parts,
          .parts = parts,
      };
      if (row1 - row <= GROUP_ROWS)
        g.after = task->next ? task->next : g.weights + g.rows * stride;
      tile t = {
          .weight_stride = stride,
          .operand_stride = task->operand_stride / parts,
          .output_stride = task->output_stride,
      };
      run_group(g, t, task->slices, task->slice_stride);
    }
  }
}

// ---- One row of weights after the other, for up to four prepared rows.

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
    // What will be read next is prefetched even where the stream itself is not.
    const uint8_t *ahead = operands > 2 ? w + AHEAD_BYTES : NULL;
    size_t left = (row1 - row) * task->row_stride;
    if (task->next && left <= AHEAD_BYTES)
      ahead = (const uint8_t *)task->next + (AHEAD_BYTES - left);
    size_t k = 0;
    for (size_t s = 0; s < task->slices; s++) {
      size_t end = (s + 1) * slice, full = k + slice / 64 * 64;
      __m512 sums[STREAM_OPERANDS];
      CK_UNROLL for (int j = 0; j < operands; j++) sums[j] = _mm512_setzero_ps();
      for (; k < full; k += 64) {
        __m512i v = _mm512_loadu_si512(w + k);
        if (ahead) _mm_prefetch((const char *)ahead + k, _MM_HINT_T1);
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
      CK_UNROLL for (int j = 0; j < operands; j += parts) {
        __m512 sum = parts == 2 ? _mm512_add_ps(sums[j], sums[j + 1]) : sums[j];
        at[j / parts * task->output_stride] = lanes_sum(sum);
      }
    }
  }
}

// True when the rows of activations are few enough to stream weights past them.
CK_AVX512_INLINE int stream_few(
    const ck_linear *task, size_t row0, size_t row1, size_t token, size_t tokens, int parts,
    size_t width) {
  size_t operands = tokens * (size_t)parts;
  if (operands > STREAM_OPERANDS || operands * task->columns * width > STREAM_BYTES) return 0;
  switch (operands) {
  case 1: stream(task, row0, row1, token, 1, parts, width); break;
  case 2: stream(task, row0, row1, token, 2, parts, width); break;
  case 3: stream(task, row0, row1, token, 3, parts, width); break;
  default: stream(task, row0, row1, token, 4, parts, width);
  }
  return 1;
}

CK_AVX512 void ck_avx512_linear_bfloat16(
    const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,
    void *scratch) {
  size_t tokens = token1 - token0;
  if (task->operand_kind == CK_OPERAND_PAIR) {
    if (!stream_few(task, row0, row1, token0, tokens, 2, 2))
      run_groups(task, pair_tiles, 2, 2, row0, row1, token0, token1, scratch);
  } else if (!stream_few(task, row0, row1, token0, tokens, 1, 2)) {
    run_groups(task, bfloat16_tiles, 2, 1, row0, row1, token0, token1, scratch);
  }
}

CK_AVX512 void ck_avx512_linear_float32(
    const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,
    void *scratch) {
  if (!stream_few(task, row0, row1, token0, token1 - token0, 1, 4))
    run_groups(task, float32_tiles, 4, 1, row0, row1, token0, token1, scratch);
}
#endif
