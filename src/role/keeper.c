/*
 * The keeper: one process a node that keeps what belongs to the node as a
 * whole.  It joins it to the database and keeps its lease by heartbeats, tells
 * SQL what the node's steps and queues are, listens for work, cancels and
 * changed settings, records dead workers, rescues the jobs of nodes that
 * vanished, and looks after the partitions.
 *
 * Identity.  A node is one life of the daemon (boot id).  Its number is in the
 * scoreboard.  A keeper that is started again, or that finds its database back,
 * joins with the boot id it knows, which gives the same number while the node
 * lives.  When it was declared dead the node joins anew under another boot id;
 * until then workers claim nothing.  That one is made of the daemon's and the
 * count of lives in the scoreboard, so that two keepers agree on it.
 *
 * The lease.  Nobody takes our jobs away before it is over, counted from the
 * sending of the last heartbeat that was answered.  The scoreboard says when
 * that is, and workers start no job later.
 *
 * During a reload two keepers live side by side.  They share the node; only
 * the last one, when the daemon stops, says goodbye for it.
 */
#include <config.h>

#include "role/keeper.h"

#include "base/clock.h"
#include "base/log.h"
#include "conf/conf.h"
#include "db/number.h"
#include "proc/spawn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXIT_UNREACHABLE 69
#define EXIT_CONFIG 78
#define START_MIN_MS 10000 /* joining may take that long, even if the database was not waited for */
#define JOIN_TIMEOUT_MS 10000
#define CONFIGURE_TIMEOUT_MS 60000
#define RESCUE_TIMEOUT_MS 60000
#define LEAVE_TIMEOUT_MS 4000
#define RETRY_SECONDS 0.5
#define DRAIN_SECONDS 5.
#define UPKEEP_FIRST_SECONDS 600.
#define UPKEEP_SECONDS 3600.
#define UPKEEP_TIMEOUT_MS 1800000

static const struct sd_db_stmt st_join = {"node_join", "select stepd.node_join($1, $2, $3, $4, $5)", 5};
static const struct sd_db_stmt st_leave = {"node_leave", "select stepd.node_leave($1)", 1};
static const struct sd_db_stmt st_configure = {"configure", "select stepd.configure($1, $2, $3, $4)", 4};
static const struct sd_db_stmt st_rescue = {"rescue", "select job_id, node_id, verdict from stepd.rescue()", 0};
static const struct sd_db_stmt st_upkeep = {"upkeep", "select did, more from stepd.upkeep($1)", 1};

static void join_step(struct sd_keeper *k);

void sd_keeper_ask(struct sd_keeper *k, const struct sd_db_stmt *stmt, const char *const *values, int64_t timeout_ms,
		   sd_db_done *done)
{
	const struct sd_db_call call = {stmt, values};
	sd_db_submit(k->db, &call, 1, 0, timeout_ms, done, k);
}

static void start_timer(struct sd_keeper *k, ev_timer *t, double seconds)
{
	ev_timer_stop(k->loop, t);
	ev_timer_set(t, seconds, t->repeat);
	ev_timer_start(k->loop, t);
}

/* ---- rescue ---- */

static void on_rescued(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_keeper *k = arg;
	if (err) {
		if (sd_db_is_up(k->db))
			sd_log_err(SD_LOG_WARN, err, "rescuing jobs of lost nodes");
		return;
	}
	int rows = PQntuples(results[0]);
	for (int i = 0; i < rows; i++)
		sd_log(SD_LOG_DEBUG, "job %s of lost node %s: %s", PQgetvalue(results[0], i, 0), PQgetvalue(results[0], i, 1),
		       PQgetvalue(results[0], i, 2));
	if (rows > 0) {
		sd_log(SD_LOG_WARN, "took back %d job%s of nodes that were lost", rows, rows == 1 ? "" : "s");
		sd_keeper_promote(k);
	}
}

void sd_keeper_rescue(struct sd_keeper *k)
{
	if (k->node_id != 0 && sd_db_is_up(k->db))
		sd_keeper_ask(k, &st_rescue, NULL, RESCUE_TIMEOUT_MS, on_rescued);
}

static void on_rescue_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct sd_keeper *k = t->data;

	/* who stood still for longer than the lease is not to be the one that takes back its own node's jobs */
	if (atomic_load(&k->child->scoreboard->lease_until_us) <= sd_boot_us())
		sd_keeper_beat(k);
	sd_keeper_rescue(k);
	sd_keeper_ask_cancels(k);
}

static void on_beat_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	sd_keeper_beat(t->data);
}

/* ---- joining ---- */

/* Everything that may have been missed while we did not listen. */
static void resume(struct sd_keeper *k)
{
	atomic_fetch_add(&k->child->scoreboard->settings_version, 1);
	sd_keeper_send_deaths(k);
	sd_keeper_ask_cancels(k);
	sd_keeper_promote(k);
	sd_keeper_rescue(k);
	sd_keeper_show_pools(k);
}

static void join_failed(struct sd_keeper *k, const struct sd_err *err, const char *what)
{
	if (err->class != SD_ERR_TRANSIENT && !k->said_ready)
		sd_child_fail(k->child, EXIT_CONFIG, err);
	k->start_err = *err;
	if (sd_db_is_up(k->db)) {
		sd_log_err(SD_LOG_WARN, err, "%s", what);
		start_timer(k, &k->join_timer, RETRY_SECONDS);
	}
}

/* Before it has a node again, for which workers may begin something. */
static void end_former_life(struct sd_keeper *k)
{
	unsigned n = sd_keeper_cancel_running(k);

	if (n > 0)
		sd_log(SD_LOG_WARN, "ending %u job%s that %s here: %s no longer ours, and may run elsewhere", n, n == 1 ? "" : "s",
		       n == 1 ? "runs" : "run", n == 1 ? "it is" : "they are");
}

static void joined(struct sd_keeper *k, int32_t node_id)
{
	if (k->away && k->said_ready)
		sd_log(SD_LOG_INFO, "the database is back");
	k->away = false;
	k->node_id = node_id;
	atomic_store(&k->child->scoreboard->lease_until_us, k->join_us + k->child->conf->database_lease_ms * SD_MS);
	k->listening = true;
	sd_buf_reset(&k->pools_told);
	atomic_store(&k->child->scoreboard->node_id, node_id);
	sd_keeper_beat(k); /* from now on we hear of new work; what came before, promote finds */
	sd_keeper_place(k);
	join_step(k);
}

/* That life is over; the other keeper of a reload may have seen so before us. */
static void forget_node(struct sd_keeper *k)
{
	struct sd_scoreboard *sb = k->child->scoreboard;
	uint32_t mine = k->life;
	int32_t dead = k->node_id;

	if (atomic_compare_exchange_strong(&sb->life, &mine, k->life + 1)) {
		if (dead == 0)
			dead = atomic_load(&sb->node_id);
		atomic_compare_exchange_strong(&sb->node_id, &dead, 0);
	}
	k->node_id = 0;
}

static void on_joined(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_keeper *k = arg;
	k->joining = false;
	if (!err) {
		int32_t id = atoi(PQgetvalue(results[0], 0, 0));
		if (id != atomic_load(&k->child->scoreboard->node_id)) {
			sd_log(SD_LOG_INFO, "joined as node %d \"%s\"", id, k->child->conf->node_name);
			end_former_life(k);
		}
		joined(k, id);
	} else if (strcmp(err->sqlstate, "22023") == 0 && strncmp(err->message, "boot_id", 7) == 0) {
		sd_log(SD_LOG_WARN, "this node was declared dead while it was away from the database; joining anew");
		forget_node(k);
		join_step(k);
	} else {
		join_failed(k, err, "joining");
	}
}

static void on_configured(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_keeper *k = arg;
	k->joining = false;
	if (err) {
		join_failed(k, err, "telling the database of steps and queues");
		return;
	}
	k->configured = true;
	join_step(k);
}

/* The daemon's boot id in its first life; in a later one its last eight digits are others. */
static void boot_id_of_life(const struct sd_keeper *k, char out[40])
{
	size_t len = strlen(k->child->boot_id);
	uint32_t tail = (uint32_t)strtoul(k->child->boot_id + len - 8, NULL, 16);

	snprintf(out, 40, "%.*s%08x", (int)(len - 8), k->child->boot_id, tail ^ k->life);
}

static void ask_join(struct sd_keeper *k)
{
	struct sd_db_numbers b = {0};
	char boot_id[40];
	const char *values[] = {boot_id, k->child->conf->node_name, sd_db_number(&b, getppid()), PACKAGE_VERSION,
				sd_db_number(&b, k->child->conf->database_lease_ms)};

	k->life = atomic_load(&k->child->scoreboard->life);
	k->join_us = sd_boot_us();
	boot_id_of_life(k, boot_id);
	sd_keeper_ask(k, &st_join, values, JOIN_TIMEOUT_MS, on_joined);
}

static void ask_configure(struct sd_keeper *k)
{
	const struct sd_conf *conf = k->child->conf;
	const char *values[] = {conf->node_name, k->child->manifest, sd_conf_queues_json(conf, k->arena),
				sd_conf_queue_defaults_json(conf, k->arena)};
	sd_keeper_ask(k, &st_configure, values, CONFIGURE_TIMEOUT_MS, on_configured);
}

/* The next step from a fresh connection to a node that works. */
static void join_step(struct sd_keeper *k)
{
	if (k->joining || k->leaving || !sd_db_is_up(k->db))
		return;
	k->joining = true;
	if (k->node_id == 0)
		ask_join(k);
	else if (!k->configured)
		ask_configure(k);
	else
		k->joining = false;
	if (k->joining)
		return;
	if (!k->said_ready) {
		k->said_ready = true;
		sd_child_ready(k->child);
	}
	resume(k);
}

void sd_keeper_declared_dead(struct sd_keeper *k)
{
	if (k->joining || k->node_id == 0)
		return;
	sd_log(SD_LOG_WARN, "this node was declared dead: its heartbeat was late; joining anew");
	forget_node(k);
	join_step(k);
}

/* The database was there, but would not let us begin. */
static void on_start_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct sd_keeper *k = t->data;
	if (k->said_ready)
		return;
	if (k->start_err.class == SD_ERR_NONE)
		sd_err_set(&k->start_err, SD_ERR_TRANSIENT, "the database did not answer in time");
	sd_err_prefix(&k->start_err, "joining the database");
	sd_child_fail(k->child, EXIT_UNREACHABLE, &k->start_err);
}

static void on_join_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	join_step(t->data);
}

/* ---- maintenance ---- */

static void maintain(struct sd_keeper *k);

static void on_maintained(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_keeper *k = arg;
	if (err)
		sd_log_err(SD_LOG_WARN, err, "maintenance");
	else if (*PQgetvalue(results[0], 0, 0))
		sd_log(SD_LOG_INFO, "maintenance: %s", PQgetvalue(results[0], 0, 0));
	if (!err && strcmp(PQgetvalue(results[0], 0, 1), "t") == 0 && !k->draining) {
		maintain(k);
		return;
	}
	k->upkeep_done = true;
	start_timer(k, &k->upkeep_timer, 0.); /* not from within its own callback */
}

static void maintain(struct sd_keeper *k)
{
	char keep[40];
	const char *values[] = {keep};
	const struct sd_db_call call = {&st_upkeep, values};

	snprintf(keep, sizeof keep, "%lld milliseconds", (long long)k->child->conf->history_keep_ms);
	sd_db_submit(k->upkeep, &call, 1, SD_DB_WAIT, UPKEEP_TIMEOUT_MS, on_maintained, k);
}

static void on_upkeep_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct sd_keeper *k = t->data;
	if (!k->upkeep) {
		if (k->draining)
			return;
		k->upkeep_done = false;
		k->upkeep_ev = sd_db_ev_new(k->loop, &k->upkeep_loop);
		k->upkeep = sd_db_new(k->child->conninfo, "stepd maintenance", NULL, &k->upkeep_loop, NULL);
		sd_db_start(k->upkeep);
		maintain(k);
	} else if (k->upkeep_done) {
		sd_db_free(k->upkeep);
		sd_db_ev_free(k->upkeep_ev);
		k->upkeep = NULL;
		k->upkeep_ev = NULL;
		start_timer(k, &k->upkeep_timer, UPKEEP_SECONDS);
	}
}

/* ---- the end ---- */

static void on_left(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	if (err)
		sd_log_err(SD_LOG_WARN, err, "leaving; what this node holds comes back when its lease ends");
	else if (strcmp(PQgetvalue(results[0], 0, 0), "0") != 0)
		sd_log(SD_LOG_INFO, "gave back %s jobs", PQgetvalue(results[0], 0, 0));
	sd_leave(0);
}

void sd_keeper_leave_when_done(struct sd_keeper *k)
{
	struct sd_db_numbers b = {0};

	if (!k->draining || k->leaving || (k->deaths && sd_db_is_up(k->db)))
		return;
	if (!atomic_load(&k->child->scoreboard->stopping) || k->node_id == 0 || !sd_db_is_up(k->db))
		sd_leave(0);
	k->leaving = true;
	atomic_store(&k->child->scoreboard->node_id, 0);
	sd_keeper_ask(k, &st_leave, (const char *[]){sd_db_number(&b, k->node_id)}, LEAVE_TIMEOUT_MS, on_left);
}

static void on_drain_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	sd_log(SD_LOG_WARN, "the database does not answer; leaving without a goodbye");
	sd_leave(0);
}

static void drain(struct sd_keeper *k)
{
	if (k->draining)
		return;
	k->draining = true;
	start_timer(k, &k->drain_timer, DRAIN_SECONDS);
	sd_keeper_leave_when_done(k);
}

/* ---- events ---- */

static void on_up(void *arg, struct sd_db *db)
{
	struct sd_keeper *k = arg;
	atomic_store(&k->child->slot->db_up, 1);
	join_step(k);
}

static void on_down(void *arg, struct sd_db *db, const struct sd_err *err)
{
	struct sd_keeper *k = arg;
	atomic_store(&k->child->slot->db_up, 0);
	k->node_id = 0; /* asked for again when the database is back */
	k->joining = false;
	if (k->start_err.class == SD_ERR_NONE)
		k->start_err = *err;
	ev_timer_stop(k->loop, &k->join_timer);
	/* a database that lets us in but not join, being read-only now, is told of once, not at each try */
	char what[sizeof k->away_what];
	snprintf(what, sizeof what, "%.*s", (int)strcspn(err->message, ":"), err->message);
	if (!k->away || strcmp(k->away_what, what) != 0)
		sd_log_err(SD_LOG_WARN, err, "database");
	k->away = true;
	memcpy(k->away_what, what, sizeof what);
	sd_keeper_leave_when_done(k);
}

static void on_notify(void *arg, struct sd_db *db, const char *channel, const char *payload)
{
	struct sd_keeper *k = arg;
	if (strcmp(channel, "stepd_ready") == 0)
		sd_keeper_notified(k, payload);
	else if (strcmp(channel, "stepd_settings") == 0)
		atomic_fetch_add(&k->child->scoreboard->settings_version, 1);
	else if (strcmp(channel, "stepd_cancel") == 0)
		sd_keeper_cancel(k, strtoll(payload, NULL, 10));
}

static void on_chan(struct ev_loop *loop, ev_io *io, int revents)
{
	struct sd_keeper *k = io->data;
	struct sd_msg msg;
	struct sd_err err;
	int n;

	while ((n = sd_chan_recv(k->child->chan, &msg, &err)) > 0) {
		if (msg.type == SD_MSG_DEATH)
			sd_keeper_died(k, &msg.death);
		else if (msg.type == SD_MSG_DRAIN)
			drain(k);
		else if (msg.type == SD_MSG_LIVE)
			sd_keeper_live(k);
		else if (msg.type == SD_MSG_REOPEN_LOGS && sd_log_reopen(&err) < 0)
			sd_log_err(SD_LOG_WARN, &err, "reopening the log");
	}
	if (n < 0)
		sd_orphaned();
}

static void init_watchers(struct sd_keeper *k)
{
	double lease = (double)k->child->conf->database_lease_ms / 1e3;
	int64_t wait_ms = k->child->conf->database_wait_ms;

	ev_io_init(&k->chan_io, on_chan, k->child->chan, EV_READ);
	ev_timer_init(&k->beat_timer, on_beat_timer, lease / 6, lease / 6);
	ev_timer_init(&k->rescue_timer, on_rescue_timer, lease / 3, lease / 3);
	ev_timer_init(&k->join_timer, on_join_timer, 0., 0.);
	ev_timer_init(&k->drain_timer, on_drain_timer, 0., 0.);
	ev_timer_init(&k->start_timer, on_start_timer, (double)(wait_ms > START_MIN_MS ? wait_ms : START_MIN_MS) / 1e3, 0.);
	ev_timer_init(&k->upkeep_timer, on_upkeep_timer, UPKEEP_FIRST_SECONDS, 0.);
	k->chan_io.data = k->beat_timer.data = k->rescue_timer.data = k->join_timer.data = k->drain_timer.data =
		k->start_timer.data = k->upkeep_timer.data = k;
	ev_io_start(k->loop, &k->chan_io);
	ev_timer_start(k->loop, &k->beat_timer);
	ev_timer_start(k->loop, &k->rescue_timer);
	ev_timer_start(k->loop, &k->start_timer);
	ev_timer_start(k->loop, &k->upkeep_timer);
}

_Noreturn void sd_keeper_main(const struct sd_child *child)
{
	static const char *const channels[] = {"stepd_ready", "stepd_settings", "stepd_cancel", NULL};
	struct sd_keeper k = {.child = child};

	sd_keeper_prepare(child);
	k.arena = sd_arena_new();
	k.loop = ev_loop_new(EVFLAG_AUTO);
	k.db_ev = sd_db_ev_new(k.loop, &k.db_loop);
	const struct sd_db_events events = {.up = on_up, .down = on_down, .notify = on_notify, .arg = &k};
	k.db = sd_db_new(child->conninfo, "stepd keeper", channels, &k.db_loop, &events);
	init_watchers(&k);
	sd_keeper_wake_init(&k);
	sd_keeper_demand_init(&k);
	sd_keeper_death_init(&k);
	sd_db_start(k.db);
	ev_run(k.loop, 0);
	abort(); /* the loop never ends: the channel is always watched */
}
