#include "include/ckprobes.h"

#define CHAINS 16

#if defined(__x86_64__)
#include <immintrin.h>

#define UNROLL _Pragma("clang loop unroll(full)")

__attribute__((target("avx512f"))) static uint64_t read_avx512(const char *p, size_t bytes) {
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  for (size_t i = 0; i < bytes; i += 256) {
    a = _mm512_xor_si512(a, _mm512_loadu_si512(p + i));
    b = _mm512_xor_si512(b, _mm512_loadu_si512(p + i + 64));
    c = _mm512_xor_si512(c, _mm512_loadu_si512(p + i + 128));
    d = _mm512_xor_si512(d, _mm512_loadu_si512(p + i + 192));
  }
  a = _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d));
  return (uint64_t)_mm512_reduce_add_epi64(a);
}

__attribute__((target("avx2"))) static uint64_t read_avx2(const char *p, size_t bytes) {
  __m256i a = _mm256_setzero_si256(), b = a;
  for (size_t i = 0; i < bytes; i += 64) {
    a = _mm256_xor_si256(a, _mm256_loadu_si256((const __m256i *)(p + i)));
    b = _mm256_xor_si256(b, _mm256_loadu_si256((const __m256i *)(p + i + 32)));
  }
  a = _mm256_xor_si256(a, b);
  return (uint64_t)_mm256_extract_epi64(a, 0) ^ (uint64_t)_mm256_extract_epi64(a, 3);
}

// The chains start from different values, or the compiler would merge them.
__attribute__((target("avx512f"))) static float peak_avx512(size_t rounds) {
  __m512 sums[CHAINS], x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(0.001f);
  UNROLL for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_set1_ps((float)i);
  for (size_t r = 0; r < rounds; r++) {
    UNROLL for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_fmadd_ps(sums[i], x, y);
    __asm__ volatile("" : "+v"(x), "+v"(y));
  }
  UNROLL for (int i = 1; i < CHAINS; i++) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  return _mm512_reduce_add_ps(sums[0]);
}

__attribute__((target("avx512f,avx512bf16"))) static float peak_bfloat16(size_t rounds) {
  __m512 sums[CHAINS];
  __m512i x = _mm512_set1_epi32(0x3f803f80), y = _mm512_set1_epi32(0x3a833a83);
  UNROLL for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_set1_ps((float)i);
  for (size_t r = 0; r < rounds; r++) {
    UNROLL for (int i = 0; i < CHAINS; i++)
      sums[i] = _mm512_dpbf16_ps(sums[i], (__m512bh)x, (__m512bh)y);
    __asm__ volatile("" : "+v"(x), "+v"(y));
  }
  UNROLL for (int i = 1; i < CHAINS; i++) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  return _mm512_reduce_add_ps(sums[0]);
}

__attribute__((target("avx512f,avx512vnni"))) static float peak_int8(size_t rounds) {
  __m512i sums[CHAINS], x = _mm512_set1_epi8(1), y = _mm512_set1_epi8(2);
  UNROLL for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_set1_epi32(i);
  for (size_t r = 0; r < rounds; r++) {
    UNROLL for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_dpbusd_epi32(sums[i], x, y);
    __asm__ volatile("" : "+v"(x), "+v"(y));
  }
  UNROLL for (int i = 1; i < CHAINS; i++) sums[0] = _mm512_add_epi32(sums[0], sums[i]);
  return (float)_mm512_reduce_add_epi32(sums[0]);
}

__attribute__((target("avx2,fma"))) static float peak_avx2(size_t rounds) {
  __m256 sums[12], x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(0.001f);
  UNROLL for (int i = 0; i < 12; i++) sums[i] = _mm256_set1_ps((float)i);
  for (size_t r = 0; r < rounds; r++) {
    UNROLL for (int i = 0; i < 12; i++) sums[i] = _mm256_fmadd_ps(sums[i], x, y);
    __asm__ volatile("" : "+x"(x), "+x"(y));
  }
  UNROLL for (int i = 1; i < 12; i++) sums[0] = _mm256_add_ps(sums[0], sums[i]);
  return _mm256_cvtss_f32(sums[0]);
}
#endif

static uint64_t read_plain(const char *p, size_t bytes) {
  uint64_t sum = 0;
  for (size_t i = 0; i < bytes; i += 8) sum ^= *(const uint64_t *)(const void *)(p + i);
  return sum;
}

uint64_t ck_probe_read(const void *memory, size_t bytes) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) return read_avx512(memory, bytes);
  if (__builtin_cpu_supports("avx2")) return read_avx2(memory, bytes);
#endif
  return read_plain(memory, bytes);
}

double ck_probe_peak(int kind, size_t rounds, float *sink) {
  double each = (double)rounds * CHAINS * 32;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (kind == CK_PROBE_FLOAT32 && __builtin_cpu_supports("avx512f")) {
    *sink = peak_avx512(rounds);
    return each;
  }
  if (kind == CK_PROBE_FLOAT32 && __builtin_cpu_supports("fma")) {
    *sink = peak_avx2(rounds);
    return (double)rounds * 12 * 16;
  }
  if (kind == CK_PROBE_BFLOAT16 && __builtin_cpu_supports("avx512bf16")) {
    *sink = peak_bfloat16(rounds);
    return 2 * each;
  }
  if (kind == CK_PROBE_INT8 && __builtin_cpu_supports("avx512vnni")) {
    *sink = peak_int8(rounds);
    return 4 * each;
  }
#endif
  (void)kind, (void)each;
  *sink = 0;
  return 0;
}
