/* Error replies: {"error":{"code":…,"message":…,"details":[…]}}. */
#ifndef SD_HTTP_ERROR_H
#define SD_HTTP_ERROR_H

#include "base/buf.h"
#include "http/server.h"

const char *sd_http_reason(int status); /* RFC 9110's phrase */

/* Append the body.  message may come from anywhere (what is not UTF-8 in it is replaced); details: JSON values joined by commas, NULL: none. */
void sd_error_body(struct sd_buf *b, const char *code, const char *message, const char *details);
/* Answer x with it; detail is plain text or NULL.  503 gets Retry-After. */
void sd_error_reply(struct sd_exchange *x, int status, const char *code, const char *message, const char *detail);
/* The same with more headers. */
void sd_error_reply_with(struct sd_exchange *x, int status, const char *code, const char *message, const char *detail,
			 const struct sd_pair *headers, size_t nheaders);

#endif
