// Matrix products with AVX-512 multiply-adds on Float32; x86_avx512_tile.h has the walk.
//
// For CPUs whose BF16 dot products are no faster than these, or that have none. BF16 and E4M3
// weights are widened, exactly: a vector of 16 bytes of four rows becomes two of floats, of the
// even and the odd columns, or four, of every fourth column; the activations' columns have that
// order too (CK_OPERAND_TURNED2, 4). A few tokens do so in registers; for more the first tile of a
// group writes floats into a panel, from which the others multiply without any other work: 14 loads
// for 24 multiply-adds.
//
// E4M3: the products of a block of 128 columns are summed by themselves, then multiplied by the
// block's factor and added to the output's lanes, which wait in scratch.
#if defined(__x86_64__)
#include "x86_avx512_e4m3.h"

#define TILE_TOKENS 12
#define OPERAND_BLOCK_BYTES 393216  // of prepared rows that stay in the second cache
#define AHEAD_BYTES 16384           // between a line's prefetch and its use
// Tokens for which weights are widened in registers.
#define FEW_FLOAT32 12
#define FEW_BFLOAT16 12
#define FEW_E4M3 8
#define TWINNED 2  // tokens for which two groups of rows go side by side

// A vector of each quad times the same four columns of every token, `stride` bytes apart.
CK_AVX512_INLINE void add_vectors(
    __m512 low, __m512 high, const uint8_t *x, size_t stride, int tokens,
    __m512 sums[TILE_TOKENS][2]) {
  // Loads must not wander here from other vectors: they would take the sums' registers.
  __asm__ volatile("" ::: "memory");
  CK_UNROLL for (int j = 0; j < tokens; j++) {
    __m512 v = _mm512_broadcast_f32x4(_mm_load_ps((const float *)(x + (size_t)j * stride)));
    sums[j][0] = _mm512_fmadd_ps(low, v, sums[j][0]);
    sums[j][1] = _mm512_fmadd_ps(high, v, sums[j][1]);
  }
}

// Bytes [k, end) of a row of floats, whole lines, from the panel.
CK_AVX512_INLINE void add_panel(
    const tile *t, size_t k, size_t end, int tokens, __m512 sums[TILE_TOKENS][2]) {
  // What is read from `t` within the loop would be read again and again.
  const uint8_t *panel = t->panel + k * GROUP_ROWS, *x = t->operand + k, *last = t->operand + end;
  size_t stride = t->operand_stride;
  for (; x < last; x += LINE, panel += LINE * GROUP_ROWS)
    CK_UNROLL for (size_t i = 0; i < 4; i++)
      add_vectors(
          _mm512_load_ps(panel + 2 * LINE * i), _mm512_load_ps(panel + 2 * LINE * i + LINE),
          x + 16 * i, stride, tokens, sums);
}

// Widened vectors of both quads times their columns; into the panel if asked.
CK_AVX512_INLINE void add_widened(
    __m512 low, __m512 high, float *panel, const uint8_t *x, size_t stride, int tokens, int source,
    __m512 sums[TILE_TOKENS][2]) {
  if (source == to_panel) {
    _mm512_store_ps(panel, low);
    _mm512_store_ps(panel + 16, high);
  }
  add_vectors(low, high, x, stride, tokens, sums);
}

// 16 codes of each row. Those of one half at a time, or registers would not do.
CK_AVX512_INLINE void add_codes(
    const __m512i codes[2], int wrong, float *panel, const uint8_t *x, size_t stride, int tokens,
    int source, __m512 sums[TILE_TOKENS][2]) {
  columns16 all;
  if (wrong) {
    all = widen_columns(codes);
    repair_columns(codes, &all);
  }
  CK_UNROLL for (int half = 0; half < 2; half++, panel += 64, x += 32) {
    __m512i low = wrong ? all.of[half][0] : widen_half(codes[0], half);
    __m512i high = wrong ? all.of[half][1] : widen_half(codes[1], half);
    add_widened(even16(low), even16(high), panel, x, stride, tokens, source, sums);
    add_widened(odd16(low), odd16(high), panel + 32, x + 16, stride, tokens, source, sums);
  }
}

// Half a line of weights from byte k, of which only the mask's bytes are there.
CK_AVX512_INLINE void add_half_line(
    const tile *t, size_t k, __mmask32 mask, int tokens, int format, int source,
    __m512 sums[TILE_TOKENS][2]) {
  chunks stored = load_chunks(t, k, mask);
  int wrong = format == CK_FORMAT_E4M3 && need_repair(&stored);
  size_t count = format == CK_FORMAT_FLOAT32 ? 1 : format == CK_FORMAT_BFLOAT16 ? 2 : 4;
  float *panel = (float *)(t->panel + count * k * GROUP_ROWS);
  const uint8_t *x = t->operand + count * k;
  size_t stride = t->operand_stride;
  CK_UNROLL for (int c = 0; c < 2; c++, panel += 32 * count, x += 16 * count) {
    const __m512i *of = stored.of[c];
    if (format == CK_FORMAT_FLOAT32) {
      add_widened(
          _mm512_castsi512_ps(of[0]), _mm512_castsi512_ps(of[1]), panel, x, stride, tokens,
          source, sums);
    } else if (format == CK_FORMAT_BFLOAT16) {
      add_widened(even16(of[0]), even16(of[1]), panel, x, stride, tokens, source, sums);
      add_widened(odd16(of[0]), odd16(of[1]), panel + 32, x + 16, stride, tokens, source, sums);
    } else if (__builtin_expect(wrong, 0)) {
      add_codes(of, 1, panel, x, stride, tokens, source, sums);
    } else {
      add_codes(of, 0, panel, x, stride, tokens, source, sums);
    }
  }
}

// Bytes [k, k + left), at most `most`, of the rows; masks where fewer are there.
CK_AVX512_INLINE void add_lines(
    const tile *t, size_t k, size_t left, size_t most, int groups, int tokens, int format,
    int source, __m512 sums[2][TILE_TOKENS][2]) {
  if (left >= most) {
    for (size_t at = 0; at < most; at += LINE)
      CK_UNROLL for (int g = 0; g < groups; g++)
        CK_UNROLL for (size_t half = 0; half < LINE; half += LINE / 2)
          add_half_line(t + g, k + at + half, 0xffffffff, tokens, format, source, sums[g]);
    return;
  }
  // As far as prepared rows are padded, which whole lines of E4M3 are not; the panel gets zeros.
  size_t unit = format == CK_FORMAT_E4M3 ? LINE / 2 : LINE;
  for (size_t at = 0; at < (left + unit - 1) / unit * unit; at += LINE / 2) {
    __mmask32 mask = at < left ? half_line_mask(left - at) : 0;
    CK_UNROLL for (int g = 0; g < groups; g++)
      add_half_line(t + g, k + at, mask, tokens, format, source, sums[g]);
  }
}

CK_AVX512_INLINE void write_tokens(
    const tile *t, int tokens, float unit, __m512 sums[TILE_TOKENS][2]) {
  CK_UNROLL for (int j = 0; j < tokens; j += 2) {
    int both = j + 1 < tokens, i = both ? j + 1 : j;
    write_two(
        t, t->output + (size_t)j * t->output_stride, sums[j][0], sums[j][1], sums[i][0],
        sums[i][1], both, unit);
  }
}

#define EACH_SUM                                 \
  CK_UNROLL for (int g = 0; g < groups; g++)     \
    CK_UNROLL for (int j = 0; j < tokens; j++)   \
      CK_UNROLL for (int q = 0; q < 2; q++)

// One group of rows, or two side by side: the sums of a token or two are too few to hide the time
// that an addition takes. Each line is used up at once, for rows are often a multiple of 4 KiB long
// and then compete for the same places of the first cache.
CK_AVX512_INLINE void run_tile(const tile *t, int groups, int tokens, int format, int source) {
  size_t spread = format == CK_FORMAT_FLOAT32 ? 1 : 2;
  __m512 sums[2][TILE_TOKENS][2];
  EACH_SUM sums[g][j][q] =
      t->first ? _mm512_setzero_ps() : _mm512_load_ps(t[g].sums + 16 * (2 * j + q));
  if (source == from_panel) {
    add_panel(t, 0, (t->bytes + LINE / spread - 1) / (LINE / spread) * LINE, tokens, sums[0]);
  } else {
    size_t ahead = 0;
    for (size_t k = 0; k < t->bytes; k += LINE, ahead += t->ahead_step) {
      CK_UNROLL for (int g = 0; g < groups; g++) prefetch_lines(t + g, t[g].ahead + ahead);
      add_lines(t, k, t->bytes - k, LINE, groups, tokens, format, source, sums);
    }
  }
  if (t->last) {
    CK_UNROLL for (int g = 0; g < groups; g++) write_tokens(t + g, tokens, 1, sums[g]);
  } else {
    EACH_SUM _mm512_store_ps(t[g].sums + 16 * (2 * j + q), sums[g][j][q]);
  }
}

CK_AVX512_INLINE void run_scaled_tile(const tile *t, int groups, int tokens, int source) {
  __m512 sums[2][TILE_TOKENS][2];
  size_t ahead = 0;
  for (size_t k = 0; k < t->bytes; k += CK_SCALE_BLOCK) {
    size_t left = t->bytes - k;
    EACH_SUM sums[g][j][q] = _mm512_setzero_ps();
    if (source == from_panel) {
      size_t columns = left < CK_SCALE_BLOCK ? (left + 31) / 32 * 32 : CK_SCALE_BLOCK;
      add_panel(t, 4 * k, 4 * (k + columns), tokens, sums[0]);
    } else {
      CK_UNROLL for (int g = 0; g < groups; g++) {
        prefetch_lines(t + g, t[g].ahead + ahead);
        prefetch_lines(t + g, t[g].ahead + ahead + t->ahead_step);
      }
      ahead += 2 * t->ahead_step;
      add_lines(t, k, left, CK_SCALE_BLOCK, groups, tokens, CK_FORMAT_E4M3, source, sums);
    }
    int begins = t->first && k == 0;
    CK_UNROLL for (int g = 0; g < groups; g++)
      CK_UNROLL for (int q = 0; q < 2; q++) {
        __m512 factors = block_factors(t + g, k, q);
        CK_UNROLL for (int j = 0; j < tokens; j++) {
          float *sum = t[g].sums + 16 * (2 * j + q);
          __m512 before = begins ? _mm512_setzero_ps() : _mm512_load_ps(sum);
          _mm512_store_ps(sum, _mm512_fmadd_ps(sums[g][j][q], factors, before));
        }
      }
  }
  if (!t->last) return;
  EACH_SUM sums[g][j][q] = _mm512_load_ps(t[g].sums + 16 * (2 * j + q));
  CK_UNROLL for (int g = 0; g < groups; g++) write_tokens(t + g, tokens, 256, sums[g]);
}

// One function per number of tokens; only tiles of the most that widen in registers write panels.
#define TILE(type, format, few, tokens)                                                   \
  CK_AVX512 static void type##_##tokens(const tile *t, int source) {                      \
    if (source == from_panel || tokens > few)                                             \
      RUN_##format(t, 1, tokens, from_panel);                                             \
    else if (source == from_rows || tokens < few)                                         \
      RUN_##format(t, 1, tokens, from_rows);                                              \
    else                                                                                  \
      RUN_##format(t, 1, tokens, to_panel);                                               \
  }
#define TWIN(type, format, tokens)                                                        \
  CK_AVX512 static void type##_twin_##tokens(const tile *t, int source) {                 \
    (void)source;                                                                         \
    RUN_##format(t, 2, tokens, from_rows);                                                \
  }
#define RUN_FLOAT32(t, groups, tokens, source) \
  run_tile(t, groups, tokens, CK_FORMAT_FLOAT32, source)
#define RUN_BFLOAT16(t, groups, tokens, source) \
  run_tile(t, groups, tokens, CK_FORMAT_BFLOAT16, source)
#define RUN_E4M3(t, groups, tokens, source) run_scaled_tile(t, groups, tokens, source)
#define ENTRY(type, format, width_, granule_)                                             \
  TILE(type, format, FEW_##format, 1) TILE(type, format, FEW_##format, 2)                 \
  TILE(type, format, FEW_##format, 3) TILE(type, format, FEW_##format, 4)                 \
  TILE(type, format, FEW_##format, 5) TILE(type, format, FEW_##format, 6)                 \
  TILE(type, format, FEW_##format, 7) TILE(type, format, FEW_##format, 8)                 \
  TILE(type, format, FEW_##format, 9) TILE(type, format, FEW_##format, 10)                \
  TILE(type, format, FEW_##format, 11) TILE(type, format, FEW_##format, 12)               \
  TWIN(type, format, 1) TWIN(type, format, 2)                                             \
  static const tile_fn type##_twins[TWINNED] = {type##_twin_1, type##_twin_2};            \
  static const tile_fn type##_tiles[TILE_TOKENS] = {                                      \
      type##_1, type##_2, type##_3, type##_4, type##_5, type##_6,                         \
      type##_7, type##_8, type##_9, type##_10, type##_11, type##_12,                      \
  };                                                                                      \
  CK_AVX512 void ck_avx512_fma_linear_##type(                                             \
      const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,      \
      void *scratch) {                                                                    \
    products p = {                                                                        \
        .task = task, .tiles = type##_tiles, .twins = type##_twins, .twinned = TWINNED,   \
        .width = width_, .spread = 4 / width_,                                            \
        .parts = 1, .most = TILE_TOKENS, .few = FEW_##format, .granule = granule_,        \
        .operand_block = OPERAND_BLOCK_BYTES, .many_rows = MOST_ROWS,                     \
        .ahead = AHEAD_BYTES, .row0 = row0, .row1 = row1,                                 \
    };                                                                                    \
    run_products(p, token0, token1, scratch);                                             \
  }
ENTRY(float32, FLOAT32, 4, LINE)
ENTRY(bfloat16, BFLOAT16, 2, LINE)
ENTRY(e4m3, E4M3, 1, CK_SCALE_BLOCK)
#endif
