/*
 * What a web worker's attempt left behind is stored before its client hears of
 * it.  An attempt without effects that went well needs no database at all.
 *
 * Attempts that end while a transaction is under way wait and go together in
 * the next one.  When it fails:
 *   - surely not stored, and worth another try: tried again until the
 *     request's time is over, then 503;
 *   - lost with the connection, so that nobody knows whether it was stored:
 *     503, never a second try, because a second try might store it twice;
 *   - refused: the attempts of the batch are stored one by one; the refused one
 *     becomes a handler error, which is recorded without its effects.
 */
#include "role/web.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/uuid.h"
#include "queue/finish.h"
#include "queue/sqlcalls.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RETRY_SECONDS 0.05
#define MARGIN_US (200 * SD_MS) /* the 503 is to arrive before the http process answers 504 */
#define MAX_WAIT_MS 10000

static bool has_effects(const struct sd_attempt *a)
{
	return a->nenqueues > 0 || a->nstates > 0 || a->nlogs > 0;
}

static void reply_unavailable(struct sd_web *w, struct sd_attempt *a, const char *message)
{
	struct sd_frame_reply r;

	sd_reply_error(a, &r, 503, "database_unavailable", message, NULL, 1);
	sd_web_reply(w, a, &r);
}

/* The outcome is settled: tell the client. */
static void reply(struct sd_web *w, struct sd_attempt *a)
{
	struct sd_web_call *c = sd_web_call_of(a);
	struct sd_frame_reply r;

	if (a->outcome == SD_OUTCOME_COMPLETED)
		sd_reply_of(a, &r);
	else if (a->outcome == SD_OUTCOME_SNOOZE)
		sd_reply_error(a, &r, 503, "not_now", "the handler asks to try again later", NULL, a->delay_ms / 1000 + 1);
	else if (c->database_failed)
		sd_reply_error(a, &r, 503, "database_unavailable", "the database is away", c->error_id, 1);
	else
		sd_reply_error(a, &r, 500, "handler_error", "the handler failed", c->error_id, 0);
	sd_web_reply(w, a, &r);
}

/* Give an error its id: in the log, in stepd.jobs, and in the reply. */
static void name_error(struct sd_attempt *a)
{
	struct sd_web_call *c = sd_web_call_of(a);
	const char *message = a->error ? a->error : "no message";

	sd_uuid_v4(c->error_id);
	sd_log_kv(SD_LOG_ERROR, "handler failed", "step", a->queue, "error", message, "error_id", c->error_id, "trace", a->trace_id, NULL);
	a->error = sd_arena_printf(a->arena, "%s (error id %s)", message, c->error_id);
}

void sd_web_finished(struct sd_web *w, struct sd_attempt *a)
{
	bool failed = a->outcome != SD_OUTCOME_COMPLETED && a->outcome != SD_OUTCOME_SNOOZE;

	if (failed)
		name_error(a);
	if (!failed && !has_effects(a)) {
		reply(w, a);
		return;
	}
	sd_web_list_push(&w->unsent, a);
}

/* --- the call --- */

/* The text of one stepd.http_finish call. */
struct finish {
	char node[16], pid[16], trigger[16], age[24], duration[24];
	struct sd_buf effects;
	const char *values[12];
};

static void build(struct finish *f, const struct sd_web *w, const struct sd_attempt *a)
{
	bool good = a->outcome == SD_OUTCOME_COMPLETED;

	snprintf(f->node, sizeof(f->node), "%d", atomic_load(&w->child->scoreboard->node_id));
	snprintf(f->pid, sizeof(f->pid), "%d", (int)getpid());
	snprintf(f->trigger, sizeof(f->trigger), "%d", a->trigger_index);
	snprintf(f->age, sizeof(f->age), "%" PRId64, sd_now_us() - a->started_us);
	snprintf(f->duration, sizeof(f->duration), "%" PRId64, a->finished_us - a->started_us);
	if (has_effects(a)) {
		sd_buf_chr(&f->effects, '[');
		sd_finish_effects(&f->effects, 0, &a->enqueues, &a->states, &a->logs);
		sd_buf_chr(&f->effects, ']');
	}
	const char *values[12] = {f->node,  f->pid,	 a->queue, f->trigger,		   a->trace_id, good ? "completed" : "error",
				  f->age,   f->duration, a->input, good ? a->output : NULL, a->error,	f->effects.data};
	memcpy(f->values, values, sizeof(values));
}

static void retry_later(struct sd_web *w)
{
	if (ev_is_active(&w->retry_timer))
		return;
	ev_timer_set(&w->retry_timer, RETRY_SECONDS, 0.);
	ev_timer_start(w->loop, &w->retry_timer);
}

/* Put what was being stored back in front of the rest, in order. */
static void put_back(struct sd_web *w)
{
	struct sd_web_list later = w->unsent;
	struct sd_attempt *a;

	sd_web_list_init(&w->unsent);
	while ((a = sd_web_list_pop(&w->sending)))
		sd_web_list_push(&w->unsent, a);
	if (later.head) {
		*w->unsent.tail = later.head;
		w->unsent.tail = later.tail;
		w->unsent.n += later.n;
	}
}

static void stored(struct sd_web *w)
{
	struct sd_attempt *a;

	while ((a = sd_web_list_pop(&w->sending))) {
		if (w->one_by_one > 0)
			w->one_by_one--;
		reply(w, a);
	}
}

static void unknown(struct sd_web *w)
{
	struct sd_attempt *a;

	while ((a = sd_web_list_pop(&w->sending)))
		reply_unavailable(w, a, "the database went away; whether the request's effects were stored is not known");
}

static void turn_into_error(struct sd_attempt *a, const struct sd_err *err)
{
	a->effects_refused = true;
	a->outcome = SD_OUTCOME_ERROR;
	a->error = sd_arena_printf(a->arena, "the database refused the effects: %s%s%s%s%s", err->message, err->detail[0] ? ": " : "",
				   err->detail, err->sqlstate[0] ? " SQLSTATE " : "", err->sqlstate);
	a->nenqueues = a->nstates = a->nlogs = 0;
	sd_buf_reset(&a->enqueues);
	sd_buf_reset(&a->states);
	sd_buf_reset(&a->logs);
	name_error(a);
}

static void refused(struct sd_web *w, const struct sd_err *err)
{
	struct sd_attempt *a = w->sending.head;

	if (w->sending.n > 1) {
		w->one_by_one = w->sending.n;
		put_back(w);
	} else if (!a->effects_refused) {
		turn_into_error(a, err);
		put_back(w);
	} else { /* not even the plain record: the client is told, the log has it */
		sd_log_err(SD_LOG_ERROR, err, "recording a failed request");
		stored(w);
	}
}

static void on_stored(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_web *w = arg;

	w->storing = false;
	if (results)
		stored(w);
	else if (err->class != SD_ERR_TRANSIENT)
		refused(w, err);
	else if (strcmp(err->sqlstate, "08007") == 0)
		unknown(w);
	else {
		put_back(w);
		retry_later(w);
	}
	sd_web_store(w);
	sd_web_settle(w);
}

/* Those whose time is over get their 503 now. */
static void expire(struct sd_web *w)
{
	struct sd_web_list all = w->unsent;
	int64_t now = sd_now_us();

	sd_web_list_init(&w->unsent);
	for (struct sd_attempt *a = all.head, *next; a; a = next) {
		next = a->next;
		a->next = NULL;
		if (now < sd_web_call_of(a)->deadline_us - MARGIN_US)
			sd_web_list_push(&w->unsent, a);
		else
			reply_unavailable(w, a, "the database did not answer in time; nothing was stored");
	}
}

/* Move the next batch into sending; how long it may take, in ms. */
static int64_t collect(struct sd_web *w)
{
	size_t max = w->one_by_one > 0 ? 1 : SD_WEB_BATCH;
	int64_t until = INT64_MAX, ms;

	while (w->unsent.n > 0 && w->sending.n < max) {
		struct sd_attempt *a = sd_web_list_pop(&w->unsent);
		int64_t deadline = sd_web_call_of(a)->deadline_us;

		until = deadline < until ? deadline : until;
		sd_web_list_push(&w->sending, a);
	}
	if (until == INT64_MAX)
		return MAX_WAIT_MS;
	ms = (until - MARGIN_US - sd_now_us()) / SD_MS;
	return ms < 1 ? 1 : ms > MAX_WAIT_MS ? MAX_WAIT_MS : ms;
}

void sd_web_store(struct sd_web *w)
{
	struct finish f[SD_WEB_BATCH] = {0};
	struct sd_db_call calls[SD_WEB_BATCH];
	int64_t ms;
	size_t n = 0;

	if (w->storing || w->unsent.n == 0)
		return;
	expire(w);
	if (!sd_db_is_up(w->db) || atomic_load(&w->child->scoreboard->node_id) == 0) {
		if (w->unsent.n > 0)
			retry_later(w);
		return;
	}
	ms = collect(w);
	for (struct sd_attempt *a = w->sending.head; a; a = a->next, n++) {
		build(&f[n], w, a);
		calls[n] = (struct sd_db_call){&sd_sql_http_finish, f[n].values};
	}
	if (n == 0)
		return;
	w->storing = true;
	sd_db_submit(w->db, calls, n, 0, ms, on_stored, w);
	for (size_t i = 0; i < n; i++)
		sd_buf_fini(&f[i].effects);
}

/* --- state reads of the running handler --- */

struct question {
	struct sd_web *web;
	struct sd_ask *ask;
};

static void on_answer(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct question *q = arg;
	struct sd_ask *ask = q->ask;

	if (!results) {
		ask->failed = true;
		ask->err = *err;
		if (err->class == SD_ERR_TRANSIENT)
			sd_web_call_of(ask->attempt)->database_failed = true;
	} else if (PQntuples(results[0]) > 0 && !PQgetisnull(results[0], 0, 0)) {
		ask->json = sd_arena_memdup(ask->attempt->arena, PQgetvalue(results[0], 0, 0), (size_t)PQgetlength(results[0], 0, 0));
	}
	sd_runner_answer(q->web->runner, ask);
	free(q);
}

void sd_web_answer(struct sd_web *w, struct sd_ask *ask)
{
	static const struct sd_db_stmt *const statements[] = {
		[SD_ASK_STATE_GET] = &sd_sql_state_get,
		[SD_ASK_STATE_LIST] = &sd_sql_state_list,
		[SD_ASK_STATE_GROUPS] = &sd_sql_state_groups,
	};
	const char *values[2] = {ask->group, ask->key};
	struct sd_db_call call = {statements[ask->kind], values};
	struct question *q = sd_xmalloc(sizeof(*q));

	*q = (struct question){w, ask};
	ask->json = NULL;
	ask->failed = false;
	sd_db_submit(w->db, &call, 1, 0, 0, on_answer, q);
}
