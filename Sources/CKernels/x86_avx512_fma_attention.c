// Attention over a BF16 cache with AVX-512 multiply-adds on Float32, over one partition.
//
// The cache's layout is that of x86_avx512_attention.c: a vector of keys holds a pair of channels
// of 16 positions, one of values a pair of positions of 16 channels. Both are widened, exactly, to
// two vectors of floats. The first tile of heads does so and writes them into a panel, which the
// others read; meanwhile it prefetches what the next one needs. Queries and probabilities stay
// Float32. A tile is 12 heads by 2 vectors; each sum takes its channels or positions in order.
#if defined(__x86_64__)
#include "x86_avx512_attention.h"

#define TILE_HEADS 12
#define TILE_VECTORS 2
#define TILE_WIDTH (16 * TILE_VECTORS)

// Two steps, the even and the odd one of pairs; `panel` advances by the two steps' vectors.
CK_AVX512_INLINE void add_pair(
    const __m512i pairs[TILE_VECTORS], const float *factors, size_t stride, int heads, int reads,
    float *panel, __m512 sums[TILE_HEADS][TILE_VECTORS]) {
  CK_UNROLL for (int odd = 0; odd < 2; odd++) {
    __m512 x[TILE_VECTORS];
    CK_UNROLL for (int v = 0; v < TILE_VECTORS; v++) {
      float *at = panel + TILE_WIDTH * odd + 16 * v;
      if (reads) {
        x[v] = _mm512_load_ps(at);
      } else {
        x[v] = odd ? odd16(pairs[v]) : even16(pairs[v]);
        _mm512_store_ps(at, x[v]);
      }
    }
    // Loads must not wander here from other steps: they would take the sums' registers.
    __asm__ volatile("" ::: "memory");
    CK_UNROLL for (int i = 0; i < heads; i++) {
      __m512 factor = _mm512_set1_ps(factors[(size_t)i * stride + (size_t)odd]);
      CK_UNROLL for (int v = 0; v < TILE_VECTORS; v++)
        sums[i][v] = _mm512_fmadd_ps(x[v], factor, sums[i][v]);
    }
  }
}

CK_AVX512_INLINE void clear(int heads, __m512 sums[TILE_HEADS][TILE_VECTORS]) {
  CK_UNROLL for (int i = 0; i < heads; i++)
    CK_UNROLL for (int v = 0; v < TILE_VECTORS; v++) sums[i][v] = _mm512_setzero_ps();
}

// Scores of 32 positions from `position`; behind the end the last 16 are taken again.
CK_AVX512_INLINE void score_tile(
    const attention *a, size_t head, size_t position, int heads, int reads, float *panel) {
  size_t size = a->kv->block_size, d = a->kv->dimension;
  const uint8_t *keys[TILE_VECTORS];
  CK_UNROLL for (size_t v = 0; v < TILE_VECTORS; v++) {
    size_t at = a->start + position + (position + 16 * v < a->visible ? 16 * v : 0);
    keys[v] = a->kv->keys + (size_t)a->kv->table[at / size] * a->kv->block_bytes + at % size * 4;
  }
  // The next positions' keys, while the first tile of heads waits for these.
  const uint8_t *next = keys[0];
  if (!reads && position + TILE_WIDTH < a->visible) {
    size_t at = a->start + position + TILE_WIDTH;
    next = a->kv->keys + (size_t)a->kv->table[at / size] * a->kv->block_bytes + at % size * 4;
  }
  const float *queries = (const float *)a->queries + head * d;
  __m512 sums[TILE_HEADS][TILE_VECTORS];
  clear(heads, sums);
  for (size_t c = 0; c < d; c += 2, panel += 2 * TILE_WIDTH) {
    __m512i pairs[TILE_VECTORS];
    CK_UNROLL for (int v = 0; v < TILE_VECTORS; v++)
      if (!reads) {
        pairs[v] = _mm512_loadu_si512(keys[v] + c * size * 2);
        _mm_prefetch((const char *)next + c * size * 2 + 64 * v, _MM_HINT_T1);
      }
    add_pair(pairs, queries + c, d, heads, reads, panel, sums);
  }
  CK_UNROLL for (int i = 0; i < heads; i++)
    CK_UNROLL for (int v = 0; v < TILE_VECTORS; v++)
      _mm512_storeu_ps(
          a->scores + (head + (size_t)i) * SCORES + position + 16 * (size_t)v, sums[i][v]);
}

// Sums of 32 channels from `channel`.
CK_AVX512_INLINE void value_tile(
    const attention *a, size_t head, size_t channel, int heads, int reads, float *panel) {
  const ck_kv *kv = a->kv;
  size_t d = kv->dimension, left = d - channel;
  const __mmask16 masks[TILE_VECTORS] = {
      tail_mask16(left), left > 16 ? tail_mask16(left - 16) : 0};
  const float *weights = a->scores + head * SCORES;
  __m512 sums[TILE_HEADS][TILE_VECTORS];
  clear(heads, sums);
  for (size_t p = 0; p < a->visible;) {
    size_t at = a->start + p, end = p + kv->block_size - at % kv->block_size;
    if (end > a->visible) end = a->visible;
    const uint8_t *row = kv->values + (size_t)kv->table[at / kv->block_size] * kv->block_bytes +
                         channel * 4;
    for (; p < end; p += 2, row += 4 * d, panel += 2 * TILE_WIDTH) {
      __m512i pairs[TILE_VECTORS];
      CK_UNROLL for (int v = 0; v < TILE_VECTORS; v++) {
        if (reads) continue;
        pairs[v] = _mm512_maskz_loadu_epi32(masks[v], row + 64 * v);
        _mm_prefetch((const char *)row + 4 * TILE_WIDTH + 64 * v, _MM_HINT_T1);
        // What a last pair has behind the end may be anything.
        if (p + 1 == a->visible)
          pairs[v] = _mm512_and_si512(pairs[v], _mm512_set1_epi32(0xffff));
      }
      add_pair(pairs, weights + p, SCORES, heads, reads, panel, sums);
    }
  }
  float *out = a->out + head * (d + 2) + 2 + channel;
  CK_UNROLL for (int i = 0; i < heads; i++)
    CK_UNROLL for (int v = 0; v < TILE_VECTORS; v++)
      _mm512_mask_storeu_ps(out + (size_t)i * (d + 2) + 16 * v, masks[v], sums[i][v]);
}

typedef void (*tile_fn)(const attention *, size_t head, size_t at, int reads, float *panel);

#define TILE(name, heads)                                                                      \
  CK_AVX512 static void name##_##heads(                                                        \
      const attention *a, size_t head, size_t at, int reads, float *panel) {                   \
    if (reads)                                                                                 \
      name##_tile(a, head, at, heads, 1, panel);                                               \
    else                                                                                       \
      name##_tile(a, head, at, heads, 0, panel);                                               \
  }
#define TILES(name)                                                                            \
  TILE(name, 1) TILE(name, 2) TILE(name, 3) TILE(name, 4) TILE(name, 5) TILE(name, 6)          \
  TILE(name, 7) TILE(name, 8) TILE(name, 9) TILE(name, 10) TILE(name, 11) TILE(name, 12)       \
  static const tile_fn name##_tiles[TILE_HEADS] = {                                            \
      name##_1, name##_2, name##_3, name##_4,  name##_5,  name##_6,                            \
      name##_7, name##_8, name##_9, name##_10, name##_11, name##_12,                           \
  };
TILES(score) TILES(value)

// All heads, in tiles of about one size, for every 32 of `all` positions or channels.
static void all_heads(const attention *a, const tile_fn *tiles, size_t all, float *panel) {
  for (size_t at = 0; at < all; at += TILE_WIDTH)
    for (size_t head = 0, heads; head < a->count; head += heads) {
      size_t left = a->count - head, passes = (left + TILE_HEADS - 1) / TILE_HEADS;
      heads = (left + passes - 1) / passes;
      tiles[heads - 1](a, head, at, head > 0, panel);
    }
}

// What the first tile of values reads: lines far apart, which nothing but this foresees.
static void prefetch_values(const attention *a) {
  const ck_kv *kv = a->kv;
  for (size_t p = 0; p < a->visible; p += 2) {
    size_t at = a->start + p;
    const uint8_t *row = kv->values +
                         (size_t)kv->table[at / kv->block_size] * kv->block_bytes +
                         at % kv->block_size / 2 * kv->dimension * 4;
    _mm_prefetch((const char *)row, _MM_HINT_T1);
    _mm_prefetch((const char *)row + 64, _MM_HINT_T1);
  }
}

CK_AVX512 void ck_avx512_fma_attend_bfloat16(
    const ck_kv *kv, const float *queries, size_t count, size_t start, size_t visible,
    float scale, float *out, void *scratch) {
  size_t d = kv->dimension, widest = d > CK_PARTITION ? d : CK_PARTITION;
  float *panel = scratch;
  attention a = {
      .kv = kv, .start = start, .visible = visible, .count = count,
      .queries = (const uint32_t *)queries, .query_stride = d, .query_steps = d,
      .scores = panel + TILE_WIDTH * widest, .out = out,
  };
  all_heads(&a, score_tiles, visible, panel);
  prefetch_values(&a);
  for (size_t head = 0; head < count; head++) softmax(&a, head, scale, 0);
  all_heads(&a, value_tiles, d, panel);
}
#endif
