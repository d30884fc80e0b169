/*
 * `respond: accepted`: a request's body becomes a job, and the client hears of
 * it when that is committed.
 *
 * Group commit: what arrives while a transaction is under way goes into the next
 * one, in one statement.  So the more requests there are, the fewer commits each
 * of them costs.  There are two connections: while one commits, clients that were
 * answered send again, and these are stored by the other.  It waits until they
 * are half as many, because a statement costs as much as some fifty rows.
 *
 * A body the database refuses (a number beyond numeric's range) takes no
 * neighbour with it: those of a refused batch are tried again at most half as
 * many together, until the one that is to blame is alone.
 *
 * A connection lost after the statement was sent leaves it open whether the
 * jobs exist.  The client gets 503, and its Idempotency-Key, if it sent one,
 * makes a second try safe.
 */
#include "role/http.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "http/error.h"
#include "queue/sqlcalls.h"
#include "step/input.h"

#include <stdlib.h>
#include <string.h>

#define BATCH_MAX 512
#define BATCH_MAX_BYTES (4u * 1024 * 1024)
#define COMMIT_MS 10000
#define BYTES_PER_MS 500 /* … and more time for what is large */
#define KEY_MAX 255

/* The key as it was sent, or NULL; *ok: it may be one. */
static const char *key_of(const struct sd_exchange *x, size_t *len, bool *ok)
{
	const char *key = sd_exchange_header(x, "idempotency-key", len);

	*ok = true;
	if (!key)
		return NULL;
	if (*len == 0 || *len > KEY_MAX || sd_exchange_count(x, "idempotency-key") > 1)
		*ok = false;
	for (size_t i = 0; i < *len; i++)
		if (key[i] < 0x20 || key[i] > 0x7e)
			*ok = false;
	return key;
}

bool sd_http_accept_key(struct sd_http_flight *fl)
{
	bool ok;
	size_t len;
	const char *key = key_of(fl->x, &len, &ok);

	if (key && ok)
		fl->key = sd_arena_memdup(fl->arena, key, len);
	return ok;
}

/* --- replies --- */

static const struct sd_pair json_type = {"content-type", "application/json", 16};

/* false: it waits for the job's end. */
static bool answer(struct sd_http *h, struct sd_http_flight *fl, const PGresult *res, int row)
{
	if (!fl->x)
		return true;
	if (strcmp(PQgetvalue(res, row, 1), "mismatch") == 0) {
		sd_http_answer_error(h, fl, 422, "idempotency_key_reused", "this Idempotency-Key came before with another body");
		return true;
	}
	fl->job_id = strtoull(PQgetvalue(res, row, 0), NULL, 10);
	if (sd_http_jobs_wait(h, fl))
		return false;
	sd_http_jobs_accepted(h, fl);
	return true;
}

static void answer_all(struct sd_http *h, struct sd_http_accept_list *l, int status, const char *code, const char *message)
{
	struct sd_http_flight *fl;

	while ((fl = sd_http_list_take(l))) {
		if (fl->x)
			sd_http_answer_error(h, fl, status, code, message);
		sd_http_forget(h, fl);
	}
}

/* --- the commit --- */

/* Back to the front, in order, to be tried in smaller batches. */
static void halve(struct sd_http_accept *a, struct sd_http_batch *b)
{
	for (struct sd_http_flight *fl = b->asked.head; fl; fl = fl->accept_next)
		fl->batch_most = b->nasked / 2;
	a->nwaiting += b->nasked;
	if (b->asked.head) {
		b->asked.tail->accept_next = a->waiting.head;
		if (!a->waiting.tail)
			a->waiting.tail = b->asked.tail;
		a->waiting.head = b->asked.head;
	}
	b->asked = (struct sd_http_accept_list){NULL, NULL};
}

static void refused(struct sd_http *h, struct sd_http_batch *b, const struct sd_err *err)
{
	if (err->class == SD_ERR_TRANSIENT) {
		answer_all(h, &b->asked, 503, "database_unavailable",
			   strcmp(err->sqlstate, "08007") == 0 ? "the database went away; whether the request was stored is not known"
							       : "the database is away; nothing was stored");
	} else if (b->nasked > 1) {
		halve(&h->accept, b);
	} else if (strncmp(err->sqlstate, "22", 2) == 0) {
		answer_all(h, &b->asked, 422, "unprocessable", err->message);
	} else {
		sd_log_err(SD_LOG_ERROR, err, "storing an accepted request");
		answer_all(h, &b->asked, 500, "not_stored", "the request could not be stored");
	}
}

static void on_stored(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_http_batch *b = arg;
	struct sd_http *h = b->http;
	struct sd_http_accept *a = &h->accept;
	struct sd_http_flight *fl;

	if (!results) {
		refused(h, b, err);
	} else if ((size_t)PQntuples(results[0]) != b->nasked) {
		sd_log(SD_LOG_ERROR, "http_accept returned %d rows for %zu requests", PQntuples(results[0]), b->nasked);
		answer_all(h, &b->asked, 500, "not_stored", "the request could not be stored");
	} else {
		for (int row = 0; (fl = sd_http_list_take(&b->asked)); row++) {
			if (answer(h, fl, results[0], row))
				sd_http_forget(h, fl);
		}
	}
	b->nasked = 0;
	a->due = a->waiting.head != NULL;
}

static void put(struct sd_buf values[5], struct sd_http *h, const struct sd_http_flight *fl)
{
	const char *step = h->manifest->steps[fl->frame.step].name;

	sd_buf_pgarray(&values[0], step, strlen(step));
	sd_buf_pgarray_i64(&values[1], fl->frame.trigger);
	sd_buf_pgarray(&values[2], fl->data ? fl->data : "null", fl->data ? fl->data_len : 4);
	sd_buf_pgarray(&values[3], fl->trace_id, strlen(fl->trace_id));
	sd_buf_pgarray(&values[4], fl->key, fl->key ? strlen(fl->key) : 0);
}

/* Move what is to be stored next to asked, and its values into the arrays. */
static void collect(struct sd_http *h, struct sd_http_batch *b, struct sd_buf values[5])
{
	struct sd_http_accept *a = &h->accept;
	struct sd_http_flight *fl;
	size_t bytes = 0, most = BATCH_MAX;

	while (bytes < BATCH_MAX_BYTES && (fl = a->waiting.head)) {
		if (fl->batch_most > 0 && fl->batch_most < most)
			most = fl->batch_most;
		if (b->nasked >= most)
			break;
		sd_http_list_take(&a->waiting);
		a->nwaiting--;
		if (!fl->x) { /* nobody waits for it, and nobody was told that it is kept */
			sd_http_forget(h, fl);
			continue;
		}
		put(values, h, fl);
		sd_http_list_append(&b->asked, fl);
		bytes += fl->data_len;
		b->nasked++;
	}
}

static void commit(struct sd_http *h, struct sd_http_batch *b)
{
	struct sd_buf values[5] = {SD_BUF_INIT, SD_BUF_INIT, SD_BUF_INIT, SD_BUF_INIT, SD_BUF_INIT};
	const char *texts[5];
	const struct sd_db_call call = {&sd_sql_http_accept, texts};
	int64_t bytes = 0;

	for (int i = 0; i < 5; i++)
		sd_buf_chr(&values[i], '{');
	collect(h, b, values);
	for (int i = 0; i < 5; i++) {
		sd_buf_chr(&values[i], '}');
		texts[i] = values[i].data;
		bytes += (int64_t)values[i].len;
	}
	if (b->nasked > 0)
		sd_db_submit(b->db->db, &call, 1, 0, COMMIT_MS + bytes / BYTES_PER_MS, on_stored, b);
	for (int i = 0; i < 5; i++)
		sd_buf_fini(&values[i]);
}

void sd_http_accept_turn(struct sd_http *h)
{
	struct sd_http_accept *a = &h->accept;

	a->due = false;
	for (int i = 0; i < SD_HTTP_BATCHES && a->waiting.head; i++) {
		const struct sd_http_batch *other = &a->batches[1 - i];

		if (a->batches[i].nasked == 0 && sd_db_is_up(a->batches[i].db->db) && a->nwaiting >= other->nasked / 2)
			commit(h, &a->batches[i]);
	}
}

/* --- requests --- */

int sd_http_accept_init(struct sd_http *h, struct sd_err *err)
{
	const struct sd_manifest *m = h->manifest;

	h->accept.batches[0] = (struct sd_http_batch){.http = h, .db = &h->db};
	h->accept.batches[1] = (struct sd_http_batch){.http = h, .db = &h->second};
	h->accept.inputs = sd_arena_zalloc(h->arena, (m->nsteps + 1) * sizeof(*h->accept.inputs));
	for (size_t i = 0; i < m->nsteps; i++) {
		bool any = false;

		for (size_t j = 0; j < m->steps[i].ntriggers; j++)
			any = any || m->steps[i].triggers[j].accepted;
		if (any && !(h->accept.inputs[i] = sd_inputs_new(&m->steps[i], err)))
			return -1;
	}
	return 0;
}

bool sd_http_accepts(const struct sd_http *h)
{
	for (size_t i = 0; i < h->manifest->nsteps; i++)
		if (h->accept.inputs[i])
			return true;
	return false;
}

/* A form's texts as the schema wants them, also in what is stored. */
static void read_form(struct sd_http_flight *fl, const struct sd_input *in, cJSON *data)
{
	struct sd_buf b = SD_BUF_INIT;

	sd_schema_coerce(in->data, data);
	sd_json_print(&b, data);
	fl->data = sd_arena_memdup(fl->arena, b.data, b.len);
	fl->data_len = b.len;
	sd_buf_fini(&b);
}

/* What is no valid input is refused now, and no job. */
static bool is_valid(struct sd_http *h, struct sd_http_flight *fl)
{
	const struct sd_input *in = &h->accept.inputs[fl->frame.step][fl->frame.trigger];
	const char *violations, *error;
	struct sd_frame_reply r = {.status = 400, .headers = &json_type, .nheaders = 1};
	struct sd_buf b = SD_BUF_INIT;
	cJSON *data;
	bool ok;

	if (!in->data && !in->query)
		return true;
	data = fl->data ? cJSON_ParseWithLength(fl->data, fl->data_len) : cJSON_CreateNull();
	if (fl->frame.media == SD_MEDIA_FORM && in->data)
		read_form(fl, in, data);
	ok = sd_input_fits(in, data, &fl->frame.http, fl->arena, &violations, &error);
	cJSON_Delete(data);
	if (ok)
		return true;
	sd_error_body(&b, "validation_failed", "the request is not what the schema asks for", violations);
	r.body = b.data;
	r.body_len = b.len;
	sd_http_answer(h, fl, &r);
	sd_http_forget(h, fl);
	sd_buf_fini(&b);
	return false;
}

void sd_http_accept_add(struct sd_http *h, struct sd_http_flight *fl)
{
	fl->accepted = true;
	if (!is_valid(h, fl))
		return;
	sd_http_jobs_prefer(h, fl);
	sd_http_list_append(&h->accept.waiting, fl);
	h->accept.nwaiting++;
	h->accept.due = true;
}

void sd_http_accept_up(struct sd_http *h)
{
	h->accept.due = true;
}

void sd_http_accept_down(struct sd_http *h)
{
	answer_all(h, &h->accept.waiting, 503, "database_unavailable", "the database is away");
	h->accept.nwaiting = 0;
}

static void expire(struct sd_http *h, struct sd_http_flight *fl, const char *message)
{
	for (; fl; fl = fl->accept_next)
		if (fl->x && h->now_us >= fl->f.deadline_us)
			sd_http_answer_error(h, fl, 503, "database_unavailable", message);
}

void sd_http_accept_expire(struct sd_http *h)
{
	if (sd_http_db_away(h))
		sd_http_accept_down(h);
	expire(h, h->accept.waiting.head, "the database did not answer in time; nothing was stored");
	for (int i = 0; i < SD_HTTP_BATCHES; i++)
		expire(h, h->accept.batches[i].asked.head, "the database did not answer in time; whether the request was stored is not known");
	if (h->accept.waiting.head)
		h->accept.due = true;
}
