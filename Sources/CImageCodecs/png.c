// PNG through libpng. Samples are unpacked to bytes and nothing else; what they mean follows the
// Python Imaging Library: colours of 16 bits lose their low byte, greys of 16 bits are clipped at
// 255, and a transparent grey is compared before that.
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"

typedef struct {
  png_structp png;
  png_infop info;
  const cic_source *source;
  cic_failure *failure;
  size_t offset;
  int32_t status;
  uint8_t *pixels;
  png_bytep *rows;
  // How to turn a row into RGB.
  int colour_type, depth;
  uint8_t palette[256][4];
  int has_transparency;
  uint32_t clear;
} reader;

static void on_error(png_structp png, png_const_charp text) {
  reader *r = png_get_error_ptr(png);
  int32_t status = r->status ? r->status : CIC_DAMAGED;
  cic_fail(r->failure, status, text);
  png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text) {
  (void)png;
  (void)text;
}

static void stop(reader *r, int32_t status, const char *reason) {
  r->status = status;
  png_error(r->png, reason);
}

static void on_read(png_structp png, png_bytep target, size_t count) {
  reader *r = png_get_io_ptr(png);
  if (count > r->source->count - r->offset) {
    stop(r, CIC_TRUNCATED, "the data end inside the image");
  }
  memcpy(target, r->source->bytes + r->offset, count);
  r->offset += count;
}

static void destroy_reader(reader *r) {
  if (r->png) png_destroy_read_struct(&r->png, &r->info, NULL);
  free(r->pixels);
  free(r->rows);
  free(r);
}

/// Chunks that are not needed and could be large: dropped unread.
static void skip_chunks(reader *r) {
  static const png_byte names[] =
      "iCCP\0tEXt\0zTXt\0iTXt\0sPLT\0hIST\0eXIf\0sCAL\0pCAL\0tIME\0pHYs\0bKGD\0gAMA\0cHRM\0"
      "sRGB\0sBIT";
  png_set_keep_unknown_chunks(
      r->png, PNG_HANDLE_CHUNK_NEVER, names, (int)(sizeof names / 5));
}

static reader *make_reader(const cic_source *source, cic_failure *failure) {
  reader *r = calloc(1, sizeof *r);
  if (r) {
    r->source = source;
    r->failure = failure;
    r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r, on_error, on_warning);
    if (r->png) r->info = png_create_info_struct(r->png);
  }
  if (!r || !r->png || !r->info) {
    cic_fail(failure, CIC_MEMORY, "no memory for the decoder");
    if (r) destroy_reader(r);
    return NULL;
  }
  return r;
}

static void read_header(reader *r) {
  png_set_read_fn(r->png, r, on_read);
  png_set_crc_action(r->png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
  png_set_user_limits(r->png, 0x7fffffff, 0x7fffffff);
  png_set_chunk_malloc_max(r->png, 8 << 20);
  skip_chunks(r);
  png_read_info(r->png, r->info);
}

int32_t cic_png_size(cic_source *source, cic_failure *failure) {
  reader *r = make_reader(source, failure);
  if (!r) return failure->status;
  if (setjmp(png_jmpbuf(r->png))) {
    destroy_reader(r);
    return failure->status;
  }
  read_header(r);
  source->width = (int32_t)png_get_image_width(r->png, r->info);
  source->height = (int32_t)png_get_image_height(r->png, r->info);
  destroy_reader(r);
  return CIC_OK;
}

/// The palette with its alphas; indices beyond it are greys.
static void read_palette(reader *r) {
  png_colorp colours = NULL;
  int count = 0;
  for (int i = 0; i < 256; i++) {
    memset(r->palette[i], i, 3);
    r->palette[i][3] = 255;
  }
  png_get_PLTE(r->png, r->info, &colours, &count);
  for (int i = 0; i < count && i < 256; i++) {
    r->palette[i][0] = colours[i].red;
    r->palette[i][1] = colours[i].green;
    r->palette[i][2] = colours[i].blue;
  }
}

static void read_transparency(reader *r) {
  png_bytep alphas = NULL;
  png_color_16p colour = NULL;
  int count = 0;
  if (!png_get_tRNS(r->png, r->info, &alphas, &count, &colour)) return;
  r->has_transparency = 1;
  if (r->colour_type == PNG_COLOR_TYPE_PALETTE) {
    for (int i = 0; i < count && i < 256; i++) r->palette[i][3] = alphas[i];
  } else if (r->colour_type == PNG_COLOR_TYPE_GRAY) {
    r->clear = r->depth == 1 ? (colour->gray ? 255 : 0) : colour->gray;
  } else {
    // The reference's loader keeps colours of images that are RGB already.
    r->has_transparency = 0;
  }
}

/// The pixel at x of a row as RGBA.
static void pixel_at(const reader *r, const uint8_t *row, int32_t x, uint8_t rgba[4]) {
  switch (r->colour_type) {
    case PNG_COLOR_TYPE_PALETTE: memcpy(rgba, r->palette[row[x]], 4); break;
    case PNG_COLOR_TYPE_GRAY: {
      uint32_t value = r->depth == 16 ? (uint32_t)(row[2 * x] << 8 | row[2 * x + 1]) : row[x];
      if (r->depth < 8) value *= 255u / ((1u << r->depth) - 1);
      rgba[3] = r->has_transparency && value == r->clear ? 0 : 255;
      memset(rgba, value > 255 ? 255 : (int)value, 3);
      break;
    }
    case PNG_COLOR_TYPE_GRAY_ALPHA:
      memset(rgba, row[2 * x], 3);
      rgba[3] = row[2 * x + 1];
      break;
    default: memcpy(rgba, row + 4 * x, 4);
  }
}

static void convert_row(const reader *r, const uint8_t *row, uint8_t *rgb) {
  int32_t width = r->source->width;
  if (r->colour_type == PNG_COLOR_TYPE_RGB) {
    memcpy(rgb, row, (size_t)width * 3);
    return;
  }
  if (r->colour_type == PNG_COLOR_TYPE_RGB_ALPHA) {
    cic_flatten_rgba(row, rgb, (size_t)width, r->source->drops_alpha);
    return;
  }
  for (int32_t x = 0; x < width; x++) {
    uint8_t rgba[4];
    pixel_at(r, row, x, rgba);
    cic_flatten_rgba(rgba, rgb + 3 * (size_t)x, 1, r->source->drops_alpha);
  }
}

/// Interlaced images are kept whole in their own samples; others pass row by row.
static void decode_rows(reader *r, uint8_t *rgb) {
  size_t width = (size_t)r->source->width, height = (size_t)r->source->height;
  size_t stride = png_get_rowbytes(r->png, r->info);
  int passes = png_get_interlace_type(r->png, r->info) == PNG_INTERLACE_NONE ? 1 : 7;
  r->pixels = calloc(passes == 1 ? 1 : height, stride);
  if (!r->pixels) stop(r, CIC_MEMORY, "no memory for the pixels");
  for (int pass = 0; pass < passes; pass++) {
    for (size_t y = 0; y < height; y++) {
      uint8_t *row = r->pixels + (passes == 1 ? 0 : y * stride);
      png_read_row(r->png, row, NULL);
      if (pass == passes - 1) convert_row(r, row, rgb + y * width * 3);
      if (cic_is_late(r->source)) stop(r, CIC_TOO_SLOW, "the time is up");
    }
  }
  png_read_end(r->png, NULL);
}

int32_t cic_png_decode(const cic_source *source, uint8_t *rgb, cic_failure *failure) {
  reader *r = make_reader(source, failure);
  if (!r) return failure->status;
  if (setjmp(png_jmpbuf(r->png))) {
    destroy_reader(r);
    return failure->status;
  }
  read_header(r);
  if ((int32_t)png_get_image_width(r->png, r->info) != source->width ||
      (int32_t)png_get_image_height(r->png, r->info) != source->height) {
    stop(r, CIC_DAMAGED, "the header changed between two readings");
  }
  r->colour_type = png_get_color_type(r->png, r->info);
  r->depth = png_get_bit_depth(r->png, r->info);
  if (r->colour_type == PNG_COLOR_TYPE_PALETTE) read_palette(r);
  read_transparency(r);
  if (r->depth < 8) png_set_packing(r->png);
  if (r->depth == 16 && r->colour_type != PNG_COLOR_TYPE_GRAY) png_set_strip_16(r->png);
  png_set_interlace_handling(r->png);
  png_read_update_info(r->png, r->info);
  decode_rows(r, rgb);
  destroy_reader(r);
  return CIC_OK;
}
