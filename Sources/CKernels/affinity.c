#include "include/ckaffinity.h"

#if defined(__linux__)
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

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
void ck_restrict_process(const int *cores, int count) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int index = 0; index < count; index++)
    if (cores[index] >= 0 && cores[index] < CPU_SETSIZE) CPU_SET(cores[index], &set);
  DIR *tasks = opendir("/proc/self/task");
  if (tasks == NULL) return;
  for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
    int task = atoi(entry->d_name);
    if (task > 0) (void)sched_setaffinity(task, sizeof set, &set);
  }
  closedir(tasks);
}

void ck_interleave_memory(const int *nodes, int count) {
  enum { INTERLEAVE = 3, NODES = 1024 };  // MPOL_INTERLEAVE; <numaif.h> comes with libnuma only
  unsigned long mask[NODES / (8 * sizeof(unsigned long))] = {0};
  for (int index = 0; index < count; index++)
    if (nodes[index] >= 0 && nodes[index] < NODES)
      mask[nodes[index] / (8 * sizeof *mask)] |= 1ul << nodes[index] % (8 * sizeof *mask);
  (void)syscall(SYS_set_mempolicy, INTERLEAVE, mask, (unsigned long)NODES);
}
#else
void ck_interleave_memory(const int *nodes, int count) { (void)nodes, (void)count; }

void ck_restrict_process(const int *cores, int count) { (void)cores, (void)count; }

int ck_usable_cores(int *cores, int limit) {
  (void)cores, (void)limit;
  return 0;
}

void ck_pin_thread(int core) { (void)core; }
#endif
