// What the decoders share.
#ifndef CIC_CODEC_H
#define CIC_CODEC_H

#include "cimagecodecs.h"

/// Notes a failure and returns its status.
int32_t cic_fail(cic_failure *failure, int32_t status, const char *reason);

/// Whether the deadline has passed.
int cic_is_late(const cic_source *source);

/// a * b / 255, rounded; the arithmetic of the Python Imaging Library.
static inline uint8_t cic_scale(uint32_t a, uint32_t b) {
  uint32_t product = a * b + 128;
  return (uint8_t)(((product >> 8) + product) >> 8);
}

/// One colour of a pixel with the given alpha over white.
static inline uint8_t cic_over_white(uint8_t colour, uint8_t alpha) {
  uint32_t sum = 255u * (255u - alpha) + (uint32_t)colour * alpha + 128;
  return (uint8_t)(((sum >> 8) + sum) >> 8);
}

/// Writes `count` pixels of RGBA as RGB.
void cic_flatten_rgba(const uint8_t *rgba, uint8_t *rgb, size_t count, int32_t drops_alpha);

#endif
