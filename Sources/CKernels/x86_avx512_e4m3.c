// Matrix products with AVX-512, block-E4M3 weights in place; x86_avx512_tile.h has the walk.
//
// 64 codes are 32 lanes of 16 bits. Shifting puts sign, exponent and mantissa of the even codes
// (and of the odd ones) where BF16 has them; setting the exponent's upper bits to 0b0111 makes the
// value 2^-8 of the true one with one ternary operation, because the exponent then needs no
// addition. So of every 16 columns the operand has the even ones first, outputs are multiplied by
// 2^8, and only groups with subnormal, zero or NaN codes look them up in a table. All values are
// exact. The alternative, a byte permutation through a table of 128 entries, needs as many
// operations and AVX-512 VBMI; it ran 12 % slower from memory.
//
// A chunk is 16 codes, which become two chunks of BF16. The products of a block of 128 columns are
// summed by themselves, then multiplied by the block's factor and added to the output's lanes. A
// pair's lo row adds to the same sums as its hi row. Up to four tokens widen codes in registers;
// of more tokens the first four write them into a panel.
#if defined(__x86_64__)
#include "x86_avx512_tile.h"

#define TILE_TOKENS 6
#define FEW_TOKENS 4  // for which codes are widened in registers

// Exact values (times 2^-8) of the codes that shifting gets wrong, by their low 5 bits.
static const uint16_t repairs[32] = {
    0x0000, 0x3700, 0x3780, 0x37c0, 0x3800, 0x3820, 0x3840, 0x3860, [31] = 0x7fc0,
};

// `codes` in the low bytes of the lanes; `wide` is their widened form, whose signs are right.
CK_AVX512_INLINE __m512i repair(__m512i codes, __m512i wide) {
  const __m512i exponent = _mm512_set1_epi16(0x78), magnitude = _mm512_set1_epi16(0x7f);
  __mmask32 wrong = _mm512_testn_epi16_mask(codes, exponent) |
                    _mm512_cmpeq_epi16_mask(_mm512_and_si512(codes, magnitude), magnitude);
  __m512i right = _mm512_permutexvar_epi16(codes, _mm512_loadu_si512(repairs));
  __m512i sign = _mm512_and_si512(wide, _mm512_set1_epi16((short)0x8000));
  return _mm512_mask_mov_epi16(wide, wrong, _mm512_or_si512(right, sign));
}

// 16 columns of both quads, widened.
typedef struct {
  __m512i of[2][2];  // [even, odd][quad]
} columns16;

CK_AVX512_INLINE __m512i place_fields(__m512i shifted) {
  const __m512i fields = _mm512_set1_epi16((short)0x87f0), bias = _mm512_set1_epi16(0x3800);
  return _mm512_ternarylogic_epi32(shifted, fields, bias, 0xea);  // (shifted & fields) | bias
}

// Codes times 2^-8, but for those that need repair.
CK_AVX512_INLINE columns16 widen_columns(const __m512i codes[2]) {
  columns16 w;
  CK_UNROLL for (int q = 0; q < 2; q++) {
    w.of[0][q] = place_fields(_mm512_srai_epi16(_mm512_slli_epi16(codes[q], 8), 4));
    w.of[1][q] = place_fields(_mm512_srai_epi16(codes[q], 4));
  }
  return w;
}

// One vector after the other through memory: this is rare, and registers are few.
CK_AVX512_INLINE void repair_columns(const __m512i codes[2], columns16 *w) {
  __m512i memory[6] = {codes[0], codes[1], w->of[0][0], w->of[0][1], w->of[1][0], w->of[1][1]};
  __asm__ volatile("" : "+m"(memory));
  _Pragma("clang loop unroll(disable)") for (int i = 0; i < 4; i++) {
    __m512i c = memory[i & 1];
    if (i > 1) c = _mm512_srli_epi16(c, 8);
    memory[2 + i] = repair(c, memory[2 + i]);
    __asm__ volatile("" : "+m"(memory));
  }
  CK_UNROLL for (int i = 0; i < 4; i++) w->of[i / 2][i % 2] = memory[2 + i];
}

// Doubled and less 16, the codes 0 to 7 and 127 of either sign are the largest bytes.
CK_AVX512_INLINE __m512i code_order(__m512i codes) {
  return _mm512_sub_epi8(_mm512_add_epi8(codes, codes), _mm512_set1_epi8(16));
}

// Whether any of the codes is one that shifting gets wrong.
CK_AVX512_INLINE int need_repair(const chunks *c) {
  __m512i low = _mm512_max_epu8(code_order(c->of[0][0]), code_order(c->of[0][1]));
  __m512i high = _mm512_max_epu8(code_order(c->of[1][0]), code_order(c->of[1][1]));
  __m512i most = _mm512_max_epu8(low, high);
  return _mm512_cmpge_epu8_mask(most, _mm512_set1_epi8((char)238)) != 0;
}

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

// The factors of both quads for the block from column k.
CK_AVX512_INLINE __m512 block_factors(const tile *t, size_t k, int quad) {
  size_t at = k / CK_SCALE_BLOCK * 4;
  __m512 first = _mm512_set1_ps(ck_load_float(t->scales[quad][0] + at));
  return _mm512_mask_mov_ps(
      first, t->second[quad], _mm512_set1_ps(ck_load_float(t->scales[quad][1] + at)));
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
      .row0 = row0, .row1 = row1,
  };
  run_products(p, token0, token1, scratch);
}
#endif
