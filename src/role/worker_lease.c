/*
 * A handler that runs while its node is silent.  Where the keeper hangs, or
 * only it is cut off, nobody renews the node's lease, and others take its jobs
 * when that is over.  Our own session may be well: then the database is asked
 * whether the job is still ours, and one that is not is ended as if cancelled,
 * for what it does from now on counts for nothing and may be done a second
 * time at this moment.  That the lease is over is no reason: with a database
 * that is away it is, too, and there the job is ours when it comes back.
 */
#include "role/worker.h"

#include "base/log.h"
#include "db/number.h"
#include "queue/sqlcalls.h"

#include <inttypes.h>

#define LOOK_SECONDS 0.5
#define ASK_MS 60000 /* longer than what it may have to wait behind */

static const struct sd_attempt *asked(struct sd_worker *w)
{
	int64_t since;
	const struct sd_attempt *a = sd_runner_current(w->runner, &since);

	return a != NULL && a->job_id == w->asked_job && a->lease_id == w->asked_lease ? a : NULL;
}

static void on_answer(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_worker *w = arg;
	_Atomic int64_t *cancel = &w->child->slot->cancel_job;
	int64_t before = atomic_load(cancel);

	if (results == NULL) {
		sd_log_err(err->class == SD_ERR_TRANSIENT ? SD_LOG_DEBUG : SD_LOG_WARN, err, "asking whether job %" PRId64 " is still ours",
			   w->asked_job);
		if (err->class != SD_ERR_TRANSIENT)
			ev_timer_stop(w->loop, &w->lease_timer); /* said once a job */
	} else if (strcmp(PQgetvalue(results[0], 0, 0), "t") != 0 && asked(w) != NULL) {
		sd_log(SD_LOG_WARN, "ending job %" PRId64 ": the node's lease was not renewed, the job is no longer ours and may run elsewhere",
		       w->asked_job);
		atomic_compare_exchange_strong(cancel, &before, w->asked_job); /* unless another one runs by now, and is cancelled */
	}
	w->asked_job = w->asked_lease = 0;
}

static void ask(struct sd_worker *w, const struct sd_attempt *a)
{
	struct sd_db_numbers b = {0};
	const char *values[] = {sd_db_number(&b, a->node_id), sd_db_number(&b, a->lease_id), sd_db_number(&b, a->job_id)};
	struct sd_db_call call = {&sd_sql_holds, values};

	w->asked_job = a->job_id;
	w->asked_lease = a->lease_id;
	sd_db_submit(w->db, &call, 1, 0, ASK_MS, on_answer, w);
}

static void on_lease_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct sd_worker *w = t->data;
	int64_t since;
	const struct sd_attempt *a = sd_runner_current(w->runner, &since);

	if (a == NULL) {
		ev_timer_stop(w->loop, t); /* until another one runs for so long that its start is told */
		return;
	}
	/* behind a long exchange the answer may come too late, and a late one costs the connection */
	if (w->asked_job == 0 && !w->busy && sd_db_is_up(w->db) && !sd_runner_is_leased(w->runner, a) &&
	    atomic_load(&w->child->slot->cancel_job) != a->job_id)
		ask(w, a);
}

void sd_worker_watch_lease(struct sd_worker *w)
{
	if (!ev_is_active(&w->lease_timer))
		ev_timer_again(w->loop, &w->lease_timer);
}

void sd_worker_lease_init(struct sd_worker *w)
{
	ev_timer_init(&w->lease_timer, on_lease_timer, 0., LOOK_SECONDS);
	w->lease_timer.data = w;
}
