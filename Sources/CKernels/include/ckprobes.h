// What bounds an engine on this CPU: loops that read memory, or that only multiply and add.
#ifndef CKPROBES_H
#define CKPROBES_H

#include <stddef.h>
#include <stdint.h>

#define CK_PROBE_FLOAT32 0   // fused multiply-add
#define CK_PROBE_BFLOAT16 1  // dot products of BF16 pairs
#define CK_PROBE_INT8 2      // dot products of four bytes

// Reads `bytes` (a multiple of 256) from an aligned address and returns a sum that depends on all.
uint64_t ck_probe_read(const void *memory, size_t bytes);

// Runs `rounds` of the kind's instruction over independent registers. Returns how many operations
// (a multiply and an add are two) that were; 0 when the CPU lacks the instruction.
double ck_probe_peak(int kind, size_t rounds, float *sink);

#endif
