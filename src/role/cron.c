/*
 * The cron process: due ticks become jobs, each exactly once over all nodes.
 *
 * It computes, the database decides: a tick is a row with a unique key, made
 * together with its job, so any number of cron processes may bring the same
 * tick.  A request whose fate is unknown is simply brought again.
 *
 * Time.  Ticks are wall time; the process sleeps at most a quarter of a second
 * at once and then looks at the clock again, so a clock that is set does not
 * find it asleep.  When the clock is set back, the ticks of the repeated time are
 * brought again, and the database takes none twice: by this node's word alone
 * nothing is held to have fired.
 *
 * Missed ticks.  A tick that is merely late, because a commit took long or
 * another process took over, is brought.  What came due while no daemon ran, or
 * more than LATE_US ago, was missed, and the schedule's policy says what becomes
 * of it (cron_plan.h).  The scoreboard keeps until when ticks were brought, over
 * the lives of this process.
 *
 * The same clock on all nodes is not needed: a tick is named by its time, and
 * whoever thinks first that it has come brings it.
 */
#include "role/role.h"

#include "role/cron_plan.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/crondesc.h"
#include "base/cronspec.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/zone.h"
#include "db/db.h"
#include "db/db_ev.h"
#include "proc/spawn.h"
#include "step/manifest.h"

#include <ev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOK_SECONDS 0.25
#define LATE_US (10 * SD_SEC) /* up to here a tick is late, not missed */
#define CLOCK_SET_BACK_US SD_SEC
#define BATCH 20000 /* ticks a request */
#define BATCH_EACH 100 /* of one schedule */
#define SKEW_US (2 * SD_SEC)
#define LOAD_TIMEOUT_MS 15000
#define FIRE_TIMEOUT_MS 15000
#define RETRY_US (500 * SD_MS)
#define TELL_EVERY_US (60 * SD_SEC)

struct schedule {
	int32_t id, revision;
	char *step, *expression;
	struct sd_cron_plan plan;
};

struct cron {
	const struct sd_child *child;
	struct ev_loop *loop;
	struct sd_db *db;
	struct sd_db_ev *db_ev;
	struct sd_db_loop db_loop;
	struct sd_zoneset *zones;
	char told[sizeof((struct sd_err){0}.sqlstate)]; /* the last error in the log, "": all has been well since */
	int64_t told_us;
	char *steps; /* text[] of those with cron triggers */
	size_t nsteps;
	struct schedule *v;
	size_t n;
	bool loaded, said_ready, busy, draining;
	uint32_t settings_version; /* that was loaded */
	int64_t retry_us;	   /* not before; monotonic */
	int64_t clock_us;	   /* wall minus monotonic time, when last looked */
	int64_t earliest_us;	   /* of the ticks to bring next */
	/* the request under way: the next ticks of these become after */
	struct {
		size_t at;
		int64_t after;
	} *batch;
	size_t nbatch;
	ev_io chan_io;
	ev_timer timer;
};

static const struct sd_db_stmt st_load = {
	"schedules_load",
	"select schedule_id, step, expression, timezone, (extract(epoch from last_fire) * 1000000)::bigint, paused,"
	" missed, catch_up_ms, revision, (extract(epoch from since) * 1000000)::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint from stepd.schedules_load($1)",
	1};
static const struct sd_db_stmt st_fire = {"cron_fire", "select schedule_id, job_id from stepd.cron_fire($1, $2, $3, $4, $5)", 5};
static const struct sd_db_stmt st_next = {"cron_next", "select stepd.cron_next($1, $2, $3)", 3};

static void look(struct cron *c);

/* ---- loading ---- */

static void schedules_free(struct cron *c)
{
	for (size_t i = 0; i < c->n; i++) {
		free(c->v[i].step);
		free(c->v[i].expression);
	}
	free(c->v);
	c->v = NULL;
	c->n = 0;
}

/* The oldest a tick may be and still be merely late: we are back soon enough after the last that were brought. */
static int64_t grace(const struct cron *c)
{
	int64_t until = atomic_load(&c->child->scoreboard->cron_us);

	return until != 0 && sd_now_us() - until < LATE_US ? LATE_US : 0;
}

static void schedule_read(struct cron *c, const PGresult *res, int row, int64_t now, int64_t late, int64_t ahead)
{
	struct schedule *s = &c->v[c->n];
	const char *timezone = PQgetvalue(res, row, 3);
	struct sd_err err;
	int64_t last_fire = atoll(PQgetvalue(res, row, 4));
	int64_t since = atoll(PQgetvalue(res, row, 9)) + ahead; /* of our clock */

	if (strcmp(PQgetvalue(res, row, 5), "t") == 0)
		return;
	*s = (struct schedule){.id = atoi(PQgetvalue(res, row, 0)), .step = sd_xstrdup(PQgetvalue(res, row, 1)),
			       .expression = sd_xstrdup(PQgetvalue(res, row, 2)), .revision = atoi(PQgetvalue(res, row, 8))};
	s->plan.next_us = SD_CRON_NEVER;
	s->plan.catch_up_us = atoll(PQgetvalue(res, row, 7)) * SD_MS;
	c->n++;
	if (sd_cron_missed_parse(PQgetvalue(res, row, 6), &s->plan.missed, &err) < 0 ||
	    sd_cron_parse(s->expression, &s->plan.spec, &err) < 0 ||
	    (s->plan.zone = sd_zoneset_get(c->zones, timezone, &err)) == NULL) {
		sd_log_err(SD_LOG_ERROR, &err, "schedule \"%s\" of step %s does not run", s->expression, s->step);
		return;
	}
	if (last_fire > now - late) /* by a clock ahead of ours, which may not have brought all up to there */
		last_fire = since < now - late ? now - late : since < now ? since : now;
	sd_cron_plan_begin(&s->plan, last_fire, now, late);
}

/* One line a minute for what stays wrong, such as a full disk, on which the log may be too. */
static void retry_later(struct cron *c, const struct sd_err *err, const char *what)
{
	int64_t now = sd_now_us();

	if (sd_db_is_up(c->db) && (strcmp(c->told, err->sqlstate) != 0 || now >= c->told_us + TELL_EVERY_US)) {
		sd_log_err(SD_LOG_WARN, err, "%s", what);
		memcpy(c->told, err->sqlstate, sizeof c->told);
		c->told_us = now;
	}
	c->retry_us = now + RETRY_US;
}

static void put_time(struct sd_buf *b, int64_t us)
{
	char text[28];
	if (us != SD_CRON_NEVER)
		sd_wall_format(us, text);
	sd_buf_pgarray(b, us != SD_CRON_NEVER ? text : NULL, us != SD_CRON_NEVER ? strlen(text) : 0);
}

static void on_shown(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct cron *c = arg;
	if (err && sd_db_is_up(c->db))
		sd_log_err(SD_LOG_WARN, err, "showing the next ticks");
}

/* stepd.schedules shows when each will run, and what its expression means. */
static void show_next(struct cron *c)
{
	struct sd_buf ids = SD_BUF_INIT, times = SD_BUF_INIT, words = SD_BUF_INIT, text = SD_BUF_INIT;

	sd_buf_chr(&ids, '{');
	sd_buf_chr(&times, '{');
	sd_buf_chr(&words, '{');
	for (size_t i = 0; i < c->n; i++) {
		sd_buf_pgarray_i64(&ids, c->v[i].id);
		put_time(&times, c->v[i].plan.next_us);
		sd_buf_reset(&text);
		sd_cron_describe(&c->v[i].plan.spec, &text);
		sd_buf_pgarray(&words, text.data, text.len);
	}
	sd_buf_chr(&ids, '}');
	sd_buf_chr(&times, '}');
	sd_buf_chr(&words, '}');
	const char *values[] = {ids.data, times.data, words.data};
	const struct sd_db_call call = {&st_next, values};
	sd_db_submit(c->db, &call, 1, 0, LOAD_TIMEOUT_MS, on_shown, c);
	sd_buf_fini(&ids);
	sd_buf_fini(&times);
	sd_buf_fini(&words);
	sd_buf_fini(&text);
}

static void find_earliest(struct cron *c)
{
	c->earliest_us = SD_CRON_NEVER;
	for (size_t i = 0; i < c->n; i++)
		if (c->v[i].plan.next_us < c->earliest_us)
			c->earliest_us = c->v[i].plan.next_us;
}

/* How far our clock is ahead of the database's; 0 when that is no more than the way there and back explains. */
static int64_t skew(const PGresult *res, int64_t now)
{
	int64_t ahead = PQntuples(res) > 0 ? now - atoll(PQgetvalue(res, 0, 10)) : 0;

	if (ahead <= SKEW_US && ahead >= -SKEW_US)
		return 0;
	sd_log(SD_LOG_WARN, "this clock is %lld s %s that of the database; ticks come by this one", llabs(ahead) / SD_SEC,
	       ahead > 0 ? "ahead of" : "behind");
	return ahead;
}

static void on_loaded(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct cron *c = arg;
	int64_t now = sd_wall_us(), late = grace(c), ahead;

	c->busy = false;
	if (err) {
		if (err->class != SD_ERR_TRANSIENT && !c->said_ready)
			sd_child_fail(c->child, 78, err);
		retry_later(c, err, "loading the schedules");
		return;
	}
	schedules_free(c);
	ahead = skew(results[0], now);
	c->v = sd_xcalloc((size_t)PQntuples(results[0]) + 1, sizeof *c->v);
	for (int i = 0; i < PQntuples(results[0]); i++)
		schedule_read(c, results[0], i, now, late, ahead);
	find_earliest(c);
	c->loaded = true;
	if (c->n > 0)
		show_next(c);
	if (!c->said_ready) {
		c->said_ready = true;
		sd_child_ready(c->child);
	}
	look(c);
}

static void load(struct cron *c)
{
	const char *values[] = {c->steps};
	const struct sd_db_call call = {&st_load, values};

	c->busy = true;
	c->settings_version = atomic_load(&c->child->scoreboard->settings_version);
	sd_db_submit(c->db, &call, 1, 0, LOAD_TIMEOUT_MS, on_loaded, c);
}

/* ---- firing ---- */

static void on_fired(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct cron *c = arg;

	c->busy = false;
	if (err) {
		retry_later(c, err, "bringing due ticks");
		return; /* they are still next; a tick that was committed after all is not made twice */
	}
	c->told[0] = '\0';
	for (int i = 0; i < PQntuples(results[0]); i++)
		sd_log(SD_LOG_DEBUG, PQgetisnull(results[0], i, 1) ? "schedule %s left out a tick, the job before is unfinished%s" : "schedule %s fired: job %s",
		       PQgetvalue(results[0], i, 0), PQgetvalue(results[0], i, 1));
	for (size_t i = 0; i < c->nbatch; i++)
		c->v[c->batch[i].at].plan.next_us = c->batch[i].after;
	find_earliest(c);
	look(c);
}

enum { IDS, TICKS, NEXTS, REVISIONS, NARRAYS };

/* Due ticks into the arrays, at most a batch. */
static void collect(struct cron *c, int64_t now, struct sd_buf b[NARRAYS])
{
	c->nbatch = 0;
	for (size_t i = 0; i < c->n; i++) {
		struct schedule *s = &c->v[i];
		size_t most = c->nbatch + BATCH_EACH < BATCH ? c->nbatch + BATCH_EACH : BATCH;

		if (s->plan.next_us > now)
			continue;
		sd_cron_plan_late(&s->plan, now, LATE_US);
		for (int64_t t = s->plan.next_us, after; t <= now && c->nbatch < most; t = after) {
			after = sd_cron_plan_after(&s->plan, t);
			sd_buf_pgarray_i64(&b[IDS], s->id);
			put_time(&b[TICKS], t);
			put_time(&b[NEXTS], after);
			sd_buf_pgarray_i64(&b[REVISIONS], s->revision);
			c->batch[c->nbatch].at = i;
			c->batch[c->nbatch++].after = after;
		}
	}
}

static void fire(struct cron *c, int64_t now)
{
	struct sd_buf b[NARRAYS] = {SD_BUF_INIT, SD_BUF_INIT, SD_BUF_INIT, SD_BUF_INIT};
	char fired_at[28];

	for (int i = 0; i < NARRAYS; i++)
		sd_buf_chr(&b[i], '{');
	collect(c, now, b);
	for (int i = 0; i < NARRAYS; i++)
		sd_buf_chr(&b[i], '}');
	if (c->nbatch > 0) {
		const char *values[] = {b[IDS].data, b[TICKS].data, b[NEXTS].data, b[REVISIONS].data, sd_wall_format(now, fired_at)};
		const struct sd_db_call call = {&st_fire, values};
		c->busy = true;
		sd_db_submit(c->db, &call, 1, 0, FIRE_TIMEOUT_MS, on_fired, c);
	} else {
		find_earliest(c); /* what was due was missed and is let go */
	}
	for (int i = 0; i < NARRAYS; i++)
		sd_buf_fini(&b[i]);
}

/* The clock was set back: what is next is computed again from what has fired. */
static bool clock_was_set_back(struct cron *c)
{
	int64_t offset = sd_wall_us() - sd_now_us(), was = c->clock_us;
	c->clock_us = offset;
	if (offset >= was - CLOCK_SET_BACK_US)
		return false;
	sd_log(SD_LOG_WARN, "the clock was set back by %lld s", (long long)((was - offset) / SD_SEC));
	return true;
}

/* Look at the clock, do what is due, sleep until the next tick or for a while. */
static void look(struct cron *c)
{
	int64_t now = sd_wall_us();
	bool set_back = clock_was_set_back(c);

	if (c->draining && !c->busy)
		sd_leave(0);
	if (set_back)
		c->loaded = false;
	if (!c->busy && sd_db_is_up(c->db) && sd_now_us() >= c->retry_us) {
		if (!c->loaded || c->settings_version != atomic_load(&c->child->scoreboard->settings_version))
			load(c);
		else if (c->earliest_us <= now)
			fire(c, now);
		else
			atomic_store(&c->child->scoreboard->cron_us, sd_now_us());
	}
	double sleep = LOOK_SECONDS, left = (double)(c->earliest_us - now) / 1e6;
	if (c->loaded && !c->busy && left < sleep)
		sleep = left > 0 ? left : 0.01;
	ev_now_update(c->loop);
	ev_timer_stop(c->loop, &c->timer);
	ev_timer_set(&c->timer, sleep, 0.);
	ev_timer_start(c->loop, &c->timer);
}

/* ---- events ---- */

static void on_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	look(t->data);
}

static void on_up(void *arg, struct sd_db *db)
{
	struct cron *c = arg;
	atomic_store(&c->child->slot->db_up, 1);
	c->loaded = false;
	c->retry_us = 0;
	look(c);
}

static void on_down(void *arg, struct sd_db *db, const struct sd_err *err)
{
	struct cron *c = arg;
	atomic_store(&c->child->slot->db_up, 0);
	sd_log_err(SD_LOG_WARN, err, "database");
}

static void on_chan(struct ev_loop *loop, ev_io *io, int revents)
{
	struct cron *c = io->data;
	struct sd_msg msg;
	struct sd_err err;
	int n;

	while ((n = sd_chan_recv(c->child->chan, &msg, &err)) > 0) {
		if (msg.type == SD_MSG_DRAIN) {
			c->draining = true;
			if (!c->busy)
				sd_leave(0);
		} else if (msg.type == SD_MSG_REOPEN_LOGS && sd_log_reopen(&err) < 0) {
			sd_log_err(SD_LOG_WARN, &err, "reopening the log");
		}
	}
	if (n < 0)
		sd_orphaned();
}

/* The steps that have a cron trigger. */
static void find_steps(struct cron *c)
{
	struct sd_arena *arena = sd_arena_new();
	struct sd_buf names = SD_BUF_INIT;
	struct sd_err err;
	const struct sd_manifest *m = sd_manifest_parse(c->child->manifest, c->child->manifest_len, arena, &err);

	if (!m)
		sd_child_fail(c->child, 78, &err);
	sd_buf_chr(&names, '{');
	for (size_t i = 0; i < m->nsteps; i++) {
		for (size_t t = 0; t < m->steps[i].ntriggers; t++) {
			if (m->steps[i].triggers[t].type != SD_TRIGGER_CRON)
				continue;
			sd_buf_pgarray(&names, m->steps[i].name, strlen(m->steps[i].name));
			c->nsteps++;
			break;
		}
	}
	sd_buf_chr(&names, '}');
	c->steps = sd_buf_take(&names, NULL);
	sd_arena_free(arena);
}

_Noreturn void sd_cron_main(const struct sd_child *child)
{
	struct cron c = {.child = child};

	find_steps(&c);
	c.loop = ev_loop_new(EVFLAG_AUTO);
	c.zones = sd_zoneset_new();
	c.clock_us = sd_wall_us() - sd_now_us();
	c.batch = sd_xcalloc(BATCH, sizeof *c.batch);
	ev_io_init(&c.chan_io, on_chan, child->chan, EV_READ);
	ev_timer_init(&c.timer, on_timer, 0., 0.);
	c.chan_io.data = c.timer.data = &c;
	ev_io_start(c.loop, &c.chan_io);
	if (c.nsteps == 0) {
		sd_child_ready(child); /* nothing to do, and no connection needed for it */
	} else {
		c.db_ev = sd_db_ev_new(c.loop, &c.db_loop);
		const struct sd_db_events events = {.up = on_up, .down = on_down, .arg = &c};
		c.db = sd_db_new(child->conninfo, "stepd cron", NULL, &c.db_loop, &events);
		sd_db_start(c.db);
		look(&c);
	}
	ev_run(c.loop, 0);
	abort(); /* the loop never ends: the channel is always watched */
}
