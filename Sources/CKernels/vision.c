#include "ckvision.h"
#include "tables.h"

#pragma STDC FP_CONTRACT OFF

// The compiler makes a version for each instruction set; without contraction all have one result.
// The loader chooses among them before a thread sanitizer has a thread to record the choice for.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CK_ONE_VERSION
#endif
#endif
#if defined(__x86_64__) && defined(__linux__) && !defined(CK_ONE_VERSION)
#define CK_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CK_CLONES
#endif

#define LANES 16

static inline float sum_of_lanes(const float *lanes) {
  float sums[LANES];
  memcpy(sums, lanes, sizeof sums);
  for (size_t half = LANES / 2; half > 0; half /= 2)
    for (size_t l = 0; l < half; l++) sums[l] = sums[l] + sums[l + half];
  return sums[0];
}

CK_CLONES void ck_bias_quick_gelu(float *x, const float *bias, size_t columns) {
  for (size_t i = 0; i < columns; i++) {
    float t = x[i] + bias[i];
    x[i] = t / (1.0f + ck_exp(-1.702f * t));
  }
}

CK_CLONES void ck_add_layer_norm(
    float *y, float *x, const float *bias, const float *weight, const float *shift,
    size_t columns, float epsilon) {
  float lanes[LANES] = {0};
  size_t whole = columns / LANES * LANES;
  for (size_t i = 0; i < whole; i += LANES)
    for (size_t l = 0; l < LANES; l++) {
      float b = x[i + l] + bias[i + l];
      x[i + l] = b;
      lanes[l] = lanes[l] + b;
    }
  for (size_t i = whole; i < columns; i++) {
    float b = x[i] + bias[i];
    x[i] = b;
    lanes[i - whole] = lanes[i - whole] + b;
  }
  float mean = sum_of_lanes(lanes) / (float)columns;
  memset(lanes, 0, sizeof lanes);
  for (size_t i = 0; i < whole; i += LANES)
    for (size_t l = 0; l < LANES; l++) {
      float b = x[i + l] - mean;
      x[i + l] = b;
      lanes[l] = lanes[l] + b * b;
    }
  for (size_t i = whole; i < columns; i++) {
    float b = x[i] - mean;
    x[i] = b;
    lanes[i - whole] = lanes[i - whole] + b * b;
  }
  float factor = 1.0f / sqrtf(sum_of_lanes(lanes) / (float)columns + epsilon);
  for (size_t i = 0; i < columns; i++) y[i] = y[i] + (x[i] * factor * weight[i] + shift[i]);
}

CK_CLONES void ck_add_row(float *y, const float *x, size_t columns) {
  for (size_t i = 0; i < columns; i++) y[i] = y[i] + x[i];
}

void ck_gather_pixels(
    float *row, const float *image, size_t side, size_t channels, size_t k, size_t top,
    size_t left) {
  for (size_t c = 0; c < channels; c++)
    for (size_t i = 0; i < k; i++, row += k)
      memcpy(row, image + (c * side + top + i) * side + left, k * sizeof *row);
}

void ck_gather_cells(
    float *row, const float *cells, size_t grid, size_t channels, size_t k, ptrdiff_t top,
    ptrdiff_t left) {
  for (size_t i = 0; i < k; i++)
    for (size_t j = 0; j < k; j++) {
      ptrdiff_t y = top + (ptrdiff_t)i, x = left + (ptrdiff_t)j;
      int inside = y >= 0 && x >= 0 && y < (ptrdiff_t)grid && x < (ptrdiff_t)grid;
      const float *cell = cells + (inside ? (size_t)y * grid + (size_t)x : 0) * channels;
      float *at = row + i * k + j;
      for (size_t c = 0; c < channels; c++) at[c * k * k] = inside ? cell[c] : 0.0f;
    }
}
