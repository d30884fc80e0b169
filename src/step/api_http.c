/*
 * Request and reply.  The request is shown as the http process passed it on;
 * the reply is checked so that no handler can split a response or contradict
 * the framing that the server does.
 */
#include "step/ctx.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HEADERS_MAX 128
#define HEADERS_MAX_BYTES 65536

static const struct sd_pair *pairs(const struct sd_http_request *r, int what, size_t *n)
{
	*n = 0;
	if (r == NULL)
		return NULL;
	switch (what) {
	case STEPD_HTTP_PARAM:
		*n = r->nparams;
		return r->params;
	case STEPD_HTTP_QUERY:
		*n = r->nquery;
		return r->query;
	case STEPD_HTTP_HEADER:
		*n = r->nheaders;
		return r->headers;
	default:
		return NULL;
	}
}

static const char *first(const struct sd_http_request *r, int what, const char *name, size_t *len)
{
	size_t n;
	const struct sd_pair *p = pairs(r, what, &n);

	for (size_t i = 0; name != NULL && i < n; i++) {
		bool same = what == STEPD_HTTP_HEADER ? strcasecmp(p[i].name, name) == 0 : strcmp(p[i].name, name) == 0;

		if (same) {
			*len = p[i].value_len;
			return p[i].value;
		}
	}
	return NULL;
}

const char *sd_api_http_get(struct stepd_ctx *pub, int what, const char *name, size_t *len)
{
	const struct sd_http_request *r = sd_ctx_of(pub)->a->http;
	const char *found = NULL;
	size_t n = 0;

	if (r != NULL) {
		if (what == STEPD_HTTP_METHOD)
			found = r->method;
		else if (what == STEPD_HTTP_PATH)
			found = r->path;
		else if (what == STEPD_HTTP_REMOTE)
			found = r->remote;
		else if (what == STEPD_HTTP_BODY)
			found = r->raw_body;
		else
			found = first(r, what, name, &n);
	}
	if (len != NULL)
		*len = found == NULL ? 0 : what == STEPD_HTTP_BODY ? r->raw_body_len : name != NULL ? n : strlen(found);
	return found;
}

bool sd_api_http_at(struct stepd_ctx *pub, int what, size_t index, const char **name, const char **value)
{
	size_t n;
	const struct sd_pair *p = pairs(sd_ctx_of(pub)->a->http, what, &n);

	if (index >= n)
		return false;
	*name = p[index].name;
	*value = p[index].value;
	return true;
}

int sd_api_check_status(struct sd_ctx *c, int status, bool body)
{
	if (c->a->streamed)
		return sd_ctx_error(c, "the reply has begun already");
	if (status < 200 || status > 599)
		return sd_ctx_error(c, "status %d is out of range 200…599", status);
	if (body && (status == 204 || status == 304))
		return sd_ctx_error(c, "a reply with status %d has no body", status);
	return 0;
}

static void set_body(struct sd_attempt *a, int status, const char *body, size_t len, bool json)
{
	a->reply.status = status;
	a->reply.body = body;
	a->reply.body_len = len;
	a->reply.body_is_json = json;
	a->output = json ? body : NULL;
	a->output_len = json ? len : 0;
}

static int reply_json(struct stepd_ctx *pub, int status, const cJSON *body)
{
	struct sd_ctx *c = sd_ctx_of(pub);
	struct sd_buf b = SD_BUF_INIT;

	if (sd_api_check_status(c, status, body != NULL) < 0)
		return -1;
	if (body == NULL) {
		set_body(c->a, status, NULL, 0, false);
		return 0;
	}
	if (sd_ctx_put_json(c, &b, body, NULL, "the body") < 0) {
		sd_buf_fini(&b);
		return -1;
	}
	set_body(c->a, status, sd_arena_memdup(c->a->arena, b.data, b.len), b.len, true);
	sd_buf_fini(&b);
	return 0;
}

static int reply_raw(struct stepd_ctx *pub, int status, const char *content_type, const void *body, size_t len)
{
	struct sd_ctx *c = sd_ctx_of(pub);

	if (body == NULL)
		len = 0;
	if (sd_api_check_status(c, status, len > 0) < 0)
		return -1;
	if (len > SD_TEXT_MAX)
		return sd_ctx_error(c, "the body is larger than 64 MiB");
	if (content_type != NULL && sd_api_reply_header(pub, "content-type", content_type) < 0)
		return -1;
	set_body(c->a, status, len > 0 ? sd_arena_memdup(c->a->arena, body, len) : NULL, len, false);
	return 0;
}

/* A handler that does not look at the result must not seem to have replied. */
static int note(struct stepd_ctx *pub, int rc)
{
	struct sd_ctx *c = sd_ctx_of(pub);

	c->reply_error = rc < 0 ? c->error : NULL;
	return rc;
}

int sd_api_reply(struct stepd_ctx *pub, int status, const cJSON *body)
{
	return note(pub, reply_json(pub, status, body));
}

int sd_api_reply_raw(struct stepd_ctx *pub, int status, const char *content_type, const void *body, size_t len)
{
	return note(pub, reply_raw(pub, status, content_type, body, len));
}

/* A token of RFC 9110, 5.6.2. */
static bool is_token(const char *s)
{
	static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~";

	return *s != '\0' && s[strspn(s, chars)] == '\0';
}

/* No control characters but the tab (RFC 9110, 5.5). */
static bool is_field_value(const char *s)
{
	for (; *s != '\0'; s++)
		if (((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7f)
			return false;
	return true;
}

static bool is_ours(const char *name)
{
	static const char *const ours[] = {"content-length", "transfer-encoding", "connection", "keep-alive",
					   "upgrade", "trailer", "te", "date", "server", "proxy-connection"};

	for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
		if (strcasecmp(name, ours[i]) == 0)
			return true;
	return false;
}

/* Where the header goes: a content type replaces the one before, others are repeated. */
static struct sd_pair *place(struct sd_attempt *a, const char *name)
{
	struct sd_http_reply *r = &a->reply;

	if (strcmp(name, "content-type") == 0)
		for (size_t i = 0; i < r->nheaders; i++)
			if (strcmp(r->headers[i].name, name) == 0)
				return &r->headers[i];
	if (r->nheaders == r->cap_headers) {
		size_t cap = r->cap_headers > 0 ? r->cap_headers * 2 : 8;
		struct sd_pair *grown = sd_arena_alloc(a->arena, cap * sizeof *grown);

		if (r->nheaders > 0)
			memcpy(grown, r->headers, r->nheaders * sizeof *grown);
		r->headers = grown;
		r->cap_headers = cap;
	}
	return &r->headers[r->nheaders++];
}

static size_t headers_size(const struct sd_http_reply *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->nheaders; i++)
		n += strlen(r->headers[i].name) + r->headers[i].value_len;
	return n;
}

int sd_api_reply_header(struct stepd_ctx *pub, const char *name, const char *value)
{
	struct sd_ctx *c = sd_ctx_of(pub);
	struct sd_pair *p;
	char *lower;

	if (c->a->streamed)
		return sd_ctx_error(c, "header \"%.100s\" comes too late: the reply has begun", name != NULL ? name : "");
	if (name == NULL || value == NULL || !is_token(name))
		return sd_ctx_error(c, "\"%.100s\" is not the name of a header", name != NULL ? name : "");
	if (is_ours(name))
		return sd_ctx_error(c, "header \"%s\" is set by stepd", name);
	if (strnlen(name, 257) > 256 || strnlen(value, 8193) > 8192)
		return sd_ctx_error(c, "header \"%.100s\" is too long", name);
	if (!is_field_value(value))
		return sd_ctx_error(c, "the value of header \"%s\" has a control character", name);
	if (c->a->reply.nheaders >= HEADERS_MAX)
		return sd_ctx_error(c, "more than %d headers", HEADERS_MAX);
	if (headers_size(&c->a->reply) + strlen(name) + strlen(value) > HEADERS_MAX_BYTES)
		return sd_ctx_error(c, "the headers are larger than %d bytes", HEADERS_MAX_BYTES);
	lower = sd_arena_strdup(c->a->arena, name);
	for (char *p0 = lower; *p0 != '\0'; p0++)
		*p0 += *p0 >= 'A' && *p0 <= 'Z' ? 'a' - 'A' : 0; /* a handler may have set a locale with other ideas */
	p = place(c->a, lower);
	p->name = lower;
	p->value = sd_arena_strdup(c->a->arena, value);
	p->value_len = strlen(value);
	return 0;
}
