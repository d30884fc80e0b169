/*
 * The queue worker: claims jobs, runs their handlers, reports what became of
 * them.  See worker.h for who owns what.
 *
 * sd_worker_pump looks at the whole state after each event and does what is
 * due; there is no other place where a decision is taken:
 *   - outcomes go out with the next claim, or alone 10 ms after the first of
 *     them ended when the runner is still busy;
 *   - a claim goes out when the runner has nothing left, a little earlier
 *     when what runs is fast;
 *   - after an empty claim the worker sleeps on the node's eventfd.  Its slot
 *     says "claiming" from before the claim was sent, so that a wake-up between
 *     the claim's snapshot and the sleep is never lost;
 *   - when the running handler proves slow, or the batch slower than it should
 *     be, what waits behind it is given back; so it is when settings change.
 */
#include "role/worker.h"

#include "base/clock.h"
#include "base/log.h"
#include "db/db_ev.h"
#include "proc/spawn.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FLUSH_SECONDS 0.01   /* of the 50 ms that a finished job may stay unseen */
#define SLOW_US (10 * SD_MS) /* a handler that runs longer makes nobody wait behind it who could run elsewhere */
#define LONG_US (60 * SD_MS) /* … nor anybody at all: who is idle in a moment is not known */
#define LATE_US (150 * SD_MS) /* a batch that takes three times as long as it should: its jobs are not what they were */
#define SLOW_SECONDS 0.01
#define PREFETCH_US (2 * SD_MS)
#define FIRST_LIFE 1	     /* of a slot: it replaces nobody */
#define RECENT_US (2 * SD_SEC) /* a death before that says nothing to a new worker */
#define PATIENCE_SECONDS 5. /* like the keeper's at the end */

void sd_worker_retry_later(struct sd_worker *w, double seconds)
{
	ev_timer_stop(w->loop, &w->retry_timer);
	ev_timer_set(&w->retry_timer, seconds, 0.);
	ev_timer_start(w->loop, &w->retry_timer);
}

bool sd_worker_stopping(const struct sd_worker *w)
{
	return w->draining || w->ending || w->orphaned || sd_slot_draining(w->child->slot) || atomic_load(&w->child->scoreboard->stopping);
}

/*
 * Is it to give back what has not begun?  Not when it only did its share of jobs: then it runs a batch of quick ones to its
 * end (what waits behind a slow one goes back in any case), which costs less than to claim them once more.
 */
bool sd_worker_halted(const struct sd_worker *w)
{
	return w->ending || w->orphaned || sd_slot_halted(w->child->slot) || atomic_load(&w->child->scoreboard->stopping) ||
	       (w->draining && !atomic_load(&w->child->slot->relieved));
}

static bool runner_is_idle(struct sd_worker *w)
{
	int64_t since;
	return sd_runner_queued(w->runner) == 0 && sd_runner_current(w->runner, &since) == NULL;
}

/* May the next batch be fetched while the last handler of this one still runs? */
static bool may_prefetch(struct sd_worker *w)
{
	int64_t since;
	if (sd_runner_queued(w->runner) > 0)
		return false;
	const struct sd_attempt *a = sd_runner_current(w->runner, &since);
	if (a == NULL)
		return true;
	struct sd_lane *l = sd_worker_lane(w, a->lane);
	return l != NULL && !sd_lane_is_slow(l) && sd_now_us() - since < PREFETCH_US;
}

static bool can_claim(const struct sd_worker *w)
{
	return !sd_worker_stopping(w) && !sd_worker_is_worn(w) && !w->lost_claim && w->nlanes > 0 && atomic_load(&w->child->scoreboard->node_id) > 0;
}

static bool should_claim(struct sd_worker *w)
{
	return can_claim(w) && !w->sleeping && may_prefetch(w);
}

/*
 * Planning ahead is for when there is nothing else to do: as the daemon starts, or after a claim that came back empty.  Who
 * replaces a dead worker has its jobs to do first.
 */
static bool may_warm_up(const struct sd_worker *w, bool idle)
{
	return !w->warm && idle && w->finished.n == 0 && can_claim(w) && (w->sleeping || w->child->slot_generation == FIRST_LIFE);
}

static void watch_wake(struct sd_worker *w, bool on)
{
	uint32_t claiming = SD_CLAIMING;

	if (on) {
		atomic_compare_exchange_strong(&w->child->slot->asleep, &claiming, SD_ASLEEP);
		ev_io_start(w->loop, &w->wake_io);
	} else {
		ev_io_stop(w->loop, &w->wake_io);
	}
}

static bool flush_is_due(const struct sd_worker *w)
{
	return w->finished.n >= SD_LANE_MAX_BATCH ||
	       sd_now_us() - w->finished_since_us >= (int64_t)(FLUSH_SECONDS * SD_SEC);
}

/*
 * Not only when it sleeps: who cannot claim, be it that the node is about to join anew or that there are no lanes, learns by
 * the next ring that it can.
 */
static bool waits_for_ring(const struct sd_worker *w, bool idle)
{
	return idle && !w->busy && !w->lost_claim && !sd_worker_stopping(w) && !sd_worker_is_worn(w) && sd_db_is_up(w->db) && !ev_is_active(&w->retry_timer) &&
	       (w->sleeping || !can_claim(w));
}

static void arm_timers(struct sd_worker *w, bool idle)
{
	if (w->finished.n > 0 && !w->busy) {
		if (!ev_is_active(&w->flush_timer)) {
			ev_timer_set(&w->flush_timer, FLUSH_SECONDS, 0.);
			ev_timer_start(w->loop, &w->flush_timer);
		}
	} else {
		ev_timer_stop(w->loop, &w->flush_timer);
	}
	if (sd_runner_queued(w->runner) > 0) {
		if (!ev_is_active(&w->slow_timer))
			ev_timer_again(w->loop, &w->slow_timer);
	} else {
		ev_timer_stop(w->loop, &w->slow_timer);
	}
	sd_worker_look_for_start(w);
	watch_wake(w, waits_for_ring(w, idle));
}

/* The supervisor sees a crash, and has it recorded. */
static _Noreturn void die_of_term(void)
{
	sigset_t term;

	signal(SIGTERM, SIG_DFL);
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	pthread_sigmask(SIG_UNBLOCK, &term, NULL);
	raise(SIGTERM);
	abort();
}

/*
 * Everything told, nothing held: the end of a drain or of a TERM.  For outcomes
 * we wait as long as we may.  What only is to be given back comes back without
 * us too (our death is recorded, or the node's leases are rescued), so for that
 * a database that is away is waited for a moment and no longer.
 */
static void leave_when_done(struct sd_worker *w, bool idle)
{
	if (w->orphaned) {
		sd_worker_orphan_goes(w);
		return;
	}
	if (!w->draining && !w->ending)
		return;
	if (w->impatient && !sd_db_is_up(w->db) && idle && w->finished.n + w->sending.n == 0 && w->ended == NULL) {
		sd_log(SD_LOG_INFO, "the database is away; what this worker holds comes back without it");
		sd_leave(0);
	}
	if (w->busy || w->releasing > 0 || w->finished.n > 0)
		return;
	if (w->struck && !idle)
		die_of_term();
	if (w->leaving || (idle && w->ended == NULL && !w->lost_claim))
		sd_leave(0);
}

static void end_attempt(struct sd_worker *w)
{
	struct sd_attempt *a = w->ended;
	w->ended = NULL;
	sd_worker_end_attempt(w, a, w->ending_outcome, w->ending_error);
}

/* One step towards the database, when it can take one. */
static void talk(struct sd_worker *w, bool idle)
{
	bool claim = should_claim(w);
	if (atomic_load(&w->child->scoreboard->settings_version) != w->settings_version)
		sd_worker_load_lanes(w);
	else if (w->finished.n > 0 && (claim || idle || sd_worker_stopping(w) || flush_is_due(w)))
		sd_worker_exchange(w, claim);
	else if (w->lost_claim)
		sd_worker_give_back(w);
	else if (claim)
		sd_worker_exchange(w, true);
	else if (w->ended != NULL && w->finished.n == 0 && !w->leaving)
		end_attempt(w);
}

void sd_worker_recall(struct sd_worker *w)
{
	struct sd_attempt *list = sd_runner_recall(w->runner);

	for (const struct sd_attempt *a = list; a != NULL; a = a->next)
		w->taken--;
	sd_worker_release(w, list);
}

void sd_worker_pump(struct sd_worker *w)
{
	sd_worker_take_finished(w);
	if (sd_worker_is_worn(w))
		sd_worker_retire(w);
	bool idle = runner_is_idle(w);
	if (!w->said_ready && w->draining)
		sd_leave(0);
	if (!sd_db_is_up(w->db) || w->busy || ev_is_active(&w->retry_timer)) {
		arm_timers(w, idle);
		leave_when_done(w, idle); /* who holds nothing need not wait for a database that is away */
		return;
	}
	if (!w->lanes_loaded) {
		sd_worker_load_lanes(w);
		return;
	}
	if (!w->said_ready) {
		w->said_ready = true;
		sd_worker_watch_memory(w);
		sd_child_ready(w->child);
	}
	if (may_warm_up(w, idle)) {
		atomic_store(&w->child->slot->asleep, SD_AWAKE); /* what comes meanwhile is for others, or for the claim that follows */
		w->sleeping = false;
		sd_worker_warm_up(w);
		return;
	}
	/* asleep is said before the claim that may come back empty, so that no wake-up falls between the two */
	if (idle && atomic_load(&w->child->slot->asleep) == SD_AWAKE && !sd_worker_is_worn(w)) {
		atomic_store(&w->child->slot->asleep, SD_CLAIMING);
		w->sleeping = false;
	}
	talk(w, idle);
	sd_worker_replace_if_done(w, idle);
	arm_timers(w, idle);
	leave_when_done(w, idle);
}

/* ---- events ---- */

static void on_runner(struct ev_loop *loop, ev_io *io, int revents)
{
	struct sd_worker *w = io->data;
	struct sd_ask *ask;
	sd_runner_clear(w->runner);
	while ((ask = sd_runner_ask(w->runner)) != NULL)
		sd_worker_answer(w, ask);
	sd_worker_look_for_report(w);
	sd_worker_pump(w);
}

static void on_wake(struct ev_loop *loop, ev_io *io, int revents)
{
	struct sd_worker *w = io->data;
	uint64_t one;
	if (sd_worker_stopping(w)) { /* it is for somebody who stays */
		watch_wake(w, false);
		return;
	}
	if (read(io->fd, &one, sizeof one) != sizeof one)
		return; /* another worker took it */
	if (sd_worker_stopping(w) || sd_worker_is_worn(w)) {
		sd_worker_hand_over(w);
		sd_worker_pump(w);
		return;
	}
	w->sleeping = false;
	w->woken = true;
	atomic_store(&w->child->slot->asleep, SD_CLAIMING);
	sd_worker_pump(w);
}

static void on_pump_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	sd_worker_pump(t->data);
}

static void on_patience_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct sd_worker *w = t->data;
	w->impatient = true;
	sd_worker_pump(w);
}

/* By one slow job, or by a batch of jobs that take longer than those before them. */
static bool keeps_others_waiting(struct sd_worker *w)
{
	bool idle = sd_worker_idle_peers(w, &w->claim.idle) > 0;
	int64_t since, now = sd_now_us();

	if (sd_runner_current(w->runner, &since) == NULL)
		return false;
	return now - since >= (idle ? SLOW_US : LONG_US) || now - w->given_us >= (idle ? LONG_US : LATE_US);
}

static void on_slow_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct sd_worker *w = t->data;
	if (keeps_others_waiting(w))
		sd_worker_recall(w);
	int32_t node = atomic_load(&w->child->scoreboard->node_id);
	if (node > 0 && node != w->claimed_node) /* declared dead and joined anew: the queued ones are others' */
		sd_worker_recall(w);
	sd_worker_pump(w);
}

static void drain(struct sd_worker *w)
{
	uint64_t one;
	w->draining = true;
	ev_timer_start(w->loop, &w->patience_timer);
	if (atomic_exchange(&w->child->slot->asleep, SD_AWAKE) != SD_AWAKE && read(w->wake_io.fd, &one, sizeof one) == sizeof one)
		sd_worker_hand_over(w);
	sd_runner_set_stopping(w->runner);
	if (sd_worker_halted(w))
		sd_worker_recall(w);
	sd_worker_pump(w);
}

static void on_chan(struct ev_loop *loop, ev_io *io, int revents)
{
	struct sd_worker *w = io->data;
	struct sd_msg msg;
	struct sd_err err;
	int n;
	while ((n = sd_chan_recv(w->child->chan, &msg, &err)) > 0) {
		if (msg.type == SD_MSG_DRAIN)
			drain(w);
		else if (msg.type == SD_MSG_REOPEN_LOGS && sd_log_reopen(&err) < 0)
			sd_log_err(SD_LOG_WARN, &err, "reopening the log");
	}
	if (n < 0)
		sd_worker_orphaned(w);
}

/*
 * TERM comes for one of four reasons, and the worker knows which: the attempt
 * passed a limit of its pool, or its deadline, its job was cancelled, or the
 * daemon stops and the drain time is over.  In the first three the handler may
 * still return within the grace.  In the last we go at once, and the supervisor has what ran given
 * back when we are gone: only then may it run elsewhere.  Somebody else's TERM
 * may be the handler's own, which would come again on each attempt: we die of
 * it, when what ended before is told, and that is a crash like any other.
 */
static void on_term(struct ev_loop *loop, ev_signal *s, int revents)
{
	struct sd_worker *w = s->data;
	struct sd_slot *slot = w->child->slot;
	int64_t since;
	sd_worker_take_finished(w);
	sd_worker_recall(w);
	const struct sd_attempt *a = sd_runner_current(w->runner, &since);
	if (a == NULL || w->ending) {
		w->draining = true;
		ev_timer_start(w->loop, &w->patience_timer);
		sd_worker_pump(w);
		return;
	}
	int64_t deadline = atomic_load(&slot->deadline_us);
	w->ending = true;
	w->ending_job = a->job_id;
	if (sd_limit_of_slot(slot, a->job_id, w->ending_error) != NULL) {
		w->ending_outcome = "timeout";
	} else if (deadline != 0 && sd_now_us() >= deadline) {
		w->ending_outcome = "timeout";
		snprintf(w->ending_error, sizeof w->ending_error, "timed out after %lld ms", (long long)a->timeout_ms);
	} else if (atomic_load(&slot->cancel_job) == a->job_id) {
		w->ending_outcome = "cancelled";
		snprintf(w->ending_error, sizeof w->ending_error, "cancelled while it ran");
	} else {
		w->leaving = true;
		w->struck = atomic_load(&slot->state) != SD_SLOT_DRAINING;
		if (w->struck)
			w->ending_job = 0; /* should it end before us, that counts */
	}
	atomic_store(&slot->cancel_job, a->job_id);
	sd_worker_pump(w);
}

static void on_db_up(void *arg, struct sd_db *db)
{
	struct sd_worker *w = arg;
	atomic_store(&w->child->slot->db_up, 1);
	w->backend = sd_db_backend(db);
	if (!w->lost_claim) /* should we die, it is the lost one that must have ended before our leases are given back */
		atomic_store(&w->child->slot->backend, w->backend);
	ev_timer_stop(w->loop, &w->retry_timer);
	w->sleeping = false;
	w->warm = false;
	sd_worker_pump(w);
}

static void on_db_down(void *arg, struct sd_db *db, const struct sd_err *err)
{
	struct sd_worker *w = arg;
	atomic_store(&w->child->slot->db_up, 0);
	sd_log_err(SD_LOG_WARN, err, "database connection lost");
	sd_worker_pump(w);
}

/* ---- start ---- */

static void init_watchers(struct sd_worker *w)
{
	ev_io_init(&w->chan_io, on_chan, w->child->chan, EV_READ);
	ev_io_init(&w->wake_io, on_wake, w->child->wake->fd[w->group], EV_READ);
	ev_io_init(&w->runner_io, on_runner, sd_runner_fd(w->runner), EV_READ);
	ev_timer_init(&w->flush_timer, on_pump_timer, 0., 0.);
	ev_timer_init(&w->slow_timer, on_slow_timer, 0., SLOW_SECONDS);
	ev_timer_init(&w->retry_timer, on_pump_timer, 0., 0.);
	ev_timer_init(&w->patience_timer, on_patience_timer, PATIENCE_SECONDS, 0.);
	ev_signal_init(&w->term, on_term, SIGTERM);
	sd_worker_report_init(w);
	sd_worker_lease_init(w);
	w->chan_io.data = w->wake_io.data = w->runner_io.data = w->flush_timer.data = w->slow_timer.data =
		w->retry_timer.data = w->patience_timer.data = w->term.data = w;
	ev_io_start(w->loop, &w->chan_io);
	ev_io_start(w->loop, &w->runner_io);
	ev_signal_start(w->loop, &w->term);
}

_Noreturn void sd_worker_main(const struct sd_child *child)
{
	struct sd_worker w = {.child = child, .group = atomic_load(&child->slot->group), .died_us = sd_now_us() - RECENT_US};
	struct sd_err err;
	char name[64];

	sd_chain_init(&w.finished);
	sd_chain_init(&w.sending);
	w.registry = sd_registry_load(child->manifest, child->manifest_len, &err);
	if (w.registry == NULL)
		sd_child_fail(child, 78, &err);
	sd_registry_set_log_level(w.registry, child->conf->log_database);
	w.runner = sd_runner_new(w.registry, child->slot, &err);
	if (w.runner == NULL)
		sd_child_fail(child, 71, &err);
	sd_runner_set_board(w.runner, child->scoreboard);
	w.loop = ev_loop_new(EVFLAG_AUTO);
	w.db_ev = sd_db_ev_new(w.loop, &w.db_loop);
	const struct sd_db_events events = {.up = on_db_up, .down = on_db_down, .arg = &w};
	snprintf(name, sizeof name, "stepd worker %s/%d", child->pool->name, atomic_load(&child->slot->index));
	w.db = sd_db_new(child->conninfo, name, NULL, &w.db_loop, &events);
	init_watchers(&w);
	sd_orphan_lingers();
	sd_db_start(w.db);
	ev_run(w.loop, 0);
	abort(); /* the loop never ends: the runner is always watched */
}
