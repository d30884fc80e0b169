/*
 * Progress: what the running handler says of itself (stepd_progress) is told
 * to the database while it runs.
 *
 * The step thread only notes the last report; this is the loop thread, which
 * fetches it a moment after the first and then every half second while there
 * is something new.  A handler that ends before that is not told of at all:
 * its last report goes with its outcome, in the same transaction.  SQL fences
 * it: of a lease that is no longer ours nothing is kept.
 *
 * In the same way the start of a handler is told when it runs for longer than
 * most: then it is known which job is lost should the node vanish, and under a
 * rateLimit it is one that began, and no more one that may begin at any moment.
 * Lost on the way, it is told again, after a while.
 */
#include "role/worker.h"

#include "base/clock.h"
#include "base/log.h"
#include "db/number.h"
#include "queue/sqlcalls.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_US (100 * SD_MS) /* most handlers are over by then */
#define EVERY_US (500 * SD_MS)
#define REPORT_MS 10000
#define BEGAN_US (20 * SD_MS)

struct report {
	struct sd_worker *worker;
	uint64_t number;
	int64_t job_id;
};

static void arm(struct sd_worker *w)
{
	int64_t now = sd_now_us(), due = w->report_us + EVERY_US;
	int64_t wait = due - now > FIRST_US ? due - now : FIRST_US;

	if (ev_is_active(&w->report_timer))
		return;
	ev_timer_set(&w->report_timer, (double)wait / SD_SEC, 0.);
	ev_timer_start(w->loop, &w->report_timer);
}

static void on_reported(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct report *r = arg;
	struct sd_worker *w = r->worker;

	if (results != NULL || err->class != SD_ERR_TRANSIENT)
		sd_runner_told(w->runner, r->number);
	else
		arm(w); /* the newest again, if it still runs */
	if (results != NULL && strcmp(PQgetvalue(results[0], 0, 0), "t") != 0)
		sd_log(SD_LOG_DEBUG, "progress of job %" PRId64 " refused: the lease is no longer ours", r->job_id);
	else if (results == NULL)
		sd_log_err(SD_LOG_WARN, err, "the progress of job %" PRId64, r->job_id);
	free(r);
}

static void tell(struct sd_worker *w, uint64_t number, const char *text, int64_t lease_id, int64_t job_id)
{
	struct report *r = sd_xmalloc(sizeof *r);
	struct sd_db_numbers b = {0};
	const char *values[] = {sd_db_number(&b, atomic_load(&w->child->scoreboard->node_id)), sd_db_number(&b, lease_id),
				sd_db_number(&b, job_id), text};
	struct sd_db_call call = {&sd_sql_progress, values};

	*r = (struct report){w, number, job_id};
	w->report_us = sd_now_us();
	sd_db_submit(w->db, &call, 1, 0, REPORT_MS, on_reported, r);
}

static void on_report_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct sd_worker *w = t->data;
	struct sd_buf text = SD_BUF_INIT;
	int64_t lease_id, job_id;
	uint64_t number = sd_runner_report(w->runner, &text, &lease_id, &job_id);

	if (number != 0 && sd_db_is_up(w->db))
		tell(w, number, text.data, lease_id, job_id);
	else if (number != 0) {
		w->report_us = sd_now_us();
		arm(w);
	}
	sd_buf_fini(&text);
}

void sd_worker_look_for_report(struct sd_worker *w)
{
	if (sd_runner_reported(w->runner))
		arm(w);
}

/* The running attempt if its start is to be told. */
static const struct sd_attempt *untold(struct sd_worker *w, int64_t *since)
{
	const struct sd_attempt *a = sd_runner_current(w->runner, since);

	return a != NULL && (a->job_id != w->began_job || a->lease_id != w->began_lease) ? a : NULL;
}

static void on_began_told(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_worker *w = arg;

	w->telling_start = false;
	w->began_timer.repeat = (double)(results != NULL ? BEGAN_US : EVERY_US) / SD_SEC;
	if (results == NULL) {
		sd_log_err(err->class == SD_ERR_TRANSIENT ? SD_LOG_DEBUG : SD_LOG_WARN, err, "telling that a job began");
		if (err->class == SD_ERR_TRANSIENT && !w->orphaned)
			w->began_job = w->began_lease = 0;
	}
	if (w->orphaned) {
		sd_worker_pump(w);
		return;
	}
	sd_worker_watch_lease(w);
	sd_worker_look_for_start(w);
}

static void tell_start(struct sd_worker *w, const struct sd_attempt *a, int64_t age_us)
{
	struct sd_db_numbers b = {0};
	const char *values[] = {sd_db_number(&b, a->node_id), sd_db_number(&b, a->lease_id), sd_db_number(&b, a->job_id),
				sd_db_number(&b, age_us)};
	struct sd_db_call call = {&sd_sql_began, values};

	w->telling_start = true;
	w->began_job = a->job_id;
	w->began_lease = a->lease_id;
	sd_db_submit(w->db, &call, 1, 0, REPORT_MS, on_began_told, w);
}

bool sd_worker_start_is_told(struct sd_worker *w)
{
	int64_t since;
	const struct sd_attempt *a = w->telling_start ? NULL : untold(w, &since);

	if (a != NULL)
		tell_start(w, a, sd_now_us() - since);
	return !w->telling_start;
}

static void on_began_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct sd_worker *w = t->data;
	int64_t since, now = sd_now_us();
	const struct sd_attempt *a = untold(w, &since);

	if (a != NULL && now - since >= BEGAN_US && !w->telling_start && sd_db_is_up(w->db))
		tell_start(w, a, now - since);
	sd_worker_look_for_start(w);
}

void sd_worker_look_for_start(struct sd_worker *w)
{
	int64_t since;

	if (!sd_db_is_up(w->db) || untold(w, &since) == NULL)
		ev_timer_stop(w->loop, &w->began_timer);
	else if (!ev_is_active(&w->began_timer))
		ev_timer_again(w->loop, &w->began_timer);
}

void sd_worker_report_init(struct sd_worker *w)
{
	ev_timer_init(&w->began_timer, on_began_timer, 0., (double)BEGAN_US / SD_SEC);
	w->began_timer.data = w;
	ev_timer_init(&w->report_timer, on_report_timer, 0., 0.);
	w->report_timer.data = w;
}
