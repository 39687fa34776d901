#include "include/ckaffinity.h"

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>

int ck_usable_cores(int *cores, int limit) {
  cpu_set_t set;
  int count = 0;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
  for (int core = 0; core < CPU_SETSIZE && count < limit; core++)
    if (CPU_ISSET(core, &set)) cores[count++] = core;
  return count;
}

void ck_pin_thread(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}
#else
int ck_usable_cores(int *cores, int limit) {
  (void)cores, (void)limit;
  return 0;
}

void ck_pin_thread(int core) { (void)core; }
#endif
