/*
 * A request's way from its client to the dispatcher, and back.
 *
 * All that can be refused is refused here, before a worker hears of it: paths,
 * methods, queries, bodies that are not what the route takes, too many
 * requests at once, a database that is away.
 */
#include "role/http.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/uuid.h"
#include "http/error.h"
#include "http/form.h"
#include "http/target.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_SPARE 256
#define MAX_SPARE_ARENA (64 * 1024)
#define OWN_HEADERS (2 + SD_HTTP_CORS_HEADERS) /* at most */

static uint64_t next_random(struct sd_http *h)
{
	uint64_t a = h->random[0], b = h->random[1]; /* xorshift128+: span and error ids need to differ, not to be secret */

	h->random[0] = b;
	a ^= a << 23;
	h->random[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
	return h->random[1] + b;
}

static void random_uuid(struct sd_http *h, char out[37])
{
	const uint64_t v[2] = {next_random(h), next_random(h)};

	sd_uuid_v4_of(v, out);
}

static struct sd_http_flight *take_flight(struct sd_http *h)
{
	struct sd_http_flight *fl = h->spare;
	struct sd_arena *arena;

	if (fl) {
		h->spare = fl->spare_next;
		h->nspare--;
		arena = fl->arena;
	} else {
		fl = sd_xmalloc(sizeof(*fl));
		arena = sd_arena_new();
	}
	memset(fl, 0, sizeof(*fl));
	fl->arena = arena;
	return fl;
}

static void put_flight(struct sd_http *h, struct sd_http_flight *fl)
{
	if (h->nspare >= MAX_SPARE || sd_arena_size(fl->arena) > MAX_SPARE_ARENA) {
		sd_arena_free(fl->arena);
		free(fl);
		return;
	}
	sd_arena_reset(fl->arena);
	fl->spare_next = h->spare;
	h->spare = fl;
	h->nspare++;
}

void sd_http_forget(struct sd_http *h, struct sd_http_flight *fl)
{
	if (!fl->accepted)
		sd_dispatch_remove(&h->dispatch, &fl->f);
	put_flight(h, fl);
}

/* --- replies --- */

/* What every reply has beside what its maker puts there; how many. */
static size_t own_headers(struct sd_http *h, const struct sd_http_flight *fl, const char *allow, char parent[56],
			  struct sd_pair out[OWN_HEADERS])
{
	sd_traceparent_format(fl->trace_id, next_random(h), parent);
	out[0] = (struct sd_pair){"x-trace-id", fl->trace_id, strlen(fl->trace_id)};
	out[1] = (struct sd_pair){"traceparent", parent, strlen(parent)};
	return 2 + sd_http_cors(h, fl->x, allow, out + 2);
}

/* Refuse a request that is in no list yet; Allow for 405 and OPTIONS. */
static void refuse(struct sd_http *h, struct sd_http_flight *fl, int status, const char *code, const char *message, const char *detail,
		   const char *allow)
{
	struct sd_pair headers[OWN_HEADERS + 1];
	char parent[56];
	size_t n = own_headers(h, fl, status == 204 ? allow : NULL, parent, headers);

	if (allow)
		headers[n++] = (struct sd_pair){"allow", allow, strlen(allow)};
	if (status == 204)
		sd_exchange_reply(fl->x, status, headers, n, "", 0);
	else
		sd_error_reply_with(fl->x, status, code, message, detail, headers, n);
	put_flight(h, fl);
}

struct sd_exchange *sd_http_detach(struct sd_http *h, struct sd_http_flight *fl)
{
	struct sd_exchange *x = fl->x;

	fl->x = NULL;
	h->in_flight--;
	return x;
}

size_t sd_http_headers(struct sd_http *h, struct sd_http_flight *fl, const struct sd_frame_reply *r, struct sd_pair **headers)
{
	char *parent = sd_arena_alloc(fl->arena, 56);
	size_t n;

	*headers = sd_arena_alloc(fl->arena, (r->nheaders + OWN_HEADERS) * sizeof(**headers));
	n = own_headers(h, fl, NULL, parent, *headers);
	if (r->nheaders)
		memcpy(*headers + n, r->headers, r->nheaders * sizeof(**headers));
	return n + r->nheaders;
}

void sd_http_answer(struct sd_http *h, struct sd_http_flight *fl, const struct sd_frame_reply *r)
{
	struct sd_pair *headers;
	size_t n = sd_http_headers(h, fl, r, &headers);

	sd_exchange_reply(sd_http_detach(h, fl), (int)r->status, headers, n, r->body, r->body_len);
}

void sd_http_answer_error(struct sd_http *h, struct sd_http_flight *fl, int status, const char *code, const char *message)
{
	struct sd_pair headers[OWN_HEADERS];
	char parent[56];
	size_t n;

	if (fl->streaming) { /* too late for a status */
		sd_exchange_cut(sd_http_detach(h, fl));
		return;
	}
	n = own_headers(h, fl, NULL, parent, headers);
	sd_error_reply_with(sd_http_detach(h, fl), status, code, message, NULL, headers, n);
}

void sd_http_answer_failed(struct sd_http *h, struct sd_http_flight *fl, int status, const char *code, const char *message)
{
	struct sd_pair type = {"content-type", "application/json", 16};
	struct sd_frame_reply r = {.status = (uint32_t)status, .headers = &type, .nheaders = 1};
	struct sd_buf b = SD_BUF_INIT;
	char details[64];

	sd_log_kv(SD_LOG_ERROR, message, "step", h->manifest->steps[fl->frame.step].name, "code", code, "error_id", fl->error_id, "trace",
		  fl->trace_id, NULL);
	if (fl->streaming) {
		sd_exchange_cut(sd_http_detach(h, fl));
		return;
	}
	snprintf(details, sizeof(details), "{\"errorId\":\"%s\"}", fl->error_id);
	sd_error_body(&b, code, message, details);
	r.body = b.data;
	r.body_len = b.len;
	sd_http_answer(h, fl, &r);
	sd_buf_fini(&b);
}

void sd_http_gone(struct sd_http *h, struct sd_exchange *x)
{
	struct sd_http_flight *fl = x->data;

	if (!fl) {
		sd_http_metrics_gone(h, x);
		return;
	}
	sd_http_detach(h, fl);
	if (fl->f.backend)
		sd_http_tell_gone(fl);
	else if (!fl->accepted)
		sd_http_forget(h, fl);
}

/* --- requests --- */

static void set_trace(struct sd_http_flight *fl)
{
	size_t len;
	const char *parent = sd_exchange_header(fl->x, "traceparent", &len);

	if (!parent || !sd_traceparent_parse(parent, len, fl->trace_id))
		sd_uuid_v7(fl->trace_id); /* in the order of time: so are the rows that an index of them is made of */
}

/* false: refused. */
static bool set_route(struct sd_http *h, struct sd_http_flight *fl)
{
	struct sd_route_match *m = sd_arena_alloc(fl->arena, sizeof(*m));
	struct sd_exchange *x = fl->x;

	switch (sd_router_match(h->router, x->method, x->path, x->path_len, fl->arena, m)) {
	case SD_ROUTE_FOUND:
		fl->frame.step = (uint32_t)m->step;
		fl->frame.trigger = (uint32_t)m->trigger;
		fl->frame.http.path = m->path;
		fl->frame.http.params = m->params;
		fl->frame.http.nparams = m->nparams;
		return true;
	case SD_ROUTE_BAD_PATH:
		refuse(h, fl, 400, "bad_path", "the path has a broken percent-encoding or is not UTF-8", NULL, NULL);
		return false;
	case SD_ROUTE_WRONG_METHOD:
		refuse(h, fl, 405, "method_not_allowed", "this path does not take this method", NULL, m->allow);
		return false;
	case SD_ROUTE_OPTIONS:
		refuse(h, fl, 204, NULL, NULL, NULL, m->allow);
		return false;
	case SD_ROUTE_NOT_FOUND:
		break;
	}
	if (strcmp(x->method, "OPTIONS") == 0 && x->path_len == 1 && x->path[0] == '*')
		refuse(h, fl, 204, NULL, NULL, NULL, NULL);
	else
		refuse(h, fl, 404, "not_found", "no step serves this path", NULL, NULL);
	return false;
}

static bool set_query(struct sd_http *h, struct sd_http_flight *fl)
{
	struct sd_http_request *q = &fl->frame.http;
	struct sd_err err;

	if (sd_pairs_parse("query", fl->x->query, fl->x->query_len, fl->arena, &q->query, &q->nquery, &err) == 0)
		return true;
	refuse(h, fl, 400, "bad_query", err.message, NULL, NULL);
	return false;
}

/* Check the body; what it becomes, which may be several times as large, is kept only if we are who needs it. */
static int read_body(struct sd_http_flight *fl, enum sd_media media, bool keep, struct sd_err *err)
{
	struct sd_arena *arena = keep ? fl->arena : sd_arena_new();
	int rc = sd_body_json(media, fl->x->body, fl->x->body_len, arena, &fl->data, &fl->data_len, err);

	if (!keep) {
		fl->data = NULL;
		sd_arena_free(arena);
	}
	return rc;
}

/*
 * A route with a body schema, or whose body becomes a job, takes what becomes JSON only (no Content-Type counts as JSON
 * there).  Other routes take anything; but what says it is JSON, a form or text must be.
 */
/* What the body is, by its fields; compressed, or said to be two things, it is left to the handler as bytes. */
static enum sd_media media_of(const struct sd_exchange *x)
{
	size_t type_len = 0, encoding_len = 0;
	const char *type = sd_exchange_header(x, "content-type", &type_len);
	const char *encoding = sd_exchange_header(x, "content-encoding", &encoding_len);

	if (encoding && encoding_len > 0 && !(encoding_len == 8 && strncasecmp(encoding, "identity", 8) == 0))
		return SD_MEDIA_OTHER;
	return sd_exchange_count(x, "content-type") > 1 ? SD_MEDIA_OTHER : sd_media_of(type, type_len);
}

static bool set_body(struct sd_http *h, struct sd_http_flight *fl, const struct sd_mf_trigger *t)
{
	static const char *const codes[] = {
		[SD_MEDIA_JSON] = "invalid_json", [SD_MEDIA_FORM] = "invalid_form", [SD_MEDIA_TEXT] = "invalid_text"};
	struct sd_exchange *x = fl->x;
	enum sd_media media = media_of(x);
	bool data_only = t->schema || t->accepted;
	struct sd_err err;

	fl->frame.http.raw_body = x->body;
	fl->frame.http.raw_body_len = x->body_len;
	fl->frame.media = SD_MEDIA_OTHER;
	if (x->body_len == 0)
		return true;
	if (data_only && media == SD_MEDIA_OTHER) {
		refuse(h, fl, 415, "unsupported_media_type",
		       "this route takes application/json, application/x-www-form-urlencoded and text, all in UTF-8 and not compressed", NULL, NULL);
		return false;
	}
	if (media == SD_MEDIA_NONE)
		media = data_only ? SD_MEDIA_JSON : SD_MEDIA_OTHER;
	if (media == SD_MEDIA_OTHER)
		return true;
	sd_err_clear(&err);
	if (read_body(fl, media, t->accepted || media == SD_MEDIA_JSON, &err) != 0) {
		refuse(h, fl, 400, codes[media], err.message, err.detail, NULL);
		return false;
	}
	fl->frame.media = media;
	return true;
}

static bool has_room(struct sd_http *h, struct sd_http_flight *fl, bool own_db)
{
	if (own_db ? sd_http_db_away(h) : sd_http_database_away(h)) {
		refuse(h, fl, 503, "database_unavailable", "the database is away", NULL, NULL);
		return false;
	}
	if (h->in_flight >= (size_t)h->child->conf->http.max_in_flight) {
		refuse(h, fl, 503, "saturated", "too many requests are under way", NULL, NULL);
		return false;
	}
	return true;
}

static void set_deadline(struct sd_http_flight *fl, int64_t timeout_ms)
{
	fl->f.deadline_us = timeout_ms > 0 ? fl->x->began_us + timeout_ms * SD_MS : INT64_MAX;
}

static void ask_for_job(struct sd_http *h, struct sd_http_flight *fl, const char *token)
{
	static const char allow[] = "GET, HEAD, OPTIONS";
	const char *method = fl->x->method;

	if (strcmp(method, "OPTIONS") == 0) {
		refuse(h, fl, 204, NULL, NULL, NULL, allow);
	} else if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
		refuse(h, fl, 405, "method_not_allowed", "a job's status can be read only", NULL, allow);
	} else if (has_room(h, fl, true)) {
		if (!sd_http_jobs_read(h, token, &fl->job_id)) {
			refuse(h, fl, 404, "not_found", "there is no such job, or no more", NULL, NULL);
			return;
		}
		set_deadline(fl, h->child->conf->http.timeout_ms);
		h->in_flight++;
		sd_http_jobs_ask(h, fl);
	}
}

void sd_http_request(struct sd_http *h, struct sd_exchange *x)
{
	const struct sd_mf_trigger *t;
	struct sd_http_flight *fl;
	const char *token;

	if (x->listener == SD_LISTENER_ADMIN) {
		sd_http_admin(h, x);
		return;
	}
	fl = take_flight(h);
	fl->x = x;
	x->data = fl;
	set_trace(fl);
	token = sd_http_jobs_token(h, x);
	if (token) {
		ask_for_job(h, fl, token);
		return;
	}
	if (!set_route(h, fl))
		return;
	t = &h->manifest->steps[fl->frame.step].triggers[fl->frame.trigger];
	if (!set_query(h, fl) || !set_body(h, fl, t) || !has_room(h, fl, t->accepted))
		return;
	if (t->accepted && !sd_http_accept_key(fl)) {
		refuse(h, fl, 400, "bad_idempotency_key", "Idempotency-Key is one field of 1 to 255 printable ASCII characters", NULL, NULL);
		return;
	}
	random_uuid(h, fl->error_id);
	fl->frame.trace_id = fl->trace_id;
	fl->frame.error_id = fl->error_id;
	fl->frame.http.method = x->method;
	fl->frame.http.remote = x->remote;
	fl->frame.http.headers = (struct sd_pair *)x->headers;
	fl->frame.http.nheaders = x->nheaders;
	fl->f.step = fl->frame.step;
	set_deadline(fl, t->timeout_ms > 0 ? t->timeout_ms : h->child->conf->http.timeout_ms);
	h->in_flight++;
	if (t->accepted) {
		sd_http_accept_add(h, fl);
		return;
	}
	sd_dispatch_add(&h->dispatch, &fl->f);
	h->dispatch_due = true;
}

/* --- time --- */

static void expire_waiting(struct sd_http *h, bool away)
{
	for (struct sd_flight *f = h->dispatch.waiting.head, *next; f; f = next) {
		struct sd_http_flight *fl = (struct sd_http_flight *)f;

		next = f->next;
		if (away)
			sd_http_answer_error(h, fl, 503, "database_unavailable", "the database is away");
		else if (h->now_us >= f->deadline_us)
			sd_http_answer_error(h, fl, 503, "saturated", "no worker was free in time; the request was not begun");
		else
			continue;
		sd_http_forget(h, fl);
	}
}

void sd_http_expire(struct sd_http *h)
{
	expire_waiting(h, sd_http_database_away(h));
	for (struct sd_http_worker *w = h->workers; w; w = w->next) {
		for (struct sd_flight *f = w->b.flights.head; f; f = f->next) {
			struct sd_http_flight *fl = (struct sd_http_flight *)f;

			if (fl->x && h->now_us >= f->deadline_us)
				sd_http_answer_failed(h, fl, 504, "timeout", "the handler did not finish in time");
		}
	}
}
