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
} grid_choice;

// Tries the factor with the zeros that its range makes likely.
static inline __attribute__((always_inline)) void attempt(
    const grid *g, float factor, int with_zero, float lowest, grid_choice *best) {
  if (!(factor > 0)) return;
  float first = with_zero ? nearbyintf(-lowest / factor) - 1 : g->high > 15 ? 0 : 8;
  for (int i = 0; i < (with_zero ? 3 : 1); i++) {
    float zero = first + (float)i;
    if (with_zero) zero = zero < 0 ? 0 : zero > 15 ? 15 : zero;
    float error = error_of(g, factor, zero);
    if (error < best->error) *best = (grid_choice){error, factor, zero};
  }
}

static inline __attribute__((always_inline)) grid_choice search(
    const grid *g, int bits, int with_zero, int32_t type, float lowest, float highest) {
  float largest = highest > -lowest ? highest : -lowest;
  float full = with_zero ? (highest - lowest) / 15 : largest / (bits == 4 ? 7.5f : 127);
  grid_choice best = {INFINITY, 0, bits == 4 ? 8 : 0};
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

static grid_choice search_anywhere(
    const grid *g, int bits, int with_zero, int32_t type, float lowest, float highest) {
  return search(g, bits, with_zero, type, lowest, highest);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static grid_choice search_avx2(
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
static grid_choice search_group(
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
  grid_choice best = search_group(
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

// ---- Rounding with feedback: H = (U + I) D (U + I)', U strictly upper.

#define LANES CK_FEEDBACK_ROWS

static inline __attribute__((always_inline)) void add_products(
    float *sum, const float *rows, size_t count, size_t columns, size_t first, size_t end) {
  for (size_t i = first; i < end; i += 4) {
    size_t height = end - i < 4 ? end - i : 4;
    for (size_t j = i / 16 * 16; j < columns; j += 16) {
      size_t width = columns - j < 16 ? columns - j : 16;
      float part[4][16] = {{0}};
      if (height == 4 && width == 16) {
        for (size_t t = 0; t < count; t++) {
          const float *left = rows + t * columns + i, *right = rows + t * columns + j;
          for (int a = 0; a < 4; a++)
            for (int b = 0; b < 16; b++) part[a][b] += left[a] * right[b];
        }
      } else {
        for (size_t t = 0; t < count; t++)
          for (size_t a = 0; a < height; a++)
            for (size_t b = 0; b < width; b++)
              part[a][b] += rows[t * columns + i + a] * rows[t * columns + j + b];
      }
      for (size_t a = 0; a < height; a++)
        for (size_t b = 0; b < width; b++) sum[(i + a) * columns + j + b] += part[a][b];
    }
  }
}

static inline __attribute__((always_inline)) float tail_product(
    const float *left, const float *right, size_t count) {
  float lanes[32] = {0}, total = 0;
  size_t k = 0;
  for (; k + 32 <= count; k += 32)
    for (int i = 0; i < 32; i++) lanes[i] += left[k + i] * right[k + i];
  for (; k < count; k++) lanes[0] += left[k] * right[k];
  for (int i = 0; i < 32; i++) total += lanes[i];
  return total;
}

// From the last column to the first: H = R R' with R upper, then U = R / its diagonal.
static inline __attribute__((always_inline)) void factor(float *h, size_t n, float damping) {
  double trace = 0;
  for (size_t j = 0; j < n; j++) trace += h[j * n + j];
  float least = trace > 0 ? damping * (float)(trace / (double)n) : 1;
  for (size_t j = 0; j < n; j++) h[j * n + j] += least;
  for (size_t j = n; j-- > 0;) {
    float *row = h + j * n;
    float pivot = row[j] - tail_product(row + j + 1, row + j + 1, n - j - 1);
    // What damping should leave at the least, were sums exact.
    if (!(pivot > 0.01f * least)) pivot = 0.01f * least;
    row[j] = sqrtf(pivot);
    for (size_t i = 0; i < j; i++) {
      float *upper = h + i * n;
      upper[j] = (upper[j] - tail_product(upper + j + 1, row + j + 1, n - j - 1)) / row[j];
    }
  }
  for (size_t j = 0; j < n; j++) {
    float pivot = h[j * n + j];
    for (size_t k = 0; k < j; k++) h[j * n + k] = h[k * n + j] / pivot;
    h[j * n + j] = pivot * pivot;
  }
}

// sums[c] += column c's row of `products` times `values`, over the rows of both from `first` on.
static inline __attribute__((always_inline)) void feed(
    float (*sums)[LANES], const float *products, size_t stride, size_t columns,
    float (*values)[LANES], size_t first, size_t end) {
  if (columns == 4) {
    for (size_t k = first; k < end; k++)
      for (size_t c = 0; c < 4; c++)
        for (int l = 0; l < LANES; l++) sums[c][l] += products[c * stride + k] * values[k][l];
    return;
  }
  for (size_t c = 0; c < columns; c++)
    for (size_t k = first; k < end; k++)
      for (int l = 0; l < LANES; l++) sums[c][l] += products[c * stride + k] * values[k][l];
}

// Rows in lanes.
typedef struct {
  float (*errors)[LANES], (*plain)[LANES];      // [columns]: what rounding left, and the weights
  float wanted[128][LANES], whole[128][LANES];  // a block's weights with all earlier errors, or
                                                // all earlier weights, fed back
  float factor[LANES], inverse[LANES], low[LANES], high[LANES], zero[LANES];
} lanes;

static inline __attribute__((always_inline)) void begin_block(
    const ck_feedback *f, lanes *s, size_t first, size_t end) {
  size_t n = f->columns;
  for (size_t j = first; j < end; j += 4) {
    size_t width = end - j < 4 ? end - j : 4;
    float (*wanted)[LANES] = s->wanted + (j - first), (*whole)[LANES] = s->whole + (j - first);
    for (size_t c = 0; c < width; c++)
      for (int l = 0; l < LANES; l++) wanted[c][l] = whole[c][l] = s->plain[j + c][l];
    feed(wanted, f->products + j * n, n, width, s->errors, 0, first);
    feed(whole, f->products + j * n, n, width, s->plain, 0, first);
  }
}

// Chooses the factors of the group that begins at a column; a factor that a whole row shares is
// chosen before anything is fed back.
static inline __attribute__((always_inline)) void begin_group(
    const ck_feedback *f, lanes *s, size_t first, size_t count, size_t rows, float *factors,
    int *zeros) {
  size_t n = f->columns, groups = f->group == 0 ? 1 : (n + f->group - 1) / f->group;
  size_t group = f->group == 0 ? 0 : first / f->group;
  float line[count], importance[count];
  for (size_t k = 0; k < count; k++) importance[k] = f->products[(first + k) * n + first + k];
  for (size_t l = 0; l < LANES; l++) {
    size_t place = (l < rows ? l : 0) * groups + group;
    if (f->bits != 0 && l < rows) {
      float lowest = 0, highest = 0;
      for (size_t k = 0; k < count; k++) {
        line[k] = f->group == 0 ? s->plain[k][l] : s->wanted[k][l];
        lowest = line[k] < lowest ? line[k] : lowest;
        highest = line[k] > highest ? line[k] : highest;
      }
      grid_choice c = search_group(
          line, importance, count, f->bits, f->with_zero, f->factor_type, lowest, highest, NULL);
      if (!(c.factor > 0)) c.factor = 0x1p-24f, c.zero = f->with_zero ? 0 : c.zero;
      factors[place] = c.factor, zeros[place] = (int)c.zero;
    }
    s->factor[l] = factors[place], s->inverse[l] = 1 / factors[place];
    s->zero[l] = f->bits == 4 ? (float)zeros[place] : 0;
    s->low[l] = (f->bits == 4 ? 0 : -128) - s->zero[l];
    s->high[l] = (f->bits == 4 ? 15 : 127) - s->zero[l];
  }
}

static inline __attribute__((always_inline)) void round_column(
    const ck_feedback *f, lanes *s, size_t first, size_t j, size_t rows, uint8_t *codes,
    ck_rounding_loss *loss) {
  size_t n = f->columns;
  float (*wanted)[LANES] = s->wanted + (j - first), (*whole)[LANES] = s->whole + (j - first);
  feed(wanted, f->products + j * n, n, 1, s->errors, first, j);
  feed(whole, f->products + j * n, n, 1, s->plain, first, j);
  float error = 0, norm = 0;
  for (size_t l = 0; l < LANES; l++) {
    float want = wanted[0][l], value;
    uint8_t code;
    if (f->bits == 0) {
      code = to_e4m3(want * s->inverse[l]);
      value = ck_from_e4m3(code) * s->factor[l];
    } else {
      float q = want * s->inverse[l];
      q = q < s->low[l] ? s->low[l] : q > s->high[l] ? s->high[l] : q;
      q = (q + MAGIC) - MAGIC;
      value = q * s->factor[l];
      code = (uint8_t)(int)(q + s->zero[l]);
    }
    s->errors[j][l] = s->plain[j][l] - value;
    if (l >= rows) continue;
    codes[l * n + j] = code;
    error += (want - value) * (want - value), norm += whole[0][l] * whole[0][l];
  }
  double weight = f->products[j * n + j];
  loss->error += weight * error, loss->norm += weight * norm;
}

static inline __attribute__((always_inline)) ck_rounding_loss round_rows(
    const ck_feedback *f, const float *weights, size_t rows, float *factors, int *zeros,
    uint8_t *codes, float *scratch) {
  size_t n = f->columns, block = f->group == 0 ? 128 : f->group;
  lanes s = {.errors = (float (*)[LANES])scratch, .plain = (float (*)[LANES])scratch + n};
  for (size_t k = 0; k < n; k++)
    for (size_t l = 0; l < LANES; l++) s.plain[k][l] = l < rows ? weights[l * n + k] : 0;
  ck_rounding_loss loss = {0, 0};
  for (size_t first = 0; first < n; first += block) {
    size_t end = first + block < n ? first + block : n;
    begin_block(f, &s, first, end);
    if (f->group != 0 || first == 0)
      begin_group(f, &s, first, f->group == 0 ? n : end - first, rows, factors, zeros);
    for (size_t j = first; j < end; j++) round_column(f, &s, first, j, rows, codes, &loss);
  }
  return loss;
}

#if defined(__x86_64__)
#define WITH_AVX2 __attribute__((target("avx2,fma")))
WITH_AVX2 static void add_products_avx2(
    float *sum, const float *rows, size_t count, size_t columns, size_t first, size_t end) {
  add_products(sum, rows, count, columns, first, end);
}
WITH_AVX2 static void factor_avx2(float *h, size_t n, float damping) { factor(h, n, damping); }
WITH_AVX2 static ck_rounding_loss round_rows_avx2(
    const ck_feedback *f, const float *weights, size_t count, float *factors, int *zeros,
    uint8_t *codes, float *scratch) {
  return round_rows(f, weights, count, factors, zeros, codes, scratch);
}
static int has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

void ck_add_products(
    float *sum, const float *rows, size_t count, size_t columns, size_t first, size_t end) {
#if defined(__x86_64__)
  if (has_avx2()) {
    add_products_avx2(sum, rows, count, columns, first, end);
    return;
  }
#endif
  add_products(sum, rows, count, columns, first, end);
}

void ck_factor_products(float *products, size_t columns, float damping) {
#if defined(__x86_64__)
  if (has_avx2()) {
    factor_avx2(products, columns, damping);
    return;
  }
#endif
  factor(products, columns, damping);
}

ck_rounding_loss ck_round_rows(
    const ck_feedback *feedback, const float *weights, size_t count, float *factors, int *zeros,
    uint8_t *codes, float *scratch) {
#if defined(__x86_64__)
  if (has_avx2())
    return round_rows_avx2(feedback, weights, count, factors, zeros, codes, scratch);
#endif
  return round_rows(feedback, weights, count, factors, zeros, codes, scratch);
}
