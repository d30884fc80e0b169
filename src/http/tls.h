/* The server side of TLS: a context from PEM files. */
#ifndef SD_HTTP_TLS_H
#define SD_HTTP_TLS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct ssl_ctx_st;

/*
 * A context for a chain (leaf first) and its key, given as open files and the names that errors show: TLS 1.2 and 1.3, ciphers with
 * forward secrecy, ALPN http/1.1 and, if http2, h2.  The descriptors stay the caller's and are read from where they are.  NULL with *err, whose message begins with the option's name: not PEM,
 * not a pair, a key with a passphrase.
 */
struct ssl_ctx_st *sd_tls_new(int cert_fd, const char *cert_name, int key_fd, const char *key_name, bool http2, struct sd_err *err);
/* Does a certificate of the chain hold no more, not yet, or not for another two weeks?  Then what to tell, beginning with the option's name. */
bool sd_tls_outdated(struct ssl_ctx_st *ctx, const char *cert_name, char *text, size_t size);
void sd_tls_free(struct ssl_ctx_st *ctx);

#endif
