// Matrix products with AVX-512, block-E4M3 weights in place; x86_avx512_tile.h has the walk.
//
// Codes become BF16 as x86_avx512_e4m3.h tells; of every 16 columns the operand has the even ones
// first. A chunk is 16 codes, which become two chunks of BF16. The products of a block of 128
// columns are summed by themselves, then multiplied by the block's factor and added to the output's
// lanes. A pair's lo row adds to the same sums as its hi row. Up to four tokens widen codes in
// registers; of more tokens the first four write them into a panel.
#if defined(__x86_64__)
#define CK_AVX512_DOTS
#include "x86_avx512_e4m3.h"

#define OPERAND_BLOCK_BYTES 491520  // of prepared rows that stay in the second cache
#define AHEAD_BYTES 131072          // between a line's prefetch and its use
#define TILE_TOKENS 6
#define FEW_TOKENS 4  // for which codes are widened in registers

CK_AVX512_INLINE void add_columns(
    const tile *t, columns16 w, size_t k, int tokens, int parts, __m512 partial[TILE_TOKENS][2]) {
  const uint8_t *x = t->operand + 2 * k;
  CK_UNROLL for (int half = 0; half < 2; half++) {
    // Loads must not wander here from other chunks: they would take the sums' registers.
    __asm__ volatile("" ::: "memory");
    CK_UNROLL for (int j = 0; j < tokens; j++)
      CK_UNROLL for (int part = 0; part < parts; part++) {
        __m512i v = _mm512_broadcast_i32x4(_mm_load_si128(
            (const __m128i *)(x + (size_t)(j * parts + part) * t->operand_stride + 16 * half)));
        CK_UNROLL for (int q = 0; q < 2; q++)
          partial[j][q] = _mm512_dpbf16_ps(partial[j][q], (__m512bh)w.of[half][q], (__m512bh)v);
      }
  }
}

// 32 columns from k, of which the mask's are there.
CK_AVX512_INLINE void add_half_line(
    const tile *t, size_t k, __mmask32 mask, int tokens, int parts, int source,
    __m512 partial[TILE_TOKENS][2]) {
  chunks codes;
  int wrong = 0;
  if (source != from_panel) {
    codes = load_chunks(t, k, mask);
    wrong = need_repair(&codes);
  }
  CK_UNROLL for (int c = 0; c < 2; c++, k += 16) {
    columns16 w;
    uint8_t *panel = t->panel + 2 * k * GROUP_ROWS;
    if (source == from_panel) {
      CK_UNROLL for (int i = 0; i < 4; i++)
        w.of[i / 2][i % 2] = _mm512_load_si512(panel + LINE * i);
    } else {
      w = widen_columns(codes.of[c]);
      if (__builtin_expect(wrong, 0)) repair_columns(codes.of[c], &w);
    }
    if (source == to_panel) {
      CK_UNROLL for (int i = 0; i < 4; i++)
        _mm512_store_si512(panel + LINE * i, w.of[i / 2][i % 2]);
    }
    add_columns(t, w, k, tokens, parts, partial);
  }
}

CK_AVX512_INLINE void run_tile(const tile *t, int tokens, int parts, int source) {
  __m512 sums[TILE_TOKENS][2];
  CK_UNROLL for (int j = 0; j < tokens; j++)
    CK_UNROLL for (int q = 0; q < 2; q++)
      sums[j][q] = t->first ? _mm512_setzero_ps() : _mm512_load_ps(t->sums + 16 * (2 * j + q));
  const uint8_t *ahead = t->ahead;
  for (size_t k = 0; k < t->bytes; k += CK_SCALE_BLOCK) {
    __m512 partial[TILE_TOKENS][2];
    CK_UNROLL for (int j = 0; j < tokens; j++)
      CK_UNROLL for (int q = 0; q < 2; q++) partial[j][q] = _mm512_setzero_ps();
    size_t left = t->bytes - k;
    if (source != from_panel) {
      prefetch_lines(t, ahead);
      prefetch_lines(t, ahead + t->ahead_step);
      ahead += 2 * t->ahead_step;
    }
    if (left >= CK_SCALE_BLOCK) {
      for (size_t in = 0; in < CK_SCALE_BLOCK; in += LINE)
        CK_UNROLL for (size_t at = 0; at < LINE; at += LINE / 2)
          add_half_line(t, k + in + at, 0xffffffff, tokens, parts, source, partial);
    } else {
      for (size_t in = 0; in < left; in += LINE / 2)
        add_half_line(t, k + in, half_line_mask(left - in), tokens, parts, source, partial);
    }
    CK_UNROLL for (int q = 0; q < 2; q++) {
      __m512 factors = block_factors(t, k, q);
      CK_UNROLL for (int j = 0; j < tokens; j++)
        sums[j][q] = _mm512_fmadd_ps(partial[j][q], factors, sums[j][q]);
    }
  }
  if (!t->last) {
    CK_UNROLL for (int j = 0; j < tokens; j++)
      CK_UNROLL for (int q = 0; q < 2; q++) _mm512_store_ps(t->sums + 16 * (2 * j + q), sums[j][q]);
    return;
  }
  CK_UNROLL for (int j = 0; j < tokens; j += 2) {
    int both = j + 1 < tokens, i = both ? j + 1 : j;
    write_two(
        t, t->output + (size_t)j * t->output_stride, sums[j][0], sums[j][1], sums[i][0],
        sums[i][1], both, 256);
  }
}

// One function per number of tokens and parts; a few tokens work from the rows, and the most of
// these write panels.
#define TILE(tokens, parts)                                                      \
  CK_AVX512 static void tile_##tokens##_##parts(const tile *t, int source) {     \
    if (source == from_panel || tokens > FEW_TOKENS)                             \
      run_tile(t, tokens, parts, from_panel);                                    \
    else if (source == from_rows || tokens < FEW_TOKENS)                         \
      run_tile(t, tokens, parts, from_rows);                                     \
    else                                                                         \
      run_tile(t, tokens, parts, to_panel);                                      \
  }
#define TILES(parts) \
  TILE(1, parts) TILE(2, parts) TILE(3, parts) TILE(4, parts) TILE(5, parts) TILE(6, parts)
TILES(1) TILES(2)

// By parts and tokens.
static const tile_fn tiles[2][TILE_TOKENS] = {
    {tile_1_1, tile_2_1, tile_3_1, tile_4_1, tile_5_1, tile_6_1},
    {tile_1_2, tile_2_2, tile_3_2, tile_4_2, tile_5_2, tile_6_2},
};

CK_AVX512 void ck_avx512_linear_e4m3(
    const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,
    void *scratch) {
  size_t parts = task->operand_kind == CK_OPERAND_SPLIT_PAIR ? 2 : 1;
  products p = {
      .task = task, .tiles = tiles[parts - 1], .width = 1, .spread = 2, .parts = parts,
      .most = TILE_TOKENS, .few = FEW_TOKENS, .granule = CK_SCALE_BLOCK,
      .operand_block = OPERAND_BLOCK_BYTES, .many_rows = 64, .ahead = AHEAD_BYTES,
      .row0 = row0, .row1 = row1,
  };
  run_products(p, token0, token1, scratch);
}
#endif
