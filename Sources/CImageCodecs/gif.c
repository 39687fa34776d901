// The first frame of a GIF through giflib, on the canvas that the screen and the frame span.
#include <gif_lib.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"

typedef struct {
  const cic_source *source;
  size_t offset;
} cursor;

static int on_read(GifFileType *gif, GifByteType *target, int count) {
  cursor *input = gif->UserData;
  size_t left = input->source->count - input->offset;
  size_t taken = (size_t)count < left ? (size_t)count : left;
  memcpy(target, input->source->bytes + input->offset, taken);
  input->offset += taken;
  return (int)taken;
}

static int32_t fail_with(cic_failure *failure, int code) {
  const char *text = GifErrorString(code);
  switch (code) {
    case D_GIF_ERR_NOT_ENOUGH_MEM: return cic_fail(failure, CIC_MEMORY, "no memory left");
    case D_GIF_ERR_READ_FAILED:
    case D_GIF_ERR_EOF_TOO_SOON:
      return cic_fail(failure, CIC_TRUNCATED, "the data end inside the image");
    default: return cic_fail(failure, CIC_DAMAGED, text ? text : "giflib cannot decode it");
  }
}

/// Reads extensions up to the first image; `clear` is its transparent index or -1.
static int32_t find_frame(GifFileType *gif, int *clear, cic_failure *failure) {
  *clear = -1;
  for (;;) {
    GifRecordType kind;
    if (DGifGetRecordType(gif, &kind) == GIF_ERROR) return fail_with(failure, gif->Error);
    if (kind == IMAGE_DESC_RECORD_TYPE) break;
    if (kind != EXTENSION_RECORD_TYPE) {
      return cic_fail(failure, CIC_DAMAGED, "it holds no image");
    }
    int code = 0;
    GifByteType *block = NULL;
    if (DGifGetExtension(gif, &code, &block) == GIF_ERROR) return fail_with(failure, gif->Error);
    if (code == GRAPHICS_EXT_FUNC_CODE && block && block[0] >= 4 && block[1] & 1) *clear = block[4];
    while (block) {
      if (DGifGetExtensionNext(gif, &block) == GIF_ERROR) return fail_with(failure, gif->Error);
    }
  }
  if (DGifGetImageDesc(gif) == GIF_ERROR) return fail_with(failure, gif->Error);
  if (gif->Image.Width <= 0 || gif->Image.Height <= 0) {
    return cic_fail(failure, CIC_DAMAGED, "its first frame is empty");
  }
  return CIC_OK;
}

static int32_t canvas_side(int screen, int start, int length) {
  return screen > start + length ? screen : start + length;
}

static GifFileType *open_gif(cursor *input, cic_failure *failure) {
  int code = 0;
  GifFileType *gif = DGifOpen(input, on_read, &code);
  if (!gif) fail_with(failure, code);
  return gif;
}

int32_t cic_gif_size(cic_source *source, cic_failure *failure) {
  cursor input = {source, 0};
  GifFileType *gif = open_gif(&input, failure);
  if (!gif) return failure->status;
  int clear;
  int32_t status = find_frame(gif, &clear, failure);
  if (status == CIC_OK) {
    source->width = canvas_side(gif->SWidth, gif->Image.Left, gif->Image.Width);
    source->height = canvas_side(gif->SHeight, gif->Image.Top, gif->Image.Height);
  }
  DGifCloseFile(gif, NULL);
  return status;
}

/// The colours of all 256 indices as they appear in RGB.
static void read_colours(
    const GifFileType *gif, int clear, const cic_source *source, uint8_t colours[256][3]) {
  const ColorMapObject *map = gif->Image.ColorMap ? gif->Image.ColorMap : gif->SColorMap;
  for (int i = 0; i < 256; i++) {
    memset(colours[i], i, 3);
    if (map && i < map->ColorCount) {
      colours[i][0] = map->Colors[i].Red;
      colours[i][1] = map->Colors[i].Green;
      colours[i][2] = map->Colors[i].Blue;
    }
  }
  if (clear >= 0 && !source->drops_alpha) memset(colours[clear], 255, 3);
}

static int32_t decode_frame(
    GifFileType *gif, int clear, const cic_source *source, uint8_t *rgb, uint8_t *line,
    cic_failure *failure) {
  static const int starts[] = {0, 4, 2, 1}, steps[] = {8, 8, 4, 2};
  uint8_t colours[256][3];
  read_colours(gif, clear, source, colours);
  size_t pixels = (size_t)source->width * (size_t)source->height;
  const uint8_t *background = colours[clear >= 0 ? clear : 0];
  for (size_t i = 0; i < pixels; i++) memcpy(rgb + 3 * i, background, 3);
  const GifImageDesc frame = gif->Image;
  for (int pass = 0; pass < (frame.Interlace ? 4 : 1); pass++) {
    int step = frame.Interlace ? steps[pass] : 1;
    for (int y = frame.Interlace ? starts[pass] : 0; y < frame.Height; y += step) {
      if (cic_is_late(source)) return cic_fail(failure, CIC_TOO_SLOW, "the time is up");
      if (DGifGetLine(gif, line, frame.Width) == GIF_ERROR) return fail_with(failure, gif->Error);
      size_t row = (size_t)(frame.Top + y) * (size_t)source->width + (size_t)frame.Left;
      for (int x = 0; x < frame.Width; x++) {
        memcpy(rgb + 3 * (row + (size_t)x), colours[line[x]], 3);
      }
    }
  }
  return CIC_OK;
}

int32_t cic_gif_decode(const cic_source *source, uint8_t *rgb, cic_failure *failure) {
  cursor input = {source, 0};
  GifFileType *gif = open_gif(&input, failure);
  if (!gif) return failure->status;
  int clear;
  int32_t status = find_frame(gif, &clear, failure);
  if (status == CIC_OK &&
      (canvas_side(gif->SWidth, gif->Image.Left, gif->Image.Width) != source->width ||
       canvas_side(gif->SHeight, gif->Image.Top, gif->Image.Height) != source->height)) {
    status = cic_fail(failure, CIC_DAMAGED, "the header changed between two readings");
  }
  if (status == CIC_OK) {
    uint8_t *line = malloc((size_t)gif->Image.Width);
    status = line ? decode_frame(gif, clear, source, rgb, line, failure)
                  : cic_fail(failure, CIC_MEMORY, "no memory for a row");
    free(line);
  }
  DGifCloseFile(gif, NULL);
  return status;
}
