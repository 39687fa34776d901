// Image files to rows of RGB, and the arithmetic of resizing.
//
// Every decoder works in two calls: `*_size` reads the header, so that the caller can refuse what
// is too large before memory is taken; `*_decode` fills width * height * 3 bytes. Library errors
// that unwind by longjmp end inside these functions, whose only callbacks are C. No function keeps
// a pointer.
#ifndef CIMAGECODECS_H
#define CIMAGECODECS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  CIC_OK = 0,
  CIC_TRUNCATED = 1,    // the data end too early
  CIC_DAMAGED = 2,      // the data contradict the format
  CIC_UNSUPPORTED = 3,  // a variant of the format that is not read
  CIC_MEMORY = 4,       // no memory left
  CIC_TOO_SLOW = 5,     // the deadline passed
};

/// What went wrong: one of the numbers above, and the library's words, zero-terminated.
typedef struct {
  int32_t status;
  char reason[220];
} cic_failure;

/// A file in memory and how to read it.
typedef struct {
  const uint8_t *bytes;
  size_t count;
  /// What `*_size` said; `*_decode` fails when the file says something else.
  int32_t width, height;
  /// Non-zero leaves transparency out; zero blends over white.
  int32_t drops_alpha;
  /// CLOCK_MONOTONIC in nanoseconds after which decoding stops; 0 is never.
  int64_t deadline;
} cic_source;

int32_t cic_jpeg_size(cic_source *source, cic_failure *failure);
int32_t cic_jpeg_decode(const cic_source *source, uint8_t *rgb, cic_failure *failure);
int32_t cic_png_size(cic_source *source, cic_failure *failure);
int32_t cic_png_decode(const cic_source *source, uint8_t *rgb, cic_failure *failure);
int32_t cic_webp_size(cic_source *source, cic_failure *failure);
int32_t cic_webp_decode(const cic_source *source, uint8_t *rgb, cic_failure *failure);
int32_t cic_gif_size(cic_source *source, cic_failure *failure);
int32_t cic_gif_decode(const cic_source *source, uint8_t *rgb, cic_failure *failure);

/// Now, in nanoseconds of CLOCK_MONOTONIC.
int64_t cic_now(void);

// Resizing. `first[i]` and `count[i]` say which inputs output i takes, `taps` holds `stride`
// weights per output. All images are RGB, three bytes or floats a pixel, without padding.

/// Rows [from, to) of a horizontal pass in 8 bits with weights of 22 fractional bits. Inputs at
/// `source_width` and beyond are black.
void cic_resample_horizontal(
    const uint8_t *source, int32_t source_width, uint8_t *target, int32_t target_width,
    const int32_t *first, const int32_t *count, const int32_t *taps, int32_t stride, int32_t from,
    int32_t to);

/// Rows [from, to) of a vertical pass; rows at `source_height` and beyond are black.
void cic_resample_vertical(
    const uint8_t *source, int32_t width, int32_t source_height, uint8_t *target,
    const int32_t *first, const int32_t *count, const int32_t *taps, int32_t stride, int32_t from,
    int32_t to);

/// Rows [from, to) of the horizontal pass in floats: bytes through `table` (three tables of 256),
/// then weighted; plane c of `target` begins at c * target_width * rows.
void cic_resample_normalized_horizontal(
    const uint8_t *source, int32_t source_width, const float *table, float *target,
    int32_t target_width, int32_t rows, const int32_t *first, const int32_t *count,
    const float *taps, int32_t stride, int32_t from, int32_t to);

/// Rows [from, to) of all three planes of the vertical pass in floats.
void cic_resample_normalized_vertical(
    const float *source, int32_t width, int32_t source_height, float *target,
    int32_t target_height, const int32_t *first, const int32_t *count, const float *taps,
    int32_t stride, int32_t from, int32_t to);

/// A window of an image through `table` into three planes of side * side; black outside.
void cic_normalize_window(
    const uint8_t *source, int32_t width, int32_t height, int32_t x, int32_t y, int32_t side,
    const float *table, float *target);

/// Copies rows with one of the eight EXIF orientations applied; `target` is width * height for
/// orientations 1 to 4 and height * width for 5 to 8.
void cic_orient(
    const uint8_t *source, int32_t width, int32_t height, int32_t orientation, uint8_t *target);

#ifdef __cplusplus
}
#endif
#endif
