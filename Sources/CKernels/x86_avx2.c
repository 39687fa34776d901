// The AVX2 set: conversions and element-wise kernels.
// Matrix products and attention have files of their own.
#if defined(__x86_64__)
#include "x86_avx2.h"

CK_AVX2 static void prepare(
    int32_t kind, void *row, size_t bytes, const float *source, size_t begin, size_t end,
    size_t columns) {
  if (kind > CK_OPERAND_ROUNDED) {
    ck_reference_prepare(kind, row, bytes, source, begin, end, columns);
    return;
  }
  // Steps of 16: that much of the padding is read.
  for (size_t k = begin; k < (end + 15) / 16 * 16; k += 8) {
    __m256 x = k < end ? load8(source + (k - begin), end - k) : _mm256_setzero_ps();
    _mm256_store_ps((float *)row + k, kind == CK_OPERAND_ROUNDED ? round8(x) : x);
  }
}

// ---- Element-wise: y[i] from x[i], the tail masked, so that an element's bits do not depend on
// where it stands.

#define EACH8(count) for (size_t i = 0, left = (count); i < (count); i += 8, left -= 8)
#define LOAD(from) load8((from) + i, left)
#define STORE(to, value) store8((to) + i, value, left)

CK_AVX2 static void attention_merge(
    float *state, const float *partial, size_t count, size_t dimension) {
  for (size_t h = 0; h < count; h++, state += dimension + 2, partial += dimension + 2) {
    float largest = partial[0] > state[0] ? partial[0] : state[0];
    __m256 keep = _mm256_set1_ps(ck_exp(state[0] - largest));
    __m256 join = _mm256_set1_ps(ck_exp(partial[0] - largest));
    EACH8(dimension + 1) {
      __m256 sum = _mm256_mul_ps(LOAD(state + 1), keep);
      STORE(state + 1, _mm256_fmadd_ps(LOAD(partial + 1), join, sum));
    }
    state[0] = largest;
  }
}

CK_AVX2 static void attention_finish(
    float *output, const float *state, size_t count, size_t dimension) {
  for (size_t h = 0; h < count; h++, state += dimension + 2, output += dimension) {
    __m256 factor = _mm256_set1_ps(1 / state[1]);
    EACH8(dimension) STORE(output, _mm256_mul_ps(LOAD(state + 2), factor));
  }
}

CK_AVX2 static void rms_norm(
    float *y, const float *x, const float *weight, size_t count, float epsilon) {
  __m256 squares[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  EACH8(count) squares[i / 8 % 2] = _mm256_fmadd_ps(LOAD(x), LOAD(x), squares[i / 8 % 2]);
  float mean = lanes_sum(squares[0], squares[1]) / (float)count;
  __m256 factor = _mm256_set1_ps(1 / sqrtf(mean + epsilon));
  EACH8(count) STORE(y, _mm256_mul_ps(_mm256_mul_ps(LOAD(x), factor), LOAD(weight)));
}

CK_AVX2 static void rotary(
    float *x, const float *cosine, const float *sine, size_t heads, size_t dimension) {
  size_t half = dimension / 2;
  for (size_t h = 0; h < heads; h++, x += dimension) {
    EACH8(half) {
      __m256 a = LOAD(x), b = LOAD(x + half), c = LOAD(cosine), s = LOAD(sine);
      STORE(x, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
      STORE(x + half, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)));
    }
  }
}

CK_AVX2 static void swiglu(float *y, const float *gate, const float *up, size_t count) {
  EACH8(count) {
    __m256 g = LOAD(gate), one = _mm256_set1_ps(1);
    __m256 below = _mm256_add_ps(exp8(_mm256_sub_ps(_mm256_setzero_ps(), g)), one);
    STORE(y, _mm256_mul_ps(_mm256_div_ps(g, below), LOAD(up)));
  }
}

CK_AVX2 static void add(float *y, const float *x, size_t count) {
  EACH8(count) STORE(y, _mm256_add_ps(LOAD(y), LOAD(x)));
}

// 8 elements of a slice.
CK_AVX2_INLINE __m256 slice_sum(
    const float *slots, size_t stride, const ck_term *terms, size_t term_count, size_t left) {
  __m256 stack[CK_TREE_DEPTH], top = _mm256_setzero_ps();
  size_t depth = 0;
  for (size_t t = 0; t < term_count; t++) {
    if (t > 0) stack[depth++] = top;
    __m256 v = load8(slots + terms[t].slot * stride, left);
    top = _mm256_mul_ps(v, _mm256_set1_ps(terms[t].factor));
    for (uint32_t i = 0; i < terms[t].adds; i++) top = _mm256_add_ps(stack[--depth], top);
  }
  return top;
}

CK_AVX2 static void combine(
    float *output, size_t output_stride, const float *slots, size_t slices, size_t count,
    const ck_term *terms, size_t term_count) {
  EACH8(count) {
    __m256 sums[CK_MAX_SLICES];
    for (size_t s = 0; s < slices; s++) {
      sums[s] = slice_sum(slots + s * count + i, slices * count, terms, term_count, left);
      if (output_stride > 0) STORE(output + s * output_stride, sums[s]);
    }
    if (output_stride > 0) continue;
    for (size_t half = slices; half > 1; half /= 2)
      for (size_t s = 0; s < half / 2; s++)
        sums[s] = _mm256_add_ps(sums[2 * s], sums[2 * s + 1]);
    STORE(output, sums[0]);
  }
}

CK_AVX2 static void round_bfloat16(float *y, const float *x, size_t count) {
  EACH8(count) STORE(y, round8(LOAD(x)));
}

CK_AVX2 static void log_sum_exp(
    const float *x, size_t count, float *largest, size_t *index, float *sum) {
  float best = -INFINITY;
  size_t at = 0;
  for (size_t i = 0; i < count; i++)
    if (x[i] > best) best = x[i], at = i;
  __m256 sums[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  EACH8(count) {
    __m256 v = LOAD(x), seen = _mm256_castsi256_ps(lane_mask(left));
    __m256 number = _mm256_and_ps(seen, _mm256_cmp_ps(v, v, _CMP_ORD_Q));
    __m256 weight = _mm256_and_ps(number, exp8(_mm256_sub_ps(v, _mm256_set1_ps(best))));
    sums[i / 8 % 2] = _mm256_add_ps(sums[i / 8 % 2], weight);
  }
  *largest = best, *index = at, *sum = lanes_sum(sums[0], sums[1]);
}

const ck_kernels ck_avx2 = {
    .name = "avx2",
    .operand_kind = ck_reference_operand_kind,
    .prepare = prepare,
    .linear_float32 = ck_avx2_linear_float32,
    .linear_bfloat16 = ck_avx2_linear_bfloat16,
    .linear_e4m3 = ck_avx2_linear_e4m3,
    .linear_int8 = ck_avx2_linear_int8,
    .linear_int4 = ck_avx2_linear_int4,
    .store_bfloat16 = ck_reference_store_bfloat16,
    .store_float32 = ck_reference_store_float32,
    .attend_bfloat16 = ck_avx2_attend_bfloat16,
    .attend_float32 = ck_avx2_attend_float32,
    .attention_merge = attention_merge,
    .attention_finish = attention_finish,
    .rms_norm = rms_norm,
    .rotary = rotary,
    .swiglu = swiglu,
    .add = add,
    .combine = combine,
    .round_bfloat16 = round_bfloat16,
    .widen = ck_reference_widen,
    .widen_integer = ck_reference_widen_integer,
    .log_sum_exp = log_sum_exp,
};
#endif
