// Attention with AVX-512 over one partition of a paged cache.
//
// The cache's layout makes both products plain: a vector of keys holds one channel (float32) or
// a pair of channels (bfloat16) of 16 positions, so scores need no horizontal sums; a vector of
// values holds 16 channels of one position or of a pair of positions. In both element types one
// step multiplies a vector of 32-bit lanes by one broadcast 32-bit lane of a head's row, and only
// the multiply-add differs. Heads share keys and values: a tile of 6 heads by 4 vectors.
//
// Positions that a row does not see lie in lanes of their own among the scores and are masked
// there; among the values they are not read, and the unseen half of a last pair is cleared.
#if defined(__x86_64__)
#define CK_AVX512_DOTS
#include "x86_avx512_attention.h"

#define TILE_HEADS 6
#define TILE_VECTORS 4
CK_AVX512_INLINE __m512 step(__m512 sum, __m512i vector, uint32_t lane, int half) {
  __m512i all = _mm512_set1_epi32((int)lane);
  return half ? _mm512_dpbf16_ps(sum, (__m512bh)vector, (__m512bh)all)
              : _mm512_fmadd_ps(_mm512_castsi512_ps(vector), _mm512_castsi512_ps(all), sum);
}

// ---- Scores: heads by vectors of 16 positions from `position`.

CK_AVX512_INLINE void score_tile(
    const attention *a, size_t head, size_t position, int heads, int vectors, int half) {
  size_t size = a->kv->block_size;
  const uint8_t *keys[TILE_VECTORS];
  CK_UNROLL for (int v = 0; v < vectors; v++) {
    size_t at = a->start + position + 16 * (size_t)v;
    keys[v] = a->kv->keys + (size_t)a->kv->table[at / size] * a->kv->block_bytes + at % size * 4;
  }
  __m512 sums[TILE_HEADS][TILE_VECTORS];
  CK_UNROLL for (int i = 0; i < heads; i++)
    CK_UNROLL for (int v = 0; v < vectors; v++) sums[i][v] = _mm512_setzero_ps();
  const uint32_t *queries = a->queries + head * a->query_stride;
  for (size_t c = 0; c < a->query_steps; c++) {
    __m512i k[TILE_VECTORS];
    CK_UNROLL for (int v = 0; v < vectors; v++) k[v] = _mm512_loadu_si512(keys[v] + c * size * 4);
    CK_UNROLL for (int i = 0; i < heads; i++)
      CK_UNROLL for (int v = 0; v < vectors; v++)
        sums[i][v] = step(sums[i][v], k[v], queries[(size_t)i * a->query_stride + c], half);
  }
  CK_UNROLL for (int i = 0; i < heads; i++)
    CK_UNROLL for (int v = 0; v < vectors; v++)
      _mm512_storeu_ps(
          a->scores + (head + (size_t)i) * SCORES + position + 16 * (size_t)v, sums[i][v]);
}

// ---- Values: heads by vectors of 16 channels from `channel`.

CK_AVX512_INLINE void value_tile(
    const attention *a, size_t head, size_t channel, int heads, int vectors, int half) {
  const ck_kv *kv = a->kv;
  size_t d = kv->dimension, left = d - channel, group = half ? 2 : 1;
  __mmask16 mask = vectors == 1 ? tail_mask16(left) : 0xffff;
  const uint32_t *lanes = (const uint32_t *)(a->scores + head * SCORES);
  __m512 sums[TILE_HEADS][TILE_VECTORS];
  CK_UNROLL for (int i = 0; i < heads; i++)
    CK_UNROLL for (int v = 0; v < vectors; v++) sums[i][v] = _mm512_setzero_ps();
  for (size_t p = 0; p < a->visible;) {
    size_t at = a->start + p, end = p + kv->block_size;
    if (end > a->visible) end = a->visible;
    const uint8_t *row = kv->values + (size_t)kv->table[at / kv->block_size] * kv->block_bytes +
                         channel * 4;
    for (; p < end; p += group, row += 4 * d) {
      __m512i x[TILE_VECTORS];
      CK_UNROLL for (int v = 0; v < vectors; v++)
        x[v] = vectors == 1 ? _mm512_maskz_loadu_epi32(mask, row)
                            : _mm512_loadu_si512(row + 64 * v);
      if (half && p + 1 == a->visible) {
        CK_UNROLL for (int v = 0; v < vectors; v++)
          x[v] = _mm512_and_si512(x[v], _mm512_set1_epi32(0xffff));
      }
      CK_UNROLL for (int i = 0; i < heads; i++)
        CK_UNROLL for (int v = 0; v < vectors; v++)
          sums[i][v] = step(sums[i][v], x[v], lanes[(size_t)i * SCORES + p / group], half);
    }
  }
  float *out = a->out + head * (d + 2) + 2 + channel;
  CK_UNROLL for (int i = 0; i < heads; i++)
    CK_UNROLL for (int v = 0; v < vectors; v++)
      _mm512_mask_storeu_ps(
          out + (size_t)i * (d + 2) + 16 * v, vectors == 1 ? mask : 0xffff, sums[i][v]);
}

// ---- One function per number of heads.

typedef void (*tile_fn)(const attention *, size_t head, size_t at);

#define TILES(type, half, heads)                                                               \
  CK_AVX512 static void scores_##type##_##heads(const attention *a, size_t head, size_t all) { \
    size_t p = 0;                                                                              \
    for (; p + 16 * TILE_VECTORS <= all; p += 16 * TILE_VECTORS)                               \
      score_tile(a, head, p, heads, TILE_VECTORS, half);                                       \
    for (; p < all; p += 16) score_tile(a, head, p, heads, 1, half);                           \
  }                                                                                            \
  CK_AVX512 static void values_##type##_##heads(const attention *a, size_t head, size_t all) { \
    size_t c = 0;                                                                              \
    for (; c + 16 * TILE_VECTORS <= all; c += 16 * TILE_VECTORS)                               \
      value_tile(a, head, c, heads, TILE_VECTORS, half);                                       \
    for (; c < all; c += 16) value_tile(a, head, c, heads, 1, half);                           \
  }
#define ALL_TILES(type, half)                                                              \
  TILES(type, half, 1) TILES(type, half, 2) TILES(type, half, 3)                           \
  TILES(type, half, 4) TILES(type, half, 5) TILES(type, half, 6)                           \
  static const tile_fn scores_##type[TILE_HEADS] = {                                       \
      scores_##type##_1, scores_##type##_2, scores_##type##_3,                             \
      scores_##type##_4, scores_##type##_5, scores_##type##_6,                             \
  };                                                                                       \
  static const tile_fn values_##type[TILE_HEADS] = {                                       \
      values_##type##_1, values_##type##_2, values_##type##_3,                             \
      values_##type##_4, values_##type##_5, values_##type##_6,                             \
  };
ALL_TILES(bfloat16, 1)
ALL_TILES(float32, 0)

static void all_heads(const attention *a, const tile_fn *tiles, size_t all) {
  for (size_t head = 0; head < a->count; head += TILE_HEADS) {
    size_t heads = a->count - head < TILE_HEADS ? a->count - head : TILE_HEADS;
    tiles[heads - 1](a, head, all);
  }
}

CK_AVX512 void ck_avx512_attend_bfloat16(
    const ck_kv *kv, const float *queries, size_t count, size_t start, size_t visible,
    float scale, float *out, void *scratch) {
  size_t d = kv->dimension;
  float *scores = scratch;
  uint16_t *rounded = (uint16_t *)(scores + count * SCORES);
  attention a = {
      .kv = kv, .start = start, .visible = visible, .count = count,
      .queries = (const uint32_t *)rounded, .query_stride = d / 2, .query_steps = d / 2,
      .scores = scores, .out = out,
  };
  for (size_t c = 0; c < count * d; c += 16) {
    __mmask16 mask = tail_mask16(count * d - c);
    _mm256_mask_storeu_epi16(
        rounded + c, mask, round16(_mm512_maskz_loadu_ps(mask, queries + c)));
  }
  all_heads(&a, scores_bfloat16, visible);
  for (size_t head = 0; head < count; head++) softmax(&a, head, scale, 1);
  all_heads(&a, values_bfloat16, d);
}

CK_AVX512 void ck_avx512_attend_float32(
    const ck_kv *kv, const float *queries, size_t count, size_t start, size_t visible,
    float scale, float *out, void *scratch) {
  attention a = {
      .kv = kv, .start = start, .visible = visible, .count = count,
      .queries = (const uint32_t *)queries, .query_stride = kv->dimension,
      .query_steps = kv->dimension, .scores = scratch, .out = out,
  };
  all_heads(&a, scores_float32, visible);
  for (size_t head = 0; head < count; head++) softmax(&a, head, scale, 0);
  all_heads(&a, values_float32, kv->dimension);
}
#endif
