// Arithmetic on raw pointers: one table of functions per instruction set.
//
// Contract of every entry
//   - No allocation, threads, I/O or globals; the caller owns memory, threads and shapes.
//   - Weights are row-major and used in place at any address; everything that this library
//     prepares itself (operands, scratch) is aligned to 64 bytes. Outputs never overlap inputs.
//   - Canonical order: the bits of an output element depend on its own inputs and on the table
//     alone, never on how many rows or tokens a call covers.
//   - Each table has its own bits; the tables agree within rounding.
#ifndef CKERNELS_H
#define CKERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "ckaffinity.h"
#include "ckprobes.h"
#include "ckrounding.h"
#include "ckvision.h"

#define CK_SENDABLE __attribute__((swift_attr("@Sendable")))

// How the elements of a weight matrix are stored.
#define CK_FORMAT_FLOAT32 0
#define CK_FORMAT_BFLOAT16 1
#define CK_FORMAT_E4M3 2  // one float32 factor per block of 128 x 128, edge blocks cut
#define CK_FORMAT_INT8 3  // two's complement; factors in ck_integer
#define CK_FORMAT_INT4 4  // two a byte, low half first, plus 8; factors in ck_integer
#define CK_FORMAT_COUNT 5

// How many bits of the activations take part in a product.
#define CK_ACTIVATION_BFLOAT16 0
#define CK_ACTIVATION_FLOAT32 1
#define CK_ACTIVATION_INT8 2  // for integer weights; others take them as BFLOAT16

// Layouts of one prepared row of activations; every row is zero beyond its columns.
#define CK_OPERAND_FLOAT32 0         // float32
#define CK_OPERAND_ROUNDED 1         // float32 holding values rounded to bfloat16
#define CK_OPERAND_TURNED2 2         // float32; of every 8 the even ones, then the odd ones
#define CK_OPERAND_TURNED2_ROUNDED 3 // the same, rounded to bfloat16
#define CK_OPERAND_TURNED4 4         // float32; of every 16 those of k % 4 = 0, 2, 1, 3
#define CK_OPERAND_TURNED4_ROUNDED 5 // the same, rounded to bfloat16
#define CK_OPERAND_BFLOAT16 6        // bfloat16
#define CK_OPERAND_PAIR 7            // a row of hi = bfloat16(x), a row of lo = bfloat16(x - hi)
#define CK_OPERAND_SPLIT_BFLOAT16 8  // bfloat16, even and odd ones apart (ck_split_place)
#define CK_OPERAND_SPLIT_PAIR 9      // as PAIR, both rows in the order of SPLIT_BFLOAT16
#define CK_OPERAND_GRID 10           // float32 on a grid of 255 steps for every 128 columns
#define CK_OPERAND_INTEGER1 11       // integers of 8 bits with factors; see ck_integer_row
#define CK_OPERAND_INTEGER2 12       // the same of 16 bits, in two parts
#define CK_OPERAND_INTEGER3 13       // the same of 24 bits, in three parts
#define CK_OPERAND_COUNT 14

// Element types of the KV cache.
#define CK_KV_BFLOAT16 0
#define CK_KV_FLOAT32 1

#define CK_SCALE_BLOCK 128        // E4M3: rows and columns that share a factor
#define CK_PARTITION 512          // attention: positions that share one softmax pass
#define CK_LINEAR_SCRATCH 1441792 // bytes of scratch that a linear entry may use

// Types of the factors of integer weights.
#define CK_FACTOR_FLOAT32 0
#define CK_FACTOR_BFLOAT16 1
#define CK_FACTOR_FLOAT16 2

// What integer weights have besides their elements: value = (element - zero) * factor. Elements
// of INT8 have zero 0; those of INT4, 0 to 15 as stored, have 8 or the entry of `zeros`.
typedef struct {
  const void *factors;   // [rows][factor_stride], any address
  size_t factor_stride;  // elements
  int32_t factor_type;
  size_t group;          // columns that share a factor: 32, 64, 128, or 0 for the whole row
  const void *zeros;     // INT4: 32-bit words [ceil(rows / 8)][zero_stride], row r % 8 in bits
  size_t zero_stride;    // 4 * (r % 8) and up; NULL where every zero is 8
  size_t zero_row;       // the row of `zeros` that belongs to row 0
} ck_integer;

// output[t][n] = sum over k of values[n][k] * operand[t][k], over each slice of k by itself
typedef struct {
  const void *values;     // [rows][columns], any address
  size_t row_stride;      // bytes from row to row
  const float *scales;    // E4M3: [ceil(rows / 128)][ceil(columns / 128)], any address
  size_t scale_stride;    // factors from 128 rows to the next
  size_t columns;
  size_t slices;          // equal parts of the columns; 1, or each a multiple of 32 (E4M3: 256,
                          // integers: 128)
  size_t slice_stride;    // floats of output from slice to slice
  const void *operand;    // prepared rows
  size_t operand_stride;  // bytes from token to token (a PAIR token is two rows of half of it)
  int32_t operand_kind;
  float *output;          // [tokens][output_stride]
  size_t output_stride;   // floats
  const void *next;       // rows that will be read next, to prefetch; NULL: those behind row1
  ck_integer integer;     // INT8 and INT4
} ck_linear;

// Rows [row0, row1) of the weights for tokens [token0, token1).
typedef void (*ck_linear_fn)(
    const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1, void *scratch);

// The cache of one sequence in one layer: blocks of `block_size` positions, found by `table`.
// A block of keys:   bfloat16 [d/2][positions][2], float32 [d][positions].
// A block of values: bfloat16 [positions/2][d][2], float32 [positions][d].
typedef struct {
  uint8_t *keys;
  uint8_t *values;
  size_t block_bytes;    // of keys, and of values
  size_t block_size;     // positions: 16, 32, 64, 128, 256 or 512
  size_t dimension;      // d, even
  const int32_t *table;  // block numbers in the order of positions
} ck_kv;

// Writes one position's key and value [d] into slot = block * block_size + offset.
typedef void (*ck_store_kv_fn)(const ck_kv *kv, size_t slot, const float *key, const float *value);

// One partition of attention for `count` query rows [d] that see `visible` positions from
// `start` (a multiple of CK_PARTITION). Writes per row: the largest score, the sum of
// exp(score - largest), and the d sums of exp(score - largest) * value: out[count][2 + d].
typedef void (*ck_attend_fn)(
    const ck_kv *kv, const float *queries, size_t count, size_t start, size_t visible,
    float scale, float *out, void *scratch);

// One term of a sum over a binary tree, in the order of its leaves.
typedef struct {
  uint32_t slot;  // which slot of partial results
  uint32_t adds;  // how many sums end with this term
  float factor;
} ck_term;

#define CK_TREE_DEPTH 40   // terms that may wait for their partner
#define CK_MAX_SLICES 4    // a power of two

typedef struct CK_SENDABLE {
  const char *name;
  // Which operand layout a weight format wants for an activation type.
  int32_t (*operand_kind)(int32_t format, int32_t activation);
  // Converts columns [begin, end) of a row of float32, which begin at `source`, into an operand row
  // of `bytes`; both are multiples of 64, or `end` is `columns` and the padding is written too; of
  // GRID and INTEGER operands multiples of 128.
  void (*prepare)(
      int32_t kind, void *row, size_t bytes, const float *source, size_t begin, size_t end,
      size_t columns);
  ck_linear_fn linear_float32;
  ck_linear_fn linear_bfloat16;
  ck_linear_fn linear_e4m3;
  ck_linear_fn linear_int8;
  ck_linear_fn linear_int4;

  ck_store_kv_fn store_bfloat16;
  ck_store_kv_fn store_float32;
  ck_attend_fn attend_bfloat16;
  ck_attend_fn attend_float32;
  // Folds a partition's rows into the running ones: state[count][2 + d].
  void (*attention_merge)(float *state, const float *partial, size_t count, size_t dimension);
  // output[count][d] = state's sums / state's weight.
  void (*attention_finish)(float *output, const float *state, size_t count, size_t dimension);

  // y = x / sqrt(mean(x^2) + epsilon) * weight
  void (*rms_norm)(float *y, const float *x, const float *weight, size_t count, float epsilon);
  // Rotates the halves of each of `heads` rows [d] in place; cosine and sine have d/2 entries.
  void (*rotary)(
      float *x, const float *cosine, const float *sine, size_t heads, size_t dimension);
  // y = gate / (1 + exp(-gate)) * up
  void (*swiglu)(float *y, const float *gate, const float *up, size_t count);
  // y += x
  void (*add)(float *y, const float *x, size_t count);
  // For each slice: the tree sum of factor * slots[slot][slice][0..<count]; written to
  // output + slice * output_stride, or, when that is 0, summed over the slices as a binary tree.
  void (*combine)(
      float *output, size_t output_stride, const float *slots, size_t slices, size_t count,
      const ck_term *terms, size_t term_count);
  // y = x rounded to bfloat16, to nearest even
  void (*round_bfloat16)(float *y, const float *x, size_t count);
  // y = one row of weights widened; scales is the row's own row of blocks (E4M3)
  void (*widen)(int32_t format, float *y, const void *row, const float *scales, size_t columns);
  // y = one row of INT8 or INT4 weights widened; `integer` is that of row 0.
  void (*widen_integer)(
      int32_t format, float *y, const void *values, const ck_integer *integer, size_t row,
      size_t columns);
  // Largest value, its first index, and the sum of exp(x - largest); NaN counts as smallest.
  void (*log_sum_exp)(
      const float *x, size_t count, float *largest, size_t *index, float *sum);
} ck_kernels;

// The best table that this CPU has and `limit` allows: "avx512", "avx512-fma", "avx2", "neon",
// "reference", or NULL for no limit. NULL when the CPU lacks the named set or the name is unknown.
const ck_kernels *ck_select(const char *limit);

// What the named set needs and this CPU lacks, as text; "" when nothing, NULL for unknown names.
const char *ck_missing(const char *name);

// A prepared row of integers, in blocks of 128 columns. The integers of a block lie on a grid
// from minus to plus its largest magnitude; value = integer * factor. A part holds 8 bits of
// each: of a block first those of the 64 even columns, then those of the 64 odd ones; the upper
// part comes first. After the parts, a factor per block, then per 32 columns their sum of values.
// Where these lie depends on the row's bytes alone, not on how many columns are used.
typedef struct {
  size_t parts, part_bytes;
  size_t factors, sums;  // bytes from the start of the row
} ck_integer_row;

static inline size_t ck_integer_bytes(size_t parts, size_t blocks) {
  size_t bytes = parts * blocks * CK_SCALE_BLOCK + (blocks + 15) / 16 * 64 + (blocks + 3) / 4 * 64;
  return bytes + (bytes / 64 % 2 == 0 ? 64 : 0);
}

static inline ck_integer_row ck_integer_layout(int32_t kind, size_t bytes) {
  size_t parts = (size_t)(kind - CK_OPERAND_INTEGER1) + 1;
  size_t blocks = bytes / (parts * CK_SCALE_BLOCK);
  while (ck_integer_bytes(parts, blocks) > bytes) blocks--;
  ck_integer_row row = {.parts = parts, .part_bytes = blocks * CK_SCALE_BLOCK};
  row.factors = parts * row.part_bytes;
  row.sums = row.factors + (blocks + 15) / 16 * 64;
  return row;
}

// Bytes of one prepared token of a kind. An odd number of cache lines per row, so that rows do
// not fall on the same cache sets.
static inline size_t ck_operand_bytes(int32_t kind, size_t columns) {
  if (kind >= CK_OPERAND_INTEGER1)
    return ck_integer_bytes(
        (size_t)(kind - CK_OPERAND_INTEGER1) + 1, (columns + CK_SCALE_BLOCK - 1) / CK_SCALE_BLOCK);
  int floats = kind <= CK_OPERAND_ROUNDED || kind == CK_OPERAND_GRID;
  size_t bytes = floats ? (columns + 15) / 16 * 64 : (columns + 63) / 64 * 128;
  if (kind >= CK_OPERAND_TURNED2 && kind <= CK_OPERAND_TURNED4_ROUNDED)
    bytes = (columns + 31) / 32 * 128;
  if (kind == CK_OPERAND_SPLIT_BFLOAT16 || kind == CK_OPERAND_SPLIT_PAIR)
    bytes = (columns + 255) / 256 * 512;
  bytes += bytes / 64 % 2 == 0 ? 64 : 0;
  int pair = kind == CK_OPERAND_PAIR || kind == CK_OPERAND_SPLIT_PAIR;
  return pair ? 2 * bytes : bytes;
}

// Bytes of scratch that an attention entry may use for `count` query rows; a multiple of 64.
static inline size_t ck_attention_scratch(size_t count, size_t dimension) {
  size_t panel = 128 * (dimension > CK_PARTITION ? dimension : CK_PARTITION);
  return panel + 64 * count * (CK_PARTITION / 16 + dimension / 16 + 4);
}

// Tells the core that the thread is spinning.
static inline void ck_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

#endif
