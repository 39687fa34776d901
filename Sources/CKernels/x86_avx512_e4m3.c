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
// Two neighbouring blocks of 128 columns are multiplied at a time, the first in the lower and the
// second in the upper half of the vectors: 32 codes of each make one vector of codes. So eight dot
// products need one multiplication by a vector of both factors, whose sum is added to the running
// one. A block that has no neighbour fills both halves. A pair's lo row continues its hi row's
// partial vector.
//
// Three loops share that order. A few tokens widen weights in registers, row after row, in blocks
// of columns for which the operands stay in the first cache; lines are prefetched in the order in
// which they will be read. More tokens share blocks of rows that are widened just before their
// use, many tokens share rows that are widened once, over all columns.
#if defined(__x86_64__)
#include "x86_avx512.h"

#define PAIR_COLUMNS (2 * CK_SCALE_BLOCK)
#define TILE_ROWS 4
#define TILE_TOKENS 3
#define GROUP_ROWS 32
#define FEW_OPERANDS 8             // prepared rows for which registers suffice
#define SOME_TOKENS 32             // for which rows are widened block by block
#define FEW_BYTES 20480            // of prepared rows that stay in the first cache
#define AHEAD_BYTES 16384          // between a line's prefetch and its use
#define BLOCK_COLUMNS 1024         // of widened rows that are multiplied at a time
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

// 32 codes of a block and 32 of the next, which has `count` left.
CK_AVX512_INLINE __m512i load_both(const uint8_t *at, size_t count) {
  const uint8_t *next = at + CK_SCALE_BLOCK;
  __m256i low = _mm256_loadu_si256((const __m256i *)at);
  __m256i high = count >= 32 ? _mm256_loadu_si256((const __m256i *)next)
                             : _mm256_maskz_loadu_epi8(((__mmask32)1 << count) - 1, next);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// How many vectors of codes the `left` columns from a pair of blocks take.
CK_AVX512_INLINE size_t pair_steps(size_t left) {
  return left > CK_SCALE_BLOCK ? 4 : (left + 63) / 64;
}

// Vector `step` of the `left` columns.
CK_AVX512_INLINE __m512i load_step(const uint8_t *at, size_t step, size_t left) {
  if (left <= CK_SCALE_BLOCK) return load_codes(at + 64 * step, left - 64 * step);
  size_t used = CK_SCALE_BLOCK + 32 * step;
  return load_both(at + 32 * step, left > used ? left - used : 0);
}

CK_AVX512_INLINE __m512 add_product(__m512 sum, __m512i w, const uint8_t *x) {
  return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)_mm512_load_si512(x));
}

// The factors of a pair of blocks of which `left` columns remain.
CK_AVX512_INLINE __m512 pair_factors(const uint8_t *scales, size_t left) {
  __m512 first = _mm512_set1_ps(ck_load_float(scales));
  if (left <= CK_SCALE_BLOCK) return first;
  return _mm512_mask_blend_ps(0xff00, first, _mm512_set1_ps(ck_load_float(scales + 4)));
}

static const uint8_t *row_scales(const ck_linear *task, size_t row) {
  return (const uint8_t *)task->scales + 4 * (row / CK_SCALE_BLOCK * task->scale_stride);
}

// ---- A few prepared rows: a row of weights at a time, widened in registers.

typedef struct {
  const uint8_t *row;      // codes from the block's first column
  const uint8_t *ahead;    // what to prefetch meanwhile
  const uint8_t *scales;   // of the block's first column
  const uint8_t *operand;  // prepared rows, from the block's first column
  size_t stride;           // bytes from prepared row to prepared row
  size_t columns;
  int first, last;         // the block that begins, that ends a slice
  float *sums;             // [tokens] vectors, between blocks
  float *output;
  size_t output_stride;    // floats
} few;

// Adds one vector of codes to the partial vectors: even codes of all parts, then odd ones.
CK_AVX512_INLINE void few_step(
    __m512i codes, const uint8_t *x, size_t stride, int tokens, int parts,
    __m512 partial[FEW_OPERANDS]) {
  widened w = widen64(codes);
  CK_UNROLL for (int half = 0; half < 2; half++)
    CK_UNROLL for (int j = 0; j < tokens; j++)
      CK_UNROLL for (int part = 0; part < parts; part++)
        partial[j] = add_product(
            partial[j], half ? w.odd : w.even,
            x + (size_t)(j * parts + part) * stride + (size_t)half * 64);
}

CK_AVX512_INLINE void few_row(const few *f, int tokens, int parts, int prefetch) {
  __m512 sums[FEW_OPERANDS];
  CK_UNROLL for (int j = 0; j < tokens; j++)
    sums[j] = f->first ? _mm512_setzero_ps() : _mm512_load_ps(f->sums + 16 * j);
  const uint8_t *x = f->operand, *scales = f->scales;
  size_t k = 0;
  for (; k + PAIR_COLUMNS <= f->columns; k += PAIR_COLUMNS, x += 2 * PAIR_COLUMNS, scales += 8) {
    __m512 partial[FEW_OPERANDS];
    CK_UNROLL for (int j = 0; j < tokens; j++) partial[j] = _mm512_setzero_ps();
    CK_UNROLL for (size_t step = 0; step < 4; step++) {
      if (prefetch) _mm_prefetch((const char *)f->ahead + k + 64 * step, _MM_HINT_T1);
      few_step(
          load_both(f->row + k + 32 * step, 32), x + 128 * step, f->stride, tokens, parts,
          partial);
    }
    __m512 factors = pair_factors(scales, PAIR_COLUMNS);
    CK_UNROLL for (int j = 0; j < tokens; j++)
      sums[j] = _mm512_fmadd_ps(partial[j], factors, sums[j]);
  }
  if (k < f->columns) {
    size_t left = f->columns - k;
    __m512 partial[FEW_OPERANDS];
    CK_UNROLL for (int j = 0; j < tokens; j++) partial[j] = _mm512_setzero_ps();
    for (size_t step = 0; step < pair_steps(left); step++)
      few_step(
          load_step(f->row + k, step, left), x + 128 * step, f->stride, tokens, parts, partial);
    __m512 factors = pair_factors(scales, left);
    CK_UNROLL for (int j = 0; j < tokens; j++)
      sums[j] = _mm512_fmadd_ps(partial[j], factors, sums[j]);
  }
  CK_UNROLL for (int j = 0; j < tokens; j++) {
    if (f->last)
      f->output[(size_t)j * f->output_stride] = lanes_sum(sums[j]) * 256;
    else
      _mm512_store_ps(f->sums + 16 * j, sums[j]);
  }
}

#define FEW(tokens, parts)                                                                     \
  CK_AVX512 static void few_##tokens##_##parts(const few *f, int prefetch) {                   \
    if (prefetch)                                                                              \
      few_row(f, tokens, parts, 1);                                                            \
    else                                                                                       \
      few_row(f, tokens, parts, 0);                                                            \
  }
FEW(1, 1) FEW(2, 1) FEW(3, 1) FEW(4, 1) FEW(5, 1) FEW(6, 1) FEW(7, 1) FEW(8, 1)
FEW(1, 2) FEW(2, 2) FEW(3, 2) FEW(4, 2)

typedef void (*few_fn)(const few *, int prefetch);

// By parts and tokens.
static const few_fn few_rows[2][FEW_OPERANDS] = {
    {few_1_1, few_2_1, few_3_1, few_4_1, few_5_1, few_6_1, few_7_1, few_8_1},
    {few_1_2, few_2_2, few_3_2, few_4_2},
};

static void run_few(
    const ck_linear *task, size_t parts, size_t row0, size_t row1, size_t token0, size_t token1,
    float *sums) {
  size_t columns = task->columns, slice = columns / task->slices, tokens = token1 - token0;
  size_t block = FEW_BYTES / (2 * tokens * parts) / PAIR_COLUMNS * PAIR_COLUMNS;
  // A single row of operands leaves the core room to run ahead by itself.
  int prefetch = tokens * parts > 1;
  few f = {.stride = task->operand_stride / parts, .output_stride = task->output_stride};
  for (size_t group = row0; group < row1; group += GROUP_ROWS) {
    size_t rows = row1 - group < GROUP_ROWS ? row1 - group : GROUP_ROWS;
    for (size_t begin = 0, end; begin < columns; begin = end) {
      size_t left = slice - begin % slice;
      end = begin + (left < block ? left : block);
      f.columns = end - begin, f.first = begin % slice == 0, f.last = end % slice == 0;
      f.operand = (const uint8_t *)task->operand + token0 * task->operand_stride + 2 * begin;
      size_t distance = AHEAD_BYTES / f.columns + 1;
      for (size_t i = 0; i < rows; i++) {
        size_t row = group + i, soon = i + distance;
        f.row = (const uint8_t *)task->values + row * task->row_stride + begin;
        // The rows of this block to come, then those of the next block, or of the next group.
        f.ahead = f.row + distance * task->row_stride;
        if (soon >= rows && end < columns)
          f.ahead += f.columns - rows * task->row_stride;
        else if (soon >= rows && group + rows == row1 && task->next)
          f.ahead = (const uint8_t *)task->next + (soon - rows) * task->row_stride;
        else if (soon >= rows)
          f.ahead -= begin;
        f.scales = row_scales(task, row) + begin / CK_SCALE_BLOCK * 4;
        f.sums = sums + 16 * i * tokens;
        f.output = task->output + token0 * task->output_stride +
                   begin / slice * task->slice_stride + row;
        // What will be read next is prefetched even where the stream itself is not.
        int hint = task->next && group + rows == row1 && soon >= rows && end == columns;
        few_rows[parts - 1][tokens - 1](&f, prefetch || hint);
      }
    }
  }
}

// ---- More: rows widened into scratch, in the order of the operands.

typedef struct {
  const uint8_t *wide;     // first widened row of the tile, from column `begin`
  size_t wide_stride;      // bytes
  const uint8_t *operand;  // first prepared row, from column `begin`
  size_t operand_stride;   // bytes from prepared row to prepared row
  size_t columns;
  int first, last;         // the block that begins, that ends a slice
  const uint8_t *scales[TILE_ROWS];  // of column `begin`
  float *sums;             // [rows][sum_stride] vectors
  size_t sum_stride;
  float *output;
  size_t output_stride;    // floats
} tile;

// 32 columns at byte `at` of the widened rows and of the prepared ones.
CK_AVX512_INLINE void wide_step(
    const tile *t, size_t at, int rows, int tokens, int parts,
    __m512 partial[TILE_ROWS][TILE_TOKENS]) {
  __m512i w[TILE_ROWS];
  CK_UNROLL for (int i = 0; i < rows; i++)
    w[i] = _mm512_load_si512(t->wide + i * t->wide_stride + at);
  CK_UNROLL for (int j = 0; j < tokens; j++)
    CK_UNROLL for (int part = 0; part < parts; part++) {
      __m512i x = _mm512_load_si512(t->operand + (j * parts + part) * t->operand_stride + at);
      CK_UNROLL for (int i = 0; i < rows; i++)
        partial[i][j] = _mm512_dpbf16_ps(partial[i][j], (__m512bh)w[i], (__m512bh)x);
    }
}

// The pair of blocks from column k; `whole` says that it has all columns.
CK_AVX512_INLINE void wide_pair(
    const tile *t, size_t k, int whole, int rows, int tokens, int parts,
    __m512 sums[TILE_ROWS][TILE_TOKENS]) {
  size_t left = whole ? PAIR_COLUMNS : t->columns - k;
  __m512 partial[TILE_ROWS][TILE_TOKENS];
  CK_UNROLL for (int i = 0; i < rows; i++)
    CK_UNROLL for (int j = 0; j < tokens; j++) partial[i][j] = _mm512_setzero_ps();
  if (whole) {
    CK_UNROLL for (size_t h = 0; h < 8; h++)
      wide_step(t, 2 * k + 64 * h, rows, tokens, parts, partial);
  } else {
    for (size_t h = 0; h < 2 * pair_steps(left); h++)
      wide_step(t, 2 * k + 64 * h, rows, tokens, parts, partial);
  }
  CK_UNROLL for (int i = 0; i < rows; i++) {
    __m512 factors = pair_factors(t->scales[i] + k / CK_SCALE_BLOCK * 4, left);
    CK_UNROLL for (int j = 0; j < tokens; j++)
      sums[i][j] = _mm512_fmadd_ps(partial[i][j], factors, sums[i][j]);
  }
}

CK_AVX512_INLINE void wide_tile(const tile *t, int rows, int tokens, int parts) {
  __m512 sums[TILE_ROWS][TILE_TOKENS];
  CK_UNROLL for (int i = 0; i < rows; i++)
    CK_UNROLL for (int j = 0; j < tokens; j++)
      sums[i][j] = t->first ? _mm512_setzero_ps()
                            : _mm512_load_ps(t->sums + 16 * (i * t->sum_stride + j));
  size_t k = 0;
  for (; k + PAIR_COLUMNS <= t->columns; k += PAIR_COLUMNS)
    wide_pair(t, k, 1, rows, tokens, parts, sums);
  if (k < t->columns) wide_pair(t, k, 0, rows, tokens, parts, sums);
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

// One function per shape of tile, for BF16 (1 part) and pairs (2 parts).
#define TILE(rows, tokens, parts)                                              \
  CK_AVX512 static void tile_##rows##_##tokens##_##parts(const tile *t) {      \
    wide_tile(t, rows, tokens, parts);                                         \
  }
#define TILES(rows, parts)                                                     \
  TILE(rows, 1, parts) TILE(rows, 2, parts) TILE(rows, 3, parts)
TILES(4, 1) TILES(1, 1) TILES(4, 2) TILES(1, 2)

typedef void (*tile_fn)(const tile *);

#define ROW_OF_TILES(rows, parts) \
  {tile_##rows##_1_##parts, tile_##rows##_2_##parts, tile_##rows##_3_##parts}
// By parts, rows (4 or 1) and tokens.
static const tile_fn tiles[2][2][TILE_TOKENS] = {
    {ROW_OF_TILES(4, 1), ROW_OF_TILES(1, 1)},
    {ROW_OF_TILES(4, 2), ROW_OF_TILES(1, 2)},
};

// Widens columns of a row.
CK_AVX512 static void widen_row(const uint8_t *row, size_t columns, uint8_t *wide) {
  for (size_t k = 0; k < columns; k += PAIR_COLUMNS) {
    size_t left = columns - k;
    for (size_t step = 0; step < pair_steps(left); step++, wide += 128) {
      widened w = widen64(load_step(row + k, step, left));
      _mm512_store_si512(wide, w.even);
      _mm512_store_si512(wide + 64, w.odd);
    }
  }
}

typedef struct {
  const ck_linear *task;
  size_t parts;
  uint8_t *wide;       // rows widened from column `origin`
  size_t wide_stride;
  size_t origin;
  float *sums;
} wide_run;

// Columns [begin, end) of rows [row, row + rows) for tokens [token0, token1). Meanwhile `lines`
// lines of each row of `ahead` are prefetched.
static void run_tiles(
    const wide_run *run, size_t row, size_t rows, size_t begin, size_t end, size_t token0,
    size_t token1, const uint8_t *ahead, size_t lines) {
  const ck_linear *task = run->task;
  size_t slice = task->columns / task->slices;
  float *output = task->output + begin / slice * task->slice_stride;
  tile t = {
      .wide_stride = run->wide_stride,
      .operand_stride = task->operand_stride / run->parts,
      .columns = end - begin,
      .first = begin % slice == 0,
      .last = end % slice == 0,
      .sum_stride = token1 - token0,
      .output_stride = task->output_stride,
  };
  size_t passes = (token1 - token0 + TILE_TOKENS - 1) / TILE_TOKENS;
  for (size_t i = 0; i < rows;) {
    size_t step = rows - i >= TILE_ROWS ? TILE_ROWS : 1, pass = 0;
    for (size_t r = 0; r < step; r++)
      t.scales[r] = row_scales(task, row + i + r) + begin / CK_SCALE_BLOCK * 4;
    t.wide = run->wide + i * run->wide_stride + 2 * (begin - run->origin);
    for (size_t token = token0; token < token1; token += TILE_TOKENS, pass++) {
      size_t count = token1 - token < TILE_TOKENS ? token1 - token : TILE_TOKENS;
      for (size_t r = 0; r < step; r++) {
        const char *next = (const char *)ahead + (i + r) * task->row_stride;
        for (size_t l = pass * lines / passes; l < (pass + 1) * lines / passes; l++)
          _mm_prefetch(next + 64 * l, _MM_HINT_T1);
      }
      t.operand = (const uint8_t *)task->operand + token * task->operand_stride + 2 * begin;
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

// Some tokens: groups of rows in blocks of columns, each widened just before its use.
static void run_blocks(
    wide_run *run, size_t row0, size_t row1, size_t token0, size_t token1) {
  const ck_linear *task = run->task;
  size_t stride = task->row_stride;
  for (size_t row = row0; row < row1; row += GROUP_ROWS) {
    size_t rows = row1 - row < GROUP_ROWS ? row1 - row : GROUP_ROWS;
    const uint8_t *first = (const uint8_t *)task->values + row * stride;
    for (size_t begin = 0, end; begin < task->columns; begin = end) {
      end = block_end(task, begin);
      for (size_t i = 0; i < rows; i++)
        widen_row(first + i * stride + begin, end - begin, run->wide + i * run->wide_stride);
      run->origin = begin;
      size_t next = end < task->columns ? end : 0;
      const uint8_t *ahead = end < task->columns ? first + end : first + rows * stride;
      if (end == task->columns && row + rows == row1 && task->next) ahead = task->next;
      run_tiles(
          run, row, rows, begin, end, token0, token1, ahead,
          (block_end(task, next) - next + 63) / 64);
    }
  }
}

// Many tokens: as many rows as fit are widened once, over all columns.
static void run_rows(
    wide_run *run, size_t row0, size_t row1, size_t token0, size_t token1) {
  const ck_linear *task = run->task;
  size_t columns = task->columns, stride = task->row_stride;
  size_t block = OPERAND_BLOCK_BYTES / task->operand_stride / TILE_TOKENS * TILE_TOKENS;
  size_t group = WIDE_BYTES / run->wide_stride / TILE_ROWS * TILE_ROWS;
  if (block < TILE_TOKENS) block = TILE_TOKENS;
  if (block > MANY_TOKENS) block = MANY_TOKENS;
  if (group > MANY_ROWS) group = MANY_ROWS;
  run->origin = 0;
  for (size_t row = row0; row < row1; row += group) {
    size_t rows = row1 - row < group ? row1 - row : group;
    const uint8_t *first = (const uint8_t *)task->values + row * stride;
    for (size_t i = 0; i < rows; i++)
      widen_row(first + i * stride, columns, run->wide + i * run->wide_stride);
    for (size_t token = token0; token < token1; token += block) {
      size_t last = token1 - token < block ? token1 : token + block;
      for (size_t begin = 0, end; begin < columns; begin = end) {
        end = block_end(task, begin);
        size_t lines = token == token0 ? (end - begin + 63) / 64 : 0;
        run_tiles(
            run, row, rows, begin, end, token, last, first + rows * stride + begin, lines);
      }
    }
  }
}

CK_AVX512 void ck_avx512_linear_e4m3(
    const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,
    void *scratch) {
  size_t parts = task->operand_kind == CK_OPERAND_SPLIT_PAIR ? 2 : 1;
  wide_run run = {
      .task = task,
      .parts = parts,
      .wide = scratch,
      // An odd number of cache lines, so that a tile's rows fall on different cache sets.
      .wide_stride = (task->columns + PAIR_COLUMNS - 1) / PAIR_COLUMNS * (2 * PAIR_COLUMNS) + 64,
      .sums = (float *)((uint8_t *)scratch + WIDE_BYTES),
  };
  size_t tokens = token1 - token0;
  if (tokens * parts <= FEW_OPERANDS) {
    run_few(task, parts, row0, row1, token0, token1, scratch);
  } else if (tokens > SOME_TOKENS && TILE_ROWS * run.wide_stride <= WIDE_BYTES) {
    run_rows(&run, row0, row1, token0, token1);
  } else {
    run.wide_stride = BLOCK_COLUMNS * 2 + 64;
    for (size_t token = token0; token < token1; token += SOME_TOKENS) {
      size_t end = token1 - token < SOME_TOKENS ? token1 : token + SOME_TOKENS;
      run_blocks(&run, row0, row1, token, end);
    }
  }
}
#endif
