#ifndef CUCX_SHIM_H
#define CUCX_SHIM_H
#include <ucp/api/ucp.h>
#endif
