// Where threads run: two calls of the system that Swift does not import.
#ifndef CKAFFINITY_H
#define CKAFFINITY_H

// Writes the numbers of the cores that the calling thread may use, at most `limit` of them, and
// returns how many it wrote; 0 where the system does not tell.
int ck_usable_cores(int *cores, int limit);

// Pins the calling thread to one core. A refusal leaves it where it is.
void ck_pin_thread(int core);

/* Lets every thread of this process run on these cores alone; later threads inherit it. */
void ck_restrict_process(const int *cores, int count);

// Pages that the calling thread, and threads it starts, touch first come from these memory nodes
// in turn. A refusal leaves it as it is.
void ck_interleave_memory(const int *nodes, int count);

#endif
