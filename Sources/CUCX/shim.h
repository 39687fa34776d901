#ifndef CUCX_SHIM_H
#define CUCX_SHIM_H
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <ucp/api/ucp.h>
#include <ucs/debug/log_def.h>
#include <unistd.h>

/* Macros that do not import, and calls whose parameters are structs with field masks, as functions.
 * Built against UCX 1.13; newer libraries with the same soname work at run time. */

/* UCX writes its messages to standard output, where our results go, and calls a peer's death an
 * error. What matters comes as a status; only what ends the process is said, on standard error. */
static inline ucs_log_func_rc_t cucx_on_message(
    const char *file, unsigned line, const char *function, ucs_log_level_t level,
    const ucs_log_component_config_t *component, const char *message, va_list arguments) {
  (void)file, (void)line, (void)function, (void)component;
  if (level == UCS_LOG_LEVEL_FATAL) {
    fputs("step3: error: ucx: ", stderr);
    vfprintf(stderr, message, arguments);
    fputc('\n', stderr);
  }
  return UCS_LOG_FUNC_RC_STOP;
}

static inline void cucx_silence(void) { ucs_log_push_handler(cucx_on_message); }

/* What a non-blocking call returned: NULL is done, an error, or a request to wait for. */
static inline int cucx_is_error(ucs_status_ptr_t result) { return UCS_PTR_IS_ERR(result); }
static inline int cucx_is_request(ucs_status_ptr_t result) { return UCS_PTR_IS_PTR(result); }
static inline ucs_status_t cucx_status(ucs_status_ptr_t result) {
  return UCS_PTR_RAW_STATUS(result);
}

/* A context with active messages and wake-up, single-threaded workers. */
static inline ucs_status_t cucx_init(const ucp_config_t *config, ucp_context_h *context) {
  ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES,
                         .features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP};
  return ucp_init(&params, config, context);
}

static inline ucs_status_t cucx_map(
    ucp_context_h context, void *address, size_t length, ucp_mem_h *handle) {
  ucp_mem_map_params_t params = {
      .field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH,
      .address = address,
      .length = length};
  return ucp_mem_map(context, &params, handle);
}

static inline ucs_status_t cucx_create_worker(ucp_context_h context, ucp_worker_h *worker) {
  ucp_worker_params_t params = {.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
                                .thread_mode = UCS_THREAD_MODE_SINGLE};
  return ucp_worker_create(context, &params, worker);
}

/* Persistent: the data of an eager message may be kept until ucp_am_data_release. */
static inline ucs_status_t cucx_set_handler(
    ucp_worker_h worker, unsigned id, ucp_am_recv_callback_t callback, void *context) {
  ucp_am_handler_param_t params = {
      .field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
                    UCP_AM_HANDLER_PARAM_FIELD_ARG | UCP_AM_HANDLER_PARAM_FIELD_FLAGS,
      .id = id,
      .cb = callback,
      .arg = context,
      .flags = UCP_AM_FLAG_PERSISTENT_DATA | UCP_AM_FLAG_WHOLE_MSG};
  return ucp_worker_set_am_recv_handler(worker, &params);
}

/* Gives every possible id a handler. UCX (1.13 and later) reads its table beyond the end for a
 * message with a larger id than was ever registered, before it looks whether there is such an id: a
 * stranger's message would end this process. From the last one down: the table is made once. */
static inline ucs_status_t cucx_set_every_handler(
    ucp_worker_h worker, ucp_am_recv_callback_t callback, void *context) {
  ucs_status_t status = UCS_OK;
  for (unsigned left = UINT16_MAX + 1; left > 0 && status == UCS_OK; left--) {
    ucp_am_handler_param_t params = {
        .field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
                      UCP_AM_HANDLER_PARAM_FIELD_ARG | UCP_AM_HANDLER_PARAM_FIELD_FLAGS,
        .id = left - 1,
        .cb = callback,
        .arg = context,
        .flags = UCP_AM_FLAG_WHOLE_MSG};
    status = ucp_worker_set_am_recv_handler(worker, &params);
  }
  return status;
}

static inline ucs_status_t cucx_listen(
    ucp_worker_h worker, const struct sockaddr_storage *address, socklen_t length,
    ucp_listener_conn_callback_t callback, void *context, ucp_listener_h *listener) {
  ucp_listener_params_t params = {
      .field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER,
      .sockaddr = {.addr = (const struct sockaddr *)address, .addrlen = length},
      .conn_handler = {.cb = callback, .arg = context}};
  return ucp_listener_create(worker, &params, listener);
}

/* An endpoint over a socket address, in the mode that reports a peer's failure. */
static inline ucs_status_t cucx_connect(
    ucp_worker_h worker, const struct sockaddr_storage *address, socklen_t length,
    ucp_err_handler_cb_t callback, void *context, ucp_ep_h *endpoint) {
  ucp_ep_params_t params = {
      .field_mask = UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR |
                    UCP_EP_PARAM_FIELD_ERR_HANDLER | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE,
      .flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER,
      .sockaddr = {.addr = (const struct sockaddr *)address, .addrlen = length},
      .err_mode = UCP_ERR_HANDLING_MODE_PEER,
      .err_handler = {.cb = callback, .arg = context}};
  return ucp_ep_create(worker, &params, endpoint);
}

static inline ucs_status_t cucx_accept(
    ucp_worker_h worker, ucp_conn_request_h request, ucp_err_handler_cb_t callback, void *context,
    ucp_ep_h *endpoint) {
  ucp_ep_params_t params = {
      .field_mask = UCP_EP_PARAM_FIELD_CONN_REQUEST | UCP_EP_PARAM_FIELD_ERR_HANDLER |
                    UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE,
      .conn_request = request,
      .err_mode = UCP_ERR_HANDLING_MODE_PEER,
      .err_handler = {.cb = callback, .arg = context}};
  return ucp_ep_create(worker, &params, endpoint);
}

static inline ucs_status_ptr_t cucx_send(
    ucp_ep_h endpoint, unsigned id, const void *header, size_t header_length, const void *data,
    size_t length, ucp_mem_h memory, int eager, ucp_send_nbx_callback_t callback, void *context) {
  ucp_request_param_t params = {
      .op_attr_mask =
          UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
      .flags = UCP_AM_SEND_FLAG_REPLY | (eager ? UCP_AM_SEND_FLAG_EAGER : 0),
      .cb = {.send = callback},
      .user_data = context};
  if (memory != NULL) {
    params.op_attr_mask |= UCP_OP_ATTR_FIELD_MEMH;
    params.memh = memory;
  }
  return ucp_am_send_nbx(endpoint, id, header, header_length, data, length, &params);
}

static inline ucs_status_ptr_t cucx_receive(
    ucp_worker_h worker, void *descriptor, void *data, size_t length, ucp_mem_h memory,
    ucp_am_recv_data_nbx_callback_t callback, void *context) {
  ucp_request_param_t params = {
      .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA,
      .cb = {.recv_am = callback},
      .user_data = context};
  if (memory != NULL) {
    params.op_attr_mask |= UCP_OP_ATTR_FIELD_MEMH;
    params.memh = memory;
  }
  return ucp_am_recv_data_nbx(worker, descriptor, data, length, &params);
}

/* Closes at once: what is under way ends with an error. */
static inline ucs_status_ptr_t cucx_close(ucp_ep_h endpoint) {
  ucp_request_param_t params = {
      .op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS, .flags = UCP_EP_CLOSE_FLAG_FORCE};
  return ucp_ep_close_nbx(endpoint, &params);
}

/* The endpoint of an active message's sender, NULL when the message does not say. */
static inline ucp_ep_h cucx_sender(const ucp_am_recv_param_t *params) {
  return (params->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) ? params->reply_ep : NULL;
}

static inline int cucx_is_rendezvous(const ucp_am_recv_param_t *params) {
  return (params->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0;
}

static inline int cucx_is_persistent(const ucp_am_recv_param_t *params) {
  return (params->recv_attr & UCP_AM_RECV_ATTR_FLAG_DATA) != 0;
}

/* UCX's description of the lanes of an endpoint, as text; at most capacity - 1 bytes. */
static inline void cucx_describe(ucp_ep_h endpoint, char *text, size_t capacity) {
  char *buffer = NULL;
  size_t length = 0;
  text[0] = 0;
  FILE *stream = open_memstream(&buffer, &length);
  if (stream == NULL) return;
  ucp_ep_print_info(endpoint, stream);
  fclose(stream);
  if (buffer == NULL) return;
  if (length >= capacity) length = capacity - 1;
  memcpy(text, buffer, length);
  text[length] = 0;
  free(buffer);
}

/* The numeric address of the client behind a connection request. */
static inline void cucx_client_address(
    ucp_conn_request_h request, char *text, size_t capacity) {
  ucp_conn_request_attr_t attributes = {
      .field_mask = UCP_CONN_REQUEST_ATTR_FIELD_CLIENT_ADDR};
  char host[INET6_ADDRSTRLEN] = "?";
  char port[8] = "0";
  if (ucp_conn_request_query(request, &attributes) == UCS_OK) {
    socklen_t length = attributes.client_address.ss_family == AF_INET6
                           ? sizeof(struct sockaddr_in6)
                           : sizeof(struct sockaddr_in);
    getnameinfo(
        (struct sockaddr *)&attributes.client_address, length, host, sizeof host, port,
        sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
  }
  snprintf(text, capacity, "%s:%s", host, port);
}

/* Resolves a host; 0 or an error of getaddrinfo. */
static inline int cucx_resolve(
    const char *host, const char *port, struct sockaddr_storage *address, socklen_t *length) {
  struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
                           .ai_flags = AI_NUMERICSERV};
  struct addrinfo *list = NULL;
  int code = getaddrinfo(host, port, &hints, &list);
  if (code != 0) return code;
  memset(address, 0, sizeof *address);
  memcpy(address, list->ai_addr, list->ai_addrlen);
  *length = list->ai_addrlen;
  freeaddrinfo(list);
  return 0;
}

static inline const void *cucx_address_bytes(const struct sockaddr *address, size_t *count) {
  if (address != NULL && address->sa_family == AF_INET) {
    *count = 4;
    return &((const struct sockaddr_in *)address)->sin_addr;
  }
  if (address != NULL && address->sa_family == AF_INET6) {
    *count = 16;
    return &((const struct sockaddr_in6 *)address)->sin6_addr;
  }
  *count = 0;
  return NULL;
}

/* The name of this machine's interface that has the address; 0 when it has none. */
static inline int cucx_interface_of(
    const struct sockaddr_storage *address, char *name, size_t capacity) {
  size_t wanted_count = 0;
  const unsigned char *wanted =
      (const unsigned char *)cucx_address_bytes((const struct sockaddr *)address, &wanted_count);
  /* The whole network of 127 is this machine. */
  if (wanted_count == 4 && wanted[0] == 127) {
    snprintf(name, capacity, "lo");
    return 1;
  }
  struct ifaddrs *list = NULL;
  if (wanted == NULL || getifaddrs(&list) != 0) return 0;
  int found = 0;
  for (struct ifaddrs *entry = list; entry != NULL && !found; entry = entry->ifa_next) {
    size_t count = 0;
    const void *bytes = cucx_address_bytes(entry->ifa_addr, &count);
    if (bytes != NULL && count == wanted_count && memcmp(bytes, wanted, count) == 0) {
      snprintf(name, capacity, "%s", entry->ifa_name);
      found = 1;
    }
  }
  freeifaddrs(list);
  return found;
}

/* The interface that packets to the address leave by; 0 when there is no route. */
static inline int cucx_route_to(
    const struct sockaddr_storage *address, socklen_t length, char *name, size_t capacity) {
  int descriptor = socket(address->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return 0;
  struct sockaddr_storage own;
  socklen_t own_length = sizeof own;
  int found = connect(descriptor, (const struct sockaddr *)address, length) == 0 &&
              getsockname(descriptor, (struct sockaddr *)&own, &own_length) == 0;
  close(descriptor);
  return found && cucx_interface_of(&own, name, capacity);
}

/* The same address with the loopback host, keeping the port. */
static inline void cucx_set_loopback(struct sockaddr_storage *address) {
  if (address->ss_family == AF_INET6) {
    ((struct sockaddr_in6 *)address)->sin6_addr = in6addr_loopback;
  } else {
    ((struct sockaddr_in *)address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  }
}

/* A descriptor that any thread may write to, to wake a poll. */
static inline int cucx_waker(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }
static inline void cucx_wake(int descriptor) { eventfd_write(descriptor, 1); }
static inline int cucx_clear(int descriptor) {
  eventfd_t value;
  return eventfd_read(descriptor, &value) == 0;
}

/* Sleeps until a descriptor is readable or the time, rounded up to milliseconds, is over. */
static inline void cucx_poll(const int *descriptors, int count, int64_t nanoseconds) {
  struct pollfd entries[count];
  for (int index = 0; index < count; index++) {
    entries[index] = (struct pollfd){.fd = descriptors[index], .events = POLLIN};
  }
#if defined(__linux__)
  /* Rounded up to milliseconds, a short wait would be a long one. */
  int64_t limit = nanoseconds > 3600000000000 ? 3600000000000 : nanoseconds;
  struct timespec time = {.tv_sec = limit / 1000000000, .tv_nsec = limit % 1000000000};
  ppoll(entries, count, &time, NULL);
#else
  int64_t milliseconds = (nanoseconds + 999999) / 1000000;
  poll(entries, count, milliseconds > 3600000 ? 3600000 : (int)milliseconds);
#endif
}

/* Whether the machine has devices for RDMA. */
static inline int cucx_has_rdma(void) { return access("/sys/class/infiniband", R_OK) == 0; }

static inline void cucx_pause_milliseconds(int count) { poll(NULL, 0, count); }

static inline void cucx_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}
#endif
