// JPEG through libjpeg-turbo's own interface: other than TurboJPEG's it tells truncation from
// other warnings, can be stopped, and converts row by row.
#include <stdio.h>

#include <jpeglib.h>
#include <jerror.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"

typedef struct {
  struct jpeg_decompress_struct codec;
  struct jpeg_error_mgr errors;
  struct jpeg_source_mgr input;
  struct jpeg_progress_mgr progress;
  jmp_buf escape;
  const cic_source *source;
  cic_failure *failure;
  uint8_t *row;
} reader;

/// longjmp past libjpeg's frames; they hold nothing that the codec's pools do not own.
static void stop(reader *r, int32_t status, const char *reason) {
  cic_fail(r->failure, status, reason);
  longjmp(r->escape, 1);
}

static void on_error(j_common_ptr codec) {
  reader *r = codec->client_data;
  char text[JMSG_LENGTH_MAX];
  codec->err->format_message(codec, text);
  int32_t status = CIC_DAMAGED;
  switch (codec->err->msg_code) {
    case JERR_OUT_OF_MEMORY: status = CIC_MEMORY; break;
    case JERR_BAD_PRECISION:
    case JERR_SOF_UNSUPPORTED:
    case JERR_COMPONENT_COUNT:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_NOT_COMPILED:
    case JERR_ARITH_NOTIMPL: status = CIC_UNSUPPORTED; break;
    default: break;
  }
  stop(r, status, text);
}

static void on_message(j_common_ptr codec) { (void)codec; }

static void on_progress(j_common_ptr codec) {
  reader *r = codec->client_data;
  if (cic_is_late(r->source)) stop(r, CIC_TOO_SLOW, "the time is up");
}

static void init_source(j_decompress_ptr codec) { (void)codec; }

static boolean fill_input(j_decompress_ptr codec) {
  stop(codec->client_data, CIC_TRUNCATED, "the data end inside the image");
  return FALSE;
}

static void skip_input(j_decompress_ptr codec, long count) {
  if (count <= 0) return;
  if ((size_t)count > codec->src->bytes_in_buffer) fill_input(codec);
  codec->src->next_input_byte += count;
  codec->src->bytes_in_buffer -= (size_t)count;
}

static reader *make_reader(const cic_source *source, cic_failure *failure) {
  reader *r = calloc(1, sizeof *r);
  if (!r) {
    cic_fail(failure, CIC_MEMORY, "no memory for the decoder");
    return NULL;
  }
  r->source = source;
  r->failure = failure;
  r->codec.err = jpeg_std_error(&r->errors);
  r->codec.client_data = r;
  r->errors.error_exit = on_error;
  r->errors.output_message = on_message;
  return r;
}

/// Everything that can longjmp after make_reader runs between setjmp and here.
static void destroy_reader(reader *r) {
  jpeg_destroy_decompress(&r->codec);
  free(r->row);
  free(r);
}

static void read_header(reader *r) {
  jpeg_create_decompress(&r->codec);
  r->codec.client_data = r;
  r->input.init_source = init_source;
  r->input.fill_input_buffer = fill_input;
  r->input.skip_input_data = skip_input;
  r->input.resync_to_restart = jpeg_resync_to_restart;
  r->input.term_source = init_source;
  r->input.next_input_byte = r->source->bytes;
  r->input.bytes_in_buffer = r->source->count;
  r->codec.src = &r->input;
  r->progress.progress_monitor = on_progress;
  r->codec.progress = &r->progress;
  jpeg_read_header(&r->codec, TRUE);
  int count = r->codec.num_components;
  if (count != 1 && count != 3 && count != 4) {
    stop(r, CIC_UNSUPPORTED, "it has neither 1, 3 nor 4 components");
  }
}

int32_t cic_jpeg_size(cic_source *source, cic_failure *failure) {
  reader *r = make_reader(source, failure);
  if (!r) return failure->status;
  if (setjmp(r->escape)) {
    destroy_reader(r);
    return failure->status;
  }
  read_header(r);
  source->width = (int32_t)r->codec.image_width;
  source->height = (int32_t)r->codec.image_height;
  destroy_reader(r);
  return CIC_OK;
}

/// One row as libjpeg gives it to RGB. CMYK files hold inverted values, as Adobe writes them.
static void convert_row(const uint8_t *row, uint8_t *rgb, int32_t width, int components) {
  for (int32_t x = 0; x < width; x++, rgb += 3) {
    if (components == 1) {
      rgb[0] = rgb[1] = rgb[2] = row[x];
      continue;
    }
    const uint8_t *cmyk = row + 4 * x;
    uint8_t light = cmyk[3];
    for (int c = 0; c < 3; c++) rgb[c] = (uint8_t)(light - cic_scale(255u - cmyk[c], light));
  }
}

static void decode_rows(reader *r, uint8_t *rgb) {
  const cic_source *source = r->source;
  int components = r->codec.num_components;
  r->codec.out_color_space =
      components == 1 ? JCS_GRAYSCALE : components == 3 ? JCS_RGB : JCS_CMYK;
  jpeg_start_decompress(&r->codec);
  if (components != 3) {
    r->row = malloc((size_t)source->width * (size_t)components);
    if (!r->row) stop(r, CIC_MEMORY, "no memory for a row");
  }
  while (r->codec.output_scanline < r->codec.output_height) {
    uint8_t *target = rgb + (size_t)r->codec.output_scanline * (size_t)source->width * 3;
    JSAMPROW rows[1] = {components == 3 ? target : r->row};
    jpeg_read_scanlines(&r->codec, rows, 1);
    if (components != 3) convert_row(r->row, target, source->width, components);
  }
}

int32_t cic_jpeg_decode(const cic_source *source, uint8_t *rgb, cic_failure *failure) {
  reader *r = make_reader(source, failure);
  if (!r) return failure->status;
  if (setjmp(r->escape)) {
    destroy_reader(r);
    return failure->status;
  }
  read_header(r);
  if ((int32_t)r->codec.image_width != source->width ||
      (int32_t)r->codec.image_height != source->height) {
    stop(r, CIC_DAMAGED, "the header changed between two readings");
  }
  decode_rows(r, rgb);
  destroy_reader(r);
  return CIC_OK;
}
