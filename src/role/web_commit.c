/*
 * What a web worker's attempt left behind is stored before its client hears of
 * it, and before the next handler starts.  An attempt without effects that went
 * well needs no database at all.
 *
 * When storing fails:
 *   - surely not stored, and worth another try: tried again until the
 *     request's time is over, then 503;
 *   - lost with the connection, so that nobody knows whether it was stored:
 *     503, never a second try, because a second try might store it twice;
 *   - refused: it becomes a handler error, which is recorded without effects
 *     (role/refused.h).
 */
#include "role/web.h"

#include "base/clock.h"
#include "base/log.h"
#include "db/number.h"
#include "queue/finish.h"
#include "queue/sqlcalls.h"
#include "role/ask.h"
#include "role/refused.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORD_MS 1000
#define RETRY_SECONDS 0.05
#define MARGIN_US (200 * SD_MS) /* the 503 is to arrive before the http process answers 504 */
#define MAX_WAIT_MS 30000

static bool has_effects(const struct sd_attempt *a)
{
	return a->nenqueues > 0 || a->nstates > 0 || a->nlogs > 0;
}

/* --- replies; either thread --- */

/* The reply to an outcome that is settled. */
static void reply(struct sd_web *w, const struct sd_attempt *a)
{
	const struct sd_web_call *c = sd_web_call_of(a);
	struct sd_frame_reply r;

	if (a->streamed) {
		sd_web_end(w, a, a->outcome == SD_OUTCOME_COMPLETED);
		return;
	}
	if (a->outcome == SD_OUTCOME_COMPLETED)
		sd_reply_of(a, &r);
	else if (a->outcome == SD_OUTCOME_SNOOZE)
		sd_reply_error(a, &r, 503, "not_now", "the handler asks to try again later", NULL, a->delay_ms / 1000 + 1);
	else if (a->outcome == SD_OUTCOME_INVALID_INPUT)
		sd_reply_invalid(a, &r);
	else if (c->database_failed)
		sd_reply_error(a, &r, 503, "database_unavailable", "the database is away", c->error_id, 1);
	else
		sd_reply_error(a, &r, 500, "handler_error", "the handler failed", c->error_id, 0);
	r.handler_us = sd_now_us() - a->started_us; /* the time it kept the worker */
	sd_web_reply(w, a, &r);
}

static bool failed(const struct sd_attempt *a)
{
	return a->outcome == SD_OUTCOME_ERROR || a->outcome == SD_OUTCOME_FAIL;
}

bool sd_web_ended(void *arg, struct sd_attempt *a)
{
	const struct sd_web *w = arg;
	bool ran = a->outcome == SD_OUTCOME_COMPLETED || a->outcome == SD_OUTCOME_CANCELLED;

	if (failed(a) || has_effects(a) || (w->child->conf->http.history == SD_HTTP_HISTORY_ALL && ran))
		return false;
	reply(arg, a);
	sd_web_call_of(a)->replied = true;
	return true;
}

/* --- storing --- */

/* Give an error its id: in the log, in stepd.jobs, and in the reply. */
static void name_error(struct sd_attempt *a)
{
	struct sd_web_call *c = sd_web_call_of(a);
	const char *message = a->error ? a->error : "no message";
	bool named = c->error_id != NULL && strstr(message, c->error_id) != NULL; /* what the handler had said is in it */

	c->error_id = c->frame.error_id;
	sd_log_kv(SD_LOG_ERROR, "handler failed", "step", a->queue, "error", message, "error_id", c->error_id, "trace", a->trace_id, NULL);
	if (!named)
		a->error = sd_arena_printf(a->arena, "%s (error id %s)", message, c->error_id);
}

static void go_on(struct sd_web *w)
{
	struct sd_attempt *a = w->storing;

	w->storing = NULL;
	sd_web_forget(w, a);
	sd_runner_resume(w->runner);
	sd_web_settle(w);
}

static void give_up(struct sd_web *w, const char *message)
{
	struct sd_frame_reply r;

	if (w->storing->streamed) {
		sd_web_end(w, w->storing, false);
	} else {
		sd_reply_error(w->storing, &r, 503, "database_unavailable", message, NULL, 1);
		sd_web_reply(w, w->storing, &r);
	}
	go_on(w);
}

static void stored(struct sd_web *w)
{
	reply(w, w->storing);
	go_on(w);
}

static void retry_later(struct sd_web *w)
{
	ev_timer_stop(w->loop, &w->retry_timer);
	ev_timer_set(&w->retry_timer, RETRY_SECONDS, 0.);
	ev_timer_start(w->loop, &w->retry_timer);
}

static void on_stored(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_web *w = arg;

	w->asked = false;
	if (results) {
		stored(w);
	} else if (strcmp(w->storing->input, "null") != 0 && strncmp(err->message, "input: ", 7) == 0) { /* a number too large for it, say: no fault of the handler's */
		sd_log_err(SD_LOG_WARN, err, "the database does not take the body of a request, which is recorded without");
		w->storing->input = "null";
		sd_web_store(w);
	} else if (err->class != SD_ERR_TRANSIENT && sd_refused(w->storing, err)) {
		name_error(w->storing);
		sd_web_store(w);
	} else if (err->class != SD_ERR_TRANSIENT) { /* not even the plain record: the client is told, the log has it */
		sd_log_err(SD_LOG_ERROR, err, "recording a failed request");
		stored(w);
	} else if (strcmp(err->sqlstate, "08007") == 0) {
		give_up(w, "the database went away; whether the request's effects were stored is not known");
	} else {
		retry_later(w);
	}
}

static const char *outcome_name(const struct sd_attempt *a)
{
	switch (a->outcome) {
	case SD_OUTCOME_COMPLETED:
	case SD_OUTCOME_SNOOZE: /* it left effects and asked its client to come again: nothing of it is open */
		return "completed";
	case SD_OUTCOME_FAIL:
		return "fail";
	case SD_OUTCOME_CANCELLED: /* its client left in the middle of the reply */
		return "cancelled";
	default:
		return "error";
	}
}

static void submit_outcome(struct sd_web *w, const struct sd_attempt *a, int64_t ms)
{
	struct sd_buf effects = SD_BUF_INIT;
	struct sd_db_numbers b = {0};

	if (has_effects(a)) {
		sd_buf_chr(&effects, '[');
		sd_finish_effects(&effects, 0, &a->enqueues, &a->states, &a->logs, NULL);
		sd_buf_chr(&effects, ']');
	}
	const char *values[] = {
		sd_db_number(&b, atomic_load(&w->child->scoreboard->node_id)), sd_db_number(&b, getpid()), a->queue,
		sd_db_number(&b, a->trigger_index), a->trace_id, outcome_name(a), sd_db_number(&b, sd_now_us() - a->started_us),
		sd_db_number(&b, a->finished_us - a->started_us), a->input, a->output, a->error, effects.data,
	};
	const struct sd_db_call call = {&sd_sql_http_finish, values};

	w->asked = true;
	sd_db_submit(w->db, &call, 1, 0, ms, on_stored, w);
	sd_buf_fini(&effects);
}

void sd_web_store(struct sd_web *w)
{
	int64_t deadline, ms = MAX_WAIT_MS;

	if (!w->storing || w->asked)
		return;
	deadline = sd_web_call_of(w->storing)->deadline_us;
	if (deadline != INT64_MAX) {
		int64_t left = (deadline - MARGIN_US - sd_now_us()) / SD_MS;

		if (left <= 0) {
			give_up(w, "the database did not answer in time; nothing was stored");
			return;
		}
		ms = left < ms ? left : ms;
	}
	if (sd_db_is_up(w->db) && atomic_load(&w->child->scoreboard->node_id) > 0)
		submit_outcome(w, w->storing, ms);
	else
		retry_later(w);
}

static void on_recorded(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_web *w = arg;

	w->asked = false;
	w->unrecorded = !results; /* as far as we know: the http process does it again, which does nothing if it was recorded */
	if (!results)
		sd_log_err(SD_LOG_WARN, err, "recording a request that timed out");
	sd_web_settle(w);
}

/* Its handler still runs: only what it was given is read here. */
void sd_web_timed_out(struct sd_web *w, const struct sd_attempt *a, const char *why)
{
	int64_t ran_us = sd_now_us() - a->started_us;
	struct sd_db_numbers b = {0};
	char error[64];

	if (!sd_db_is_up(w->db) || atomic_load(&w->child->scoreboard->node_id) <= 0) {
		w->unrecorded = true;
		return;
	}
	snprintf(error, sizeof(error), "timed out after %lld ms", (long long)(ran_us / SD_MS));
	const char *values[15] = {
		sd_db_number(&b, atomic_load(&w->child->scoreboard->node_id)), sd_db_number(&b, getpid()), a->queue,
		sd_db_number(&b, a->trigger_index), a->trace_id, sd_web_call_of(a)->frame.error_id, "timeout",
		sd_db_number(&b, ran_us), sd_db_number(&b, ran_us), a->input, why ? why : error,
	};
	const struct sd_db_call call = {&sd_sql_http_died, values};

	w->asked = true;
	sd_db_submit(w->db, &call, 1, 0, RECORD_MS, on_recorded, w);
}

void sd_web_finished(struct sd_web *w, struct sd_attempt *a)
{
	if (sd_web_call_of(a)->replied) {
		sd_web_forget(w, a);
		return;
	}
	if (failed(a))
		name_error(a);
	w->storing = a;
	w->storing_since_us = sd_now_us();
	if (w->child->conf->http.history == SD_HTTP_HISTORY_NONE && !has_effects(a))
		stored(w);
	else
		sd_web_store(w);
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

	sd_ask_answered(ask, results, err);
	if (!results && err->class == SD_ERR_TRANSIENT)
		sd_web_call_of(ask->attempt)->database_failed = true;
	sd_runner_answer(q->web->runner, ask);
	free(q);
}

void sd_web_answer(struct sd_web *w, struct sd_ask *ask)
{
	const char *values[2];
	struct sd_db_call call = sd_ask_call(ask, values);
	struct question *q = sd_xmalloc(sizeof(*q));

	*q = (struct question){w, ask};
	sd_db_submit(w->db, &call, 1, 0, 0, on_answer, q);
}
