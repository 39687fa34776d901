// The NEON set: BF16 and Float32 products in dot form; the rest is the scalar set's, whose lanes
// the compiler vectorises for this architecture by itself.
//
// 16 lanes of a sum are four registers, K in order, one fixed tree at the end, as everywhere.
#if defined(__aarch64__)
#include <arm_neon.h>

#include "tables.h"

#define TILE_TOKENS 3

typedef struct {
  float32x4_t part[4];
} lanes;

static inline float lanes_sum(lanes s) {
  float32x4_t low = vaddq_f32(s.part[0], s.part[2]), high = vaddq_f32(s.part[1], s.part[3]);
  float32x4_t four = vaddq_f32(low, high);
  float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(vpadd_f32(two, two), 0);
}

static inline lanes load_weights(int32_t format, const uint8_t *at) {
  lanes w;
  if (format == CK_FORMAT_FLOAT32) {
    for (int i = 0; i < 4; i++) w.part[i] = vreinterpretq_f32_u8(vld1q_u8(at + 16 * i));
    return w;
  }
  for (int i = 0; i < 2; i++) {
    uint16x8_t bits = vreinterpretq_u16_u8(vld1q_u8(at + 16 * i));
    w.part[2 * i] = vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(bits), 16));
    w.part[2 * i + 1] = vreinterpretq_f32_u32(vshll_high_n_u16(bits, 16));
  }
  return w;
}

static void linear_row(
    const ck_linear *task, int32_t format, size_t row, size_t slice, size_t token,
    size_t tokens) {
  size_t width = format == CK_FORMAT_FLOAT32 ? 4 : 2, count = task->columns / task->slices;
  size_t end = (slice + 1) * count;
  const uint8_t *weights = (const uint8_t *)task->values + row * task->row_stride;
  const uint8_t *operand = (const uint8_t *)task->operand + token * task->operand_stride;
  lanes sums[TILE_TOKENS];
  for (size_t t = 0; t < tokens; t++)
    for (int i = 0; i < 4; i++) sums[t].part[i] = vdupq_n_f32(0);
  for (size_t k = slice * count; k < end; k += 16) {
    uint8_t last[64] = {0};
    const uint8_t *at = weights + k * width;
    if (end - k < 16) {
      // The bytes behind the last row may not exist.
      memcpy(last, at, (end - k) * width);
      at = last;
    }
    lanes w = load_weights(format, at);
    for (size_t t = 0; t < tokens; t++) {
      const float *x = (const float *)(operand + t * task->operand_stride) + k;
      for (int i = 0; i < 4; i++)
        sums[t].part[i] = vfmaq_f32(sums[t].part[i], w.part[i], vld1q_f32(x + 4 * i));
    }
  }
  for (size_t t = 0; t < tokens; t++)
    task->output[(token + t) * task->output_stride + slice * task->slice_stride + row] =
        lanes_sum(sums[t]);
}

#define LINEAR(name, format)                                                               \
  static void name(                                                                        \
      const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,       \
      void *scratch) {                                                                     \
    (void)scratch;                                                                         \
    for (size_t row = row0; row < row1; row++)                                             \
      for (size_t token = token0; token < token1; token += TILE_TOKENS) {                  \
        size_t left = token1 - token;                                                      \
        for (size_t slice = 0; slice < task->slices; slice++)                              \
          linear_row(                                                                      \
              task, format, row, slice, token, left < TILE_TOKENS ? left : TILE_TOKENS);   \
      }                                                                                    \
  }
LINEAR(linear_float32, CK_FORMAT_FLOAT32)
LINEAR(linear_bfloat16, CK_FORMAT_BFLOAT16)

const ck_kernels ck_neon = {
    .name = "neon",
    .operand_kind = ck_reference_operand_kind,
    .prepare = ck_reference_prepare,
    .linear_float32 = linear_float32,
    .linear_bfloat16 = linear_bfloat16,
    .linear_e4m3 = ck_reference_linear_e4m3,
    .linear_int8 = ck_reference_linear_int8,
    .linear_int4 = ck_reference_linear_int4,
    .store_bfloat16 = ck_reference_store_bfloat16,
    .store_float32 = ck_reference_store_float32,
    .attend_bfloat16 = ck_reference_attend_bfloat16,
    .attend_float32 = ck_reference_attend_float32,
    .attention_merge = ck_reference_attention_merge,
    .attention_finish = ck_reference_attention_finish,
    .rms_norm = ck_reference_rms_norm,
    .rotary = ck_reference_rotary,
    .swiglu = ck_reference_swiglu,
    .add = ck_reference_add,
    .combine = ck_reference_combine,
    .round_bfloat16 = ck_reference_round_bfloat16,
    .widen = ck_reference_widen,
    .widen_integer = ck_reference_widen_integer,
    .log_sum_exp = ck_reference_log_sum_exp,
};
#endif
