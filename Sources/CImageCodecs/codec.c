#include "codec.h"

#include <stdio.h>
#include <time.h>

int32_t cic_fail(cic_failure *failure, int32_t status, const char *reason) {
  failure->status = status;
  snprintf(failure->reason, sizeof failure->reason, "%s", reason);
  return status;
}

int64_t cic_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int cic_is_late(const cic_source *source) {
  return source->deadline != 0 && cic_now() > source->deadline;
}

void cic_flatten_rgba(const uint8_t *rgba, uint8_t *rgb, size_t count, int32_t drops_alpha) {
  for (size_t i = 0; i < count; i++) {
    uint8_t alpha = drops_alpha ? 255 : rgba[4 * i + 3];
    for (int c = 0; c < 3; c++) rgb[3 * i + c] = cic_over_white(rgba[4 * i + c], alpha);
  }
}
