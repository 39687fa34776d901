// Block-E4M3 codes become BF16 in registers, with AVX-512.
//
// 64 codes are 32 lanes of 16 bits. Shifting puts sign, exponent and mantissa of the even codes
// (and of the odd ones) where BF16 has them; setting the exponent's upper bits to 0b0111 makes the
// value 2^-8 of the true one with one ternary operation, because the exponent then needs no
// addition. So outputs are multiplied by 2^8, and only groups with subnormal, zero or NaN codes
// look them up in a table. All values are exact. The alternative, a byte permutation through a
// table of 128 entries, needs as many operations and AVX-512 VBMI; it ran 12 % slower from memory.
#ifndef CK_X86_AVX512_E4M3_H
#define CK_X86_AVX512_E4M3_H

#include "x86_avx512_tile.h"

// Exact values (times 2^-8) of the codes that shifting gets wrong, by their low 5 bits.
static const uint16_t repairs[32] = {
    0x0000, 0x3700, 0x3780, 0x37c0, 0x3800, 0x3820, 0x3840, 0x3860, [31] = 0x7fc0,
};

// `codes` in the low bytes of the lanes; `wide` is their widened form, whose signs are right.
CK_AVX512_INLINE __m512i repair(__m512i codes, __m512i wide) {
  const __m512i exponent = _mm512_set1_epi16(0x78), magnitude = _mm512_set1_epi16(0x7f);
  __mmask32 wrong = _mm512_testn_epi16_mask(codes, exponent) |
                    _mm512_cmpeq_epi16_mask(_mm512_and_si512(codes, magnitude), magnitude);
  __m512i right = _mm512_permutexvar_epi16(codes, _mm512_loadu_si512(repairs));
  __m512i sign = _mm512_and_si512(wide, _mm512_set1_epi16((short)0x8000));
  return _mm512_mask_mov_epi16(wide, wrong, _mm512_or_si512(right, sign));
}

// 16 columns of both quads, widened.
typedef struct {
  __m512i of[2][2];  // [even, odd][quad]
} columns16;

CK_AVX512_INLINE __m512i place_fields(__m512i shifted) {
  const __m512i fields = _mm512_set1_epi16((short)0x87f0), bias = _mm512_set1_epi16(0x3800);
  return _mm512_ternarylogic_epi32(shifted, fields, bias, 0xea);  // (shifted & fields) | bias
}

// The even or the odd codes times 2^-8, but for those that need repair.
CK_AVX512_INLINE __m512i widen_half(__m512i codes, int odd) {
  return place_fields(_mm512_srai_epi16(odd ? codes : _mm512_slli_epi16(codes, 8), 4));
}

CK_AVX512_INLINE columns16 widen_columns(const __m512i codes[2]) {
  columns16 w;
  CK_UNROLL for (int q = 0; q < 2; q++)
    CK_UNROLL for (int odd = 0; odd < 2; odd++) w.of[odd][q] = widen_half(codes[q], odd);
  return w;
}

// One vector after the other through memory: this is rare, and registers are few.
CK_AVX512_INLINE void repair_columns(const __m512i codes[2], columns16 *w) {
  __m512i memory[6] = {codes[0], codes[1], w->of[0][0], w->of[0][1], w->of[1][0], w->of[1][1]};
  __asm__ volatile("" : "+m"(memory));
  _Pragma("clang loop unroll(disable)") for (int i = 0; i < 4; i++) {
    __m512i c = memory[i & 1];
    if (i > 1) c = _mm512_srli_epi16(c, 8);
    memory[2 + i] = repair(c, memory[2 + i]);
    __asm__ volatile("" : "+m"(memory));
  }
  CK_UNROLL for (int i = 0; i < 4; i++) w->of[i / 2][i % 2] = memory[2 + i];
}

// Doubled and less 16, the codes 0 to 7 and 127 of either sign are the largest bytes.
CK_AVX512_INLINE __m512i code_order(__m512i codes) {
  return _mm512_sub_epi8(_mm512_add_epi8(codes, codes), _mm512_set1_epi8(16));
}

// Whether any of the codes is one that shifting gets wrong.
CK_AVX512_INLINE int need_repair(const chunks *c) {
  __m512i low = _mm512_max_epu8(code_order(c->of[0][0]), code_order(c->of[0][1]));
  __m512i high = _mm512_max_epu8(code_order(c->of[1][0]), code_order(c->of[1][1]));
  __m512i most = _mm512_max_epu8(low, high);
  return _mm512_cmpge_epu8_mask(most, _mm512_set1_epi8((char)238)) != 0;
}

// The factors of both quads for the block from column k.
CK_AVX512_INLINE __m512 block_factors(const tile *t, size_t k, int quad) {
  size_t at = k / CK_SCALE_BLOCK * 4;
  __m512 first = _mm512_set1_ps(ck_load_float(t->scales[quad][0] + at));
  return _mm512_mask_mov_ps(
      first, t->second[quad], _mm512_set1_ps(ck_load_float(t->scales[quad][1] + at)));
}

#endif
