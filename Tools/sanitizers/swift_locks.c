// What the thread sanitizer cannot see of Swift's locks.
//
// A free `Mutex` is taken in instrumented code. A contended one is taken and given back by
// functions of libswiftSynchronization, which is not instrumented: whatever such a lock protects
// would be reported. This file, linked into the program, stands before those functions and tells
// the sanitizer what they order. `make test-sanitized SANITIZER=thread` uses it.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>

void __tsan_acquire(void *address);
void __tsan_release(void *address);

#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context))

// Mutex._MutexHandle._lockSlow(_: UInt32) and _unlockSlow(); the handle's word is what the inlined
// fast paths exchange.
#define LOCK "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define UNLOCK "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"
SWIFT void step3_lock_slow(uint32_t thread, SELF void *handle) __asm__(LOCK);
SWIFT void step3_unlock_slow(SELF void *handle) __asm__(UNLOCK);

SWIFT void step3_lock_slow(uint32_t thread, SELF void *handle) {
  SWIFT void (*lock)(uint32_t, SELF void *) = dlsym(RTLD_NEXT, LOCK);
  lock(thread, handle);
  __tsan_acquire(handle);
}

SWIFT void step3_unlock_slow(SELF void *handle) {
  SWIFT void (*unlock)(SELF void *) = dlsym(RTLD_NEXT, UNLOCK);
  __tsan_release(handle);
  unlock(handle);
}
