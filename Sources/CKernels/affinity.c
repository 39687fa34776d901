#include "include/ckaffinity.h"

#if defined(__linux__)
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

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
#else
void ck_restrict_process(const int *cores, int count) { (void)cores, (void)count; }

int ck_usable_cores(int *cores, int limit) {
  (void)cores, (void)limit;
  return 0;
}

void ck_pin_thread(int core) { (void)core; }
#endif
