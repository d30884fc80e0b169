/*
 * What became of an accepted request: the address its 202 names (http.jobs),
 * and `Prefer: wait=N` (RFC 7240), with which the 202 waits for the job's end.
 *
 * Both ask the database the same question, at most one at a time and about all
 * who want to know at once.  Those who wait are asked for every POLL_US; a job
 * that is done within milliseconds is answered within tens of them.
 *
 * Nothing is remembered here: the address holds the job's number under a key of
 * the installation (http/token.h), so that every node can answer for as long as
 * the job is in the history.
 */
#include "role/http.h"

#include "base/clock.h"
#include "base/log.h"
#include "http/target.h"
#include "http/token.h"
#include "queue/sqlcalls.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_US (25 * SD_MS)
#define BATCH_MAX 512
#define ASK_MS 5000
#define MARGIN_US (200 * SD_MS) /* in front of http.timeout */

static const struct sd_pair json_type = {"content-type", "application/json", 16};

/* --- the key --- */

static void on_key(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_http *h = arg;

	if (results && PQntuples(results[0]) == 1 && !PQgetisnull(results[0], 0, 0))
		h->jobs.key_known = sd_token_key(PQgetvalue(results[0], 0, 0), h->jobs.key);
	if (!h->jobs.key_known)
		sd_log(SD_LOG_WARN, "the key of job addresses can not be read%s%s; accepted requests get none", err ? ": " : "", err ? err->message : "");
}

void sd_http_jobs_up(struct sd_http *h)
{
	const struct sd_db_call call = {&sd_sql_http_key, NULL};

	if (!h->jobs.key_known && h->child->conf->http.jobs)
		sd_db_submit(h->db.db, &call, 1, 0, ASK_MS, on_key, h);
}

const char *sd_http_jobs_token(const struct sd_http *h, const struct sd_exchange *x)
{
	const char *base = h->child->conf->http.jobs;
	size_t n = base ? strlen(base) : 0;

	if (n == 0 || x->path_len <= n + 1 || memcmp(x->path, base, n) != 0 || x->path[n] != '/' ||
	    !sd_token_shape(x->path + n + 1, x->path_len - n - 1))
		return NULL;
	return x->path + n + 1;
}

bool sd_http_jobs_read(const struct sd_http *h, const char *token, uint64_t *id)
{
	return h->jobs.key_known && sd_token_read(h->jobs.key, token, id) && *id > 0 && *id <= INT64_MAX;
}

/* --- replies --- */

/* Location, and Preference-Applied for who waited; how many. */
static size_t headers(struct sd_http *h, struct sd_http_flight *fl, struct sd_pair out[3])
{
	const char *base = h->child->conf->http.jobs;
	char token[SD_TOKEN_LEN + 1];
	size_t n = 0;

	out[n++] = json_type;
	if (base && h->jobs.key_known) {
		const char *value;

		sd_token_make(h->jobs.key, fl->job_id, token);
		value = sd_arena_printf(fl->arena, "%s/%s", base, token);
		out[n++] = (struct sd_pair){"location", value, strlen(value)};
	}
	if (fl->wait_s > 0) {
		const char *value = sd_arena_printf(fl->arena, "wait=%d", fl->wait_s);

		out[n++] = (struct sd_pair){"preference-applied", value, strlen(value)};
	}
	return n;
}

void sd_http_jobs_accepted(struct sd_http *h, struct sd_http_flight *fl)
{
	struct sd_pair out[3];
	char body[64];
	struct sd_frame_reply r = {.status = 202, .headers = out, .body = body};

	r.nheaders = headers(h, fl, out);
	r.body_len = (size_t)snprintf(body, sizeof(body), "{\"jobId\":%" PRIu64 "}", fl->job_id);
	sd_http_answer(h, fl, &r);
}

static void answer_document(struct sd_http *h, struct sd_http_flight *fl, const char *document, size_t len)
{
	static const struct sd_pair fresh = {"cache-control", "no-store", 8};
	struct sd_pair out[4];
	struct sd_frame_reply r = {.status = 200, .headers = out, .body = document, .body_len = len};

	if (fl->asks) {
		out[r.nheaders++] = json_type;
	} else {
		r.nheaders = headers(h, fl, out);
	}
	out[r.nheaders++] = fresh;
	sd_http_answer(h, fl, &r);
}

/* --- asking --- */

static bool is_over(const struct sd_http *h, const struct sd_http_flight *fl)
{
	return h->draining || h->now_us >= fl->wait_until_us;
}

/* false: it wants to be asked for again. */
static bool settle(struct sd_http *h, struct sd_http_flight *fl, const PGresult *res, int row)
{
	bool known = !PQgetisnull(res, row, 1), ended = known && strcmp(PQgetvalue(res, row, 0), "t") == 0;

	if (!fl->x)
		return true;
	if (ended || (fl->asks && known))
		answer_document(h, fl, PQgetvalue(res, row, 1), (size_t)PQgetlength(res, row, 1));
	else if (fl->asks)
		sd_http_answer_error(h, fl, 404, "not_found", "there is no such job, or no more");
	else if (is_over(h, fl))
		sd_http_jobs_accepted(h, fl);
	else
		return false;
	return true;
}

static void on_answer(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_http *h = arg;
	struct sd_http_jobs *j = &h->jobs;
	struct sd_http_flight *fl;
	bool ok = results && (size_t)PQntuples(results[0]) == j->nasked;
	bool refused = !ok && (!err || err->class != SD_ERR_TRANSIENT);

	j->busy = false;
	if (refused)
		sd_log_kv(SD_LOG_ERROR, "asking for jobs", "error", err ? err->message : "too few rows", NULL);
	for (int row = 0; (fl = sd_http_list_take(&j->asked)); row++) {
		if (ok && settle(h, fl, results[0], row)) {
			sd_http_forget(h, fl);
		} else if (!ok && fl->asks) {
			if (fl->x)
				sd_http_answer_error(h, fl, 503, "database_unavailable", "the database is away");
			sd_http_forget(h, fl);
		} else if (refused || (!ok && is_over(h, fl))) { /* its job is committed: that can be said */
			if (fl->x)
				sd_http_jobs_accepted(h, fl);
			sd_http_forget(h, fl);
		} else {
			sd_http_list_append(&j->waiting, fl);
		}
	}
}

/* Who leaves the list without the database: the client is gone, the waiting is over, the database is away. */
static bool leaves(struct sd_http *h, struct sd_http_flight *fl)
{
	if (!fl->x)
		return true;
	if (!fl->asks && is_over(h, fl) && !sd_db_is_up(h->db.db)) {
		sd_http_jobs_accepted(h, fl);
		return true;
	}
	if (fl->asks && sd_http_db_away(h)) {
		sd_http_answer_error(h, fl, 503, "database_unavailable", "the database is away");
		return true;
	}
	return false;
}

static void ask(struct sd_http *h, struct sd_buf ids, struct sd_buf waits)
{
	const char *values[] = {ids.data, waits.data, h->child->conf->http.jobs_output ? "t" : "f"};
	const struct sd_db_call call = {&sd_sql_http_jobs, values};

	h->jobs.busy = true;
	sd_db_submit(h->db.db, &call, 1, 0, ASK_MS, on_answer, h);
}

void sd_http_jobs_turn(struct sd_http *h)
{
	struct sd_http_jobs *j = &h->jobs;
	struct sd_http_accept_list all = j->waiting;
	struct sd_buf ids = SD_BUF_INIT, waits = SD_BUF_INIT;
	struct sd_http_flight *fl;

	if (j->busy || h->now_us < j->poll_us)
		return;
	j->waiting = (struct sd_http_accept_list){NULL, NULL};
	j->nasked = 0;
	sd_buf_chr(&ids, '{');
	sd_buf_chr(&waits, '{');
	while ((fl = sd_http_list_take(&all))) {
		if (leaves(h, fl)) {
			sd_http_forget(h, fl);
		} else if (!sd_db_is_up(h->db.db) || j->nasked >= BATCH_MAX) {
			sd_http_list_append(&j->waiting, fl);
		} else {
			sd_buf_pgarray_i64(&ids, (int64_t)fl->job_id);
			sd_buf_pgarray(&waits, fl->asks ? "f" : "t", 1);
			sd_http_list_append(&j->asked, fl);
			j->nasked++;
		}
	}
	sd_buf_chr(&ids, '}');
	sd_buf_chr(&waits, '}');
	j->poll_us = h->now_us + POLL_US;
	if (j->nasked > 0)
		ask(h, ids, waits);
	sd_buf_fini(&ids);
	sd_buf_fini(&waits);
}

void sd_http_jobs_ask(struct sd_http *h, struct sd_http_flight *fl)
{
	fl->accepted = fl->asks = true;
	sd_http_list_append(&h->jobs.waiting, fl);
	h->jobs.poll_us = 0;
}

/* --- Prefer: wait --- */

void sd_http_jobs_prefer(struct sd_http *h, struct sd_http_flight *fl)
{
	int64_t most = fl->f.deadline_us == INT64_MAX ? INT64_MAX : fl->f.deadline_us - MARGIN_US, until;
	int seconds = -1;

	for (size_t i = 0; seconds < 0 && i < fl->x->nheaders; i++)
		if (strcmp(fl->x->headers[i].name, "prefer") == 0)
			seconds = sd_prefer_wait(fl->x->headers[i].value, fl->x->headers[i].value_len);
	if (seconds <= 0)
		return;
	until = fl->x->began_us + seconds * SD_SEC;
	fl->wait_s = seconds;
	fl->wait_until_us = until < most ? until : most;
	if (until > most)
		fl->wait_s = (int)(h->child->conf->http.timeout_ms / 1000);
	if (fl->wait_s == 0)
		fl->wait_until_us = 0;
}

bool sd_http_jobs_wait(struct sd_http *h, struct sd_http_flight *fl)
{
	if (fl->wait_until_us == 0 || is_over(h, fl))
		return false;
	sd_http_list_append(&h->jobs.waiting, fl);
	if (h->jobs.poll_us < h->now_us)
		h->jobs.poll_us = h->now_us + POLL_US / 5;
	return true;
}
