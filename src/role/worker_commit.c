/*
 * Telling the database: outcomes, released jobs, and what a broken connection
 * may have left behind.
 *
 * The exchange is one transaction: the outcomes of what ran, then the claim of
 * what runs next.  When it fails:
 *   - connection lost or transient: the outcomes stay here and are sent again
 *     until they are delivered or refused by the fence.  Whether the lost one
 *     committed does not matter: finishing twice is refused the second time.
 *     A claim that may have committed unseen is undone by give_back, when the
 *     server process it was sent to is certainly gone.
 *   - no memory for what the claim brought: it is undone too, and then jobs are
 *     claimed one by one; one that does not fit even alone has used an attempt.
 *   - refused by the database (an effect it cannot store): the outcomes are
 *     sent one by one and without a claim, and the refused one becomes an error
 *     of its own job.
 */
#include "role/worker.h"

#include "base/clock.h"
#include "base/log.h"
#include "db/number.h"
#include "queue/sqlcalls.h"
#include "role/refused.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define RETRY_SECONDS 0.2
#define RELEASE_AGAIN_SECONDS 1.0
#define REFUSED_SECONDS 1.0
/* How long an exchange may take: large effects and outputs get the time that a slow database needs for them. */
#define EXCHANGE_MS 30000
#define BYTES_PER_MS 64

static const char *const outcome_names[] = {
	[SD_OUTCOME_COMPLETED] = "completed", [SD_OUTCOME_ERROR] = "error",
	[SD_OUTCOME_FAIL] = "fail",	      [SD_OUTCOME_SNOOZE] = "snooze",
	[SD_OUTCOME_INVALID_INPUT] = "invalid_input", [SD_OUTCOME_CANCELLED] = "cancelled",
	[SD_OUTCOME_SKIPPED] = "skipped",	      [SD_OUTCOME_TIMEOUT] = "timeout",
};

static void add_outcome(struct sd_worker *w, const struct sd_attempt *a, int64_t now_us)
{
	struct sd_finish_row row = {
		.lease_id = a->lease_id,
		.job_id = a->job_id,
		.outcome = outcome_names[a->outcome],
		.started_us = a->started_us,
		.duration_us = a->finished_us - a->started_us,
		.output = a->output,
		.output_len = a->output_len,
		.error = a->error,
		.delay_ms = a->delay_ms,
		.enqueues = &a->enqueues,
		.states = &a->states,
		.logs = &a->logs,
		.progress = a->progress,
	};
	sd_finish_add(&w->finish, &row, now_us);
}

/* Move up to max attempts from finished to sending, into the finish call. */
static void collect(struct sd_worker *w, size_t max)
{
	int64_t now = sd_now_us();
	struct sd_attempt *list = sd_chain_take(&w->finished);
	sd_finish_begin(&w->finish);
	while (list != NULL && w->sending.n < max) {
		struct sd_attempt *a = list;
		list = a->next;
		a->next = NULL;
		add_outcome(w, a, now);
		sd_chain_append(&w->sending, a);
	}
	sd_chain_append(&w->finished, list);
}

/* What was sent twice is refused the second time, which is no news: that it is stored is what we want. */
static void log_refused(const struct sd_worker *w, const PGresult *res)
{
	for (int i = 0; i < PQntuples(res); i++) {
		const char *job = PQgetvalue(res, i, 0);
		int64_t id = strtoll(job, NULL, 10);
		const struct sd_attempt *a = w->sending.head;

		if (strcmp(PQgetvalue(res, i, 1), "refused") != 0)
			continue;
		while (a != NULL && a->job_id != id)
			a = a->next;
		if (a != NULL && a->perhaps_stored)
			sd_log_kv(SD_LOG_INFO, "outcome sent again: it was stored when the connection broke, or the job is no longer ours", "job", job, NULL);
		else
			sd_log_kv(SD_LOG_WARN, "outcome refused: the lease is no longer ours; it changed nothing", "job", job, NULL);
	}
}

static void delivered(struct sd_worker *w, const PGresult *res)
{
	bool enqueued = false;
	log_refused(w, res);
	w->suspects -= w->sending.n < w->suspects ? w->sending.n : w->suspects;
	w->suspects_most *= 2;
	struct sd_attempt *list = sd_chain_take(&w->sending);
	while (list != NULL) {
		struct sd_attempt *a = list;
		list = a->next;
		enqueued |= a->nenqueues > 0;
		sd_worker_forget(w, a);
	}
	if (enqueued || w->draining || w->ending) /* what our outcomes let start, we will not claim */
		sd_worker_ring(w, 1);
}

static void refused(struct sd_worker *w, const struct sd_err *err)
{
	size_t n = w->sending.n;
	struct sd_attempt *list = sd_chain_take(&w->sending);
	if (n == 1 && w->claiming) {
		w->suspects = w->suspects_most = 1; /* it may have been the claim */
	} else if (n == 1 && sd_refused(list, err)) {
		char job[24];
		snprintf(job, sizeof job, "%" PRId64, list->job_id);
		sd_log_kv(SD_LOG_WARN, "the database refused the effects of a job", "job", job, "error", err->message, NULL);
	} else if (n > 1) {
		if (w->suspects < n)
			w->suspects = n;
		w->suspects_most = n / 2;
	} else {
		sd_log_err(SD_LOG_ERROR, err, "the database refused a plain call, trying again");
		sd_worker_retry_later(w, REFUSED_SECONDS);
	}
	/* in front of what finished since, to keep the order */
	struct sd_attempt *later = sd_chain_take(&w->finished);
	sd_chain_append(&w->finished, list);
	sd_chain_append(&w->finished, later);
}

static void failed(struct sd_worker *w, const struct sd_err *err)
{
	bool unknown = sd_worker_is_unread(err) || strcmp(err->sqlstate, "08007") == 0; /* whether it was committed */

	if (w->claiming) {
		sd_worker_claim_failed(w);
		if (unknown)
			sd_worker_claim_lost(w, err, w->backend);
	}
	if (err->class == SD_ERR_TRANSIENT) {
		struct sd_attempt *later = sd_chain_take(&w->finished);
		for (struct sd_attempt *a = w->sending.head; a != NULL; a = a->next)
			a->perhaps_stored |= unknown;
		sd_chain_append(&w->finished, sd_chain_take(&w->sending));
		sd_chain_append(&w->finished, later);
		sd_worker_retry_later(w, RETRY_SECONDS);
	} else {
		refused(w, err);
	}
}

static void on_exchange(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_worker *w = arg;
	bool claimed = w->claiming;
	size_t k = 0;
	w->busy = false;
	if (results == NULL) {
		failed(w, err);
		w->claiming = false;
		sd_worker_pump(w);
		return;
	}
	w->claiming = false;
	if (w->sending.n > 0)
		delivered(w, results[k++]);
	if (claimed) {
		int rows = PQntuples(results[k]);
		if (rows > 0)
			atomic_store(&w->child->slot->asleep, SD_AWAKE);
		w->sleeping = rows == 0 && sd_worker_saw_all(w);
		sd_worker_claimed(w, results[k]);
	}
	sd_worker_pump(w);
}

/*
 * A claim does what a wake-up asks for, so it takes one along: otherwise workers that are never idle
 * for long leave theirs in the descriptor, and when the work is done each costs a claim of nothing.
 * Not more than one: the others are for others, who are to start at the same time.
 */
static void take_wakeup(struct sd_worker *w)
{
	uint64_t one;
	if (!w->woken && read(w->wake_io.fd, &one, sizeof one) < 0 && errno != EAGAIN)
		sd_log(SD_LOG_WARN, "reading the wake-up descriptor failed: %m");
	w->woken = false;
}

void sd_worker_exchange(struct sd_worker *w, bool with_claim)
{
	struct sd_db_call calls[2];
	size_t n = 0;
	size_t few = w->suspects < w->suspects_most ? w->suspects : w->suspects_most;
	collect(w, w->suspects > 0 ? few : SD_LANE_MAX_BATCH);
	if (w->sending.n > 0)
		calls[n++] = sd_finish_call(&w->finish, atomic_load(&w->child->scoreboard->node_id), (int)getpid());
	w->exchange_us = sd_now_us();
	w->claiming = with_claim && w->suspects == 0;
	if (w->claiming) {
		take_wakeup(w);
		calls[n++] = sd_worker_claim_call(w, w->exchange_us);
	}
	if (n == 0)
		return;
	w->busy = true;
	size_t bytes = w->finish.effects.len + w->finish.outputs.len;
	sd_db_submit(w->db, calls, n, 0, EXCHANGE_MS + (int64_t)(bytes / BYTES_PER_MS), on_exchange, w);
}

/*
 * A release is repeated until it is answered: giving back twice is harmless.
 * Also when the database refuses it, after a while: others wait for these jobs,
 * and somebody may mend it.  Only who is about to leave does not wait; what is
 * left then comes back when the worker's end is recorded.
 */
struct release {
	struct sd_worker *worker;
	ev_timer again;
	struct sd_buf leases, jobs;
};

static void send_release(struct release *r);

static void on_release(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct release *r = arg;
	struct sd_worker *w = r->worker;
	if (results == NULL && err->class == SD_ERR_TRANSIENT) {
		send_release(r);
		return;
	}
	if (results == NULL && !sd_worker_stopping(w)) {
		sd_log_err(SD_LOG_ERROR, err, "giving back unstarted jobs failed, trying again");
		ev_timer_set(&r->again, RELEASE_AGAIN_SECONDS, 0);
		ev_timer_start(w->loop, &r->again);
		return;
	}
	if (results == NULL)
		sd_log_err(SD_LOG_ERROR, err, "giving back unstarted jobs failed");
	else if (sd_worker_stopping(w))
		sd_worker_hand_over(w);
	else
		sd_worker_ring(w, 1);
	w->releasing--;
	sd_buf_fini(&r->leases);
	sd_buf_fini(&r->jobs);
	free(r);
	sd_worker_pump(w);
}

static void send_release(struct release *r)
{
	const char *values[] = {r->leases.data, r->jobs.data};
	struct sd_db_call call = {&sd_sql_release, values};
	sd_db_submit(r->worker->db, &call, 1, SD_DB_WAIT, 0, on_release, r);
}

static void on_release_again(struct ev_loop *loop, ev_timer *t, int revents)
{
	send_release(t->data);
}

void sd_worker_release(struct sd_worker *w, struct sd_attempt *list)
{
	if (list == NULL)
		return;
	struct release *r = sd_xcalloc(1, sizeof *r);
	r->worker = w;
	ev_init(&r->again, on_release_again);
	r->again.data = r;
	sd_buf_chr(&r->leases, '{');
	sd_buf_chr(&r->jobs, '{');
	while (list != NULL) {
		struct sd_attempt *a = list;
		list = a->next;
		sd_buf_pgarray_i64(&r->leases, a->lease_id);
		sd_buf_pgarray_i64(&r->jobs, a->job_id);
		sd_worker_forget(w, a);
	}
	sd_buf_chr(&r->leases, '}');
	sd_buf_chr(&r->jobs, '}');
	w->releasing++;
	send_release(r);
}

static void on_given_back(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_worker *w = arg;
	w->busy = false;
	if (results == NULL) {
		sd_log_err(SD_LOG_WARN, err, "giving back a lost claim failed, trying again");
		sd_worker_retry_later(w, RETRY_SECONDS);
		return;
	}
	w->lost_claim = false;
	atomic_store(&w->child->slot->backend, w->backend);
	sd_worker_pump(w);
}

/* Every lease of ours is then the running attempt's or one of those that ended. */
void sd_worker_give_back(struct sd_worker *w)
{
	struct sd_db_numbers b = {0};
	int64_t since;
	struct sd_buf keep = SD_BUF_INIT;
	sd_worker_recall(w);
	sd_buf_chr(&keep, '{');
	const struct sd_attempt *running = sd_runner_current(w->runner, &since);
	if (running != NULL)
		sd_buf_pgarray_i64(&keep, running->lease_id);
	sd_worker_take_finished(w); /* what ended up to now */
	if (w->ended != NULL)
		sd_buf_pgarray_i64(&keep, w->ended->lease_id);
	for (const struct sd_attempt *a = w->finished.head; a != NULL; a = a->next)
		sd_buf_pgarray_i64(&keep, a->lease_id);
	sd_buf_chr(&keep, '}');
	const char *session[] = {sd_db_number(&b, w->lost_backend)};
	const char *values[] = {sd_db_number(&b, atomic_load(&w->child->scoreboard->node_id)), sd_db_number(&b, w->child->slot_index),
				sd_db_number(&b, w->child->slot_generation), keep.data, sd_db_number(&b, getpid()),
				"the worker had no memory for the job's input"};
	struct sd_db_call calls[] = {{&sd_sql_end_session, session}, {w->unread ? &sd_sql_unread : &sd_sql_give_back, values}};
	w->busy = true;
	sd_db_submit(w->db, calls, 2, SD_DB_WAIT, 0, on_given_back, w);
	sd_buf_fini(&keep);
}

static void on_ended(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_worker *w = arg;
	char job[24];
	w->busy = false;
	snprintf(job, sizeof job, "%" PRId64, w->ending_job);
	if (results == NULL) {
		sd_log_err(SD_LOG_WARN, err, "recording the end of an attempt failed; the rescue will");
	} else {
		sd_log_kv(SD_LOG_INFO, "the handler came to an end within its grace; what it did is void", "job", job, "outcome",
			  w->ending_outcome, "error", w->ending_error, NULL);
		log_refused(w, results[0]);
	}
	sd_worker_pump(w);
}

/* The running handler was told to end and did: record it as what it was ended for. */
void sd_worker_end_attempt(struct sd_worker *w, struct sd_attempt *a, const char *outcome, const char *error)
{
	struct sd_db_numbers b = {0};
	const struct sd_slot *slot = w->child->slot;
	struct rusage ru = {0};
	getrusage(RUSAGE_SELF, &ru);
	int64_t rss_kb = ru.ru_maxrss;
	int64_t cpu_ms = (int64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000 + (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1000;
	if (atomic_load(&slot->ending_run) == a->job_id)
		sd_limit_correct(atomic_load(&slot->ending), atomic_load(&slot->ending_used), &rss_kb, &cpu_ms);
	const char *values[] = {sd_db_number(&b, atomic_load(&w->child->scoreboard->node_id)), sd_db_number(&b, w->child->slot_index),
				sd_db_number(&b, w->child->slot_generation), sd_db_number(&b, a->job_id), outcome, error, NULL, NULL,
				sd_db_number(&b, rss_kb), sd_db_number(&b, cpu_ms), sd_db_number(&b, sd_now_us() - a->started_us),
				sd_db_number(&b, a->finished_us - a->started_us), sd_db_number(&b, getpid())};
	struct sd_db_call call = {&sd_sql_died, values};
	w->busy = true;
	sd_db_submit(w->db, &call, 1, SD_DB_WAIT, 0, on_ended, w);
	sd_worker_forget(w, a);
}
