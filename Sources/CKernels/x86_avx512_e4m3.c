// Matrix products with AVX-512, block-E4M3 weights in place.
//
// 64 codes are 32 lanes of 16 bits. Shifting puts sign, exponent and mantissa of the even codes
// (and of the odd ones) where BF16 has them; setting the exponent's upper bits to 0b0111 makes the
// value 2^-8 of the true one with one ternary operation, because the exponent then needs no
// addition. So the operand comes with the even ones first, outputs are multiplied by 2^8, and
// only groups with subnormal, zero or NaN codes look them up in a table. All values are exact.
// The alternative, a byte permutation through a table of 128 entries, needs as many operations
// and AVX-512 VBMI; it ran 12 % slower from memory.
//
// A block of 128 columns gives one partial vector per output, which is multiplied by the block's
// factor and added to the running one. A pair's lo row continues its hi row's partial vector.
//
// Three loops share that order. One or two prepared rows that stay in the first cache widen
// weights in registers, row after row. A few tokens take groups of rows in blocks of columns,
// widened into the first cache while the next group is prefetched. Many tokens share rows that
// are widened once, over all columns.
#if defined(__x86_64__)
#include "x86_avx512.h"

#define TILE_ROWS 4
#define TILE_TOKENS 3
#define GROUP_ROWS 8
#define STREAM_BYTES 20480         // of prepared rows that stay in the first cache
#define BLOCK_COLUMNS 1024         // widened or multiplied at a time
#define FEW_TOKENS 16
#define OPERAND_BLOCK_BYTES 262144 // of prepared rows that stay in the second cache
#define WIDE_BYTES (1 << 20)       // of widened rows in scratch, before the sums of at most
#define MANY_ROWS 64               // rows at a time
#define MANY_TOKENS 96             // by tokens at a time

typedef struct {
  __m512i even, odd;
} widened;

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
  if (__builtin_expect(wrong != 0, 0)) {
    w.even = repair(codes, w.even);
    w.odd = repair(_mm512_srli_epi16(codes, 8), w.odd);
  }
  return w;
}

CK_AVX512_INLINE __m512i load_codes(const uint8_t *at, size_t count) {
  return count >= 64 ? _mm512_loadu_si512(at)
                     : _mm512_maskz_loadu_epi8(((__mmask64)1 << count) - 1, at);
}

CK_AVX512_INLINE __m512 add_product(__m512 sum, __m512i w, const uint8_t *x) {
  return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)_mm512_load_si512(x));
}

CK_AVX512_INLINE __m512 block_factor(const uint8_t *scales, size_t block) {
  return _mm512_set1_ps(ck_load_float(scales + 4 * block));
}

static const uint8_t *row_scales(const ck_linear *task, size_t row) {
  return (const uint8_t *)task->scales + 4 * (row / CK_SCALE_BLOCK * task->scale_stride);
}

// ---- Few prepared rows: a row of weights at a time, widened in registers.

// Adds `left` columns (at most a block's) to the partial vectors; `left` is a constant but in the
// last block.
CK_AVX512_INLINE void stream_block(
    const uint8_t *row, size_t left, const uint8_t *x, size_t stride, int tokens, int parts,
    __m512 partial[2]) {
  CK_UNROLL for (int g = 0; g < 2; g++) {
    if ((size_t)g * 64 >= left) break;
    widened w = widen64(load_codes(row + g * 64, left - (size_t)g * 64));
    // Even codes of all parts, then odd ones: the order of the tiles below.
    CK_UNROLL for (int half = 0; half < 2; half++)
      CK_UNROLL for (int j = 0; j < tokens; j++)
        CK_UNROLL for (int part = 0; part < parts; part++)
          partial[j] = add_product(
              partial[j], half ? w.odd : w.even,
              x + (size_t)(j * parts + part) * stride + g * 128 + half * 64);
  }
}

CK_AVX512_INLINE void stream(
    const ck_linear *task, size_t row0, size_t row1, size_t token, int tokens, int parts) {
  size_t slice = task->columns / task->slices, stride = task->operand_stride / (size_t)parts;
  const uint8_t *operand = (const uint8_t *)task->operand + token * task->operand_stride;
  for (size_t row = row0; row < row1; row++) {
    const uint8_t *w = (const uint8_t *)task->values + row * task->row_stride, *x = operand;
    const uint8_t *scales = row_scales(task, row);
    float *output = task->output + token * task->output_stride + row;
    for (size_t s = 0; s < task->slices; s++, w += slice, output += task->slice_stride) {
      __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
      for (size_t k = 0; k < slice; k += CK_SCALE_BLOCK, x += 2 * CK_SCALE_BLOCK, scales += 4) {
        __m512 partial[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        if (slice - k >= CK_SCALE_BLOCK)
          stream_block(w + k, CK_SCALE_BLOCK, x, stride, tokens, parts, partial);
        else
          stream_block(w + k, slice - k, x, stride, tokens, parts, partial);
        CK_UNROLL for (int j = 0; j < tokens; j++)
          sums[j] = _mm512_fmadd_ps(partial[j], block_factor(scales, 0), sums[j]);
      }
      CK_UNROLL for (int j = 0; j < tokens; j++)
        output[(size_t)j * task->output_stride] = lanes_sum(sums[j]) * 256;
    }
  }
}

// ---- More: rows widened into scratch, padded to whole groups of 64.

typedef struct {
  const uint8_t *wide;     // first widened row of the tile, from column `begin`
  size_t wide_stride;      // bytes
  const uint8_t *operand;  // first prepared row
  size_t operand_stride;   // bytes from prepared row to prepared row
  size_t begin, end;       // columns
  int first, last;         // the block that begins, that ends a slice
  const uint8_t *scales[TILE_ROWS];
  float *sums;             // [rows][sum_stride] vectors, between blocks
  size_t sum_stride;
  float *output;
  size_t output_stride;    // floats
} tile;

CK_AVX512_INLINE void finish_tile(
    const tile *t, int rows, int tokens, __m512 sums[TILE_ROWS][TILE_TOKENS]) {
  if (!t->last) {
    CK_UNROLL for (int i = 0; i < rows; i++)
      CK_UNROLL for (int j = 0; j < tokens; j++)
        _mm512_store_ps(t->sums + 16 * (i * t->sum_stride + j), sums[i][j]);
    return;
  }
  CK_UNROLL for (int j = 0; j < tokens; j++) {
    float *output = t->output + j * t->output_stride;
    if (rows == 4) {
      __m128 four = lanes_sum4(sums[0][j], sums[1][j], sums[2][j], sums[3][j]);
      _mm_storeu_ps(output, _mm_mul_ps(four, _mm_set1_ps(256)));
    } else {
      CK_UNROLL for (int i = 0; i < rows; i++) output[i] = lanes_sum(sums[i][j]) * 256;
    }
  }
}

// 32 columns at byte `at` of the widened rows and of the prepared ones.
CK_AVX512_INLINE void wide_step(
    const tile *t, size_t at, int rows, int tokens, int parts,
    __m512 partial[TILE_ROWS][TILE_TOKENS]) {
  const uint8_t *operand = t->operand + 2 * t->begin + at;
  __m512i w[TILE_ROWS];
  CK_UNROLL for (int i = 0; i < rows; i++)
    w[i] = _mm512_load_si512(t->wide + i * t->wide_stride + at);
  CK_UNROLL for (int j = 0; j < tokens; j++)
    CK_UNROLL for (int part = 0; part < parts; part++)
      CK_UNROLL for (int i = 0; i < rows; i++)
        partial[i][j] = add_product(
            partial[i][j], w[i], operand + (j * parts + part) * t->operand_stride);
}

// The block of columns from k; `whole` says that it has all 128.
CK_AVX512_INLINE void wide_block(
    const tile *t, size_t k, int whole, int rows, int tokens, int parts,
    __m512 sums[TILE_ROWS][TILE_TOKENS]) {
  size_t at = 2 * (k - t->begin);
  __m512 partial[TILE_ROWS][TILE_TOKENS];
  CK_UNROLL for (int i = 0; i < rows; i++)
    CK_UNROLL for (int j = 0; j < tokens; j++) partial[i][j] = _mm512_setzero_ps();
  if (whole) {
    CK_UNROLL for (size_t h = 0; h < 256; h += 64)
      wide_step(t, at + h, rows, tokens, parts, partial);
  } else {
    for (size_t h = 0; h < (t->end - k + 63) / 64 * 128; h += 64)
      wide_step(t, at + h, rows, tokens, parts, partial);
  }
  CK_UNROLL for (int i = 0; i < rows; i++) {
    __m512 factor = block_factor(t->scales[i], k / CK_SCALE_BLOCK);
    CK_UNROLL for (int j = 0; j < tokens; j++)
      sums[i][j] = _mm512_fmadd_ps(partial[i][j], factor, sums[i][j]);
  }
}

CK_AVX512_INLINE void wide_tile(const tile *t, int rows, int tokens, int parts) {
  __m512 sums[TILE_ROWS][TILE_TOKENS];
  CK_UNROLL for (int i = 0; i < rows; i++)
    CK_UNROLL for (int j = 0; j < tokens; j++)
      sums[i][j] = t->first ? _mm512_setzero_ps()
                            : _mm512_load_ps(t->sums + 16 * (i * t->sum_stride + j));
  size_t k = t->begin;
  for (; k + CK_SCALE_BLOCK <= t->end; k += CK_SCALE_BLOCK)
    wide_block(t, k, 1, rows, tokens, parts, sums);
  if (k < t->end) wide_block(t, k, 0, rows, tokens, parts, sums);
  finish_tile(t, rows, tokens, sums);
}

// One function per shape of tile, for BF16 (1 part) and pairs (2 parts).
#define TILE(rows, tokens, parts)                                              \
  CK_AVX512 static void tile_##rows##_##tokens##_##parts(const tile *t) {      \
    wide_tile(t, rows, tokens, parts);                                         \
  }
TILE(4, 1, 1) TILE(4, 2, 1) TILE(4, 3, 1) TILE(1, 1, 1) TILE(1, 2, 1) TILE(1, 3, 1)
TILE(4, 1, 2) TILE(4, 2, 2) TILE(4, 3, 2) TILE(1, 1, 2) TILE(1, 2, 2) TILE(1, 3, 2)

typedef void (*tile_fn)(const tile *);

// By parts, rows (4 or 1) and tokens.
static const tile_fn tiles[2][2][TILE_TOKENS] = {
    {{tile_4_1_1, tile_4_2_1, tile_4_3_1}, {tile_1_1_1, tile_1_2_1, tile_1_3_1}},
    {{tile_4_1_2, tile_4_2_2, tile_4_3_2}, {tile_1_1_2, tile_1_2_2, tile_1_3_2}},
};

// Widens columns of one row; `ahead` is prefetched meanwhile, as many bytes as are read.
CK_AVX512 static void widen_row(
    const uint8_t *row, size_t columns, uint8_t *wide, const uint8_t *ahead) {
  for (size_t k = 0; k < columns; k += 64, wide += 128) {
    _mm_prefetch((const char *)ahead + k, _MM_HINT_T1);
    widened w = widen64(load_codes(row + k, columns - k));
    _mm512_store_si512(wide, w.even);
    _mm512_store_si512(wide + 64, w.odd);
  }
}

typedef struct {
  const ck_linear *task;
  size_t parts;
  uint8_t *wide;
  size_t wide_stride;
  float *sums;
  size_t origin;  // the column that widened rows begin with
} wide_run;

// Widened columns [begin, end) of rows [row, row + rows) for tokens [token0, token1).
static void run_tiles(
    const wide_run *run, size_t row, size_t rows, size_t begin, size_t end, size_t token0,
    size_t token1) {
  const ck_linear *task = run->task;
  size_t slice = task->columns / task->slices;
  float *output = task->output + begin / slice * task->slice_stride;
  tile t = {
      .wide_stride = run->wide_stride,
      .operand_stride = task->operand_stride / run->parts,
      .begin = begin,
      .end = end,
      .first = begin % slice == 0,
      .last = end % slice == 0,
      .sum_stride = token1 - token0,
      .output_stride = task->output_stride,
  };
  for (size_t i = 0; i < rows;) {
    size_t step = rows - i >= TILE_ROWS ? TILE_ROWS : 1;
    for (size_t r = 0; r < step; r++) t.scales[r] = row_scales(task, row + i + r);
    t.wide = run->wide + i * run->wide_stride + 2 * (begin - run->origin);
    for (size_t token = token0; token < token1; token += TILE_TOKENS) {
      size_t count = token1 - token < TILE_TOKENS ? token1 - token : TILE_TOKENS;
      t.operand = (const uint8_t *)task->operand + token * task->operand_stride;
      t.sums = run->sums + 16 * (i * t.sum_stride + token - token0);
      t.output = output + token * task->output_stride + row + i;
      tiles[run->parts - 1][step == 1][count - 1](&t);
    }
    i += step;
  }
}

// Where the block of columns from `begin` ends: within its slice.
static size_t block_end(const ck_linear *task, size_t begin) {
  size_t slice = task->columns / task->slices, left = slice - begin % slice;
  return begin + (left < BLOCK_COLUMNS ? left : BLOCK_COLUMNS);
}

// A few tokens: groups of rows in blocks of columns.
static void run_blocks(
    wide_run *run, size_t row0, size_t row1, size_t token0, size_t token1) {
  size_t columns = run->task->columns, stride = run->task->row_stride;
  const uint8_t *values = run->task->values;
  for (size_t row = row0; row < row1; row += GROUP_ROWS) {
    size_t rows = row1 - row < GROUP_ROWS ? row1 - row : GROUP_ROWS;
    const uint8_t *ahead = values + (row + rows) * stride;
    for (size_t begin = 0, end; begin < columns; begin = end) {
      end = block_end(run->task, begin);
      for (size_t i = 0; i < rows; i++, ahead += end - begin)
        widen_row(
            values + (row + i) * stride + begin, end - begin, run->wide + i * run->wide_stride,
            ahead);
      run->origin = begin;
      run_tiles(run, row, rows, begin, end, token0, token1);
    }
  }
}

// Many tokens: as many rows as fit are widened once, over all columns.
static void run_rows(
    const wide_run *run, size_t row0, size_t row1, size_t token0, size_t token1) {
  size_t columns = run->task->columns, stride = run->task->row_stride;
  const uint8_t *values = run->task->values;
  size_t block = OPERAND_BLOCK_BYTES / run->task->operand_stride / TILE_TOKENS * TILE_TOKENS;
  size_t group = WIDE_BYTES / run->wide_stride / TILE_ROWS * TILE_ROWS;
  if (block < TILE_TOKENS) block = TILE_TOKENS;
  if (block > MANY_TOKENS) block = MANY_TOKENS;
  if (group > MANY_ROWS) group = MANY_ROWS;
  for (size_t row = row0; row < row1; row += group) {
    size_t rows = row1 - row < group ? row1 - row : group;
    for (size_t i = 0; i < rows; i++) {
      const uint8_t *at = values + (row + i) * stride;
      widen_row(at, columns, run->wide + i * run->wide_stride, at + 2 * stride);
    }
    for (size_t token = token0; token < token1; token += block) {
      size_t last = token1 - token < block ? token1 : token + block;
      for (size_t begin = 0, end; begin < columns; begin = end) {
        end = block_end(run->task, begin);
        run_tiles(run, row, rows, begin, end, token, last);
      }
    }
  }
}

CK_AVX512 void ck_avx512_linear_e4m3(
    const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,
    void *scratch) {
  size_t parts = task->operand_kind == CK_OPERAND_SPLIT_PAIR ? 2 : 1;
  size_t tokens = token1 - token0;
  if (tokens * parts <= 2 && tokens * parts * task->columns * 2 <= STREAM_BYTES) {
    if (parts == 2)
      stream(task, row0, row1, token0, 1, 2);
    else if (tokens == 1)
      stream(task, row0, row1, token0, 1, 1);
    else
      stream(task, row0, row1, token0, 2, 1);
    return;
  }
  wide_run run = {
      .task = task,
      .parts = parts,
      .wide = scratch,
      // An odd number of cache lines, so that a tile's rows fall on different cache sets.
      .wide_stride = (task->columns + 63) / 64 * 128 + 64,
      .sums = (float *)((uint8_t *)scratch + WIDE_BYTES),
  };
  if (tokens > FEW_TOKENS && TILE_ROWS * run.wide_stride <= WIDE_BYTES) {
    run_rows(&run, row0, row1, token0, token1);
    return;
  }
  run.wide_stride = BLOCK_COLUMNS * 2 + 64;
  for (size_t token = token0; token < token1; token += FEW_TOKENS)
    run_blocks(
        &run, row0, row1, token, token1 - token < FEW_TOKENS ? token1 : token + FEW_TOKENS);
}
#endif
