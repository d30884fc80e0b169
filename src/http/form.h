/* A request's body as JSON.  Pure. */
#ifndef SD_HTTP_FORM_H
#define SD_HTTP_FORM_H

#include "base/err.h"
#include "base/mem.h"
#include "http/target.h"

#include <stddef.h>

/*
 * n > 0 bytes of a body as JSON text, in arena or pointing to p:
 *	SD_MEDIA_JSON	as it is, checked (base/json.h)
 *	SD_MEDIA_FORM	an object: a name's text, or an array of texts for a name that is there more than once, in order
 *	SD_MEDIA_TEXT	a string
 * Another medium: "null".  Errors: not JSON; a broken percent-encoding; more pairs than SD_QUERY_MAX_PAIRS; no valid UTF-8 or
 * a NUL character.
 */
int sd_body_json(enum sd_media media, const char *p, size_t n, struct sd_arena *arena, const char **json, size_t *len,
		 struct sd_err *err) SD_MUST_CHECK;

#endif
