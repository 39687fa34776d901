// Matrix products with AVX-512, block-E4M3 weights in place.
//
// 64 codes are 32 lanes of 16 bits. Shifting puts sign, exponent and mantissa of the even codes
// (and of the odd ones) where BF16 has them; setting the exponent's upper bits to 0b0111 makes the
// value 2^-8 of the true one with one ternary operation, because the exponent then needs no
// addition. So the operand comes with the even ones first, the factors are multiplied by 2^8, and
// only groups with subnormal, zero or NaN codes look them up in a table. All values are exact.
//
// A block of 128 columns gives one partial vector per output, which is multiplied by the block's
// factor and added to the running one. A pair's lo rows continue their hi row's partial vector.
// Many tokens share rows that are widened once into scratch; few tokens widen in registers.
// The alternative, a byte permutation through a table of 128 entries, needs the same operations
// without the branch, and AVX-512 VBMI; it ran 12 % slower from memory.
#if defined(__x86_64__)
#include "x86_avx512.h"

#define TILE_ROWS 4
#define TILE_TOKENS 3
#define STREAM_TOKENS 4           // up to here weights are widened in registers
#define TOKEN_BLOCK_BYTES 262144  // of prepared activations
#define WIDE_BYTES (1 << 20)      // of widened rows

typedef struct {
  __m512i even, odd;
} widened;

// Exact values (times 2^-8) of the codes that shifting gets wrong, by their low 5 bits.
static const uint16_t repairs[32] = {
    0x0000, 0x3700, 0x3780, 0x37c0, 0x3800, 0x3820, 0x3840, 0x3860, [31] = 0x7fc0,
};

CK_AVX512 __attribute__((noinline, cold)) static widened repair(__m512i codes, widened w) {
  const __m512i table = _mm512_loadu_si512(repairs), sign = _mm512_set1_epi16((short)0x8000);
  const __m512i exponent = _mm512_set1_epi16(0x78), magnitude = _mm512_set1_epi16(0x7f);
  __m512i high = _mm512_srli_epi16(codes, 8);
  __mmask32 even = _mm512_testn_epi16_mask(codes, exponent) |
                   _mm512_cmpeq_epi16_mask(_mm512_and_si512(codes, magnitude), magnitude);
  __mmask32 odd = _mm512_testn_epi16_mask(high, exponent) |
                  _mm512_cmpeq_epi16_mask(_mm512_and_si512(high, magnitude), magnitude);
  __m512i evens = _mm512_permutexvar_epi16(codes, table);
  __m512i odds = _mm512_permutexvar_epi16(high, table);
  evens = _mm512_or_si512(evens, _mm512_and_si512(w.even, sign));
  odds = _mm512_or_si512(odds, _mm512_and_si512(w.odd, sign));
  w.even = _mm512_mask_mov_epi16(w.even, even, evens);
  w.odd = _mm512_mask_mov_epi16(w.odd, odd, odds);
  return w;
}

// 64 codes, times 2^-8.
CK_AVX512_INLINE widened widen64(__m512i codes) {
  const __m512i fields = _mm512_set1_epi16((short)0x87f0), bias = _mm512_set1_epi16(0x3800);
  __m512i even = _mm512_srai_epi16(_mm512_slli_epi16(codes, 8), 4);
  __m512i odd = _mm512_srai_epi16(codes, 4);
  widened w = {
      _mm512_ternarylogic_epi32(even, fields, bias, 0xea),  // (even & fields) | bias
      _mm512_ternarylogic_epi32(odd, fields, bias, 0xea),
  };
  // Doubled and less 16, the codes 0 to 7 and 127 of either sign are the largest bytes.
  __m512i order = _mm512_sub_epi8(_mm512_add_epi8(codes, codes), _mm512_set1_epi8(16));
  __mmask64 wrong = _mm512_cmpge_epu8_mask(order, _mm512_set1_epi8((char)238));
  if (__builtin_expect(wrong != 0, 0)) w = repair(codes, w);
  return w;
}

CK_AVX512_INLINE __m512i load_codes(const uint8_t *at, size_t count) {
  return count >= 64 ? _mm512_loadu_si512(at)
                     : _mm512_maskz_loadu_epi8(((__mmask64)1 << count) - 1, at);
}

CK_AVX512_INLINE __m512 add_product(__m512 sum, __m512i w, const uint8_t *x) {
  return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)_mm512_load_si512(x));
}

CK_AVX512_INLINE __m512 block_factor(const float *scales, size_t block) {
  return _mm512_set1_ps(ck_load_float((const uint8_t *)scales + 4 * block) * 256);
}

typedef struct {
  const uint8_t *operand;  // first prepared row
  size_t operand_stride;   // bytes from prepared row to prepared row
  size_t columns;
  float *output;
  size_t output_stride;    // floats
} tile;

// ---- Few tokens: a row at a time, widened in registers.

CK_AVX512_INLINE void stream_row(
    const tile *t, const uint8_t *row, const float *scales, int tokens, int parts) {
  __m512 sums[STREAM_TOKENS];
  CK_UNROLL for (int j = 0; j < tokens; j++) sums[j] = _mm512_setzero_ps();
  size_t columns = t->columns;
  for (size_t k = 0; k < columns; k += CK_SCALE_BLOCK) {
    __m512 partial[STREAM_TOKENS];
    CK_UNROLL for (int j = 0; j < tokens; j++) partial[j] = _mm512_setzero_ps();
    CK_UNROLL for (int g = 0; g < 2; g++) {
      if (k + (size_t)g * 64 >= columns) break;
      widened w = widen64(load_codes(row + k + g * 64, columns - k - (size_t)g * 64));
      CK_UNROLL for (int j = 0; j < tokens; j++) {
        CK_UNROLL for (int part = 0; part < parts; part++) {
          const uint8_t *x =
              t->operand + (size_t)(j * parts + part) * t->operand_stride + 2 * k + g * 128;
          partial[j] = add_product(partial[j], w.even, x);
          partial[j] = add_product(partial[j], w.odd, x + 64);
        }
      }
    }
    __m512 factor = block_factor(scales, k / CK_SCALE_BLOCK);
    CK_UNROLL for (int j = 0; j < tokens; j++)
      sums[j] = _mm512_fmadd_ps(partial[j], factor, sums[j]);
  }
  CK_UNROLL for (int j = 0; j < tokens; j++)
    t->output[(size_t)j * t->output_stride] = lanes_sum(sums[j]);
}

// ---- Many tokens: rows widened into scratch, padded to whole groups of 64.

CK_AVX512 static void widen_row(const uint8_t *row, size_t columns, uint8_t *wide) {
  for (size_t k = 0; k < columns; k += 64, wide += 128) {
    widened w = widen64(load_codes(row + k, columns - k));
    _mm512_store_si512(wide, w.even);
    _mm512_store_si512(wide + 64, w.odd);
  }
}

CK_AVX512_INLINE void wide_tile(
    const tile *t, const uint8_t *wide, size_t wide_stride, const float *const *scales, int rows,
    int tokens, int parts) {
  __m512 sums[TILE_ROWS][TILE_TOKENS];
  CK_UNROLL for (int i = 0; i < rows; i++)
    CK_UNROLL for (int j = 0; j < tokens; j++) sums[i][j] = _mm512_setzero_ps();
  size_t bytes = (t->columns + 63) / 64 * 128;
  for (size_t k = 0; k < bytes; k += 2 * CK_SCALE_BLOCK) {
    __m512 partial[TILE_ROWS][TILE_TOKENS];
    CK_UNROLL for (int i = 0; i < rows; i++)
      CK_UNROLL for (int j = 0; j < tokens; j++) partial[i][j] = _mm512_setzero_ps();
    size_t end = bytes - k < 2 * CK_SCALE_BLOCK ? bytes : k + 2 * CK_SCALE_BLOCK;
    for (size_t g = k; g < end; g += 128) {
      CK_UNROLL for (int j = 0; j < tokens; j++) {
        CK_UNROLL for (int part = 0; part < parts; part++) {
          const uint8_t *x = t->operand + (size_t)(j * parts + part) * t->operand_stride + g;
          CK_UNROLL for (int h = 0; h < 128; h += 64)
            CK_UNROLL for (int i = 0; i < rows; i++)
              partial[i][j] = add_product(
                  partial[i][j],
                  _mm512_load_si512(wide + (size_t)i * wide_stride + g + h), x + h);
        }
      }
    }
    CK_UNROLL for (int i = 0; i < rows; i++) {
      __m512 factor = block_factor(scales[i], k / 2 / CK_SCALE_BLOCK);
      CK_UNROLL for (int j = 0; j < tokens; j++)
        sums[i][j] = _mm512_fmadd_ps(partial[i][j], factor, sums[i][j]);
    }
  }
  CK_UNROLL for (int j = 0; j < tokens; j++) {
    float *output = t->output + (size_t)j * t->output_stride;
    if (rows == 4)
      _mm_storeu_ps(output, lanes_sum4(sums[0][j], sums[1][j], sums[2][j], sums[3][j]));
    else
      CK_UNROLL for (int i = 0; i < rows; i++) output[i] = lanes_sum(sums[i][j]);
  }
}

// One function per number of tokens, for BF16 (1 part) and pairs (2 parts).
#define STREAM(tokens, parts)                                                                \
  CK_AVX512 static void stream_##tokens##_##parts(                                           \
      const tile *t, const uint8_t *row, const float *scales) {                              \
    stream_row(t, row, scales, tokens, parts);                                               \
  }
#define WIDE(rows, tokens, parts)                                                            \
  CK_AVX512 static void wide_##rows##_##tokens##_##parts(                                    \
      const tile *t, const uint8_t *wide, size_t stride, const float *const *scales) {       \
    wide_tile(t, wide, stride, scales, rows, tokens, parts);                                 \
  }
STREAM(1, 1) STREAM(2, 1) STREAM(3, 1) STREAM(4, 1)
STREAM(1, 2) STREAM(2, 2) STREAM(3, 2) STREAM(4, 2)
WIDE(4, 1, 1) WIDE(4, 2, 1) WIDE(4, 3, 1) WIDE(1, 1, 1) WIDE(1, 2, 1) WIDE(1, 3, 1)
WIDE(4, 1, 2) WIDE(4, 2, 2) WIDE(4, 3, 2) WIDE(1, 1, 2) WIDE(1, 2, 2) WIDE(1, 3, 2)

typedef void (*stream_fn)(const tile *, const uint8_t *, const float *);
typedef void (*wide_fn)(const tile *, const uint8_t *, size_t, const float *const *);

// By parts and tokens, each from 1.
static const stream_fn streams[2][STREAM_TOKENS] = {
    {stream_1_1, stream_2_1, stream_3_1, stream_4_1},
    {stream_1_2, stream_2_2, stream_3_2, stream_4_2},
};
// By parts, rows (4 or 1) and tokens.
static const wide_fn wides[2][2][TILE_TOKENS] = {
    {{wide_4_1_1, wide_4_2_1, wide_4_3_1}, {wide_1_1_1, wide_1_2_1, wide_1_3_1}},
    {{wide_4_1_2, wide_4_2_2, wide_4_3_2}, {wide_1_1_2, wide_1_2_2, wide_1_3_2}},
};

static const float *row_scales(const ck_linear *task, size_t row) {
  size_t blocks = (task->columns + CK_SCALE_BLOCK - 1) / CK_SCALE_BLOCK;
  return task->scales + row / CK_SCALE_BLOCK * blocks;
}

// The tokens [begin, end) over `rows` widened rows.
static void run_wide(
    const ck_linear *task, tile t, const uint8_t *wide, size_t wide_stride, size_t row,
    size_t rows, size_t begin, size_t end, int parts) {
  for (size_t i = 0; i < rows;) {
    size_t step = rows - i >= TILE_ROWS ? TILE_ROWS : 1;
    const float *scales[TILE_ROWS];
    for (size_t r = 0; r < step; r++) scales[r] = row_scales(task, row + i + r);
    for (size_t token = begin; token < end; token += TILE_TOKENS) {
      size_t count = end - token < TILE_TOKENS ? end - token : TILE_TOKENS;
      t.operand = (const uint8_t *)task->operand + token * task->operand_stride;
      t.output = task->output + token * task->output_stride + row + i;
      wides[parts - 1][step == 1][count - 1](&t, wide + i * wide_stride, wide_stride, scales);
    }
    i += step;
  }
}

void ck_avx512_linear_e4m3(
    const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,
    void *scratch) {
  int parts = task->operand_kind == CK_OPERAND_SPLIT_PAIR ? 2 : 1;
  size_t tokens = token1 - token0, columns = task->columns;
  const uint8_t *values = task->values;
  tile t = {
      .operand = (const uint8_t *)task->operand + token0 * task->operand_stride,
      .operand_stride = task->operand_stride / (size_t)parts,
      .columns = columns,
      .output_stride = task->output_stride,
  };
  // An odd number of cache lines, so that a tile's rows fall on different cache sets.
  size_t wide_stride = (columns + 63) / 64 * 128 + 64;
  if (tokens <= STREAM_TOKENS || TILE_ROWS * wide_stride > WIDE_BYTES) {
    for (size_t token = token0; token < token1; token += STREAM_TOKENS) {
      size_t count = token1 - token < STREAM_TOKENS ? token1 - token : STREAM_TOKENS;
      t.operand = (const uint8_t *)task->operand + token * task->operand_stride;
      for (size_t row = row0; row < row1; row++) {
        t.output = task->output + token * task->output_stride + row;
        streams[parts - 1][count - 1](&t, values + row * columns, row_scales(task, row));
      }
    }
    return;
  }
  size_t block = TOKEN_BLOCK_BYTES / task->operand_stride / TILE_TOKENS * TILE_TOKENS;
  if (block < TILE_TOKENS) block = TILE_TOKENS;
  size_t group = WIDE_BYTES / wide_stride / TILE_ROWS * TILE_ROWS;
  for (size_t row = row0; row < row1; row += group) {
    size_t rows = row1 - row < group ? row1 - row : group;
    for (size_t i = 0; i < rows; i++)
      widen_row(values + (row + i) * columns, columns, (uint8_t *)scratch + i * wide_stride);
    for (size_t begin = token0; begin < token1; begin += block) {
      size_t end = token1 - begin < block ? token1 : begin + block;
      run_wide(task, t, scratch, wide_stride, row, rows, begin, end, parts);
    }
  }
}
#endif
