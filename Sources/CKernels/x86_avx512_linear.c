// Matrix products with AVX-512 BF16 dot products, BF16 weights in place; x86_avx512_tile.h has the
// walk.
// A pair (hi, lo) is two rows of activations whose accumulators are added before their lanes.
#if defined(__x86_64__)
#define CK_AVX512_DOTS
#include "x86_avx512_tile.h"

#define OPERAND_BLOCK_BYTES 491520  // of prepared rows that stay in the second cache
#define AHEAD_BYTES 131072          // between a line's prefetch and its use
#define TILE_OPERANDS 12            // prepared rows; a pair has two for each token

CK_AVX512_INLINE void add_half_line(
    const tile *t, size_t k, __mmask32 mask, int operands, int source,
    __m512 sums[TILE_OPERANDS][2]) {
  uint8_t *panel = t->panel + k * GROUP_ROWS;
  const uint8_t *x = t->operand + k;
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
  CK_UNROLL for (int c = 0; c < 2; c++) {
    // Loads must not wander here from other chunks: they would take the accumulators' registers.
    __asm__ volatile("" ::: "memory");
    CK_UNROLL for (int j = 0; j < operands; j++) {
      __m512i v = _mm512_broadcast_i32x4(
          _mm_load_si128((const __m128i *)(x + (size_t)j * t->operand_stride + 16 * c)));
      CK_UNROLL for (int q = 0; q < 2; q++)
        sums[j][q] = _mm512_dpbf16_ps(sums[j][q], (__m512bh)w.of[c][q], (__m512bh)v);
    }
  }
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
        sums[k][1], both, 1);
  }
}

CK_AVX512_INLINE void run_tile(const tile *t, int operands, int parts, int source) {
  __m512 sums[TILE_OPERANDS][2];
  CK_UNROLL for (int j = 0; j < operands; j++)
    CK_UNROLL for (int q = 0; q < 2; q++)
      sums[j][q] = t->first ? _mm512_setzero_ps() : _mm512_load_ps(t->sums + 16 * (2 * j + q));
  const uint8_t *ahead = t->ahead;
  size_t full = t->bytes / LINE * LINE, k = 0;
  for (; k < full; k += LINE, ahead += t->ahead_step) {
    if (source != from_panel) prefetch_lines(t, ahead);
    CK_UNROLL for (size_t at = 0; at < LINE; at += LINE / 2)
      add_half_line(t, k + at, 0xffffffff, operands, source, sums);
  }
  // What lies beyond the columns is zero.
  for (; k < t->bytes; k += LINE / 2)
    add_half_line(t, k, half_line_mask(t->bytes - k), operands, source, sums);
  finish_tile(t, operands, parts, sums);
}

// One function per number of prepared rows; only full tiles write panels.
#define TILE(type, operands, parts)                                        \
  CK_AVX512 static void type##_##operands(const tile *t, int source) {           \
    if (source == from_panel)                                                    \
      run_tile(t, operands, parts, from_panel);                            \
    else if (source == from_rows || operands < TILE_OPERANDS)                    \
      run_tile(t, operands, parts, from_rows);                             \
    else                                                                         \
      run_tile(t, operands, parts, to_panel);                              \
  }
#define TILES(type)                                                        \
  TILE(type, 1, 1) TILE(type, 2, 1) TILE(type, 3, 1)           \
  TILE(type, 4, 1) TILE(type, 5, 1) TILE(type, 6, 1)           \
  TILE(type, 7, 1) TILE(type, 8, 1) TILE(type, 9, 1)           \
  TILE(type, 10, 1) TILE(type, 11, 1) TILE(type, 12, 1)        \
  static const tile_fn type##_tiles[TILE_OPERANDS] = {                           \
      type##_1, type##_2, type##_3, type##_4, type##_5, type##_6,                \
      type##_7, type##_8, type##_9, type##_10, type##_11, type##_12,             \
  };
TILES(bfloat16)
TILE(pair, 2, 2) TILE(pair, 4, 2) TILE(pair, 6, 2)
TILE(pair, 8, 2) TILE(pair, 10, 2) TILE(pair, 12, 2)
static const tile_fn pair_tiles[TILE_OPERANDS / 2] = {
    pair_2, pair_4, pair_6, pair_8, pair_10, pair_12,
};

static void run(
    const ck_linear *task, const tile_fn *tiles, size_t width, size_t parts, size_t row0,
    size_t row1, size_t token0, size_t token1, void *scratch) {
  products p = {
      .task = task, .tiles = tiles, .width = width, .spread = 1, .parts = parts,
      .most = TILE_OPERANDS / parts, .few = TILE_OPERANDS / parts, .granule = LINE,
      .operand_block = OPERAND_BLOCK_BYTES, .many_rows = 64, .ahead = AHEAD_BYTES,
      .row0 = row0, .row1 = row1,
  };
  run_products(p, token0, token1, scratch);
}

CK_AVX512 void ck_avx512_linear_bfloat16(
    const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,
    void *scratch) {
  if (task->operand_kind == CK_OPERAND_PAIR)
    run(task, pair_tiles, 2, 2, row0, row1, token0, token1, scratch);
  else
    run(task, bfloat16_tiles, 2, 1, row0, row1, token0, token1, scratch);
}

#endif
