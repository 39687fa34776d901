// Matrix products with AVX-512 VNNI, INT8 and INT4 weights in place.
//
// Activations are integers too: on a grid of their own for every 128 columns, of 8, 16 or 24 bits
// (1, 2 or 3 parts of 8 bits; see ck_integer_row and x86_avx512_integer_input.c). 16 bits are
// closer than BF16, cost as much as its dot products on Zen 4, and need weights as bytes only: the
// stored bytes, made unsigned.
//
// The canonical order. A block of 128 columns is two vectors of 64 bytes, the even and the odd
// columns, so that each lane of the integer sums covers 8 neighbouring columns and every quarter
// of the lanes one chunk of 32. Integer sums are exact, whatever their order. Per block: the
// parts' sums become one float in each lane (for 24 bits after two roundings), which is multiplied
// by factor of the chunk * factor of the activations' block and added to the output's 16 lanes.
// Where a row has a single factor, only the latter takes part and the row's is multiplied at the
// end. What unsigned elements add, zero * sum of activations, is taken off in the same lanes after
// every unit of 4 blocks (counted from the slice's begin), a chunk in each lane.
//
// Few tokens whose parts stay in the first cache take rows of weights one after the other.
// Otherwise rows are widened into scratch: a few tokens in blocks of columns while the next group
// of rows is prefetched, many tokens over all columns.
#if defined(__x86_64__)
#include "x86_avx512.h"

#include "integer.h"

#define BLOCK CK_SCALE_BLOCK
#define UNIT 4                     // blocks, 16 chunks
#define TILE_ROWS 4
#define TILE_TOKENS 3
#define GROUP_ROWS 8
#define STREAM_TOKENS 4
#define STREAM_BYTES 24576         // of prepared parts that stay in the first cache
#define STREAM_AHEAD 4096          // bytes of weights that are prefetched,
#define HINTED_AHEAD 8192          // where the hardware's prefetchers need hints
#define COLUMN_BLOCKS 8            // blocks of columns that a few tokens take at a time
#define FEW_TOKENS 16
#define OPERAND_BLOCK_BYTES 262144 // of prepared rows that stay in the second cache
#define WIDE_BYTES (1 << 19)       // scratch: widened rows,
#define FACTOR_BYTES (1 << 19)     // then their factors, then the sums of at most
#define MANY_ROWS 64               // rows
#define MANY_TOKENS 96             // by tokens

// ---- Weights.

typedef struct {
  __m512i even, odd;
} block_bytes;

// The unsigned elements of `left` columns (at most a block's), 0 beyond INT4 rows.
CK_AVX512_INLINE block_bytes load_block(int four, const uint8_t *at, size_t left) {
  block_bytes b;
  if (four) {
    const __m512i mask = _mm512_set1_epi8(15);
    __m512i v = left >= BLOCK ? _mm512_loadu_si512(at)
                              : _mm512_maskz_loadu_epi8(((__mmask64)1 << left / 2) - 1, at);
    b.even = _mm512_and_si512(v, mask);
    b.odd = _mm512_and_si512(_mm512_srli_epi16(v, 4), mask);
    return b;
  }
  __m512i v[2];
  if (left >= BLOCK) {
    v[0] = _mm512_loadu_si512(at), v[1] = _mm512_loadu_si512(at + 64);
  } else {
    size_t low = left < 64 ? left : 64, high = left - low;
    __mmask64 all = ~(__mmask64)0;
    v[0] = _mm512_maskz_loadu_epi8(low == 64 ? all : ((__mmask64)1 << low) - 1, at);
    v[1] = _mm512_maskz_loadu_epi8(((__mmask64)1 << high) - 1, at + 64);
  }
  // First and second halves of the four chunks; then even and odd bytes within a quarter.
  const __m512i sign = _mm512_set1_epi8((char)0x80), low = _mm512_set1_epi16(0xff);
  __m512i first = _mm512_xor_si512(_mm512_shuffle_i64x2(v[0], v[1], 0x88), sign);
  __m512i second = _mm512_xor_si512(_mm512_shuffle_i64x2(v[0], v[1], 0xdd), sign);
  b.even = _mm512_packus_epi16(_mm512_and_si512(first, low), _mm512_and_si512(second, low));
  b.odd = _mm512_packus_epi16(_mm512_srli_epi16(first, 8), _mm512_srli_epi16(second, 8));
  return b;
}

// 16 factors of a row from element `at`; 0 from `end` on.
CK_AVX512_INLINE __m512 load_factors(const ck_integer *integer, size_t at, size_t end) {
  __mmask16 mask = at < end ? tail_mask16(end - at) : 0;
  const uint8_t *factors = integer->factors;
  if (integer->factor_type == CK_FACTOR_FLOAT32)
    return _mm512_maskz_loadu_ps(mask, factors + 4 * at);
  __m256i bits = _mm256_maskz_loadu_epi16(mask, factors + 2 * at);
  return integer->factor_type == CK_FACTOR_BFLOAT16 ? widen16(bits) : _mm512_cvtph_ps(bits);
}

typedef struct {
  __m512 scales, shifts;  // factors, and factor * zero
} unit_factors;

// The factors of 16 chunks of a row from chunk c; 0 from `chunks` on.
CK_AVX512_INLINE unit_factors load_unit(
    const ck_integer *integer, int four, size_t row, size_t c, size_t chunks) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  size_t shift = integer->group == 32 ? 0 : integer->group == 64 ? 1 : 2;
  size_t group = c >> shift, last = (chunks + ((size_t)1 << shift) - 1) >> shift;
  __m512 s = load_factors(
      integer, row * integer->factor_stride + group, row * integer->factor_stride + last);
  // Chunk c need not begin a group: within it the order counts from the group's first chunk.
  __m512i order = _mm512_srl_epi32(
      _mm512_add_epi32(lanes, _mm512_set1_epi32((int)(c - (group << shift)))),
      _mm_cvtsi32_si128((int)shift));
  __mmask16 mask = tail_mask16(chunks - c);
  unit_factors f;
  f.scales = _mm512_maskz_permutexvar_ps(mask, order, s);
  __m512 zero = _mm512_set1_ps(four ? 8 : 128);
  if (four && integer->zeros != NULL) {
    size_t place = row + integer->zero_row;
    __m512i words = _mm512_maskz_loadu_epi32(
        tail_mask16(last - group), (const uint8_t *)integer->zeros +
                                       4 * (place / 8 * integer->zero_stride + group));
    words = _mm512_srl_epi32(words, _mm_cvtsi32_si128((int)(place % 8 * 4)));
    words = _mm512_and_si512(words, _mm512_set1_epi32(15));
    zero = _mm512_cvtepi32_ps(_mm512_permutexvar_epi32(order, words));
  }
  f.shifts = _mm512_mul_ps(f.scales, zero);
  return f;
}

// ---- The arithmetic of one block.

// Chunk b * 4 + q of 16 in quarter q of the lanes.
CK_AVX512_INLINE __m512 chunk_lanes(__m512 scales, int b) {
  const __m512i quarters = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  return _mm512_permutexvar_ps(_mm512_add_epi32(quarters, _mm512_set1_epi32(4 * b)), scales);
}

// The sum over a block as one float in each lane. The upper parts' sum is shifted before the lower
// part is added.
CK_AVX512_INLINE __m512 block_value(
    block_bytes w, const __m512i even[3], const __m512i odd[3], int parts) {
  __m512i sum = _mm512_setzero_si512();
  __m512 top = _mm512_setzero_ps();
  CK_UNROLL for (int p = 0; p < parts; p++) {
    sum = _mm512_dpbusd_epi32(sum, w.even, even[p]);
    sum = _mm512_dpbusd_epi32(sum, w.odd, odd[p]);
    if (parts == 3 && p == 0) {
      // 24 bits do not fit: the first part becomes a float of its own.
      top = _mm512_cvtepi32_ps(sum);
      sum = _mm512_setzero_si512();
    } else if (p + 1 < parts) {
      sum = _mm512_slli_epi32(sum, 8);
    }
  }
  __m512 value = _mm512_cvtepi32_ps(sum);
  return parts == 3 ? _mm512_fmadd_ps(top, _mm512_set1_ps(65536), value) : value;
}

// ---- Up to four tokens: a row of weights after the other.

typedef struct {
  const uint8_t *operand;  // the first token's prepared row
  size_t stride, part_bytes, factors, sums;
} token_rows;

// Intel's prefetchers fall behind rows that are unpacked as they come (INT8 read 56 % of the
// bandwidth, with hints 80 %). Zen's do not for 8 bits, and hints slow them down; 4 bits take
// nearly as long to unpack as to read, and there one waits for the other without.
static int wants_hints(void) { return __builtin_cpu_is("intel"); }

// Adds a unit from column k, `left` columns to the slice's end.
CK_AVX512_INLINE void stream_unit(
    const ck_linear *task, int four, int parts, int scaled, int tokens, int hints, size_t row,
    const uint8_t *w, const token_rows *x, size_t k, size_t left, __m512 totals[STREAM_TOKENS]) {
  unit_factors f = {.shifts = _mm512_set1_ps(128)};
  __mmask16 mask = tail_mask16((left + CK_CHUNK - 1) / CK_CHUNK);
  if (scaled)
    f = load_unit(
        &task->integer, four, row, k / CK_CHUNK, k / CK_CHUNK + (left + CK_CHUNK - 1) / CK_CHUNK);
  CK_UNROLL for (int b = 0; b < UNIT; b++) {
    size_t at = (size_t)b * BLOCK;
    if (at >= left) break;
    const uint8_t *from = w + (four ? (k + at) / 2 : k + at);
    if (hints) {
      _mm_prefetch((const char *)from + HINTED_AHEAD, _MM_HINT_T1);
      if (!four) _mm_prefetch((const char *)from + HINTED_AHEAD + 64, _MM_HINT_T1);
    } else if (four) {
      _mm_prefetch((const char *)from + STREAM_AHEAD, _MM_HINT_T0);
    }
    block_bytes bytes = load_block(four, from, left - at >= BLOCK ? BLOCK : left - at);
    __m512 scale = scaled ? chunk_lanes(f.scales, b) : _mm512_setzero_ps();
    CK_UNROLL for (int j = 0; j < tokens; j++) {
      const uint8_t *token = x->operand + (size_t)j * x->stride;
      __m512i even[3], odd[3];
      CK_UNROLL for (int p = 0; p < parts; p++) {
        const uint8_t *part = token + (size_t)p * x->part_bytes + k + at;
        even[p] = _mm512_load_si512(part), odd[p] = _mm512_load_si512(part + 64);
      }
      __m512 own = _mm512_set1_ps(((const float *)(token + x->factors))[(k + at) / BLOCK]);
      totals[j] = _mm512_fmadd_ps(
          block_value(bytes, even, odd, parts), scaled ? _mm512_mul_ps(scale, own) : own,
          totals[j]);
    }
  }
  CK_UNROLL for (int j = 0; j < tokens; j++) {
    const float *sums = (const float *)(x->operand + (size_t)j * x->stride + x->sums);
    totals[j] = _mm512_fnmadd_ps(
        f.shifts, _mm512_maskz_loadu_ps(mask, sums + k / CK_CHUNK), totals[j]);
  }
}

CK_AVX512_INLINE void stream(
    const ck_linear *task, int four, int parts, int scaled, int tokens, int hints, size_t row0,
    size_t row1, size_t token) {
  size_t slice = task->columns / task->slices;
  ck_integer_row layout = ck_integer_layout(task->operand_kind, task->operand_stride);
  token_rows x = {(const uint8_t *)task->operand + token * task->operand_stride,
                  task->operand_stride, layout.part_bytes, layout.factors, layout.sums};
  for (size_t row = row0; row < row1; row++) {
    const uint8_t *w = (const uint8_t *)task->values + row * task->row_stride;
    float last = scaled ? 1 : ck_factor(&task->integer, row, 0);
    for (size_t s = 0, k = 0; s < task->slices; s++) {
      __m512 totals[STREAM_TOKENS];
      CK_UNROLL for (int j = 0; j < tokens; j++) totals[j] = _mm512_setzero_ps();
      size_t end = (s + 1) * slice;
      for (; k + UNIT * BLOCK <= end; k += UNIT * BLOCK)
        stream_unit(
            task, four, parts, scaled, tokens, hints, row, w, &x, k, UNIT * BLOCK, totals);
      if (k < end)
        stream_unit(task, four, parts, scaled, tokens, hints, row, w, &x, k, end - k, totals);
      k = end;
      CK_UNROLL for (int j = 0; j < tokens; j++) {
        float value = lanes_sum(totals[j]);
        task->output[(token + (size_t)j) * task->output_stride + s * task->slice_stride + row] =
            scaled ? value : value * last;
      }
    }
  }
}

typedef void (*stream_fn)(
    const ck_linear *task, int hints, size_t row0, size_t row1, size_t token);

#define STREAM(four, parts, scaled, tokens)                                                    \
  CK_AVX512 static void stream_##four##_##parts##_##scaled##_##tokens(                         \
      const ck_linear *task, int hints, size_t row0, size_t row1, size_t token) {              \
    stream(task, four, parts, scaled, tokens, hints, row0, row1, token);               \
  }
#define STREAMS(four, parts, scaled)                                                           \
  STREAM(four, parts, scaled, 1) STREAM(four, parts, scaled, 2)                                \
  STREAM(four, parts, scaled, 3) STREAM(four, parts, scaled, 4)
STREAMS(0, 1, 0) STREAMS(0, 2, 0) STREAMS(0, 3, 0)
STREAMS(0, 1, 1) STREAMS(0, 2, 1) STREAMS(0, 3, 1)
STREAMS(1, 1, 1) STREAMS(1, 2, 1) STREAMS(1, 3, 1)

#define STREAM_ROW(four, parts, scaled)                                                        \
  {stream_##four##_##parts##_##scaled##_1, stream_##four##_##parts##_##scaled##_2,             \
   stream_##four##_##parts##_##scaled##_3, stream_##four##_##parts##_##scaled##_4}
// By kind of weights (INT8 with a factor a row, INT8 and INT4 with groups), parts and tokens.
static const stream_fn streams[3][3][STREAM_TOKENS] = {
    {STREAM_ROW(0, 1, 0), STREAM_ROW(0, 2, 0), STREAM_ROW(0, 3, 0)},
    {STREAM_ROW(0, 1, 1), STREAM_ROW(0, 2, 1), STREAM_ROW(0, 3, 1)},
    {STREAM_ROW(1, 1, 1), STREAM_ROW(1, 2, 1), STREAM_ROW(1, 3, 1)}};

// ---- More: rows widened into scratch.

typedef struct {
  const uint8_t *wide;       // first widened row, from block `begin`
  size_t wide_stride;        // bytes
  const unit_factors *factors;  // of the first row's units, from the one of block `begin`
  size_t factor_stride;      // units from row to row
  float row_factors[TILE_ROWS];
  const uint8_t *operand;    // first prepared row
  size_t operand_stride, part_bytes, block_factors, block_sums;
  size_t begin, end;         // blocks of columns, whole units but at a slice's end
  int first, last;           // blocks that begin a slice, that end it
  float *sums;               // [rows][sum_stride] vectors, between blocks
  size_t sum_stride;
  float *output;
  size_t output_stride;      // floats
} tile;

CK_AVX512_INLINE void finish_tile(
    const tile *t, int rows, int tokens, int scaled, __m512 totals[TILE_ROWS][TILE_TOKENS]) {
  if (!t->last) {
    CK_UNROLL for (int i = 0; i < rows; i++)
      CK_UNROLL for (int j = 0; j < tokens; j++)
        _mm512_store_ps(t->sums + 16 * ((size_t)i * t->sum_stride + (size_t)j), totals[i][j]);
    return;
  }
  CK_UNROLL for (int j = 0; j < tokens; j++) {
    float *output = t->output + (size_t)j * t->output_stride;
    if (rows == TILE_ROWS) {
      __m128 four = lanes_sum4(totals[0][j], totals[1][j], totals[2][j], totals[3][j]);
      if (!scaled) four = _mm_mul_ps(four, _mm_loadu_ps(t->row_factors));
      _mm_storeu_ps(output, four);
    } else {
      CK_UNROLL for (int i = 0; i < rows; i++) {
        float value = lanes_sum(totals[i][j]);
        output[i] = scaled ? value : value * t->row_factors[i];
      }
    }
  }
}

// One block for all rows and tokens of a tile.
CK_AVX512_INLINE void tile_block(
    const tile *t, size_t block, int b, int rows, int tokens, int parts, int scaled,
    const unit_factors *factors, __m512 totals[TILE_ROWS][TILE_TOKENS]) {
  block_bytes w[TILE_ROWS];
  __m512 scale[TILE_ROWS];
  const uint8_t *wide = t->wide + (block - t->begin) * BLOCK;
  CK_UNROLL for (int i = 0; i < rows; i++) {
    const uint8_t *at = wide + (size_t)i * t->wide_stride;
    w[i].even = _mm512_load_si512(at), w[i].odd = _mm512_load_si512(at + 64);
    scale[i] = scaled ? chunk_lanes(factors[(size_t)i * t->factor_stride].scales, b)
                      : _mm512_setzero_ps();
  }
  CK_UNROLL for (int j = 0; j < tokens; j++) {
    const uint8_t *x = t->operand + (size_t)j * t->operand_stride;
    __m512 own = _mm512_set1_ps(((const float *)(x + t->block_factors))[block]);
    __m512i even[3], odd[3];
    CK_UNROLL for (int p = 0; p < parts; p++) {
      const uint8_t *part = x + (size_t)p * t->part_bytes + block * BLOCK;
      even[p] = _mm512_load_si512(part), odd[p] = _mm512_load_si512(part + 64);
    }
    CK_UNROLL for (int i = 0; i < rows; i++)
      totals[i][j] = _mm512_fmadd_ps(
          block_value(w[i], even, odd, parts), scaled ? _mm512_mul_ps(scale[i], own) : own,
          totals[i][j]);
  }
}

CK_AVX512_INLINE void run_tile(
    const tile *t, int rows, int tokens, int parts, int scaled) {
  __m512 totals[TILE_ROWS][TILE_TOKENS];
  CK_UNROLL for (int i = 0; i < rows; i++)
    CK_UNROLL for (int j = 0; j < tokens; j++)
      totals[i][j] =
          t->first ? _mm512_setzero_ps()
                   : _mm512_load_ps(t->sums + 16 * ((size_t)i * t->sum_stride + (size_t)j));
  const unit_factors *factors = t->factors;
  for (size_t block = t->begin; block < t->end; block += UNIT, factors++) {
    size_t left = t->end - block;
    if (left >= UNIT) {
      CK_UNROLL for (int b = 0; b < UNIT; b++)
        tile_block(t, block + (size_t)b, b, rows, tokens, parts, scaled, factors, totals);
    } else {
      for (int b = 0; b < (int)left; b++)
        tile_block(t, block + (size_t)b, b, rows, tokens, parts, scaled, factors, totals);
    }
    // Chunks beyond the slice have the sums of the next one: they do not count.
    __mmask16 mask = tail_mask16(4 * left);
    CK_UNROLL for (int j = 0; j < tokens; j++) {
      const uint8_t *x = t->operand + (size_t)j * t->operand_stride;
      __m512 sums = _mm512_maskz_loadu_ps(mask, (const float *)(x + t->block_sums) + 4 * block);
      CK_UNROLL for (int i = 0; i < rows; i++)
        totals[i][j] = _mm512_fnmadd_ps(
            scaled ? factors[(size_t)i * t->factor_stride].shifts : _mm512_set1_ps(128), sums,
            totals[i][j]);
    }
  }
  finish_tile(t, rows, tokens, scaled, totals);
}

typedef void (*tile_fn)(const tile *);

#define TILE(rows, tokens, parts, scaled)                                                  \
  CK_AVX512 static void tile_##rows##_##tokens##_##parts##_##scaled(const tile *t) {       \
    run_tile(t, rows, tokens, parts, scaled);                                              \
  }
#define TILES(parts, scaled)                                                               \
  TILE(4, 1, parts, scaled) TILE(4, 2, parts, scaled) TILE(4, 3, parts, scaled)            \
  TILE(1, 1, parts, scaled) TILE(1, 2, parts, scaled) TILE(1, 3, parts, scaled)
TILES(1, 0) TILES(2, 0) TILES(3, 0) TILES(1, 1) TILES(2, 1) TILES(3, 1)

#define TABLE(parts, scaled)                                                               \
  {{tile_4_1_##parts##_##scaled, tile_4_2_##parts##_##scaled, tile_4_3_##parts##_##scaled}, \
   {tile_1_1_##parts##_##scaled, tile_1_2_##parts##_##scaled, tile_1_3_##parts##_##scaled}}
// By factors (one a row, or one a group), parts, rows (4 or 1) and tokens.
static const tile_fn tiles[2][3][2][TILE_TOKENS] = {
    {TABLE(1, 0), TABLE(2, 0), TABLE(3, 0)}, {TABLE(1, 1), TABLE(2, 1), TABLE(3, 1)}};

typedef struct {
  const ck_linear *task;
  int four;
  int scaled;
  ck_integer_row layout;
  size_t slice;            // blocks of columns in a slice, the last maybe cut
  uint8_t *wide;
  size_t wide_stride;
  size_t origin;           // the block that widened rows begin with
  unit_factors *factors;   // per row, the units of all slices
  size_t units;            // of a slice
  float *sums;
} wide_run;

static inline const uint8_t *row_values(const wide_run *run, size_t row) {
  return (const uint8_t *)run->task->values + row * run->task->row_stride;
}

// Blocks [begin, end) of one row; `ahead` is prefetched meanwhile, as many bytes as are read.
CK_AVX512_INLINE void widen_blocks(
    int four, const uint8_t *row, size_t columns, size_t begin, size_t end, uint8_t *wide,
    const uint8_t *ahead) {
  size_t step = four ? BLOCK / 2 : BLOCK;
  for (size_t b = begin; b < end; b++, wide += BLOCK, ahead += step) {
    _mm_prefetch((const char *)ahead, _MM_HINT_T1);
    if (!four) _mm_prefetch((const char *)ahead + 64, _MM_HINT_T1);
    size_t left = columns - b * BLOCK;
    block_bytes bytes = load_block(four, row + b * step, left < BLOCK ? left : BLOCK);
    _mm512_store_si512(wide, bytes.even);
    _mm512_store_si512(wide + 64, bytes.odd);
  }
}

CK_AVX512 static void widen_row(
    const wide_run *run, size_t row, size_t i, size_t begin, size_t end, const uint8_t *ahead) {
  uint8_t *wide = run->wide + i * run->wide_stride;
  if (run->four)
    widen_blocks(1, row_values(run, row), run->task->columns, begin, end, wide, ahead);
  else
    widen_blocks(0, row_values(run, row), run->task->columns, begin, end, wide, ahead);
}

// The factors of rows, unit by unit of every slice.
CK_AVX512 static void load_rows(const wide_run *run, size_t row, size_t rows) {
  if (!run->scaled) return;
  size_t slice = run->task->columns / run->task->slices;
  unit_factors *to = run->factors;
  for (size_t i = 0; i < rows; i++)
    for (size_t s = 0; s < run->task->slices; s++) {
      size_t chunk = s * slice / CK_CHUNK, end = (s * slice + slice + CK_CHUNK - 1) / CK_CHUNK;
      for (size_t u = 0; u < run->units; u++, chunk += 16)
        *to++ = load_unit(&run->task->integer, run->four, row + i, chunk, end);
    }
}

// Widened blocks [begin, end) of rows [row, row + rows) for tokens [token0, token1).
static void run_tiles(
    const wide_run *run, size_t row, size_t rows, size_t begin, size_t end, size_t token0,
    size_t token1) {
  const ck_linear *task = run->task;
  size_t slice = begin / run->slice, inner = begin % run->slice;
  tile t = {
      .wide_stride = run->wide_stride,
      .factor_stride = run->units * task->slices,
      .operand_stride = task->operand_stride,
      .part_bytes = run->layout.part_bytes,
      .block_factors = run->layout.factors,
      .block_sums = run->layout.sums,
      .begin = begin,
      .end = end,
      .first = inner == 0,
      .last = end == (slice + 1) * run->slice,
      .sum_stride = token1 - token0,
      .output_stride = task->output_stride,
  };
  for (size_t i = 0; i < rows;) {
    size_t step = rows - i >= TILE_ROWS ? TILE_ROWS : 1;
    t.wide = run->wide + i * run->wide_stride + (begin - run->origin) * BLOCK;
    t.factors = run->factors + i * t.factor_stride + slice * run->units + inner / UNIT;
    if (!run->scaled)
      for (size_t r = 0; r < step; r++)
        t.row_factors[r] = ck_factor(&task->integer, row + i + r, 0);
    for (size_t token = token0; token < token1; token += TILE_TOKENS) {
      size_t count = token1 - token < TILE_TOKENS ? token1 - token : TILE_TOKENS;
      t.operand = (const uint8_t *)task->operand + token * task->operand_stride;
      t.sums = run->sums + 16 * (i * t.sum_stride + token - token0);
      t.output =
          task->output + token * task->output_stride + slice * task->slice_stride + row + i;
      tiles[run->scaled][run->layout.parts - 1][step == 1][count - 1](&t);
    }
    i += step;
  }
}

// Where the blocks from `begin` end that are taken at a time: within their slice.
static size_t blocks_end(const wide_run *run, size_t begin) {
  size_t left = run->slice - begin % run->slice;
  return begin + (left < COLUMN_BLOCKS ? left : COLUMN_BLOCKS);
}

// A few tokens: groups of rows in blocks of columns.
static void run_blocks(
    wide_run *run, size_t row0, size_t row1, size_t token0, size_t token1) {
  size_t blocks = run->slice * run->task->slices;
  for (size_t row = row0; row < row1; row += GROUP_ROWS) {
    size_t rows = row1 - row < GROUP_ROWS ? row1 - row : GROUP_ROWS;
    load_rows(run, row, rows);
    const uint8_t *ahead = row_values(run, row + rows);
    for (size_t begin = 0, end; begin < blocks; begin = end) {
      end = blocks_end(run, begin);
      for (size_t i = 0; i < rows; i++, ahead += (end - begin) * (run->four ? 64 : 128))
        widen_row(run, row + i, i, begin, end, ahead);
      run->origin = begin;
      run_tiles(run, row, rows, begin, end, token0, token1);
    }
  }
}

// Many tokens: as many rows as fit are widened once, over all columns.
static void run_rows(
    const wide_run *run, size_t row0, size_t row1, size_t token0, size_t token1) {
  size_t blocks = run->slice * run->task->slices;
  size_t block = OPERAND_BLOCK_BYTES / run->task->operand_stride / TILE_TOKENS * TILE_TOKENS;
  size_t group = WIDE_BYTES / run->wide_stride / TILE_ROWS * TILE_ROWS;
  size_t factors = run->units * run->task->slices * sizeof(unit_factors);
  size_t room = FACTOR_BYTES / factors / TILE_ROWS * TILE_ROWS;
  if (block < TILE_TOKENS) block = TILE_TOKENS;
  if (block > MANY_TOKENS) block = MANY_TOKENS;
  if (run->scaled && group > room) group = room;
  if (group > MANY_ROWS) group = MANY_ROWS;
  for (size_t row = row0; row < row1; row += group) {
    size_t rows = row1 - row < group ? row1 - row : group;
    load_rows(run, row, rows);
    for (size_t i = 0; i < rows; i++)
      widen_row(run, row + i, i, 0, blocks, row_values(run, row + i + 2));
    for (size_t token = token0; token < token1; token += block) {
      size_t last = token1 - token < block ? token1 : token + block;
      for (size_t begin = 0, end; begin < blocks; begin = end) {
        end = blocks_end(run, begin);
        run_tiles(run, row, rows, begin, end, token, last);
      }
    }
  }
}

CK_AVX512_INLINE void run_linear(
    const ck_linear *task, int four, size_t row0, size_t row1, size_t token0, size_t token1,
    void *scratch) {
  size_t tokens = token1 - token0;
  size_t slice = (task->columns / task->slices + BLOCK - 1) / BLOCK;
  wide_run run = {
      .task = task,
      .four = four,
      .scaled = task->integer.group != 0,
      .layout = ck_integer_layout(task->operand_kind, task->operand_stride),
      .slice = slice,
      .units = (slice + UNIT - 1) / UNIT,
      .wide = scratch,
      // An odd number of cache lines, so that a tile's rows fall on different cache sets.
      .wide_stride = slice * task->slices * BLOCK + 64,
      .factors = (unit_factors *)((uint8_t *)scratch + WIDE_BYTES),
      .sums = (float *)((uint8_t *)scratch + WIDE_BYTES + FACTOR_BYTES),
  };
  if (tokens <= STREAM_TOKENS && tokens * run.layout.parts * task->columns <= STREAM_BYTES) {
    int kind = four ? 2 : run.scaled;
    streams[kind][run.layout.parts - 1][tokens - 1](task, wants_hints(), row0, row1, token0);
    return;
  }
  if (tokens > FEW_TOKENS && TILE_ROWS * run.wide_stride <= WIDE_BYTES) {
    run_rows(&run, row0, row1, token0, token1);
    return;
  }
  run.wide_stride = COLUMN_BLOCKS * BLOCK + 64;
  for (size_t token = token0; token < token1; token += FEW_TOKENS)
    run_blocks(
        &run, row0, row1, token, token1 - token < FEW_TOKENS ? token1 : token + FEW_TOKENS);
}

CK_AVX512 void ck_avx512_linear_int8(
    const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,
    void *scratch) {
  run_linear(task, 0, row0, row1, token0, token1, scratch);
}

CK_AVX512 void ck_avx512_linear_int4(
    const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,
    void *scratch) {
  run_linear(task, 1, row0, row1, token0, token1, scratch);
}
#endif
