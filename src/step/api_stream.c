/*
 * A reply in pieces, and server-sent events (the "text/event-stream" of the
 * HTML standard, section 9.2).
 *
 * Pieces go out while the handler runs; the end of the reply goes out after
 * the attempt's outcome was stored, so a client that saw the end can rely on
 * the effects.  An attempt that fails cuts the connection.
 */
#include "step/ctx.h"
#include "base/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NOBODY "the client has left"

/* A job of an accepted request, or another trigger: there is no client, and pieces go nowhere. */
static bool has_client(const struct sd_ctx *c)
{
	return c->a->http != NULL;
}

static bool has_header(const struct sd_http_reply *r, const char *name)
{
	for (size_t i = 0; i < r->nheaders; i++)
		if (strcmp(r->headers[i].name, name) == 0)
			return true;
	return false;
}

static int nobody(struct sd_ctx *c)
{
	c->a->client_gone = true;
	return sd_ctx_error(c, NOBODY);
}

static int refused(struct sd_ctx *c)
{
	c->reply_error = c->error;
	return -1;
}

int sd_api_stream(struct stepd_ctx *pub, int status, const char *content_type)
{
	struct sd_ctx *c = sd_ctx_of(pub);
	struct sd_attempt *a = c->a;
	const struct sd_stream_ops *ops;
	void *arg = NULL;

	if (a->streamed)
		return sd_ctx_error(c, "the reply has begun already");
	if (sd_api_check_status(c, status, true) < 0)
		return refused(c);
	if (content_type == NULL && !has_header(&a->reply, "content-type"))
		content_type = "application/octet-stream";
	if (content_type != NULL && sd_api_reply_header(pub, "content-type", content_type) < 0)
		return refused(c);
	a->reply.status = status;
	a->reply.body = NULL;
	a->reply.body_len = 0;
	a->reply.body_is_json = false;
	a->streamed = true;
	ops = has_client(c) ? sd_runner_stream(c->runner, &arg) : NULL;
	if (ops != NULL && ops->begin(arg, a) < 0)
		return nobody(c);
	return 0;
}

int sd_api_write(struct stepd_ctx *pub, const void *bytes, size_t len)
{
	struct sd_ctx *c = sd_ctx_of(pub);
	const struct sd_stream_ops *ops;
	void *arg = NULL;

	if (!c->a->streamed)
		return sd_ctx_error(c, "the reply has not begun: call stepd_stream() first");
	if (c->a->client_gone)
		return nobody(c);
	if (len == 0 || !has_client(c))
		return 0;
	if (bytes == NULL)
		return sd_ctx_error(c, "the bytes are NULL");
	if (strcmp(c->a->http->method, "HEAD") == 0)
		return nobody(c); /* it got all it wanted */
	ops = sd_runner_stream(c->runner, &arg);
	if (ops != NULL && ops->write(arg, c->a, bytes, len) < 0)
		return nobody(c);
	return 0;
}

int sd_api_print(struct stepd_ctx *pub, const char *fmt, va_list ap)
{
	char *text;
	int rc, n = vasprintf(&text, fmt, ap);

	if (n < 0)
		return sd_ctx_error(sd_ctx_of(pub), "the format can not be printed");
	rc = sd_api_write(pub, text, (size_t)n);
	free(text);
	return rc;
}

bool sd_api_client_gone(struct stepd_ctx *pub)
{
	struct sd_ctx *c = sd_ctx_of(pub);
	const struct sd_stream_ops *ops;
	void *arg = NULL;

	if (!has_client(c))
		return false;
	if (c->a->client_gone || (c->a->streamed && strcmp(c->a->http->method, "HEAD") == 0))
		return true;
	ops = sd_runner_stream(c->runner, &arg);
	return ops != NULL && ops->gone(arg, c->a);
}

bool sd_api_stopping(struct stepd_ctx *pub)
{
	return sd_runner_stopping(sd_ctx_of(pub)->runner);
}

/* ---- events ---- */

/* "name: value" for each line of value; CR, LF and CR LF end one. */
static void put_lines(struct sd_buf *b, const char *name, const char *value)
{
	for (;;) {
		size_t n = strcspn(value, "\r\n");

		sd_buf_str(b, name);
		sd_buf_append(b, value, n);
		sd_buf_chr(b, '\n');
		if (value[n] == '\0')
			return;
		value += n + (value[n] == '\r' && value[n + 1] == '\n' ? 2 : 1);
	}
}

static int put_line(struct sd_ctx *c, struct sd_buf *b, const char *name, const char *value)
{
	if (value == NULL)
		return 0;
	if (value[strcspn(value, "\r\n")] != '\0' || !sd_text_valid(value))
		return sd_ctx_error(c, "the event's %.*s has a line break or is not valid UTF-8", (int)strcspn(name, ":"), name);
	put_lines(b, name, value);
	return 0;
}

static int put_data(struct sd_ctx *c, struct sd_buf *b, const struct stepd_event_options *o)
{
	if (o->data != NULL && o->text != NULL)
		return sd_ctx_error(c, "data and .text are both given");
	if (o->text != NULL) {
		if (!sd_text_valid(o->text))
			return sd_ctx_error(c, "the event's text is not valid UTF-8");
		put_lines(b, "data: ", o->text);
	} else if (o->data != NULL) {
		sd_buf_str(b, "data: ");
		if (sd_ctx_put_json(c, b, o->data, NULL, "the event's data") < 0)
			return -1;
		sd_buf_chr(b, '\n');
	}
	return 0;
}

static int put_event(struct sd_ctx *c, struct sd_buf *b, const struct stepd_event_options *o)
{
	if (o->comment != NULL && !sd_text_valid(o->comment))
		return sd_ctx_error(c, "the comment is not valid UTF-8");
	if (o->comment != NULL)
		put_lines(b, ": ", o->comment);
	if (o->retry_ms < 0)
		return sd_ctx_error(c, "retry_ms %lld is out of range", (long long)o->retry_ms);
	if (o->retry_ms > 0)
		sd_buf_printf(b, "retry: %" PRId64 "\n", o->retry_ms);
	if (put_line(c, b, "event: ", o->event) < 0 || put_line(c, b, "id: ", o->id) < 0 || put_data(c, b, o) < 0)
		return -1;
	sd_buf_chr(b, '\n');
	return 0;
}

/* The head of an event stream, unless the handler began one of its own. */
static int begin_events(struct stepd_ctx *pub)
{
	const struct sd_http_reply *r = &sd_ctx_of(pub)->a->reply;

	if (!has_header(r, "cache-control") && sd_api_reply_header(pub, "cache-control", "no-cache") < 0)
		return -1;
	/* proxies that know it (nginx does) then pass each event on at once */
	if (!has_header(r, "x-accel-buffering") && sd_api_reply_header(pub, "x-accel-buffering", "no") < 0)
		return -1;
	return sd_api_stream(pub, 200, "text/event-stream");
}

int sd_api_event(struct stepd_ctx *pub, const struct stepd_event_options *given)
{
	struct sd_ctx *c = sd_ctx_of(pub);
	struct stepd_event_options o = {.size = 0};
	struct sd_buf b = SD_BUF_INIT;
	int rc;

	memcpy(&o, given, given->size < sizeof o ? given->size : sizeof o);
	rc = put_event(c, &b, &o);
	if (rc == 0 && !c->a->streamed)
		rc = begin_events(pub);
	if (rc == 0)
		rc = sd_api_write(pub, b.data, b.len);
	sd_buf_fini(&b);
	return rc;
}
