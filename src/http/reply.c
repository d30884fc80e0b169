/* An attempt's outcome as a reply frame. */
#include "http/reply.h"

#include "http/error.h"

#include <inttypes.h>
#include <string.h>

static struct sd_pair pair(const char *name, const char *value)
{
	return (struct sd_pair){name, value, strlen(value)};
}

static bool has_header(const struct sd_http_reply *r, const char *name)
{
	for (size_t i = 0; i < r->nheaders; i++)
		if (strcmp(r->headers[i].name, name) == 0)
			return true;
	return false;
}

static void begin(const struct sd_attempt *a, struct sd_frame_reply *r, int status)
{
	memset(r, 0, sizeof(*r));
	r->id = a->http->id;
	r->status = (uint32_t)status;
	r->handler_us = a->finished_us - a->started_us;
}

void sd_reply_of(const struct sd_attempt *a, struct sd_frame_reply *r)
{
	const struct sd_http_reply *given = &a->reply;
	struct sd_pair *headers;

	begin(a, r, given->status);
	r->body = given->body;
	r->body_len = given->body_len;
	r->headers = given->headers;
	r->nheaders = given->nheaders;
	if ((given->body_len == 0 && !given->body_is_json) || has_header(given, "content-type"))
		return;
	headers = sd_arena_alloc(a->arena, (given->nheaders + 1) * sizeof(*headers));
	headers[0] = pair("content-type", given->body_is_json ? "application/json" : "text/plain; charset=utf-8");
	if (given->nheaders)
		memcpy(headers + 1, given->headers, given->nheaders * sizeof(*headers));
	r->headers = headers;
	r->nheaders++;
}

static void put_error(const struct sd_attempt *a, struct sd_frame_reply *r, int status, const char *code, const char *message,
		      const char *details, int64_t retry_after_s)
{
	struct sd_pair *headers = sd_arena_alloc(a->arena, 2 * sizeof(*headers));
	struct sd_buf b = SD_BUF_INIT;

	begin(a, r, status);
	sd_error_body(&b, code, message, details);
	r->body = sd_arena_memdup(a->arena, b.data, b.len);
	r->body_len = b.len;
	sd_buf_fini(&b);
	headers[r->nheaders++] = pair("content-type", "application/json");
	if (retry_after_s > 0)
		headers[r->nheaders++] = pair("retry-after", sd_arena_printf(a->arena, "%" PRId64, retry_after_s));
	r->headers = headers;
}

void sd_reply_error(const struct sd_attempt *a, struct sd_frame_reply *r, int status, const char *code, const char *message,
		    const char *error_id, int64_t retry_after_s)
{
	put_error(a, r, status, code, message, error_id ? sd_arena_printf(a->arena, "{\"errorId\":\"%s\"}", error_id) : NULL, retry_after_s);
}

void sd_reply_invalid(const struct sd_attempt *a, struct sd_frame_reply *r)
{
	put_error(a, r, 400, "validation_failed", "the request is not what the schema asks for", a->violations, 0);
}
