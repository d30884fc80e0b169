/*
 * From a committed enqueue to a woken worker.
 *
 * NOTIFY stepd_ready says that something was made ready ('' ) or put aside for
 * later ('due').  It wakes one sleeping worker of this node; a worker whose
 * claim came back full, or left something to others, wakes some more.  stepd.promote moves what is due into
 * place and says when the next job is due, so there is a timer for that moment;
 * every half second it runs anyway, as the fallback for whatever was missed.
 *
 * The doorbell.  NOTIFY holds a lock of the whole server through the commit, so
 * enqueuers that ring wait for each other's fsync: 16 of them lose four fifths
 * of their throughput.  When that is seen (sessions wait for that very lock, or
 * it rings hundreds of times a second), SQL is told that we do not listen, and
 * promote is asked every few milliseconds instead, until there was nothing to
 * do for a while.  An enqueue that looked just before it was switched on again
 * rings for nobody: hence a few sweeps after that.
 */
#include "role/keeper.h"

#include "base/clock.h"
#include "base/log.h"
#include "db/number.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define IDLE_SECONDS 0.5
#define SOON_SECONDS 0.01 /* somebody else holds what is due */
#define PROMOTE_MAX "1000"
#define PROMOTE_TIMEOUT_MS 15000

#define WINDOW_US (100 * SD_MS)
#define WINDOW_BUSY 50	 /* notifications in a window: 500 a second */
#define WINDOW_LOOK 3	 /* from here on look whether sessions wait */
#define WINDOWS_IN_A_ROW 3
#define CROWDED_LOOKS 2	 /* in a row */
#define LOOK_TIMEOUT_MS 5000
#define POLL_SECONDS 0.002
#define QUIET_US (100 * SD_MS)
#define SWEEPS 4
#define SWEEP_SECONDS 0.025

static const struct sd_db_stmt st_promote = {
	"promote", "select promoted, ready, next_due_ms from stepd.promote($1)", 1};
/* The lock of NOTIFY: LockSharedObject(DatabaseRelationId, InvalidOid, …) in the server's async.c. */
static const struct sd_db_stmt st_crowd = {
	"notify_waiters",
	"select count(*) from pg_locks where locktype = 'object' and classid = 1262 and objid = 0 and not granted", 0};
static const struct sd_db_stmt st_beat = {"node_beat", "select stepd.node_beat($1, $2)", 2};

/* There is work: wake a worker of each pool, or have more of them. */
static void ring(struct sd_keeper *k)
{
	sd_wake_ring(k->child->wake, k->child->scoreboard, -1, 1);
	sd_keeper_demand(k);
}

static void promote_in(struct sd_keeper *k, double seconds)
{
	ev_timer_stop(k->loop, &k->promote_timer);
	ev_timer_set(&k->promote_timer, seconds, 0.);
	ev_timer_start(k->loop, &k->promote_timer);
}

/* ---- the doorbell ---- */

static void on_beat(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_keeper *k = arg;
	k->beats--;
	if (err) {
		if (sd_db_is_up(k->db))
			sd_log_err(SD_LOG_WARN, err, "heartbeat");
		return;
	}
	if (strcmp(PQgetvalue(results[0], 0, 0), "t") != 0)
		sd_keeper_declared_dead(k);
	else
		atomic_store(&k->child->scoreboard->lease_until_us, k->beat_us + k->child->conf->database_lease_ms * SD_MS);
}

void sd_keeper_beat(struct sd_keeper *k)
{
	struct sd_db_numbers b = {0};
	int32_t shared = atomic_load(&k->child->scoreboard->node_id);

	atomic_store(&k->child->slot->beat_us, sd_now_us());
	if (k->node_id == 0 || k->leaving || !sd_db_is_up(k->db))
		return;
	if (shared > 0) /* the other keeper of a reload may have joined anew */
		k->node_id = shared;
	const char *values[] = {sd_db_number(&b, k->node_id), k->listening ? "t" : "f"};
	if (k->beats++ == 0)
		k->beat_us = sd_boot_us();
	sd_keeper_ask(k, &st_beat, values, k->child->conf->database_lease_ms / 2, on_beat);
}

static void doorbell(struct sd_keeper *k, bool on)
{
	k->listening = on;
	k->busy_windows = k->window_count = k->crowded = 0;
	k->ready_seen_us = sd_now_us();
	k->sweeps = on ? SWEEPS : 0;
	sd_log(SD_LOG_DEBUG, on ? "work has calmed down: listening again" : "much work comes: polling instead of listening");
	sd_keeper_beat(k);
}

static void on_crowd(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_keeper *k = arg;

	k->looking = false;
	if (err || !k->listening)
		return;
	k->crowded = strcmp(PQgetvalue(results[0], 0, 0), "0") != 0 ? k->crowded + 1 : 0;
	if (k->crowded >= CROWDED_LOOKS)
		doorbell(k, false);
}

static void look_for_crowd(struct sd_keeper *k)
{
	if (k->looking)
		return;
	k->looking = true;
	sd_keeper_ask(k, &st_crowd, NULL, LOOK_TIMEOUT_MS, on_crowd);
}

/* It rang: too often, or too many at once? */
static void count_ring(struct sd_keeper *k)
{
	int64_t now = sd_now_us(), windows = (now - k->window_us) / WINDOW_US;

	k->window_count++;
	if (windows < 1)
		return;
	k->busy_windows = windows == 1 && k->window_count >= WINDOW_BUSY ? k->busy_windows + 1 : 0;
	if (windows == 1 && k->window_count >= WINDOW_LOOK)
		look_for_crowd(k);
	k->window_us = now;
	k->window_count = 0;
	if (k->busy_windows >= WINDOWS_IN_A_ROW)
		doorbell(k, false);
}

void sd_keeper_notified(struct sd_keeper *k, const char *payload)
{
	bool later = strcmp(payload, "due") == 0;

	if (!later)
		ring(k);
	if (k->listening)
		count_ring(k);
	if (later || !k->listening)
		sd_keeper_promote(k);
}

/* ---- promote ---- */

static double next_promote(struct sd_keeper *k, int promoted, bool ready, bool waits, int64_t due_ms)
{
	double seconds = IDLE_SECONDS;
	int64_t now = sd_now_us();

	if (!k->listening) {
		if (ready)
			k->ready_seen_us = now;
		if (now - k->ready_seen_us < QUIET_US)
			return POLL_SECONDS;
		doorbell(k, true);
	}
	if (k->sweeps > 0) {
		k->sweeps--;
		seconds = SWEEP_SECONDS;
	}
	if (promoted >= atoi(PROMOTE_MAX))
		return 0.;
	if (waits && (double)due_ms / 1e3 < seconds)
		seconds = due_ms > 0 ? (double)due_ms / 1e3 : SOON_SECONDS;
	return seconds;
}

static void on_promoted(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_keeper *k = arg;

	k->promoting = false;
	if (err) {
		if (sd_db_is_up(k->db))
			sd_log_err(SD_LOG_WARN, err, "promoting due jobs");
		promote_in(k, IDLE_SECONDS);
		return;
	}
	bool ready = strcmp(PQgetvalue(results[0], 0, 1), "t") == 0, waits = !PQgetisnull(results[0], 0, 2);
	double next = next_promote(k, atoi(PQgetvalue(results[0], 0, 0)), ready, waits, atoll(PQgetvalue(results[0], 0, 2)));
	if (ready)
		ring(k);
	sd_keeper_show_pools(k);
	promote_in(k, k->promote_again ? 0. : next);
}

void sd_keeper_promote(struct sd_keeper *k)
{
	const char *values[] = {PROMOTE_MAX};

	k->promote_again = k->promoting;
	if (k->promoting || !k->said_ready || !sd_db_is_up(k->db))
		return;
	ev_timer_stop(k->loop, &k->promote_timer);
	k->promoting = true;
	sd_keeper_ask(k, &st_promote, values, PROMOTE_TIMEOUT_MS, on_promoted);
}

static void on_promote_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct sd_keeper *k = t->data;
	sd_keeper_promote(k);
	if (!k->promoting)
		promote_in(k, IDLE_SECONDS);
}

void sd_keeper_wake_init(struct sd_keeper *k)
{
	k->listening = true;
	ev_timer_init(&k->promote_timer, on_promote_timer, IDLE_SECONDS, 0.);
	k->promote_timer.data = k;
	ev_timer_start(k->loop, &k->promote_timer);
}
