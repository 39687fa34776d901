// What attention over one partition has in common, whichever way AVX-512 multiplies.
#ifndef CK_X86_AVX512_ATTENTION_H
#define CK_X86_AVX512_ATTENTION_H

#include "x86_avx512.h"

#define SCORES (CK_PARTITION + 16)  // floats from head to head

typedef struct {
  const ck_kv *kv;
  size_t start, visible, count;
  const uint32_t *queries;  // [count][query_stride] lanes: channels or pairs of channels
  size_t query_stride, query_steps;
  float *scores;            // [count][SCORES], then probabilities in place
  float *out;               // [count][2 + d]
} attention;

// ---- Softmax of one head: scores become probabilities of the cache's element type.

CK_AVX512_INLINE void softmax(const attention *a, size_t head, float scale, int half) {
  float *scores = a->scores + head * SCORES;
  __m512 factor = _mm512_set1_ps(scale), top = _mm512_set1_ps(-INFINITY);
  for (size_t p = 0; p < a->visible; p += 16) {
    __m512 s = _mm512_mul_ps(_mm512_loadu_ps(scores + p), factor);
    _mm512_storeu_ps(scores + p, s);
    top = _mm512_mask_max_ps(top, tail_mask16(a->visible - p), top, s);
  }
  float largest = _mm512_reduce_max_ps(top);
  __m512 sum = _mm512_setzero_ps();
  for (size_t p = 0; p < a->visible; p += 16) {
    __m512 weight = exp16(_mm512_sub_ps(_mm512_loadu_ps(scores + p), _mm512_set1_ps(largest)));
    weight = _mm512_maskz_mov_ps(tail_mask16(a->visible - p), weight);
    if (half) {
      // Written behind what is still to be read.
      __m256i bits = round16(weight);
      weight = widen16(bits);
      _mm256_storeu_si256((__m256i *)((uint16_t *)scores + p), bits);
    } else {
      _mm512_storeu_ps(scores + p, weight);
    }
    sum = _mm512_add_ps(sum, weight);
  }
  float *out = a->out + head * (a->kv->dimension + 2);
  out[0] = largest;
  out[1] = lanes_sum(sum);
}

#endif
