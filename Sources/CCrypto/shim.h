#ifndef CCRYPTO_SHIM_H
#define CCRYPTO_SHIM_H
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <openssl/crypto.h>

/* Keeps libcrypto alive until the process is gone.
 *
 * By itself it frees its tables in an exit handler, while threads that still sign a heartbeat
 * read them. The first call into libcrypto decides, so all that use the library call this first. */
static inline void ccrypto_outlive_exit(void) {
  OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
}
#endif
