// Attention with AVX2 over one partition of a paged cache; in structure the AVX-512 file.
//
// A lane of 32 bits holds one float32, or two bfloat16 that are widened in registers. Queries and
// probabilities are Float32 in memory, rounded before where the cache is bfloat16.
#if defined(__x86_64__)
#include "x86_avx2.h"

#define TILE_HEADS 4
#define TILE_VECTORS 2
#define SCORES (CK_PARTITION + 16)  // floats from head to head

typedef struct {
  const ck_kv *kv;
  size_t start, visible, count;
  const float *queries;  // [count][d]
  float *scores;         // [count][SCORES], then probabilities in place
  float *out;            // [count][2 + d]
} attention;

// Adds a vector times one lane, or the halves of its lanes times two.
CK_AVX2_INLINE __m256 step(__m256 sum, __m256i vector, const float *factors, int half) {
  if (!half)
    return _mm256_fmadd_ps(_mm256_castsi256_ps(vector), _mm256_broadcast_ss(factors), sum);
  __m256 low = _mm256_castsi256_ps(_mm256_slli_epi32(vector, 16));
  __m256 high =
      _mm256_castsi256_ps(_mm256_and_si256(vector, _mm256_set1_epi32((int)0xffff0000)));
  sum = _mm256_fmadd_ps(low, _mm256_broadcast_ss(factors), sum);
  return _mm256_fmadd_ps(high, _mm256_broadcast_ss(factors + 1), sum);
}

CK_AVX2_INLINE void score_tile(
    const attention *a, size_t head, size_t position, int heads, int half) {
  size_t size = a->kv->block_size, d = a->kv->dimension, group = half ? 2 : 1;
  size_t at = a->start + position;
  const uint8_t *keys =
      a->kv->keys + (size_t)a->kv->table[at / size] * a->kv->block_bytes + at % size * 4;
  __m256 sums[TILE_HEADS][TILE_VECTORS];
  CK_UNROLL for (int i = 0; i < heads; i++)
    CK_UNROLL for (int v = 0; v < TILE_VECTORS; v++) sums[i][v] = _mm256_setzero_ps();
  const float *queries = a->queries + head * d;
  for (size_t c = 0; c < d; c += group, keys += size * 4) {
    __m256i k[TILE_VECTORS];
    CK_UNROLL for (int v = 0; v < TILE_VECTORS; v++)
      k[v] = _mm256_loadu_si256((const __m256i *)(keys + 32 * v));
    CK_UNROLL for (int i = 0; i < heads; i++)
      CK_UNROLL for (int v = 0; v < TILE_VECTORS; v++)
        sums[i][v] = step(sums[i][v], k[v], queries + (size_t)i * d + c, half);
  }
  CK_UNROLL for (int i = 0; i < heads; i++)
    CK_UNROLL for (int v = 0; v < TILE_VECTORS; v++)
      _mm256_storeu_ps(
          a->scores + (head + (size_t)i) * SCORES + position + 8 * (size_t)v, sums[i][v]);
}

CK_AVX2_INLINE void softmax(const attention *a, size_t head, float scale, int half) {
  float *scores = a->scores + head * SCORES;
  const __m256 lowest = _mm256_set1_ps(-INFINITY);
  __m256 factor = _mm256_set1_ps(scale), top = lowest;
  for (size_t p = 0; p < a->visible; p += 8) {
    __m256 seen = _mm256_castsi256_ps(lane_mask(a->visible - p));
    __m256 s = _mm256_mul_ps(_mm256_loadu_ps(scores + p), factor);
    _mm256_storeu_ps(scores + p, s);
    top = _mm256_max_ps(top, _mm256_blendv_ps(lowest, s, seen));
  }
  float tops[8], largest = -INFINITY;
  _mm256_storeu_ps(tops, top);
  for (int i = 0; i < 8; i++) largest = tops[i] > largest ? tops[i] : largest;
  __m256 sums[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  for (size_t p = 0; p < a->visible; p += 8) {
    __m256 seen = _mm256_castsi256_ps(lane_mask(a->visible - p));
    __m256 weight = exp8(_mm256_sub_ps(_mm256_loadu_ps(scores + p), _mm256_set1_ps(largest)));
    weight = _mm256_and_ps(seen, weight);
    if (half) weight = round8(weight);
    _mm256_storeu_ps(scores + p, weight);
    sums[p / 8 % 2] = _mm256_add_ps(sums[p / 8 % 2], weight);
  }
  float *out = a->out + head * (a->kv->dimension + 2);
  out[0] = largest;
  out[1] = lanes_sum(sums[0], sums[1]);
}

CK_AVX2_INLINE __m256i load_lanes(const uint8_t *at, size_t left) {
  return left >= 8 ? _mm256_loadu_si256((const __m256i *)at)
                   : _mm256_maskload_epi32((const int *)at, lane_mask(left));
}

CK_AVX2_INLINE void value_tile(
    const attention *a, size_t head, size_t channel, int heads, int half) {
  const ck_kv *kv = a->kv;
  size_t d = kv->dimension, left = d - channel, group = half ? 2 : 1;
  size_t beyond = left > 8 ? left - 8 : 0;
  const float *weights = a->scores + head * SCORES;
  __m256 sums[TILE_HEADS][TILE_VECTORS];
  CK_UNROLL for (int i = 0; i < heads; i++)
    CK_UNROLL for (int v = 0; v < TILE_VECTORS; v++) sums[i][v] = _mm256_setzero_ps();
  for (size_t p = 0; p < a->visible;) {
    size_t at = a->start + p, end = p + kv->block_size;
    if (end > a->visible) end = a->visible;
    const uint8_t *row = kv->values + (size_t)kv->table[at / kv->block_size] * kv->block_bytes +
                         channel * 4;
    for (; p < end; p += group, row += 4 * d) {
      __m256i x[TILE_VECTORS] = {load_lanes(row, left), load_lanes(row + 32, beyond)};
      if (half && p + 1 == a->visible) {
        CK_UNROLL for (int v = 0; v < TILE_VECTORS; v++)
          x[v] = _mm256_and_si256(x[v], _mm256_set1_epi32(0xffff));
      }
      CK_UNROLL for (int i = 0; i < heads; i++)
        CK_UNROLL for (int v = 0; v < TILE_VECTORS; v++)
          sums[i][v] = step(sums[i][v], x[v], weights + (size_t)i * SCORES + p, half);
    }
  }
  float *out = a->out + head * (d + 2) + 2 + channel;
  CK_UNROLL for (int i = 0; i < heads; i++) {
    store8(out + (size_t)i * (d + 2), sums[i][0], left);
    store8(out + (size_t)i * (d + 2) + 8, sums[i][1], beyond);
  }
}

typedef void (*tile_fn)(const attention *, size_t head);

#define TILES(type, half, heads)                                                          \
  CK_AVX2 static void scores_##type##_##heads(const attention *a, size_t head) {          \
    for (size_t p = 0; p < a->visible; p += 16) score_tile(a, head, p, heads, half);      \
  }                                                                                       \
  CK_AVX2 static void values_##type##_##heads(const attention *a, size_t head) {          \
    for (size_t c = 0; c < a->kv->dimension; c += 16) value_tile(a, head, c, heads, half);\
  }
#define ALL_TILES(type, half)                                                             \
  TILES(type, half, 1) TILES(type, half, 2) TILES(type, half, 3) TILES(type, half, 4)     \
  static const tile_fn scores_##type[TILE_HEADS] = {                                      \
      scores_##type##_1, scores_##type##_2, scores_##type##_3, scores_##type##_4};        \
  static const tile_fn values_##type[TILE_HEADS] = {                                      \
      values_##type##_1, values_##type##_2, values_##type##_3, values_##type##_4};
ALL_TILES(bfloat16, 1)
ALL_TILES(float32, 0)

static void all_heads(const attention *a, const tile_fn *tiles) {
  for (size_t head = 0; head < a->count; head += TILE_HEADS) {
    size_t heads = a->count - head < TILE_HEADS ? a->count - head : TILE_HEADS;
    tiles[heads - 1](a, head);
  }
}

CK_AVX2 void ck_avx2_attend_bfloat16(
    const ck_kv *kv, const float *queries, size_t count, size_t start, size_t visible,
    float scale, float *out, void *scratch) {
  size_t all = count * kv->dimension;
  float *scores = scratch, *rounded = scores + count * SCORES;
  attention a = {kv, start, visible, count, rounded, scores, out};
  for (size_t c = 0; c < all; c += 8)
    store8(rounded + c, round8(load8(queries + c, all - c)), all - c);
  all_heads(&a, scores_bfloat16);
  for (size_t head = 0; head < count; head++) softmax(&a, head, scale, 1);
  all_heads(&a, values_bfloat16);
}

CK_AVX2 void ck_avx2_attend_float32(
    const ck_kv *kv, const float *queries, size_t count, size_t start, size_t visible,
    float scale, float *out, void *scratch) {
  attention a = {kv, start, visible, count, queries, scratch, out};
  all_heads(&a, scores_float32);
  for (size_t head = 0; head < count; head++) softmax(&a, head, scale, 0);
  all_heads(&a, values_float32);
}
#endif
