/* The request target and what else of a request is text to take apart: percent-encoding, queries, content types, trace ids. Pure. */
#ifndef SD_HTTP_TARGET_H
#define SD_HTTP_TARGET_H

#include "base/err.h"
#include "base/mem.h"
#include "step/attempt.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SD_QUERY_MAX_PAIRS 1000

/* Decode n bytes of percent-encoded text into out (n + 1 bytes; '\0'-terminated); plus: '+' is a space.  The length, or -1 when an escape is broken or is %00, or what comes out is not UTF-8. */
ptrdiff_t sd_percent_decode(const char *s, size_t n, bool plus, char *out);

/* "a=1&b=2&a=3" into pairs in arena, in order, repeated ones repeated; a name without '=' has the value "".  Errors, in which it is called `what`: broken escapes, no UTF-8, more than SD_QUERY_MAX_PAIRS. */
int sd_pairs_parse(const char *what, const char *s, size_t n, struct sd_arena *arena, struct sd_pair **pairs, size_t *npairs,
		   struct sd_err *err) SD_MUST_CHECK;

enum sd_media { SD_MEDIA_NONE, SD_MEDIA_JSON, SD_MEDIA_FORM, SD_MEDIA_TEXT, SD_MEDIA_OTHER };
/*
 * What a Content-Type header announces (NULL: SD_MEDIA_NONE).  application/json and …+json are JSON,
 * application/x-www-form-urlencoded is FORM, text/… is TEXT.  Each of them in another charset than UTF-8 (or its subset
 * US-ASCII) is OTHER, like all the rest.
 */
enum sd_media sd_media_of(const char *content_type, size_t n);

/* The seconds of "wait=N" in a Prefer header (RFC 7240, 4.3), at most a day; -1: there is none. */
int sd_prefer_wait(const char *s, size_t n);

/* The trace id of a W3C traceparent header as a UUID in text form (37 bytes); false when the header is not valid. */
bool sd_traceparent_parse(const char *s, size_t n, char uuid[37]);
/* "00-<trace id>-<span>-01" into out (56 bytes). */
void sd_traceparent_format(const char *uuid, uint64_t span, char out[56]);

#endif
