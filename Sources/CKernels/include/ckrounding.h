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

// ---- Rounding so that the error of products is least, not that of weights.
//
// With the inputs' sums of products H, the error of a row's products is e H e' for the difference e
// to the rounded row. Columns are rounded one after the other, and what each leaves is made up for
// by those that follow.

#define CK_FEEDBACK_ROWS 16

// Adds to rows [first, end) of the upper triangle of sum [columns][columns] the products of all
// pairs of columns of `rows` [count][columns], summed over the rows.
void ck_add_products(
    float *sum, const float *rows, size_t count, size_t columns, size_t first, size_t end);

// Takes the upper triangle of H, adds `damping` times its mean diagonal to the diagonal, and leaves
// D on the diagonal and U' below it, where H = (U + I) D (U + I)'.
void ck_factor_products(float *products, size_t columns, float damping);

typedef struct {
  const float *products;  // [columns][columns], as ck_factor_products leaves them
  size_t columns;
  size_t group;           // columns that share a factor: 32, 64, 128, or 0 for the whole row
  int32_t bits;           // 4, 8, or 0 for E4M3 (group 128, factors given)
  int32_t with_zero;      // 4 bits: the integer that stands for zero is searched as well
  int32_t factor_type;    // CK_FACTOR_...
} ck_feedback;

// Rounds `count` rows, at most CK_FEEDBACK_ROWS, of weights [count][columns]. Writes, or for E4M3
// reads, factors [count][groups]; writes zeros [count][groups] and codes [count][columns] as
// ck_round_group does. `scratch` has 2 * CK_FEEDBACK_ROWS * columns floats.
ck_rounding_loss ck_round_rows(
    const ck_feedback *feedback, const float *weights, size_t count, float *factors, int *zeros,
    uint8_t *codes, float *scratch);

#endif
