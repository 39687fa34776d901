// Rounding of weights to few bits: what `step3 quantize` does to them.
#ifndef CK_ROUNDING_H
#define CK_ROUNDING_H

#include <stddef.h>
#include <stdint.h>

// What a rounding leaves of the weights: importance-weighted squares.
typedef struct {
  double error;  // of the difference
  double norm;   // of the weights
} ck_rounding_loss;

// Rounds a group of `count` weights that share a factor to integers of 4 or 8 bits, so that the
// squared error is as small as a factor of the type allows: factors below and at the one that just
// reaches the largest weight are tried, then neighbours of the best.
//   importance   weight of each square; NULL for all the same
//   factor_type  CK_FACTOR_...
//   with_zero    4 bits: the integer that stands for zero is searched as well; otherwise it is 8
//   codes        4 bits: 0 to 15; 8 bits: two's complement
ck_rounding_loss ck_round_group(
    const float *weights, const float *importance, size_t count, int bits, int with_zero,
    int32_t factor_type, float *factor, int *zero, uint8_t *codes);

// Rounds weights that share a float32 factor to E4M3; factors over one octave are tried.
ck_rounding_loss ck_round_e4m3(
    const float *weights, const float *importance, size_t count, float *factor, uint8_t *codes);

// A factor as the type stores it.
float ck_round_factor(float factor, int32_t factor_type);

#endif
