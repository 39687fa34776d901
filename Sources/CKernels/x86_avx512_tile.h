// How AVX-512 products walk weights: groups of 8 rows, two vectors for every 16 bytes of them.
//
// A vector holds 16 bytes, a chunk, of each of four rows of weights; it is multiplied by the same
// chunk of a row of activations, broadcast. So an output has four lanes, which take K in order; at
// the end they are added as (0 + 2) + (1 + 3). One token and a thousand give the same bits, and a
// tile of 8 rows of weights by 12 rows of activations needs 24 accumulators only.
//
// Chunks of four rows come together by two loads, two insertions and two shuffles for two chunks;
// each takes about half a dot product's time from those beside it. A few tokens do so in
// registers. For more the first tile of a group writes the vectors into a panel, which the others
// read; columns are then taken in blocks for which the activations stay in the second cache, with
// the accumulators in scratch between blocks.
//
// While the first tile of a group runs, the rows to come are prefetched into the second cache in
// the order of their addresses, which is what memory likes best.
#ifndef CK_X86_AVX512_TILE_H
#define CK_X86_AVX512_TILE_H

#include "x86_avx512.h"

#define QUAD 4                     // rows in a vector
#define GROUP_ROWS (2 * QUAD)
#define LINE 64
#define PANEL_BYTES (1 << 19)      // scratch: the panel, then the accumulators of
#define MOST_ROWS 256              // rows
#define MANY_OPERANDS 96           // by prepared rows

// Where a tile's vectors of weights come from.
enum { from_rows, to_panel, from_panel };

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
  // E4M3: each quad's factors for its first and its last row, and the lanes that have the last's.
  const uint8_t *scales[2][2];
  __mmask16 second[2];
} tile;

// A tile, or two of neighbouring groups.
typedef void (*tile_fn)(const tile *t, int source);

// Half a line of two rows.
CK_AVX512_INLINE __m512i load_two(const uint8_t *a, const uint8_t *b, __mmask32 mask) {
  __m256i low, high;
  if (mask == 0xffffffff) {
    low = _mm256_loadu_si256((const __m256i *)a), high = _mm256_loadu_si256((const __m256i *)b);
  } else {
    low = _mm256_maskz_loadu_epi8(mask, a), high = _mm256_maskz_loadu_epi8(mask, b);
  }
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// Two chunks of both quads.
typedef struct {
  __m512i of[2][2];  // [chunk][quad]
} chunks;

// From byte k; of the half line only the bytes of the mask are there, the others become zero.
CK_AVX512_INLINE chunks load_chunks(const tile *t, size_t k, __mmask32 mask) {
  size_t s = t->weight_stride;
  const uint8_t *low = t->low + k, *high = t->high + k;
  __m512i a = load_two(low, low + s, mask), b = load_two(low + 2 * s, low + 3 * s, mask);
  __m512i c = load_two(high, high + s, mask), d = load_two(high + 2 * s, high + 3 * s, mask);
  chunks w = {{{_mm512_shuffle_i64x2(a, b, 0x88), _mm512_shuffle_i64x2(c, d, 0x88)},
               {_mm512_shuffle_i64x2(a, b, 0xdd), _mm512_shuffle_i64x2(c, d, 0xdd)}}};
  return w;
}

// The bytes of half a line of which `left` remain.
CK_AVX512_INLINE __mmask32 half_line_mask(size_t left) {
  return left >= LINE / 2 ? 0xffffffff : ((__mmask32)1 << left) - 1;
}

CK_AVX512_INLINE void prefetch_lines(const tile *t, const uint8_t *ahead) {
  CK_UNROLL for (size_t i = 0; i < GROUP_ROWS; i++)
    _mm_prefetch((const char *)ahead + i * t->ahead_stride, _MM_HINT_T1);
}

// Adds the lanes of both quads' sums of one token or two, and writes them times `unit`.
CK_AVX512_INLINE void write_two(
    const tile *t, float *at, __m512 a0, __m512 a1, __m512 b0, __m512 b1, int both, float unit) {
  const __m512i rows = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(a0, a1), _mm512_unpackhi_ps(a0, a1));
  __m512 b = both ? _mm512_add_ps(_mm512_unpacklo_ps(b0, b1), _mm512_unpackhi_ps(b0, b1)) : a;
  __m512 v = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
  v = _mm512_permutexvar_ps(rows, v);
  if (unit != 1) v = _mm512_mul_ps(v, _mm512_set1_ps(unit));
  _mm_mask_storeu_ps(at, t->low_mask, _mm512_castps512_ps128(v));
  _mm_mask_storeu_ps(at + t->high_offset, t->high_mask, _mm512_extractf32x4_ps(v, 1));
  if (!both) return;
  at += t->output_stride;
  _mm_mask_storeu_ps(at, t->low_mask, _mm512_extractf32x4_ps(v, 2));
  _mm_mask_storeu_ps(at + t->high_offset, t->high_mask, _mm512_extractf32x4_ps(v, 3));
}

typedef struct {
  const ck_linear *task;
  const tile_fn *tiles;    // by tokens - 1
  const tile_fn *twins;    // tiles of two groups, for up to `twinned` tokens
  size_t twinned;
  size_t width;            // bytes of a weight
  size_t spread;           // bytes of a prepared row, or of a panel's row, for one of weights
  size_t parts;            // prepared rows of a token
  size_t most, few;        // tokens of a tile; of one that works from the rows
  size_t granule;          // bytes: blocks of columns are multiples
  size_t operand_block;    // bytes of prepared rows that stay in the second cache
  size_t many_rows;        // rows for which a block of columns is kept, at most MOST_ROWS
  size_t ahead;            // bytes between a line's prefetch and its use, about
  size_t row0, row1;
  size_t token0, token1;   // of the block of tokens
  uint8_t *panel;
  float *sums;
} products;

// The factors of the quad whose rows begin with `row`.
static inline void place_scales(const ck_linear *task, tile *t, int quad, size_t row) {
  size_t first = row / CK_SCALE_BLOCK, last = (row + QUAD - 1) / CK_SCALE_BLOCK;
  if (t->weight_stride == 0) last = first;
  const uint8_t *scales = (const uint8_t *)task->scales;
  t->scales[quad][0] = scales + 4 * first * task->scale_stride;
  t->scales[quad][1] = scales + 4 * last * task->scale_stride;
  t->second[quad] = first == last ? 0 : (__mmask16)(0xffff << (last * CK_SCALE_BLOCK - row) * 4);
}

// Where the group from `row` is, and what becomes of its rows; returns how many it covers.
static inline size_t place_group(const products *p, size_t row, tile *t) {
  const ck_linear *task = p->task;
  size_t rows = p->row1 - p->row0, left = p->row1 - row, count = GROUP_ROWS;
  t->weight_stride = task->row_stride;
  t->low_mask = t->high_mask = 15, t->high_offset = QUAD;
  if (left < GROUP_ROWS) {
    count = left;
    if (rows >= GROUP_ROWS) {
      // The last group ends with the last row, and computes some rows again.
      row = p->row1 - GROUP_ROWS;
    } else if (rows >= QUAD) {
      t->high_offset = left - QUAD;
    } else {
      // A row at a time, in every place.
      count = 1, t->weight_stride = 0, t->low_mask = 1, t->high_mask = 0, t->high_offset = 0;
    }
  }
  t->output = task->output + row;
  t->low = (const uint8_t *)task->values + row * task->row_stride;
  t->high = t->low + t->high_offset * task->row_stride;
  if (task->scales) {
    place_scales(task, t, 0, row);
    place_scales(task, t, 1, row + t->high_offset);
  }
  return count;
}

// Bytes [begin, end) of the rows of a group, or of two, for all tokens of the block.
static inline void run_tiles(const products *p, tile *t, int groups, size_t begin, size_t end) {
  const ck_linear *task = p->task;
  size_t slice = task->columns / task->slices * p->width, tokens = p->token1 - p->token0;
  float *output[2];
  for (int g = 0; g < groups; g++) {
    output[g] = t[g].output + begin / slice * task->slice_stride;
    t[g].low += begin, t[g].high += begin;
    t[g].bytes = end - begin, t[g].first = begin % slice == 0, t[g].last = end % slice == 0;
    if (task->scales)
      for (int i = 0; i < 4; i++) t[g].scales[i / 2][i % 2] += begin / CK_SCALE_BLOCK * 4;
  }
  int source = tokens > p->few ? to_panel : from_rows;
  for (size_t done = 0, count; done < tokens; done += count) {
    size_t left = tokens - done, passes = (left + p->most - 1) / p->most;
    // Tiles of about one size: small ones are slow.
    count = done > 0 ? (left + passes - 1) / passes : left < p->few ? left : p->few;
    for (int g = 0; g < groups; g++) {
      t[g].operand = (const uint8_t *)task->operand + (p->token0 + done) * task->operand_stride +
                     begin * p->spread;
      t[g].sums = p->sums + 32 * p->parts * (done + g * tokens);
      t[g].output = output[g] + (p->token0 + done) * task->output_stride;
    }
    (groups > 1 ? p->twins : p->tiles)[count - 1](t, source);
    source = from_panel;
  }
}

// Groups of rows [row, end) in blocks of columns.
static inline void run_rows(const products *p, size_t row, size_t end, size_t block) {
  const ck_linear *task = p->task;
  size_t bytes = task->columns * p->width, slice = bytes / task->slices;
  size_t tokens = p->token1 - p->token0, most = tokens <= p->twinned ? 2 : 1;
  size_t step_bytes = most * GROUP_ROWS * bytes;
  // Whole groups ahead, so that they are there when their first rows are read.
  size_t ahead = (p->ahead + step_bytes - 1) / step_bytes * most * GROUP_ROWS;
  for (size_t begin = 0, stop; begin < bytes; begin = stop) {
    size_t left = slice - begin % slice;
    stop = begin + (left < block ? left : block);
    products q = *p;
    for (size_t r = row; r < end;) {
      tile t[2];
      int groups = end - r >= most * GROUP_ROWS ? (int)most : 1;
      for (int g = 0; g < groups; g++) {
        t[g] = (tile){
            .panel = p->panel,
            .operand_stride = task->operand_stride / p->parts,
            .output_stride = task->output_stride,
            .ahead_stride = LINE,
            .ahead_step = GROUP_ROWS * LINE,
        };
        size_t count = place_group(p, r, t + g);
        t[g].ahead = t[g].low + ahead * task->row_stride + begin * GROUP_ROWS;
        if (task->next && r + ahead >= p->row1)
          t[g].ahead = (const uint8_t *)task->next + (r + ahead - p->row1) * task->row_stride +
                       begin * GROUP_ROWS;
        // Rows of a larger matrix, and blocks, are prefetched side by side.
        if (task->row_stride != bytes || block < bytes) {
          t[g].ahead_stride = task->row_stride, t[g].ahead_step = LINE;
          t[g].ahead -= begin * (GROUP_ROWS - 1);
        }
        r += count;
      }
      run_tiles(&q, t, groups, begin, stop);
      q.sums += 32 * groups * tokens * p->parts;
    }
  }
}

// All of `p` but its tokens, panel and sums is given.
static inline void run_products(products p, size_t token0, size_t token1, void *scratch) {
  size_t bytes = p.task->columns * p.width, stride = p.task->operand_stride;
  size_t tokens = MANY_OPERANDS / p.parts;
  p.panel = scratch, p.sums = (float *)((uint8_t *)scratch + PANEL_BYTES);
  for (size_t token = token0; token < token1; token = p.token1) {
    p.token0 = token, p.token1 = token1 - token < tokens ? token1 : token + tokens;
    size_t held = (p.token1 - token) * stride, room = PANEL_BYTES / (GROUP_ROWS * p.spread);
    size_t blocks = (held + p.operand_block - 1) / p.operand_block;
    size_t block = (bytes + blocks - 1) / blocks;
    if (block > room) block = room;
    block = (block + p.granule - 1) / p.granule * p.granule;
    // Slices alone are no reason to come back to a group's rows.
    size_t most = block < bytes ? p.many_rows : p.twins ? 2 * GROUP_ROWS : GROUP_ROWS;
    for (size_t row = p.row0; row < p.row1; row += most)
      run_rows(&p, row, p.row1 - row < most ? p.row1 : row + most, block);
  }
}

#endif
