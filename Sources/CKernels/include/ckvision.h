// Arithmetic of the vision tower that works on rows one by one; matrix products and attention are
// those of ckernels.h. One version for all instruction sets: every sum has 16 fixed lanes, nothing
// is contracted, so the bits are the same wherever it runs.
#ifndef CKVISION_H
#define CKVISION_H

#include <stddef.h>

// x = quick_gelu(x + bias), quick_gelu(t) = t / (1 + exp(-1.702 t))
void ck_bias_quick_gelu(float *x, const float *bias, size_t columns);

// y += (b - mean(b)) / sqrt(variance(b) + epsilon) * weight + shift, where b = x + bias;
// overwrites x with b - mean(b)
void ck_add_layer_norm(
    float *y, float *x, const float *bias, const float *weight, const float *shift,
    size_t columns, float epsilon);

// y += x
void ck_add_row(float *y, const float *x, size_t columns);

// The k x k window of a planar image [channels][side][side] whose corner is at (top, left):
// row[c][i][j].
void ck_gather_pixels(
    float *row, const float *image, size_t side, size_t channels, size_t k, size_t top,
    size_t left);

// The same of a grid [grid][grid][channels], which may overhang; zero outside.
void ck_gather_cells(
    float *row, const float *cells, size_t grid, size_t channels, size_t k, ptrdiff_t top,
    ptrdiff_t left);

#endif
