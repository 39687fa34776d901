// The scalar set: the oracle of the others, and what runs where nothing better does.
//
// Sums run in 16 lanes that are added by one fixed tree, as a vector unit would: the compiler may
// vectorise the lanes, and a long sum loses less than in one running value.
#include "tables.h"

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

#define LANES 16

static float tree_sum(const float *lanes) {
  float eight[8], four[4];
  for (int i = 0; i < 8; i++) eight[i] = lanes[i] + lanes[i + 8];
  for (int i = 0; i < 4; i++) four[i] = eight[i] + eight[i + 4];
  return (four[0] + four[2]) + (four[1] + four[3]);
}

int32_t ck_reference_operand_kind(int32_t format, int32_t activation) {
  if (activation == CK_ACTIVATION_INT8 && format >= CK_FORMAT_INT8) return CK_OPERAND_GRID;
  return activation == CK_ACTIVATION_FLOAT32 ? CK_OPERAND_FLOAT32 : CK_OPERAND_ROUNDED;
}

static void prepare_float(
    int32_t kind, float *row, const float *source, size_t begin, size_t end, size_t columns) {
  for (size_t k = begin; k < end; k++, source++)
    row[k] = kind == CK_OPERAND_ROUNDED ? ck_from_bfloat16(ck_to_bfloat16(*source)) : *source;
  if (end == columns) memset(row + end, 0, 4 * ((end + 15) / 16 * 16 - end));
}

static void prepare_bfloat16(
    int32_t kind, uint16_t *row, size_t bytes, const float *source, size_t begin, size_t end) {
  int pair = kind == CK_OPERAND_PAIR || kind == CK_OPERAND_SPLIT_PAIR;
  int split = kind == CK_OPERAND_SPLIT_BFLOAT16 || kind == CK_OPERAND_SPLIT_PAIR;
  uint16_t *low = row + bytes / 4;
  size_t padded = (end + 63) / 64 * 64;
  for (size_t k = begin; k < padded; k++) {
    size_t at = split ? ck_split_place(k) : k;
    float value = k < end ? source[k - begin] : 0;
    row[at] = ck_to_bfloat16(value);
    if (pair) low[at] = ck_pair_low(value, row[at]);
  }
}

void ck_reference_prepare(
    int32_t kind, void *row, size_t bytes, const float *source, size_t begin, size_t end,
    size_t columns) {
  if (kind == CK_OPERAND_GRID)
    ck_reference_prepare_grid(row, source, begin, end, columns);
  else if (kind <= CK_OPERAND_ROUNDED)
    prepare_float(kind, row, source, begin, end, columns);
  else
    prepare_bfloat16(kind, row, bytes, source, begin, end);
}

// ---- Matrix products: one output at a time, in blocks of columns widened once per row.

static void widen_block(
    int32_t format, float *y, const uint8_t *row, size_t k0, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (format == CK_FORMAT_FLOAT32)
      y[i] = ck_load_float(row + 4 * (k0 + i));
    else if (format == CK_FORMAT_BFLOAT16)
      y[i] = ck_from_bfloat16(ck_load_u16(row + 2 * (k0 + i)));
    else
      y[i] = ck_from_e4m3(row[k0 + i]);
  }
}

static void dot_block(float *lanes, const float *w, const float *x, size_t count) {
  size_t k = 0;
  for (; k + LANES <= count; k += LANES)
    for (int i = 0; i < LANES; i++) lanes[i] += w[k + i] * x[k + i];
  for (int i = 0; k + i < count; i++) lanes[i] += w[k + i] * x[k + i];
}

// One row of weights over the slice of columns [begin, end).
static void linear_row(
    const ck_linear *task, int32_t format, size_t row, size_t begin, size_t end, size_t token0,
    size_t token1) {
  const uint8_t *weights = (const uint8_t *)task->values + row * task->row_stride;
  const uint8_t *scales =
      (const uint8_t *)(task->scales + row / CK_SCALE_BLOCK * task->scale_stride);
  size_t slice = begin / (end - begin);
  // A tile of tokens shares each widened block of the row.
  for (size_t t0 = token0; t0 < token1; t0 += 8) {
    size_t tokens = token1 - t0 < 8 ? token1 - t0 : 8;
    float sums[8][LANES] = {{0}};
    for (size_t k0 = begin; k0 < end; k0 += CK_SCALE_BLOCK) {
      float w[CK_SCALE_BLOCK];
      size_t count = end - k0 < CK_SCALE_BLOCK ? end - k0 : CK_SCALE_BLOCK;
      widen_block(format, w, weights, k0, count);
      for (size_t t = 0; t < tokens; t++) {
        const uint8_t *token = (const uint8_t *)task->operand + (t0 + t) * task->operand_stride;
        const float *x = (const float *)token + k0;
        if (format == CK_FORMAT_E4M3) {
          float lanes[LANES] = {0}, scale = ck_load_float(scales + k0 / CK_SCALE_BLOCK * 4);
          dot_block(lanes, w, x, count);
          for (int i = 0; i < LANES; i++) sums[t][i] += lanes[i] * scale;
        } else {
          dot_block(sums[t], w, x, count);
        }
      }
    }
    for (size_t t = 0; t < tokens; t++)
      task->output[(t0 + t) * task->output_stride + slice * task->slice_stride + row] =
          tree_sum(sums[t]);
  }
}

#define LINEAR(name, format)                                                                   \
  void ck_reference_##name(                                                                    \
      const ck_linear *task, size_t row0, size_t row1, size_t token0, size_t token1,           \
      void *scratch) {                                                                         \
    (void)scratch;                                                                             \
    size_t slice = task->columns / task->slices;                                               \
    for (size_t row = row0; row < row1; row++)                                                 \
      for (size_t k = 0; k < task->columns; k += slice)                                        \
        linear_row(task, format, row, k, k + slice, token0, token1);                           \
  }
LINEAR(linear_float32, CK_FORMAT_FLOAT32)
LINEAR(linear_bfloat16, CK_FORMAT_BFLOAT16)
LINEAR(linear_e4m3, CK_FORMAT_E4M3)

void ck_reference_widen(
    int32_t format, float *y, const void *row, const float *scales, size_t columns) {
  widen_block(format, y, row, 0, columns);
  if (format != CK_FORMAT_E4M3) return;
  for (size_t k = 0; k < columns; k++)
    y[k] *= ck_load_float((const uint8_t *)scales + k / CK_SCALE_BLOCK * 4);
}

// ---- Attention.

void ck_reference_store_bfloat16(
    const ck_kv *kv, size_t slot, const float *key, const float *value) {
  size_t d = kv->dimension, p = slot % kv->block_size;
  size_t offset = slot / kv->block_size * kv->block_bytes;
  uint16_t *keys = (uint16_t *)(kv->keys + offset), *values = (uint16_t *)(kv->values + offset);
  for (size_t c = 0; c < d; c++) {
    keys[(c / 2 * kv->block_size + p) * 2 + c % 2] = ck_to_bfloat16(key[c]);
    values[(p / 2 * d + c) * 2 + p % 2] = ck_to_bfloat16(value[c]);
  }
}

void ck_reference_store_float32(
    const ck_kv *kv, size_t slot, const float *key, const float *value) {
  size_t d = kv->dimension, p = slot % kv->block_size;
  size_t offset = slot / kv->block_size * kv->block_bytes;
  float *keys = (float *)(kv->keys + offset), *values = (float *)(kv->values + offset);
  for (size_t c = 0; c < d; c++) {
    keys[c * kv->block_size + p] = key[c];
    values[p * d + c] = value[c];
  }
}

static float key_at(const ck_kv *kv, const uint8_t *block, size_t p, size_t c, int half) {
  if (half)
    return ck_from_bfloat16(((const uint16_t *)block)[(c / 2 * kv->block_size + p) * 2 + c % 2]);
  return ((const float *)block)[c * kv->block_size + p];
}

static float value_at(const ck_kv *kv, const uint8_t *block, size_t p, size_t c, int half) {
  if (half)
    return ck_from_bfloat16(((const uint16_t *)block)[(p / 2 * kv->dimension + c) * 2 + p % 2]);
  return ((const float *)block)[p * kv->dimension + c];
}

static float rounded(float x, int half) {
  return half ? ck_from_bfloat16(ck_to_bfloat16(x)) : x;
}

static void attend_row(
    const ck_kv *kv, const float *query, size_t start, size_t visible, float scale, float *out,
    int half) {
  float scores[CK_PARTITION], largest = -INFINITY, sum = 0;
  size_t d = kv->dimension, size = kv->block_size;
  for (size_t p = 0; p < visible; p++) {
    const uint8_t *block = kv->keys + (size_t)kv->table[(start + p) / size] * kv->block_bytes;
    float score = 0;
    for (size_t c = 0; c < d; c++)
      score += rounded(query[c], half) * key_at(kv, block, (start + p) % size, c, half);
    scores[p] = score * scale;
    if (scores[p] > largest) largest = scores[p];
  }
  for (size_t c = 0; c < d; c++) out[2 + c] = 0;
  for (size_t p = 0; p < visible; p++) {
    const uint8_t *block = kv->values + (size_t)kv->table[(start + p) / size] * kv->block_bytes;
    float weight = rounded(ck_exp(scores[p] - largest), half);
    sum += weight;
    for (size_t c = 0; c < d; c++)
      out[2 + c] += weight * value_at(kv, block, (start + p) % size, c, half);
  }
  out[0] = largest;
  out[1] = sum;
}

#define ATTEND(name, half)                                                                     \
  void ck_reference_##name(                                                                    \
      const ck_kv *kv, const float *queries, size_t count, size_t start, size_t visible,       \
      float scale, float *out, void *scratch) {                                                \
    (void)scratch;                                                                             \
    size_t d = kv->dimension;                                                                  \
    for (size_t i = 0; i < count; i++)                                                         \
      attend_row(kv, queries + i * d, start, visible, scale, out + i * (d + 2), half);         \
  }
ATTEND(attend_bfloat16, 1)
ATTEND(attend_float32, 0)

void ck_reference_attention_merge(
    float *state, const float *partial, size_t count, size_t dimension) {
  for (size_t i = 0; i < count; i++, state += dimension + 2, partial += dimension + 2) {
    float largest = partial[0] > state[0] ? partial[0] : state[0];
    float keep = ck_exp(state[0] - largest), join = ck_exp(partial[0] - largest);
    for (size_t c = 1; c < dimension + 2; c++) state[c] = state[c] * keep + partial[c] * join;
    state[0] = largest;
  }
}

void ck_reference_attention_finish(
    float *output, const float *state, size_t count, size_t dimension) {
  for (size_t i = 0; i < count; i++, state += dimension + 2, output += dimension) {
    float factor = 1 / state[1];
    for (size_t c = 0; c < dimension; c++) output[c] = state[2 + c] * factor;
  }
}

// ---- Element-wise.

void ck_reference_rms_norm(
    float *y, const float *x, const float *weight, size_t count, float epsilon) {
  float lanes[LANES] = {0};
  dot_block(lanes, x, x, count);
  float factor = 1 / sqrtf(tree_sum(lanes) / (float)count + epsilon);
  for (size_t i = 0; i < count; i++) y[i] = x[i] * factor * weight[i];
}

void ck_reference_rotary(
    float *x, const float *cosine, const float *sine, size_t heads, size_t dimension) {
  size_t half = dimension / 2;
  for (size_t h = 0; h < heads; h++, x += dimension)
    for (size_t i = 0; i < half; i++) {
      float a = x[i], b = x[i + half];
      x[i] = a * cosine[i] - b * sine[i];
      x[i + half] = b * cosine[i] + a * sine[i];
    }
}

void ck_reference_swiglu(float *y, const float *gate, const float *up, size_t count) {
  for (size_t i = 0; i < count; i++) y[i] = gate[i] / (1 + ck_exp(-gate[i])) * up[i];
}

void ck_reference_add(float *y, const float *x, size_t count) {
  for (size_t i = 0; i < count; i++) y[i] += x[i];
}

static float slice_sum(
    const float *slots, size_t stride, const ck_term *terms, size_t term_count) {
  float stack[CK_TREE_DEPTH] = {0};
  size_t depth = 0;
  for (size_t t = 0; t < term_count; t++) {
    stack[depth++] = slots[terms[t].slot * stride] * terms[t].factor;
    for (uint32_t i = 0; i < terms[t].adds; i++) depth--, stack[depth - 1] += stack[depth];
  }
  return stack[0];
}

void ck_reference_combine(
    float *output, size_t output_stride, const float *slots, size_t slices, size_t count,
    const ck_term *terms, size_t term_count) {
  for (size_t i = 0; i < count; i++) {
    float sums[CK_MAX_SLICES];
    for (size_t s = 0; s < slices; s++)
      sums[s] = slice_sum(slots + s * count + i, slices * count, terms, term_count);
    if (output_stride > 0) {
      for (size_t s = 0; s < slices; s++) output[s * output_stride + i] = sums[s];
      continue;
    }
    for (size_t half = slices; half > 1; half /= 2)
      for (size_t s = 0; s < half / 2; s++) sums[s] = sums[2 * s] + sums[2 * s + 1];
    output[i] = sums[0];
  }
}

void ck_reference_round_bfloat16(float *y, const float *x, size_t count) {
  for (size_t i = 0; i < count; i++) y[i] = ck_from_bfloat16(ck_to_bfloat16(x[i]));
}

void ck_reference_log_sum_exp(
    const float *x, size_t count, float *largest, size_t *index, float *sum) {
  float best = -INFINITY, lanes[LANES] = {0};
  size_t at = 0;
  for (size_t i = 0; i < count; i++)
    if (x[i] > best) best = x[i], at = i;
  for (size_t i = 0; i < count; i++) lanes[i % LANES] += x[i] == x[i] ? ck_exp(x[i] - best) : 0;
  *largest = best, *index = at, *sum = tree_sum(lanes);
}

const ck_kernels ck_reference = {
    .name = "reference",
    .operand_kind = ck_reference_operand_kind,
    .prepare = ck_reference_prepare,
    .linear_float32 = ck_reference_linear_float32,
    .linear_bfloat16 = ck_reference_linear_bfloat16,
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
