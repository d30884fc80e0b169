/*
 * Workers' deaths and cancelled jobs.
 *
 * The supervisor knows how a worker died and what it ran; here that becomes
 * one row of history (stepd.died).  A death is acknowledged when it is
 * committed and tried for ever until then: stepd.died is safe to repeat.
 *
 * The server may still work on what the dead one sent last, and a claim that
 * commits after the death was recorded would be held by nobody for ever: so its
 * server process is ended first.
 *
 * A cancel is told to the slot that runs the job, when SQL confirms it: anybody
 * who may connect to the database may NOTIFY.  The claim may be known to
 * SQL a moment before the worker has started the handler, so a cancel that
 * finds no slot is kept and looked up again for a while, if SQL says that it is
 * about a job of ours.  SQL is asked now and then anyway: notifications are
 * lost while there is no connection.
 */
#include "role/keeper.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/number.h"
#include "queue/sqlcalls.h"
#include "role/deaths.h"

#include <stdlib.h>
#include <string.h>

#define RETRY_SECONDS 2.
#define CANCEL_KEPT_US (10 * SD_SEC)
#define CANCEL_LOOK_SECONDS 0.05
#define DIED_TIMEOUT_MS 30000
#define CANCELS_TIMEOUT_MS 10000

static const struct sd_db_stmt st_cancels = {"cancels", "select stepd.cancels($1)", 1};
static const struct sd_db_stmt st_confirm = {"cancelled", "select stepd.cancelled($1)", 1};

struct sd_keeper_death {
	struct sd_keeper_death *next;
	struct sd_keeper *k;
	struct sd_msg_death d;
	bool sent;
};

/* ---- deaths ---- */

static const char *outcome_of(const struct sd_msg_death *d)
{
	if (sd_death_of_limit(d))
		return "timeout";
	return d->reason == SD_SLOT_REASON_CANCEL ? "cancelled" : d->ended ? "lost" : "crashed";
}

static void acknowledge(struct sd_keeper *k, const struct sd_msg_death *d)
{
	struct sd_msg msg = {.type = SD_MSG_DEATH_ACK, .serial = d->serial};
	struct sd_err err;
	/* Lost, it is told again to the next keeper, and recorded once all the same. */
	if (sd_chan_send(k->child->chan, &msg, &err) < 0)
		sd_log_err(SD_LOG_WARN, &err, "acknowledging the death of process %d", d->pid);
}

static void forget(struct sd_keeper *k, struct sd_keeper_death *gone)
{
	for (struct sd_keeper_death **p = &k->deaths; *p; p = &(*p)->next)
		if (*p == gone) {
			*p = gone->next;
			break;
		}
	free(gone);
}

static void on_died(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_keeper_death *e = arg;
	struct sd_keeper *k = e->k;

	e->sent = false;
	if (err) {
		if (sd_db_is_up(k->db))
			sd_log_err(SD_LOG_ERROR, err, "recording the death of process %d", e->d.pid);
		if (!ev_is_active(&k->death_timer)) {
			ev_timer_set(&k->death_timer, RETRY_SECONDS, 0.);
			ev_timer_start(k->loop, &k->death_timer);
		}
		return;
	}
	for (int i = 0; i < PQntuples(results[1]); i++) {
		const char *verdict = PQgetvalue(results[1], i, 1);
		sd_log(SD_LOG_DEBUG, "job %s of dead process %d: %s", PQgetvalue(results[1], i, 0), e->d.pid,
		       strcmp(verdict, "refused") == 0 ? "what became of it was known before" : verdict);
	}
	acknowledge(k, &e->d);
	if (PQntuples(results[1]) > 0)
		sd_keeper_promote(k); /* what it held is ready again, or waits for its retry */
	forget(k, e);
	sd_keeper_leave_when_done(k);
}

static void send_death(struct sd_keeper *k, struct sd_keeper_death *e)
{
	const struct sd_msg_death *d = &e->d;
	struct sd_db_numbers b = {0};
	char text[200];
	bool ran = d->job != 0;
	int64_t now = sd_now_us(), age = ran ? now - d->started_us : 0, duration = ran ? d->died_us - d->started_us : 0;

	sd_death_describe(d, text, sizeof text);
	const char *values[] = {
		sd_db_number(&b, d->node_id), sd_db_number(&b, d->slot), sd_db_number(&b, d->generation), sd_db_number(&b, d->job),
		ran ? outcome_of(d) : NULL, ran ? text : NULL,
		d->exit_code >= 0 ? sd_db_number(&b, d->exit_code) : NULL, d->signal > 0 ? sd_db_number(&b, d->signal) : NULL,
		sd_db_number(&b, d->max_rss_kb), sd_db_number(&b, d->cpu_ms), sd_db_number(&b, age > 0 ? age : 0),
		sd_db_number(&b, duration > 0 ? duration : 0), sd_db_number(&b, d->pid),
	};
	const char *session[] = {sd_db_number(&b, d->backend)};
	const struct sd_db_call calls[] = {{&sd_sql_end_session, session}, {&sd_sql_died, values}};
	e->sent = true;
	sd_db_submit(k->db, calls, 2, 0, DIED_TIMEOUT_MS, on_died, e);
}

void sd_keeper_send_deaths(struct sd_keeper *k)
{
	if (!sd_db_is_up(k->db))
		return;
	for (struct sd_keeper_death *e = k->deaths; e; e = e->next)
		if (!e->sent)
			send_death(k, e);
}

void sd_keeper_died(struct sd_keeper *k, const struct sd_msg_death *death)
{
	struct sd_keeper_death *e, **end = &k->deaths;

	if (death->node_id == 0) { /* it never could claim */
		acknowledge(k, death);
		return;
	}
	for (; *end; end = &(*end)->next)
		if ((*end)->d.serial == death->serial)
			return;
	e = sd_xcalloc(1, sizeof *e);
	e->k = k;
	e->d = *death;
	*end = e;
	sd_keeper_send_deaths(k);
}

static void on_death_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	sd_keeper_send_deaths(t->data);
}

/* ---- cancels ---- */

/* The slot that runs job; NULL: none does. */
static struct sd_slot *slot_of(const struct sd_keeper *k, int64_t job)
{
	struct sd_scoreboard *sb = k->child->scoreboard;

	for (uint32_t i = 0; i < sb->nslots; i++)
		if (atomic_load(&sb->slot[i].state) != SD_SLOT_FREE && atomic_load(&sb->slot[i].job) == job)
			return &sb->slot[i];
	return NULL;
}

/* false: nobody runs it */
static bool tell_slot(struct sd_keeper *k, int64_t job)
{
	struct sd_slot *slot = slot_of(k, job);

	if (slot != NULL)
		atomic_store(&slot->cancel_job, job);
	return slot != NULL;
}

unsigned sd_keeper_cancel_running(struct sd_keeper *k)
{
	struct sd_scoreboard *sb = k->child->scoreboard;
	unsigned n = 0;

	for (uint32_t i = 0; i < sb->nslots; i++) {
		int64_t job = atomic_load(&sb->slot[i].job);

		if (atomic_load(&sb->slot[i].state) == SD_SLOT_FREE || job == 0 || atomic_load(&sb->slot[i].serving))
			continue;
		atomic_store(&sb->slot[i].cancel_job, job);
		n++;
	}
	return n;
}

static void on_cancel_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct sd_keeper *k = t->data;
	int64_t now = sd_now_us();
	bool any = false;

	for (size_t i = 0; i < SD_KEEPER_CANCELS; i++) {
		if (k->cancels[i].job != 0 && (k->cancels[i].until_us <= now || tell_slot(k, k->cancels[i].job)))
			k->cancels[i].job = 0;
		any = any || k->cancels[i].job != 0;
	}
	if (!any)
		ev_timer_stop(loop, t);
}

static void keep_cancel(struct sd_keeper *k, int64_t job)
{
	size_t at = 0;

	if (job <= 0 || tell_slot(k, job))
		return;
	for (size_t i = 0; i < SD_KEEPER_CANCELS; i++)
		if (k->cancels[i].job == job)
			return;
	for (size_t i = 0; i < SD_KEEPER_CANCELS; i++) /* a free place, or the oldest */
		if (k->cancels[i].job == 0 || (k->cancels[at].job != 0 && k->cancels[i].until_us < k->cancels[at].until_us))
			at = i;
	k->cancels[at].job = job;
	k->cancels[at].until_us = sd_now_us() + CANCEL_KEPT_US;
	if (!ev_is_active(&k->cancel_timer))
		ev_timer_again(k->loop, &k->cancel_timer);
}

static void on_cancels(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_keeper *k = arg;

	k->asking_cancels = false;
	if (err) {
		if (sd_db_is_up(k->db))
			sd_log_err(SD_LOG_WARN, err, "reading which jobs are to be cancelled");
		return;
	}
	for (int i = 0; i < PQntuples(results[0]); i++)
		keep_cancel(k, strtoll(PQgetvalue(results[0], i, 0), NULL, 10));
	if (k->ask_cancels_again)
		sd_keeper_ask_cancels(k);
}

void sd_keeper_ask_cancels(struct sd_keeper *k)
{
	struct sd_db_numbers b = {0};
	const char *values[] = {sd_db_number(&b, k->node_id)};

	k->ask_cancels_again = k->asking_cancels;
	if (k->asking_cancels || k->node_id == 0 || !sd_db_is_up(k->db))
		return;
	k->asking_cancels = true;
	sd_keeper_ask(k, &st_cancels, values, CANCELS_TIMEOUT_MS, on_cancels);
}

static void confirm(struct sd_keeper *k);

static void on_confirmed(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_keeper *k = arg;

	k->confirming = false;
	if (err) {
		sd_keeper_ask_cancels(k); /* should we have a connection; else when we have one again */
		return;
	}
	for (int i = 0; i < PQntuples(results[0]); i++)
		tell_slot(k, strtoll(PQgetvalue(results[0], i, 0), NULL, 10));
	confirm(k);
}

static void confirm(struct sd_keeper *k)
{
	struct sd_buf jobs = SD_BUF_INIT;

	if (k->confirming || k->nheard == 0)
		return;
	sd_buf_chr(&jobs, '{');
	for (size_t i = 0; i < k->nheard; i++)
		sd_buf_pgarray_i64(&jobs, k->heard[i]);
	sd_buf_chr(&jobs, '}');
	const char *values[] = {jobs.data};
	k->nheard = 0;
	k->confirming = true;
	sd_keeper_ask(k, &st_confirm, values, CANCELS_TIMEOUT_MS, on_confirmed);
	sd_buf_fini(&jobs);
}

void sd_keeper_cancel(struct sd_keeper *k, int64_t job)
{
	if (job <= 0)
		return;
	if (slot_of(k, job) == NULL || k->nheard == SD_KEEPER_CANCELS) {
		sd_keeper_ask_cancels(k);
		return;
	}
	k->heard[k->nheard++] = job;
	confirm(k);
}

void sd_keeper_death_init(struct sd_keeper *k)
{
	ev_timer_init(&k->death_timer, on_death_timer, 0., 0.);
	ev_timer_init(&k->cancel_timer, on_cancel_timer, 0., CANCEL_LOOK_SECONDS);
	k->death_timer.data = k->cancel_timer.data = k;
}
