// The AVX-512 set: conversions, the cache's layout and element-wise kernels.
// Matrix products and attention have files of their own.
#if defined(__x86_64__)
#include "x86_avx512.h"

static int32_t operand_kind(int32_t format, int32_t activation) {
  static const int32_t kinds[CK_FORMAT_COUNT][3] = {
      [CK_FORMAT_FLOAT32] = {CK_OPERAND_ROUNDED, CK_OPERAND_FLOAT32, CK_OPERAND_ROUNDED},
      [CK_FORMAT_BFLOAT16] = {CK_OPERAND_BFLOAT16, CK_OPERAND_PAIR, CK_OPERAND_BFLOAT16},
      [CK_FORMAT_E4M3] = {CK_OPERAND_SPLIT_BFLOAT16, CK_OPERAND_SPLIT_PAIR,
                          CK_OPERAND_SPLIT_BFLOAT16},
      [CK_FORMAT_INT8] = {CK_OPERAND_INTEGER2, CK_OPERAND_INTEGER3, CK_OPERAND_INTEGER1},
      [CK_FORMAT_INT4] = {CK_OPERAND_INTEGER2, CK_OPERAND_INTEGER3, CK_OPERAND_INTEGER1},
  };
  return kinds[format][activation];
}

// The set without BF16 dot products.
static int32_t fma_operand_kind(int32_t format, int32_t activation) {
  static const int32_t kinds[CK_FORMAT_COUNT][3] = {
      [CK_FORMAT_BFLOAT16] = {CK_OPERAND_TURNED2_ROUNDED, CK_OPERAND_TURNED2,
                              CK_OPERAND_TURNED2_ROUNDED},
      [CK_FORMAT_E4M3] = {CK_OPERAND_TURNED4_ROUNDED, CK_OPERAND_TURNED4,
                          CK_OPERAND_TURNED4_ROUNDED},
  };
  int narrow = format == CK_FORMAT_BFLOAT16 || format == CK_FORMAT_E4M3;
  return narrow ? kinds[format][activation] : operand_kind(format, activation);
}

// 64 values from column k of a row, in order or at their split places.
CK_AVX512_INLINE void pack64(uint16_t *row, size_t k, const __m256i v[4], int split) {
  __m512i a = _mm512_inserti64x4(_mm512_castsi256_si512(v[0]), v[1], 1);
  __m512i b = _mm512_inserti64x4(_mm512_castsi256_si512(v[2]), v[3], 1);
  if (split) {
    static const uint16_t order[32] = {0,  2,  4,  6,  8,  10, 12, 14, 1,  3,  5,
                                       7,  9,  11, 13, 15, 16, 18, 20, 22, 24, 26,
                                       28, 30, 17, 19, 21, 23, 25, 27, 29, 31};
    a = _mm512_permutexvar_epi16(_mm512_loadu_si512(order), a);
    b = _mm512_permutexvar_epi16(_mm512_loadu_si512(order), b);
  }
  _mm512_store_si512(row + k, a);
  _mm512_store_si512(row + k + 32, b);
}

// What the hi half leaves of x; nothing where hi is not finite.
CK_AVX512_INLINE __m256i low_half(__m512 x, __m256i high) {
  const __m256i exponent = _mm256_set1_epi16(0x7f80);
  __mmask16 finite = _mm256_cmpneq_epi16_mask(_mm256_and_si256(high, exponent), exponent);
  return _mm256_maskz_mov_epi16(finite, round16(_mm512_sub_ps(x, widen16(high))));
}

CK_AVX512_INLINE void prepare_bfloat16(
    uint16_t *row, const float *source, size_t begin, size_t end, size_t bytes, int pair,
    int split) {
  uint16_t *low = row + bytes / 4;
  for (size_t k = begin; k < end; k += 64) {
    __m256i high[4], rest[4];
    CK_UNROLL for (int i = 0; i < 4; i++) {
      size_t at = k + 16 * (size_t)i;
      __mmask16 mask = at < end ? tail_mask16(end - at) : 0;
      __m512 x = _mm512_maskz_loadu_ps(mask, source + (at - begin));
      high[i] = round16(x);
      if (pair) rest[i] = low_half(x, high[i]);
    }
    pack64(row, k, high, split);
    if (pair) pack64(low, k, rest, split);
  }
}

// Floats with the columns of a step of 2 or 4 together; whole steps of 32, the end padded.
CK_AVX512_INLINE void prepare_turned(
    float *row, const float *source, size_t begin, size_t end, int step, int round) {
  static const int32_t orders[2][16] = {
      {0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15},
      {0, 4, 8, 12, 2, 6, 10, 14, 1, 5, 9, 13, 3, 7, 11, 15},
  };
  __m512i order = _mm512_loadu_si512(orders[step == 4]);
  for (size_t k = begin; k < (end + 31) / 32 * 32; k += 16) {
    __mmask16 mask = k < end ? tail_mask16(end - k) : 0;
    __m512 x = _mm512_maskz_loadu_ps(mask, source + (k - begin));
    if (round) x = widen16(round16(x));
    _mm512_store_ps(row + k, _mm512_permutexvar_ps(order, x));
  }
}

CK_AVX512 static void prepare(
    int32_t kind, void *row, size_t bytes, const float *source, size_t begin, size_t end,
    size_t columns) {
  switch (kind) {
  case CK_OPERAND_TURNED2:
  case CK_OPERAND_TURNED2_ROUNDED:
    prepare_turned(row, source, begin, end, 2, kind == CK_OPERAND_TURNED2_ROUNDED);
    break;
  case CK_OPERAND_TURNED4:
  case CK_OPERAND_TURNED4_ROUNDED:
    prepare_turned(row, source, begin, end, 4, kind == CK_OPERAND_TURNED4_ROUNDED);
    break;
  case CK_OPERAND_BFLOAT16:
  case CK_OPERAND_SPLIT_BFLOAT16:
    prepare_bfloat16(row, source, begin, end, bytes, 0, kind == CK_OPERAND_SPLIT_BFLOAT16);
    break;
  case CK_OPERAND_PAIR:
  case CK_OPERAND_SPLIT_PAIR:
    prepare_bfloat16(row, source, begin, end, bytes, 1, kind == CK_OPERAND_SPLIT_PAIR);
    break;
  case CK_OPERAND_INTEGER1:
  case CK_OPERAND_INTEGER2:
  case CK_OPERAND_INTEGER3:
    ck_avx512_prepare_integer(kind, row, bytes, source, begin, end);
    break;
  default:
    for (size_t k = begin; k < end; k += 16) {
      __m512 x = _mm512_maskz_loadu_ps(tail_mask16(end - k), source + (k - begin));
      if (kind == CK_OPERAND_ROUNDED) x = widen16(round16(x));
      _mm512_store_ps((float *)row + k, x);
    }
  }
}

CK_AVX512 static void widen(
    int32_t format, float *y, const void *row, const float *scales, size_t columns) {
  if (format != CK_FORMAT_BFLOAT16) {
    ck_reference_widen(format, y, row, scales, columns);
    return;
  }
  for (size_t k = 0; k < columns; k += 16) {
    __mmask16 mask = tail_mask16(columns - k);
    __m256i bits = _mm256_maskz_loadu_epi16(mask, (const uint8_t *)row + 2 * k);
    _mm512_mask_storeu_ps(y + k, mask, widen16(bits));
  }
}

// ---- Attention: folding partitions.

CK_AVX512 static void attention_merge(
    float *state, const float *partial, size_t count, size_t dimension) {
  for (size_t i = 0; i < count; i++, state += dimension + 2, partial += dimension + 2) {
    float largest = partial[0] > state[0] ? partial[0] : state[0];
    __m512 keep = _mm512_set1_ps(ck_exp(state[0] - largest));
    __m512 join = _mm512_set1_ps(ck_exp(partial[0] - largest));
    for (size_t c = 1; c < dimension + 2; c += 16) {
      __mmask16 mask = tail_mask16(dimension + 2 - c);
      __m512 sum = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, state + c), keep);
      sum = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, partial + c), join, sum);
      _mm512_mask_storeu_ps(state + c, mask, sum);
    }
    state[0] = largest;
  }
}

CK_AVX512 static void attention_finish(
    float *output, const float *state, size_t count, size_t dimension) {
  for (size_t i = 0; i < count; i++, state += dimension + 2, output += dimension) {
    __m512 factor = _mm512_set1_ps(1 / state[1]);
    for (size_t c = 0; c < dimension; c += 16) {
      __mmask16 mask = tail_mask16(dimension - c);
      __m512 x = _mm512_maskz_loadu_ps(mask, state + 2 + c);
      _mm512_mask_storeu_ps(output + c, mask, _mm512_mul_ps(x, factor));
    }
  }
}

// ---- Element-wise: y[i] from x[i], the tail masked.

#define EACH16(count)                                            \
  for (size_t i = 0; i < (count); i += 16)                       \
    for (__mmask16 mask = tail_mask16((count) - i), once = 1; once; once = 0)
#define LOAD(from) _mm512_maskz_loadu_ps(mask, (from) + i)
#define STORE(to, value) _mm512_mask_storeu_ps((to) + i, mask, value)

CK_AVX512 static void rms_norm(
    float *y, const float *x, const float *weight, size_t count, float epsilon) {
  __m512 squares = _mm512_setzero_ps();
  EACH16(count) squares = _mm512_fmadd_ps(LOAD(x), LOAD(x), squares);
  __m512 factor = _mm512_set1_ps(1 / sqrtf(lanes_sum(squares) / (float)count + epsilon));
  EACH16(count) STORE(y, _mm512_mul_ps(_mm512_mul_ps(LOAD(x), factor), LOAD(weight)));
}

CK_AVX512 static void rotary(
    float *x, const float *cosine, const float *sine, size_t heads, size_t dimension) {
  size_t half = dimension / 2;
  for (size_t h = 0; h < heads; h++, x += dimension) {
    EACH16(half) {
      __m512 a = LOAD(x), b = LOAD(x + half), c = LOAD(cosine), s = LOAD(sine);
      STORE(x, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
      STORE(x + half, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
    }
  }
}

CK_AVX512 static void swiglu(float *y, const float *gate, const float *up, size_t count) {
  EACH16(count) {
    __m512 g = LOAD(gate);
    __m512 below = _mm512_add_ps(exp16(_mm512_sub_ps(_mm512_setzero_ps(), g)),
                                 _mm512_set1_ps(1));
    STORE(y, _mm512_mul_ps(_mm512_div_ps(g, below), LOAD(up)));
  }
}

CK_AVX512 static void add(float *y, const float *x, size_t count) {
  EACH16(count) STORE(y, _mm512_add_ps(LOAD(y), LOAD(x)));
}

// 16 elements of a slice.
CK_AVX512_INLINE __m512 slice_sum(
    const float *slots, size_t stride, const ck_term *terms, size_t term_count, __mmask16 mask) {
  __m512 stack[CK_TREE_DEPTH], top = _mm512_setzero_ps();
  size_t depth = 0;
  for (size_t t = 0; t < term_count; t++) {
    if (t > 0) stack[depth++] = top;
    __m512 v = _mm512_maskz_loadu_ps(mask, slots + terms[t].slot * stride);
    top = _mm512_mul_ps(v, _mm512_set1_ps(terms[t].factor));
    for (uint32_t i = 0; i < terms[t].adds; i++) top = _mm512_add_ps(stack[--depth], top);
  }
  return top;
}

CK_AVX512 static void combine(
    float *output, size_t output_stride, const float *slots, size_t slices, size_t count,
    const ck_term *terms, size_t term_count) {
  EACH16(count) {
    __m512 sums[CK_MAX_SLICES];
    for (size_t s = 0; s < slices; s++) {
      sums[s] = slice_sum(slots + s * count + i, slices * count, terms, term_count, mask);
      if (output_stride > 0) STORE(output + s * output_stride, sums[s]);
    }
    if (output_stride > 0) continue;
    for (size_t half = slices; half > 1; half /= 2)
      for (size_t s = 0; s < half / 2; s++)
        sums[s] = _mm512_add_ps(sums[2 * s], sums[2 * s + 1]);
    STORE(output, sums[0]);
  }
}

CK_AVX512 static void round_bfloat16(float *y, const float *x, size_t count) {
  EACH16(count) STORE(y, widen16(round16(LOAD(x))));
}

CK_AVX512 static void log_sum_exp(
    const float *x, size_t count, float *largest, size_t *index, float *sum) {
  __m512 top = _mm512_set1_ps(-INFINITY), total = _mm512_setzero_ps();
  // max returns its second operand where the first is NaN.
  EACH16(count) top = _mm512_mask_max_ps(top, mask, LOAD(x), top);
  float best = _mm512_reduce_max_ps(top);
  size_t at = 0;
  for (size_t i = 0; i < count; i++)
    if (x[i] == best) {
      at = i;
      break;
    }
  EACH16(count) {
    __m512 v = LOAD(x);
    __mmask16 number = _mm512_mask_cmp_ps_mask(mask, v, v, _CMP_ORD_Q);
    __m512 weight = exp16(_mm512_sub_ps(v, _mm512_set1_ps(best)));
    total = _mm512_mask_add_ps(total, number, total, weight);
  }
  *largest = best, *index = at, *sum = lanes_sum(total);
}

#define SHARED                                                                            \
  .prepare = prepare, .linear_float32 = ck_avx512_fma_linear_float32,                     \
  .linear_int8 = ck_avx512_linear_int8, .linear_int4 = ck_avx512_linear_int4,             \
  .store_bfloat16 = ck_reference_store_bfloat16,                                          \
  .store_float32 = ck_reference_store_float32, .attend_float32 = ck_avx512_attend_float32, \
  .attention_merge = attention_merge, .attention_finish = attention_finish,               \
  .rms_norm = rms_norm, .rotary = rotary, .swiglu = swiglu, .add = add,                   \
  .combine = combine, .round_bfloat16 = round_bfloat16, .widen = widen,                   \
  .widen_integer = ck_reference_widen_integer, .log_sum_exp = log_sum_exp

const ck_kernels ck_avx512 = {
    .name = "avx512",
    .operand_kind = operand_kind,
    .linear_bfloat16 = ck_avx512_linear_bfloat16,
    .linear_e4m3 = ck_avx512_linear_e4m3,
    .attend_bfloat16 = ck_avx512_attend_bfloat16,
    SHARED,
};

const ck_kernels ck_avx512_fma = {
    .name = "avx512-fma",
    .operand_kind = fma_operand_kind,
    .linear_bfloat16 = ck_avx512_fma_linear_bfloat16,
    .linear_e4m3 = ck_avx512_fma_linear_e4m3,
    .attend_bfloat16 = ck_avx512_fma_attend_bfloat16,
    SHARED,
};
#endif
