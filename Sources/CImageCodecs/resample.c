// The arithmetic of resizing, normalising and turning; Resampling.swift plans it.
#include <string.h>

#include "cimagecodecs.h"

enum { FRACTION_BITS = 22, COLUMN_BLOCK = 1024 };

static inline uint8_t clipped(int32_t sum) {
  int32_t value = sum >> FRACTION_BITS;
  return value < 0 ? 0 : value > 255 ? 255 : (uint8_t)value;
}

void cic_resample_horizontal(
    const uint8_t *source, int32_t source_width, uint8_t *target, int32_t target_width,
    const int32_t *first, const int32_t *count, const int32_t *taps, int32_t stride, int32_t from,
    int32_t to) {
  for (int32_t y = from; y < to; y++) {
    const uint8_t *row = source + (size_t)y * (size_t)source_width * 3;
    uint8_t *out = target + (size_t)y * (size_t)target_width * 3;
    for (int32_t x = 0; x < target_width; x++, out += 3) {
      const int32_t *weights = taps + (size_t)x * (size_t)stride;
      int32_t inside = source_width - first[x];
      int32_t n = count[x] < inside ? count[x] : inside;
      const uint8_t *in = row + (size_t)first[x] * 3;
      int32_t red = 1 << (FRACTION_BITS - 1), green = red, blue = red;
      for (int32_t j = 0; j < n; j++, in += 3) {
        red += in[0] * weights[j];
        green += in[1] * weights[j];
        blue += in[2] * weights[j];
      }
      out[0] = clipped(red);
      out[1] = clipped(green);
      out[2] = clipped(blue);
    }
  }
}

void cic_resample_vertical(
    const uint8_t *source, int32_t width, int32_t source_height, uint8_t *target,
    const int32_t *first, const int32_t *count, const int32_t *taps, int32_t stride, int32_t from,
    int32_t to) {
  size_t bytes = (size_t)width * 3;
  int32_t sums[COLUMN_BLOCK];
  for (int32_t y = from; y < to; y++) {
    const int32_t *weights = taps + (size_t)y * (size_t)stride;
    int32_t inside = source_height - first[y];
    int32_t n = count[y] < inside ? count[y] : inside;
    for (size_t start = 0; start < bytes; start += COLUMN_BLOCK) {
      size_t block = bytes - start < COLUMN_BLOCK ? bytes - start : COLUMN_BLOCK;
      for (size_t i = 0; i < block; i++) sums[i] = 1 << (FRACTION_BITS - 1);
      for (int32_t j = 0; j < n; j++) {
        const uint8_t *in = source + (size_t)(first[y] + j) * bytes + start;
        for (size_t i = 0; i < block; i++) sums[i] += in[i] * weights[j];
      }
      uint8_t *out = target + (size_t)y * bytes + start;
      for (size_t i = 0; i < block; i++) out[i] = clipped(sums[i]);
    }
  }
}

void cic_resample_normalized_horizontal(
    const uint8_t *source, int32_t source_width, const float *table, float *target,
    int32_t target_width, int32_t rows, const int32_t *first, const int32_t *count,
    const float *taps, int32_t stride, int32_t from, int32_t to) {
  size_t plane = (size_t)rows * (size_t)target_width;
  for (int32_t y = from; y < to; y++) {
    const uint8_t *row = source + (size_t)y * (size_t)source_width * 3;
    float *out = target + (size_t)y * (size_t)target_width;
    for (int32_t x = 0; x < target_width; x++) {
      const float *weights = taps + (size_t)x * (size_t)stride;
      const uint8_t *in = row + (size_t)first[x] * 3;
      float red = 0, green = 0, blue = 0;
      for (int32_t j = 0; j < count[x]; j++, in += 3) {
        red += table[in[0]] * weights[j];
        green += table[256 + in[1]] * weights[j];
        blue += table[512 + in[2]] * weights[j];
      }
      out[x] = red;
      out[plane + (size_t)x] = green;
      out[2 * plane + (size_t)x] = blue;
    }
  }
}

void cic_resample_normalized_vertical(
    const float *source, int32_t width, int32_t source_height, float *target,
    int32_t target_height, const int32_t *first, const int32_t *count, const float *taps,
    int32_t stride, int32_t from, int32_t to) {
  for (int c = 0; c < 3; c++) {
    const float *plane = source + (size_t)c * (size_t)source_height * (size_t)width;
    for (int32_t y = from; y < to; y++) {
      const float *weights = taps + (size_t)y * (size_t)stride;
      float *out = target + ((size_t)c * (size_t)target_height + (size_t)y) * (size_t)width;
      memset(out, 0, (size_t)width * sizeof *out);
      for (int32_t j = 0; j < count[y]; j++) {
        const float *in = plane + (size_t)(first[y] + j) * (size_t)width;
        for (int32_t x = 0; x < width; x++) out[x] += in[x] * weights[j];
      }
    }
  }
}

void cic_normalize_window(
    const uint8_t *source, int32_t width, int32_t height, int32_t x, int32_t y, int32_t side,
    const float *table, float *target) {
  size_t plane = (size_t)side * (size_t)side;
  for (int32_t row = 0; row < side; row++) {
    for (int32_t column = 0; column < side; column++) {
      int32_t sy = y + row, sx = x + column;
      int inside = sy < height && sx < width;
      const uint8_t *in = source + ((size_t)sy * (size_t)width + (size_t)sx) * 3;
      size_t at = (size_t)row * (size_t)side + (size_t)column;
      for (size_t c = 0; c < 3; c++) {
        target[c * plane + at] = table[c * 256 + (inside ? in[c] : 0)];
      }
    }
  }
}

void cic_orient(
    const uint8_t *source, int32_t width, int32_t height, int32_t orientation, uint8_t *target) {
  size_t w = (size_t)width, h = (size_t)height;
  for (size_t y = 0; y < h; y++) {
    for (size_t x = 0; x < w; x++) {
      size_t at = 0;
      switch (orientation) {
        case 2: at = y * w + (w - 1 - x); break;
        case 3: at = (h - 1 - y) * w + (w - 1 - x); break;
        case 4: at = (h - 1 - y) * w + x; break;
        case 5: at = x * h + y; break;
        case 6: at = x * h + (h - 1 - y); break;
        case 7: at = (w - 1 - x) * h + (h - 1 - y); break;
        case 8: at = (w - 1 - x) * h + y; break;
        default: at = y * w + x;
      }
      memcpy(target + 3 * at, source + 3 * (y * w + x), 3);
    }
  }
}
