// WebP through libwebp; of an animation the first frame.
#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>
#include <webp/demux.h>

#include "codec.h"

static int32_t fail_with(cic_failure *failure, VP8StatusCode code) {
  switch (code) {
    case VP8_STATUS_OUT_OF_MEMORY: return cic_fail(failure, CIC_MEMORY, "no memory left");
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
      return cic_fail(failure, CIC_TRUNCATED, "the data end inside the image");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
      return cic_fail(failure, CIC_UNSUPPORTED, "it uses a feature that libwebp does not read");
    default: return cic_fail(failure, CIC_DAMAGED, "libwebp cannot decode the bitstream");
  }
}

static int32_t read_features(
    const cic_source *source, WebPBitstreamFeatures *features, cic_failure *failure) {
  VP8StatusCode code = WebPGetFeatures(source->bytes, source->count, features);
  return code == VP8_STATUS_OK ? CIC_OK : fail_with(failure, code);
}

int32_t cic_webp_size(cic_source *source, cic_failure *failure) {
  WebPBitstreamFeatures features;
  int32_t status = read_features(source, &features, failure);
  if (status != CIC_OK) return status;
  source->width = features.width;
  source->height = features.height;
  return CIC_OK;
}

/// Feeds the decoder piece by piece, so that a deadline can stop it.
static int32_t decode_still(
    const cic_source *source, WebPDecBuffer *output, cic_failure *failure) {
  WebPIDecoder *decoder = WebPINewDecoder(output);
  if (!decoder) return cic_fail(failure, CIC_MEMORY, "no memory for the decoder");
  VP8StatusCode code = VP8_STATUS_SUSPENDED;
  const size_t piece = 64 << 10;
  for (size_t end = piece; code == VP8_STATUS_SUSPENDED; end += piece) {
    if (cic_is_late(source)) {
      WebPIDelete(decoder);
      return cic_fail(failure, CIC_TOO_SLOW, "the time is up");
    }
    size_t count = end < source->count ? end : source->count;
    code = WebPIUpdate(decoder, source->bytes, count);
    if (count == source->count) break;
  }
  WebPIDelete(decoder);
  return code == VP8_STATUS_OK ? CIC_OK : fail_with(failure, code);
}

static int32_t decode_animation(
    const cic_source *source, uint8_t *rgb, int has_alpha, cic_failure *failure) {
  WebPAnimDecoderOptions options;
  WebPAnimDecoderOptionsInit(&options);
  options.color_mode = MODE_RGBA;
  WebPData data = {source->bytes, source->count};
  WebPAnimDecoder *decoder = WebPAnimDecoderNew(&data, &options);
  if (!decoder) return cic_fail(failure, CIC_DAMAGED, "libwebp cannot open the animation");
  WebPAnimInfo info;
  uint8_t *frame = NULL;
  int time = 0;
  int32_t status = CIC_OK;
  if (!WebPAnimDecoderGetInfo(decoder, &info) || info.canvas_width != (uint32_t)source->width ||
      info.canvas_height != (uint32_t)source->height) {
    status = cic_fail(failure, CIC_DAMAGED, "the animation's canvas differs from its header");
  } else if (!WebPAnimDecoderGetNext(decoder, &frame, &time)) {
    status = cic_fail(failure, CIC_DAMAGED, "libwebp cannot decode the first frame");
  } else {
    size_t count = (size_t)source->width * (size_t)source->height;
    cic_flatten_rgba(frame, rgb, count, source->drops_alpha || !has_alpha);
  }
  WebPAnimDecoderDelete(decoder);
  return status;
}

int32_t cic_webp_decode(const cic_source *source, uint8_t *rgb, cic_failure *failure) {
  WebPDecoderConfig config;
  if (!WebPInitDecoderConfig(&config)) {
    return cic_fail(failure, CIC_UNSUPPORTED, "libwebp is of another version");
  }
  int32_t status = read_features(source, &config.input, failure);
  if (status != CIC_OK) return status;
  if (config.input.width != source->width || config.input.height != source->height) {
    return cic_fail(failure, CIC_DAMAGED, "the header changed between two readings");
  }
  if (config.input.has_animation) {
    return decode_animation(source, rgb, config.input.has_alpha, failure);
  }
  size_t count = (size_t)source->width * (size_t)source->height;
  int channels = config.input.has_alpha ? 4 : 3;
  uint8_t *pixels = channels == 3 ? rgb : malloc(count * 4);
  if (!pixels) return cic_fail(failure, CIC_MEMORY, "no memory for the pixels");
  config.output.colorspace = channels == 3 ? MODE_RGB : MODE_RGBA;
  config.output.is_external_memory = 1;
  config.output.u.RGBA.rgba = pixels;
  config.output.u.RGBA.stride = source->width * channels;
  config.output.u.RGBA.size = count * (size_t)channels;
  status = decode_still(source, &config.output, failure);
  if (channels == 4) {
    if (status == CIC_OK) cic_flatten_rgba(pixels, rgb, count, source->drops_alpha);
    free(pixels);
  }
  return status;
}
