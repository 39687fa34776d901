// Rounding weights: searching the factor of a group. See ckrounding.h.
#include "ckrounding.h"

#include "integer.h"

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

#define MAGIC 0x1.8p23f  // added and taken off, rounds small numbers to the nearest even integer

static uint16_t to_float16(float value) {
  uint32_t bits = ck_bits(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x47800000) return (uint16_t)(sign | 0x7bff);  // factors stay finite
  if (magnitude < 0x38800000) {
    float steps = (ck_from_bits(magnitude) * 0x1p24f + MAGIC) - MAGIC;
    return (uint16_t)(sign | (uint32_t)steps);
  }
  magnitude += 0xfff + (magnitude >> 13 & 1);
  return (uint16_t)(sign | ((magnitude >> 13) - (112u << 10)));
}

float ck_round_factor(float factor, int32_t type) {
  if (type == CK_FACTOR_BFLOAT16) return ck_from_bfloat16(ck_to_bfloat16(factor));
  if (type == CK_FACTOR_FLOAT16) return ck_from_float16(to_float16(factor));
  return factor;
}

// The factor that many steps of its type away.
static float neighbour(float factor, int32_t type, int steps) {
  if (type == CK_FACTOR_BFLOAT16)
    return ck_from_bfloat16((uint16_t)(ck_to_bfloat16(factor) + steps));
  if (type == CK_FACTOR_FLOAT16) return ck_from_float16((uint16_t)(to_float16(factor) + steps));
  return factor * (1 + (float)steps * 0x1p-9f);
}

// ---- Integers.

typedef struct {
  const float *weights, *importance;
  size_t count;
  float low, high;  // codes
} grid;

static inline __attribute__((always_inline)) float error_of(
    const grid *g, float factor, float zero) {
  float inverse = 1 / factor, low = g->low - zero, high = g->high - zero;
  float lanes[8] = {0};
  size_t k = 0;
  for (; k + 8 <= g->count; k += 8)
    for (int i = 0; i < 8; i++) {
      float w = g->weights[k + i], q = (w * inverse + MAGIC) - MAGIC;
      q = q < low ? low : q;
      q = q > high ? high : q;
      float d = w - q * factor;
      lanes[i] += d * d * g->importance[k + i];
    }
  for (; k < g->count; k++) {
    float w = g->weights[k], q = (w * inverse + MAGIC) - MAGIC;
    q = q < low ? low : q;
    q = q > high ? high : q;
    float d = w - q * factor;
    lanes[0] += d * d * g->importance[k];
  }
  return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) +
         ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

typedef struct {
  float error, factor, zero;
} choice;

// Tries the factor with the zeros that its range makes likely.
static inline __attribute__((always_inline)) void attempt(
    const grid *g, float factor, int with_zero, float lowest, choice *best) {
  if (!(factor > 0)) return;
  float first = with_zero ? nearbyintf(-lowest / factor) - 1 : g->high > 15 ? 0 : 8;
  for (int i = 0; i < (with_zero ? 3 : 1); i++) {
    float zero = first + (float)i;
    if (with_zero) zero = zero < 0 ? 0 : zero > 15 ? 15 : zero;
    float error = error_of(g, factor, zero);
    if (error < best->error) *best = (choice){error, factor, zero};
  }
}

static inline __attribute__((always_inline)) choice search(
    const grid *g, int bits, int with_zero, int32_t type, float lowest, float highest) {
  float largest = highest > -lowest ? highest : -lowest;
  float full = with_zero ? (highest - lowest) / 15 : largest / (bits == 4 ? 7.5f : 127);
  choice best = {INFINITY, 0, bits == 4 ? 8 : 0};
  // 4 bits cut far into the range where that serves the rest; 8 bits hardly do.
  float reach = bits == 4 ? 0.5f : 0.25f, above = bits == 4 ? 1.15f : 1.01f;
  for (int i = 0; i <= 40; i++) {
    float share = above - (above - reach) * (float)i / 40;
    attempt(g, ck_round_factor(full * share, type), with_zero, lowest, &best);
  }
  // In a short group of 8 bits it is luck which factor meets most weights: all near ones are tried.
  if (bits == 8 && g->count <= 128 && full > 0)
    for (int step = -48; step <= 64; step++)
      attempt(g, neighbour(ck_round_factor(full, type), type, step), 0, lowest, &best);
  float centre = best.factor;
  if (centre > 0)
    for (int step = -3; step <= 3; step++)
      if (step != 0) attempt(g, neighbour(centre, type, step), with_zero, lowest, &best);
  return best;
}

static choice search_anywhere(
    const grid *g, int bits, int with_zero, int32_t type, float lowest, float highest) {
  return search(g, bits, with_zero, type, lowest, highest);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static choice search_avx2(
    const grid *g, int bits, int with_zero, int32_t type, float lowest, float highest) {
  return search(g, bits, with_zero, type, lowest, highest);
}
#endif

static const float ones[256] = {
#define FOUR 1, 1, 1, 1
#define SIXTEEN FOUR, FOUR, FOUR, FOUR
#define SIXTY_FOUR SIXTEEN, SIXTEEN, SIXTEEN, SIXTEEN
    SIXTY_FOUR, SIXTY_FOUR, SIXTY_FOUR, SIXTY_FOUR};

// The error of rows longer than `ones` is the sum over pieces.
static choice search_group(
    const float *weights, const float *importance, size_t count, int bits, int with_zero,
    int32_t type, float lowest, float highest, float *scratch) {
  grid g = {.weights = weights, .importance = importance, .count = count,
            .low = bits == 4 ? 0 : -128, .high = bits == 4 ? 15 : 127};
  if (importance == NULL) {
    g.importance = ones;
    if (count > sizeof ones / sizeof *ones) {
      for (size_t k = 0; k < count; k++) scratch[k] = 1;
      g.importance = scratch;
    }
  }
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return search_avx2(&g, bits, with_zero, type, lowest, highest);
#endif
  return search_anywhere(&g, bits, with_zero, type, lowest, highest);
}

ck_rounding_loss ck_round_group(
    const float *weights, const float *importance, size_t count, int bits, int with_zero,
    int32_t factor_type, float *factor, int *zero, uint8_t *codes) {
  float lowest = 0, highest = 0;
  for (size_t k = 0; k < count; k++) {
    if (weights[k] < lowest) lowest = weights[k];
    if (weights[k] > highest) highest = weights[k];
  }
  // A row of 8 bits may be any length; its weights of importance live on the stack in pieces.
  float scratch[count > 256 && importance == NULL ? count : 1];
  choice best = search_group(
      weights, importance, count, bits, with_zero, factor_type, lowest, highest, scratch);
  if (!(best.factor > 0)) {
    // Nothing but zeros. Kernels multiply unsigned codes and take factor * zero * (sum of inputs)
    // off again: what that rounds away must be nothing beside groups of the smallest weights.
    best.factor = 0x1p-24f;  // float16's smallest
    if (with_zero) best.zero = 0;
  }
  *factor = best.factor, *zero = (int)best.zero;
  float low = (bits == 4 ? 0 : -128) - best.zero, high = (bits == 4 ? 15 : 127) - best.zero;
  ck_rounding_loss loss = {0, 0};
  for (size_t k = 0; k < count; k++) {
    float q = nearbyintf(weights[k] / best.factor);
    q = q < low ? low : q > high ? high : q;
    codes[k] = (uint8_t)(int)(q + best.zero);
    double d = (double)weights[k] - (double)q * best.factor, w = weights[k];
    double m = importance == NULL ? 1 : importance[k];
    loss.error += m * d * d, loss.norm += m * w * w;
  }
  return loss;
}

// ---- E4M3.

// The nearest of E4M3's finite values, ties to even; beyond the largest, the largest.
static inline uint8_t to_e4m3(float value) {
  uint32_t sign = ck_bits(value) >> 24 & 0x80;
  float magnitude = fabsf(value);
  if (magnitude >= 448) return (uint8_t)(sign | 0x7e);
  if (magnitude < 0x1p-6f)
    return (uint8_t)(sign | (uint32_t)((magnitude * 512 + MAGIC) - MAGIC));
  uint32_t bits = ck_bits(magnitude);
  bits += 0x7ffff + (bits >> 20 & 1);
  return (uint8_t)(sign | ((bits >> 20) - (120u << 3)));
}

static double e4m3_error(
    const float *weights, const float *importance, size_t count, float factor) {
  float inverse = 1 / factor;
  double error = 0;
  for (size_t k = 0; k < count; k++) {
    float d = weights[k] - ck_from_e4m3(to_e4m3(weights[k] * inverse)) * factor;
    error += (double)(d * d) * (importance == NULL ? 1 : importance[k]);
  }
  return error;
}

ck_rounding_loss ck_round_e4m3(
    const float *weights, const float *importance, size_t count, float *factor, uint8_t *codes) {
  float largest = 0;
  for (size_t k = 0; k < count; k++)
    if (fabsf(weights[k]) > largest) largest = fabsf(weights[k]);
  float best = largest > 0 ? largest / 448 : 1;
  double least = INFINITY;
  for (int i = 0; i < 16 && largest > 0; i++) {
    float candidate = largest / 448 * powf(2, (float)i / 16);
    double error = e4m3_error(weights, importance, count, candidate);
    if (error < least) least = error, best = candidate;
  }
  *factor = best;
  ck_rounding_loss loss = {0, 0};
  for (size_t k = 0; k < count; k++) {
    codes[k] = to_e4m3(weights[k] / best);
    double d = (double)weights[k] - (double)ck_from_e4m3(codes[k]) * best, w = weights[k];
    double m = importance == NULL ? 1 : importance[k];
    loss.error += m * d * d, loss.norm += m * w * w;
  }
  return loss;
}
