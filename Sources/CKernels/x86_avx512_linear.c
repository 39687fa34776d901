// Matrix products with AVX-512, BF16 and Float32 weights in place.
//
// A vector holds 16 bytes, a chunk, of each of four rows of weights; it is multiplied by the same
// chunk of a row of activations, broadcast. So an output has four lanes, which take K in order; at
// the end they are added as (0 + 2) + (1 + 3). One token and a thousand give the same bits, and a
// tile of 8 rows of weights by 12 rows of activations needs 24 accumulators only. A pair (hi, lo)
// is two rows of activations whose accumulators are added before their lanes.
//
// Chunks of four rows come together by two loads, two insertions and two shuffles for two chunks;
// each takes about half a dot product's time from the 24 beside it. A few tokens do so in
// registers. For many tokens the first tile of a group of 8 rows writes the vectors into a panel,
// which the others read; columns are then taken in blocks for which the activations stay in the
// second cache, with the accumulators in scratch between blocks.
//
// While the first tile of a group runs, the rows to come are prefetched into the second cache in
// the order of their addresses, which is what memory likes best.
#if defined(__x86_64__)
#include "x86_avx512.h"

#define QUAD 4                     // rows in a vector
#define GROUP_ROWS (2 * QUAD)
#define TILE_OPERANDS 12           // prepared rows; a pair has two for each token
#define LINE 64
#define AHEAD_BYTES 131072          // between a line's prefetch and its use, about
#define PANEL_OPERANDS 13          // from here a panel pays
#define PANEL_BYTES (1 << 19)      // scratch: the panel, then the accumulators of
#define MANY_ROWS 64               // rows
#define MANY_OPERANDS 96           // by prepared rows
#define OPERAND_BLOCK_BYTES 491520 // of prepared rows that stay in the second cache

typedef struct {
  const uint8_t *low, *high;  // the first rows of both quads
  size_t weight_stride;       // bytes
  uint8_t *panel;             // vectors of both quads, chunk after chunk
  const uint8_t *operand;
  size_t operand_stride;      // bytes from prepared row to prepared row
  size_t bytes;               // of each row
  int first, last;            // the block that begins, that ends a slice
  float *sums;                // [operands][2] vectors, between blocks
  float *output;              // [tokens][output_stride]
  size_t output_stride;       // floats
  __mmask8 low_mask, high_mask;  // rows that are written, from output and output + high_offset
  size_t high_offset;
  const uint8_t *ahead;       // what to prefetch meanwhile, eight lines for every line of a row
  size_t ahead_stride, ahead_step;
} tile;

// Where a tile's vectors of weights come from.
enum { from_rows, from_rows_ahead, to_panel, from_panel };

CK_AVX512_INLINE __m512 add_product(__m512 sum, __m512i w, __m512i x, int half) {
  return half ? _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)x)
              : _mm512_fmadd_ps(_mm512_castsi512_ps(w), _mm512_castsi512_ps(x), sum);
}

// Half a line of two rows.
CK_AVX512_INLINE __m512i load_two(const uint8_t *a, const uint8_t *b, __mmask16 mask) {
  __m256i low, high;
  if (mask == 0xffff) {
    low = _mm256_loadu_si256((const __m256i *)a), high = _mm256_loadu_si256((const __m256i *)b);
  } else {
    low = _mm256_maskz_loadu_epi16(mask, a), high = _mm256_maskz_loadu_epi16(mask, b);
  }
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// Two chunks of both quads.
typedef struct {
  __m512i of[2][2];  // [chunk][quad]
} chunks;

CK_AVX512_INLINE chunks load_chunks(const tile *t, size_t k, __mmask16 mask) {
  size_t s = t->weight_stride;
  const uint8_t *low = t->low + k, *high = t->high + k;
  __m512i a = load_two(low, low + s, mask), b = load_two(low + 2 * s, low + 3 * s, mask);
  __m512i c = load_two(high, high + s, mask), d = load_two(high + 2 * s, high + 3 * s, mask);
  chunks w = {{{_mm512_shuffle_i64x2(a, b, 0x88), _mm512_shuffle_i64x2(c, d, 0x88)},
               {_mm512_shuffle_i64x2(a, b, 0xdd), _mm512_shuffle_i64x2(c, d, 0xdd)}}};
  return w;
}

CK_AVX512_INLINE void add_chunks(
    chunks w, const uint8_t *x, size_t stride, int operands, int half,
    __m512 sums[TILE_OPERANDS][2]) {
  CK_UNROLL for (int c = 0; c < 2; c++) {
    // Loads must not wander here from other chunks: they would take the accumulators' registers.
    __asm__ volatile("" ::: "memory");
    CK_UNROLL for (int j = 0; j < operands; j++) {
      __m512i v = _mm512_broadcast_i32x4(
          _mm_load_si128((const __m128i *)(x + (size_t)j * stride + 16 * c)));
      CK_UNROLL for (int q = 0; q < 2; q++)
        sums[j][q] = add_product(sums[j][q], w.of[c][q], v, half);
    }
  }
}

// Adds the lanes of two tokens' sums and writes them.
CK_AVX512_INLINE void write_two(
    const tile *t, float *at, __m512 a0, __m512 a1, __m512 b0, __m512 b1, int both) {
  const __m512i rows = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(a0, a1), _mm512_unpackhi_ps(a0, a1));
  __m512 b = both ? _mm512_add_ps(_mm512_unpacklo_ps(b0, b1), _mm512_unpackhi_ps(b0, b1)) : a;
  __m512 v = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
  v = _mm512_permutexvar_ps(rows, v);
  _mm_mask_storeu_ps(at, t->low_mask, _mm512_castps512_ps128(v));
  _mm_mask_storeu_ps(at + t->high_offset, t->high_mask, _mm512_extractf32x4_ps(v, 1));
  if (!both) return;
  at += t->output_stride;
  _mm_mask_storeu_ps(at, t->low_mask, _mm512_extractf32x4_ps(v, 2));
  _mm_mask_storeu_ps(at + t->high_offset, t->high_mask, _mm512_extractf32x4_ps(v, 3));
}

CK_AVX512_INLINE void finish_tile(
    const tile *t, int operands, int parts, __m512 sums[TILE_OPERANDS][2]) {
  if (!t->last) {
    CK_UNROLL for (int j = 0; j < operands; j++)
      CK_UNROLL for (int q = 0; q < 2; q++)
        _mm512_store_ps(t->sums + 16 * (2 * j + q), sums[j][q]);
    return;
  }
  if (parts == 2) {
    CK_UNROLL for (int j = 0; j < operands; j += 2)
      CK_UNROLL for (int q = 0; q < 2; q++)
        sums[j / 2][q] = _mm512_add_ps(sums[j][q], sums[j + 1][q]);
  }
  CK_UNROLL for (int j = 0; j < operands / parts; j += 2) {
    int both = j + 1 < operands / parts, k = both ? j + 1 : j;
    write_two(
        t, t->output + (size_t)j * t->output_stride, sums[j][0], sums[j][1], sums[k][0],
        sums[k][1], both);
  }
}

CK_AVX512_INLINE void add_half_line(
    const tile *t, size_t k, __mmask16 mask, int operands, int half, int source,
    __m512 sums[TILE_OPERANDS][2]) {
  uint8_t *panel = t->panel + k * GROUP_ROWS;
  chunks w;
  if (source == from_panel) {
    CK_UNROLL for (int c = 0; c < 4; c++)
      w.of[c / 2][c % 2] = _mm512_load_si512(panel + LINE * c);
  } else {
    w = load_chunks(t, k, mask);
  }
  if (source == to_panel) {
    CK_UNROLL for (int c = 0; c < 4; c++)
      _mm512_store_si512(panel + LINE * c, w.of[c / 2][c % 2]);
  }
  add_chunks(w, t->operand + k, t->operand_stride, operands, half, sums);
}

CK_AVX512_INLINE void run_tile(const tile *t, int operands, int parts, int half, int source) {
  __m512 sums[TILE_OPERANDS][2];
  CK_UNROLL for (int j = 0; j < operands; j++)
    CK_UNROLL for (int q = 0; q < 2; q++)
      sums[j][q] = t->first ? _mm512_setzero_ps() : _mm512_load_ps(t->sums + 16 * (2 * j + q));
  const uint8_t *ahead = t->ahead;
  size_t full = t->bytes / LINE * LINE, k = 0;
  for (; k < full; k += LINE, ahead += t->ahead_step) {
    if (source == from_rows_ahead || source == to_panel) {
      CK_UNROLL for (size_t i = 0; i < GROUP_ROWS; i++)
        _mm_prefetch((const char *)ahead + i * t->ahead_stride, _MM_HINT_T1);
    }
    CK_UNROLL for (size_t at = 0; at < LINE; at += LINE / 2)
      add_half_line(t, k + at, 0xffff, operands, half, source, sums);
  }
  // What lies beyond the columns is zero.
  for (; k < t->bytes; k += LINE / 2)
    add_half_line(t, k, tail_mask16((t->bytes - k) / 2), operands, half, source, sums);
  finish_tile(t, operands, parts, sums);
}

typedef void (*tile_fn)(const tile *t, int source);

// One function per number of prepared rows; only full tiles write panels.
#define TILE(type, half, operands, parts)                                        \
  CK_AVX512 static void type##_##operands(const tile *t, int source) {           \
    if (source == from_panel)                                                    \
      run_tile(t, operands, parts, half, from_panel);                            \
    else if (source == from_rows)                                                \
      run_tile(t, operands, parts, half, from_rows);                             \
    else if (source == from_rows_ahead || operands < TILE_OPERANDS)              \
      run_tile(t, operands, parts, half, from_rows_ahead);                       \
    else                                                                         \
      run_tile(t, operands, parts, half, to_panel);                              \
  }
#define TILES(type, half)                                                        \
  TILE(type, half, 1, 1) TILE(type, half, 2, 1) TILE(type, half, 3, 1)           \
  TILE(type, half, 4, 1) TILE(type, half, 5, 1) TILE(type, half, 6, 1)           \
  TILE(type, half, 7, 1) TILE(type, half, 8, 1) TILE(type, half, 9, 1)           \
  TILE(type, half, 10, 1) TILE(type, half, 11, 1) TILE(type, half, 12, 1)        \
  static const tile_fn type##_tiles[TILE_OPERANDS] = {                           \
      type##_1, type##_2, type##_3, type##_4, type##_5, type##_6,                \
      type##_7, type##_8, type##_9, type##_10, type##_11, type##_12,             \
  };
TILES(bfloat16, 1)
TILES(float32, 0)
TILE(pair, 1, 2, 2) TILE(pair, 1, 4, 2) TILE(pair, 1, 6, 2)
TILE(pair, 1, 8, 2) TILE(pair, 1, 10, 2) TILE(pair, 1, 12, 2)
static const tile_fn pair_tiles[TILE_OPERANDS] = {
    NULL, pair_2, NULL, pair_4, NULL, pair_6, NULL, pair_8, NULL, pair_10, NULL, pair_12,
};

typedef struct {
  const ck_linear *task;
  const tile_fn *tiles;
  size_t width, parts;     // bytes of a weight; prepared rows of a token
  size_t row0, row1;
  size_t token0, token1;   // of the block of tokens
  uint8_t *panel;          // NULL where tiles work from the rows
  float *sums;
} products;

// Where the group from `row` is, and what becomes of its rows; returns how many it covers.
static size_t place_group(const products *p, size_t row, tile *t) {
  const ck_linear *task = p->task;
  const uint8_t *values = task->values;
  size_t rows = p->row1 - p->row0, left = p->row1 - row, count = GROUP_ROWS;
  t->weight_stride = task->row_stride;
  t->low_mask = t->high_mask = 15, t->high_offset = QUAD;
  t->output = task->output + row;
  if (left < GROUP_ROWS) {
    count = left;
    if (rows >= GROUP_ROWS) {
      // The last group ends with the last row, and computes some rows again.
      row = p->row1 - GROUP_ROWS;
      t->output = task->output + row;
    } else if (rows >= QUAD) {
      t->high_offset = left - QUAD;
    } else {
      // A row at a time, in every place.
      count = 1, t->weight_stride = 0, t->low_mask = 1, t->high_mask = 0, t->high_offset = 0;
    }
  }
  t->low = values + row * task->row_stride;
  t->high = t->low + t->high_offset * task->row_stride;
  return count;
}

// Bytes [begin, end) of the rows of a group for all tokens of the block.
static void run_tiles(const products *p, tile t, size_t begin, size_t end) {
  const ck_linear *task = p->task;
  size_t slice = task->columns / task->slices * p->width, most = TILE_OPERANDS / p->parts;
  float *output = t.output + begin / slice * task->slice_stride;
  t.low += begin, t.high += begin;
  t.bytes = end - begin, t.first = begin % slice == 0, t.last = end % slice == 0;
  size_t passes = (p->token1 - p->token0 + most - 1) / most;
  for (size_t token = p->token0, count; token < p->token1; token += count, passes--) {
    // Tiles of about one size: small ones are slow.
    count = (p->token1 - token + passes - 1) / passes;
    int source = p->panel ? from_panel : from_rows;
    if (token == p->token0) {
      source = p->panel ? to_panel : from_rows_ahead;
      if (p->panel) count = most;
    }
    t.operand = (const uint8_t *)task->operand + token * task->operand_stride + begin;
    t.sums = p->sums + 32 * p->parts * (token - p->token0);
    t.output = output + token * task->output_stride;
    p->tiles[count * p->parts - 1](&t, source);
  }
}

// Groups of rows [row, end) in blocks of columns.
static void run_rows(const products *p, size_t row, size_t end, size_t block) {
  const ck_linear *task = p->task;
  size_t bytes = task->columns * p->width, slice = bytes / task->slices;
  size_t group_bytes = GROUP_ROWS * bytes, operands = (p->token1 - p->token0) * p->parts;
  // Whole groups ahead, so that they are there when their first rows are read.
  size_t ahead = (AHEAD_BYTES + group_bytes - 1) / group_bytes * GROUP_ROWS;
  for (size_t begin = 0, stop; begin < bytes; begin = stop) {
    size_t left = slice - begin % slice;
    stop = begin + (left < block ? left : block);
    products q = *p;
    for (size_t r = row, count; r < end; r += count, q.sums += 32 * operands) {
      tile t = {
          .panel = p->panel,
          .operand_stride = task->operand_stride / p->parts,
          .output_stride = task->output_stride,
          .ahead_stride = LINE,
          .ahead_step = GROUP_ROWS * LINE,
      };
      count = place_group(p, r, &t);
      t.ahead = t.low + ahead * task->row_stride + begin * GROUP_ROWS;
      if (task->next && r + ahead >= p->row1)
        t.ahead = (const uint8_t *)task->next + (r + ahead - p->row1) * task->row_stride +
                  begin * GROUP_ROWS;
      // Rows of a larger matrix, and blocks, are prefetched side by side.
      if (task->row_stride != bytes || block < bytes) {
        t.ahead_stride = task->row_stride, t.ahead_step = LINE;
        t.ahead -= begin * (GROUP_ROWS - 1);
      }
      run_tiles(&q, t, begin, stop);
    }
  }
}

static void run(
    const ck_linear *task, const tile_fn *tiles, size_t width, size_t parts, size_t row0,
    size_t row1, size_t token0, size_t token1, void *scratch) {
  size_t bytes = task->columns * width, tokens = MANY_OPERANDS / parts;
  products p = {
      .task = task, .tiles = tiles, .width = width, .parts = parts, .row0 = row0, .row1 = row1,
      .sums = (float *)((uint8_t *)scratch + PANEL_BYTES),
  };
  for (size_t token = token0; token < token1; token = p.token1) {
    p.token0 = token, p.token1 = token1 - token < tokens ? token1 : token + tokens;
    size_t operands = (p.token1 - token) * parts, held = operands * task->operand_stride / parts;
    size_t blocks = (held + OPERAND_BLOCK_BYTES - 1) / OPERAND_BLOCK_BYTES;
    size_t block = ((bytes + blocks - 1) / blocks + LINE - 1) / LINE * LINE;
    p.panel = operands >= PANEL_OPERANDS && block * GROUP_ROWS <= PANEL_BYTES ? scratch : NULL;
    for (size_t row = row0; row < row1; row += MANY_ROWS)
      run_rows(&p, row, row1 - row < MANY_ROWS ? row1 : row + MANY_ROWS, block);
  }
}

CK_AVX512 void ck_avx512_linear_bfloat16(
    const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,
    void *scratch) {
  if (task->operand_kind == CK_OPERAND_PAIR)
    run(task, pair_tiles, 2, 2, row0, row1, token0, token1, scratch);
  else
    run(task, bfloat16_tiles, 2, 1, row0, row1, token0, token1, scratch);
}

CK_AVX512 void ck_avx512_linear_float32(
    const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,
    void *scratch) {
  run(task, float32_tiles, 4, 1, row0, row1, token0, token1, scratch);
}
#endif
