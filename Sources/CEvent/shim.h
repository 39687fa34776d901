#ifndef CEVENT_SHIM_H
#define CEVENT_SHIM_H
#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <event2/thread.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

/* Macros and anonymous types that do not import, as functions. */

static inline struct event *cevent_new_waker(
    struct event_base *base, int fd, event_callback_fn callback, void *context) {
  return event_new(base, fd, EV_READ | EV_PERSIST, callback, context);
}

static inline struct event *cevent_new_timer(
    struct event_base *base, event_callback_fn callback, void *context) {
  return event_new(base, -1, EV_PERSIST, callback, context);
}

/* Fires once when the peer sends, closes its sending half or resets the connection. */
static inline struct event *cevent_new_stir(
    struct event_base *base, int fd, event_callback_fn callback, void *context) {
  return event_new(base, fd, EV_READ | EV_CLOSED, callback, context);
}

/* The same for a peer that has sent ahead: only its closing (EPOLLRDHUP) counts. */
static inline struct event *cevent_new_hangup(
    struct event_base *base, int fd, event_callback_fn callback, void *context) {
  return event_new(base, fd, EV_CLOSED, callback, context);
}

static inline void cevent_free_event(struct event *event) {
  if (event != NULL) event_free(event);
}

/* Whether bytes of the peer wait to be read. */
static inline int cevent_has_bytes(int fd) {
  char byte;
  return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* Writing to a client that has left must not end the process; every client needs a descriptor. */
static inline void cevent_prepare_process(void) {
  signal(SIGPIPE, SIG_IGN);
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

static inline int cevent_error_number(void) { return errno; }

static inline int cevent_wake_descriptor(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }

static inline void cevent_wake(int fd) {
  eventfd_write(fd, 1);
}

static inline void cevent_clear_wake(int fd) {
  eventfd_t value;
  eventfd_read(fd, &value);
}

/* The connection that evhttp made over a bufferevent: the context of its callbacks. */
static inline struct evhttp_connection *cevent_connection_of(struct bufferevent *bev) {
  void *context = NULL;
  bufferevent_getcb(bev, NULL, NULL, NULL, &context);
  return (struct evhttp_connection *)context;
}

/* Whether the peer has reset the connection or closed both halves. */
static inline int cevent_is_dead(int fd) {
  struct pollfd entry = {.fd = fd, .events = 0};
  return poll(&entry, 1, 0) > 0 && (entry.revents & (POLLERR | POLLHUP)) != 0;
}

static inline void cevent_no_delay(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* The port a listening socket got, 0 if it is not an internet socket. */
static inline int cevent_bound_port(int fd) {
  struct sockaddr_storage storage;
  socklen_t length = sizeof storage;
  if (getsockname(fd, (struct sockaddr *)&storage, &length) != 0) return 0;
  if (storage.ss_family == AF_INET) return ntohs(((struct sockaddr_in *)&storage)->sin_port);
  if (storage.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)&storage)->sin6_port);
  return 0;
}

static inline long cevent_send_now(int fd, const void *bytes, size_t count) {
  return send(fd, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* A TLS 1.2+ server context, NULL when the files cannot be used together. */
static inline SSL_CTX *cevent_tls_context(const char *certificates, const char *key) {
  /* Threads may use the library until the process is gone. */
  OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
  SSL_CTX *context = SSL_CTX_new(TLS_server_method());
  if (context == NULL) return NULL;
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  if (SSL_CTX_use_certificate_chain_file(context, certificates) != 1 ||
      SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context) != 1) {
    SSL_CTX_free(context);
    return NULL;
  }
  return context;
}

static inline struct bufferevent *cevent_new_tls(struct event_base *base, SSL_CTX *context) {
  SSL *session = SSL_new(context);
  if (session == NULL) return NULL;
  struct bufferevent *bev = bufferevent_openssl_socket_new(
      base, -1, session, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
  if (bev != NULL) bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
  return bev;
}

static inline struct evkeyval *cevent_first_header(struct evkeyvalq *headers) {
  return TAILQ_FIRST(headers);
}

static inline struct evkeyval *cevent_next_header(struct evkeyval *header) {
  return TAILQ_NEXT(header, next);
}
#endif
