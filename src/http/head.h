/*
 * What a connection sends, read once before the HTTP server's own parser sees
 * it: where each HTTP/1 message begins and ends, and whether two parsers could
 * disagree about that.  Pure.
 *
 * The rules are RFC 9112's, taken strictly wherever leniency is known to let
 * requests be smuggled.  What is accepted here, picohttpparser accepts.
 */
#ifndef SD_HTTP_HEAD_H
#define SD_HTTP_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SD_HEAD_MAX_FIELDS 100

struct sd_scan_limits {
	size_t head;   /* bytes of a head, and of a chunked body's trailer */
	size_t target; /* bytes of the request target */
};

struct sd_scan {
	/* Of the messages so far; read only. */
	uint64_t heads, messages; /* complete heads, complete messages */
	int status;		  /* not 0: refuse what follows with this, and read no more */
	const char *code, *message;

	/* private */
	int state;
	uint64_t left;
	unsigned digits;
	size_t searched, extra;
};

/*
 * Look at the n bytes at p, which follow those that were consumed before; a
 * zeroed struct sd_scan is the start of a connection.  Returns how many were
 * consumed: all of a body's, and whole heads only, so that an incomplete head
 * is to be given again with what came after it.
 */
size_t sd_scan_feed(struct sd_scan *s, const char *p, size_t n, const struct sd_scan_limits *limits);
/* May it be a request's method? */
bool sd_head_method_ok(const char *method, size_t n);
/* In the middle of a body? */
bool sd_scan_in_body(const struct sd_scan *s);

#endif
