// The scalar set's products with INT8 and INT4 weights: an element less its zero is exact in
// float32; each chunk of columns has a partial sum, which is multiplied by the chunk's factor.
// Where the whole row has one factor, it multiplies the finished sum.
#include "integer.h"

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

#define LANES 16

static float element(int32_t format, const uint8_t *row, size_t k, int zero) {
  if (format == CK_FORMAT_INT8) return (float)(int8_t)row[k];
  return (float)((row[k / 2] >> k % 2 * 4 & 15) - zero);
}

static float tree_sum(const float *lanes) {
  float eight[8], four[4];
  for (int i = 0; i < 8; i++) eight[i] = lanes[i] + lanes[i + 8];
  for (int i = 0; i < 4; i++) four[i] = eight[i] + eight[i + 4];
  return (four[0] + four[2]) + (four[1] + four[3]);
}

// One row of weights over the slice of columns [begin, end).
static void linear_row(
    const ck_linear *task, int32_t format, size_t row, size_t begin, size_t end, size_t token0,
    size_t token1) {
  const ck_integer *integer = &task->integer;
  const uint8_t *values = (const uint8_t *)task->values + row * task->row_stride;
  float *output = task->output + begin / (end - begin) * task->slice_stride + row;
  for (size_t t0 = token0; t0 < token1; t0 += 8) {
    size_t tokens = token1 - t0 < 8 ? token1 - t0 : 8;
    float sums[8][LANES] = {{0}};
    for (size_t k0 = begin; k0 < end; k0 += CK_CHUNK) {
      size_t count = end - k0 < CK_CHUNK ? end - k0 : CK_CHUNK;
      size_t group = ck_group_of(integer, k0);
      int zero = format == CK_FORMAT_INT4 ? ck_zero(integer, row, group) : 0;
      float factor = integer->group == 0 ? 1 : ck_factor(integer, row, group), w[CK_CHUNK];
      for (size_t i = 0; i < count; i++) w[i] = element(format, values, k0 + i, zero);
      for (size_t t = 0; t < tokens; t++) {
        const uint8_t *token = (const uint8_t *)task->operand + (t0 + t) * task->operand_stride;
        const float *x = (const float *)token + k0;
        float lanes[LANES] = {0};
        for (size_t i = 0; i < count; i++) lanes[i % LANES] += w[i] * x[i];
        for (int i = 0; i < LANES; i++) sums[t][i] += lanes[i] * factor;
      }
    }
    float last = integer->group == 0 ? ck_factor(integer, row, 0) : 1;
    for (size_t t = 0; t < tokens; t++)
      output[(t0 + t) * task->output_stride] = tree_sum(sums[t]) * last;
  }
}

#define LINEAR(name, format)                                                                   \
  void ck_reference_##name(                                                                    \
      const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,           \
      void *scratch) {                                                                         \
    (void)scratch;                                                                             \
    size_t slice = task->columns / task->slices;                                               \
    for (size_t row = row0; row < row1; row++)                                                 \
      for (size_t k = 0; k < task->columns; k += slice)                                        \
        linear_row(task, format, row, k, k + slice, token0, token1);                           \
  }
LINEAR(linear_int8, CK_FORMAT_INT8)
LINEAR(linear_int4, CK_FORMAT_INT4)

void ck_reference_widen_integer(
    int32_t format, float *y, const void *values, const ck_integer *integer, size_t row,
    size_t columns) {
  for (size_t k = 0; k < columns; k++) {
    size_t group = ck_group_of(integer, k);
    int zero = format == CK_FORMAT_INT4 ? ck_zero(integer, row, group) : 0;
    y[k] = element(format, values, k, zero) * ck_factor(integer, row, group);
  }
}

void ck_reference_prepare_grid(
    float *row, const float *source, size_t begin, size_t end, size_t columns) {
  for (size_t k0 = begin; k0 < end; k0 += CK_SCALE_BLOCK, source += CK_SCALE_BLOCK) {
    size_t count = end - k0 < CK_SCALE_BLOCK ? end - k0 : CK_SCALE_BLOCK;
    float largest = 0;
    for (size_t k = 0; k < count; k++) {
      float magnitude = fabsf(source[k]);
      if (magnitude > largest) largest = magnitude;
      if (!(magnitude <= 3.4028234e38f)) largest = NAN;
      if (largest != largest) break;
    }
    // What is too small for the reciprocal is nothing; what is not finite spoils the block.
    int none = largest < 0x1p-100f;
    float inverse = 127 / largest, factor = largest / 127;
    for (size_t k = 0; k < count; k++)
      row[k0 + k] = none ? 0 : largest != largest ? largest
                                                  : nearbyintf(source[k] * inverse) * factor;
  }
  if (end == columns) memset(row + end, 0, 4 * ((end + 15) / 16 * 16 - end));
}
