#include "tables.h"

#if defined(__x86_64__)
static const char *missing_avx2(void) {
  if (!__builtin_cpu_supports("avx2")) return "AVX2";
  if (!__builtin_cpu_supports("fma")) return "FMA";
  if (!__builtin_cpu_supports("f16c")) return "F16C";
  return "";
}

static const char *missing_avx512(void) {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return "AVX2 and FMA";
  if (!__builtin_cpu_supports("avx512f")) return "AVX-512F";
  if (!__builtin_cpu_supports("avx512bw")) return "AVX-512BW";
  if (!__builtin_cpu_supports("avx512vl")) return "AVX-512VL";
  if (!__builtin_cpu_supports("avx512dq")) return "AVX-512DQ";
  if (!__builtin_cpu_supports("avx512vnni")) return "AVX-512 VNNI";
  return "";
}

// BF16 dot products do twice the work of multiply-adds on AMD's cores, half of it on Intel's.
static int dot_products_pay(void) {
  return __builtin_cpu_supports("avx512bf16") && !__builtin_cpu_is("intel");
}
#endif

const char *ck_missing(const char *name) {
  if (strcmp(name, "reference") == 0) return "";
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (strcmp(name, "avx512-fma") == 0) return missing_avx512();
  if (strcmp(name, "avx512") == 0) {
    const char *missing = missing_avx512();
    return *missing != 0 || __builtin_cpu_supports("avx512bf16") ? missing : "AVX-512 BF16";
  }
  if (strcmp(name, "avx2") == 0) return missing_avx2();
  if (strcmp(name, "neon") == 0) return "the ARM architecture";
#elif defined(__aarch64__)
  if (strcmp(name, "neon") == 0) return "";
  if (strcmp(name, "avx512") == 0 || strcmp(name, "avx512-fma") == 0 || strcmp(name, "avx2") == 0)
    return "the x86-64 architecture";
#endif
  return NULL;
}

const ck_kernels *ck_select(const char *limit) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  int dots = dot_products_pay();
#endif
  const ck_kernels *const tables[] = {
#if defined(__x86_64__)
      dots ? &ck_avx512 : &ck_avx512_fma, dots ? &ck_avx512_fma : &ck_avx512, &ck_avx2,
#elif defined(__aarch64__)
      &ck_neon,
#endif
      &ck_reference};
  for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
    if (limit != NULL && strcmp(limit, tables[i]->name) != 0) continue;
    const char *missing = ck_missing(tables[i]->name);
    if (missing != NULL && *missing == 0) return tables[i];
  }
  return NULL;
}
