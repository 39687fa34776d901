// libcurl, and its variadic functions one type at a time: Swift imports none of those.
#ifndef CCURL_SHIM_H
#define CCURL_SHIM_H
#include <curl/curl.h>
#include <netinet/in.h>
#include <sys/socket.h>

typedef size_t (*ccurl_write)(char *bytes, size_t size, size_t count, void *context);
typedef curl_socket_t (*ccurl_open)(
    void *context, curlsocktype purpose, struct curl_sockaddr *address);

static inline CURLcode ccurl_set_long(CURL *curl, CURLoption option, long value) {
  return curl_easy_setopt(curl, option, value);
}
static inline CURLcode ccurl_set_offset(CURL *curl, CURLoption option, curl_off_t value) {
  return curl_easy_setopt(curl, option, value);
}
static inline CURLcode ccurl_set_string(CURL *curl, CURLoption option, const char *value) {
  return curl_easy_setopt(curl, option, value);
}
static inline CURLcode ccurl_set_url(CURL *curl, CURLU *url) {
  return curl_easy_setopt(curl, CURLOPT_CURLU, url);
}
static inline CURLcode ccurl_on_write(CURL *curl, ccurl_write callback, void *context) {
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, context);
  return curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, callback);
}
static inline CURLcode ccurl_on_progress(
    CURL *curl, curl_xferinfo_callback callback, void *context) {
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, context);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  return curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, callback);
}
static inline CURLcode ccurl_on_open(CURL *curl, ccurl_open callback, void *context) {
  curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, context);
  return curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, callback);
}
static inline long ccurl_response_code(CURL *curl) {
  long code = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
  return code;
}
/// Where a redirect leads, made absolute; NULL when the answer was none. Owned by the handle.
static inline const char *ccurl_redirect(CURL *curl) {
  char *url = 0;
  curl_easy_getinfo(curl, CURLINFO_REDIRECT_URL, &url);
  return url;
}
/// The bytes of an IPv4 or IPv6 address and their number, 4 or 16; 0 for other families.
static inline int ccurl_address_bytes(const struct curl_sockaddr *address, unsigned char out[16]) {
  if (address->family == AF_INET) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)&address->addr;
    for (int i = 0; i < 4; i++) out[i] = ((const unsigned char *)&in->sin_addr)[i];
    return 4;
  }
  if (address->family == AF_INET6) {
    const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)&address->addr;
    for (int i = 0; i < 16; i++) out[i] = ((const unsigned char *)&in->sin6_addr)[i];
    return 16;
  }
  return 0;
}
static inline curl_socket_t ccurl_socket(const struct curl_sockaddr *address) {
  return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}
#endif
