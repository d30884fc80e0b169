/*
 * The web worker: runs the handlers of http triggers for the http process.  See
 * web.h for who owns what, http/frame.h for the frames.
 *
 * The http process may send a few requests ahead, so that neither side sleeps
 * between two short handlers.  When the running handler turns out slow, what
 * waits behind it is returned, and another worker gets it.
 *
 * Stopping.  DRAIN: say BYE and go on serving; the http process closes the
 * connection when it needs this worker no more, and that is the end.  Without
 * an http process (it stops first) there is nothing to wait for.  TERM (the
 * running handler passed its deadline, or the time to stop is over): return
 * what has not started, let a transaction under way finish, and end without
 * waiting for the handler.  A request that ran too long is recorded first; the
 * exit status says if it could not be, so that the http process does it.
 */
#include "role/web.h"

#include "base/clock.h"
#include "base/log.h"
#include "db/db_ev.h"
#include "proc/spawn.h"
#include "role/limit.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SLOW_US (2 * SD_MS)
#define SLOW_SECONDS 0.002
#define BEAT_SECONDS 1.0
#define UNRECORDED 75 /* EX_TEMPFAIL */
#define MAX_SPARE 64
#define MAX_SPARE_ARENA (256 * 1024)

void sd_web_forget(struct sd_web *w, struct sd_attempt *a)
{
	if (w->nspare >= MAX_SPARE || sd_arena_size(a->arena) > MAX_SPARE_ARENA) {
		sd_attempt_free(a);
		return;
	}
	sd_attempt_reset(a);
	a->next = w->spare;
	w->spare = a;
	w->nspare++;
}

void sd_web_settle(struct sd_web *w)
{
	if (!w->said_ready && w->sock >= 0 && sd_db_is_up(w->db)) {
		w->said_ready = true;
		sd_child_ready(w->child);
	}
	if (w->ending && !w->asked) {
		sd_web_write(w);
		sd_leave(w->unrecorded ? UNRECORDED : 0);
	}
	if (w->draining && !w->welcome && w->running == 0 && !w->storing)
		sd_leave(0);
}

/* --- events --- */

static void on_runner(struct ev_loop *loop, ev_io *io, int revents)
{
	struct sd_web *w = io->data;
	struct sd_attempt *a, *next;
	struct sd_ask *ask;

	sd_runner_clear(w->runner);
	while ((ask = sd_runner_ask(w->runner)))
		sd_web_answer(w, ask);
	for (a = sd_runner_take(w->runner); a; a = next) {
		next = a->next;
		a->next = NULL;
		w->running--;
		sd_web_finished(w, a);
	}
	sd_web_settle(w);
}

/* Behind the handler that runs, or behind the outcome that is being stored. */
static bool somebody_waits(const struct sd_web *w)
{
	return w->running > (w->storing ? 0 : 1);
}

static void on_slow(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct sd_web *w = t->data;
	int64_t now = sd_now_us(), since;

	if (!somebody_waits(w))
		ev_timer_stop(loop, t);
	else if ((sd_runner_current(w->runner, &since) && now - since >= SLOW_US) || (w->storing && now - w->storing_since_us >= SLOW_US))
		sd_web_give_back(w);
}

/* The end of each turn of the loop. */
static void on_turn(struct ev_loop *loop, ev_prepare *p, int revents)
{
	struct sd_web *w = p->data;

	sd_web_write(w);
	if (somebody_waits(w) && !ev_is_active(&w->slow_timer))
		ev_timer_again(loop, &w->slow_timer);
}

static void on_retry(struct ev_loop *loop, ev_timer *t, int revents)
{
	sd_web_store(t->data);
}

static void on_beat(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct sd_web *w = t->data;

	atomic_store(&w->child->slot->beat_us, sd_now_us());
}

static void drain(struct sd_web *w)
{
	if (w->draining)
		return;
	w->draining = true;
	sd_runner_set_stopping(w->runner);
	ev_timer_stop(w->loop, &w->connect_timer);
	sd_web_bye(w);
	sd_web_settle(w);
}

static void on_chan(struct ev_loop *loop, ev_io *io, int revents)
{
	struct sd_web *w = io->data;
	struct sd_msg msg;
	struct sd_err err;
	int r;

	while ((r = sd_chan_recv(w->child->chan, &msg, &err)) > 0) {
		if (msg.type == SD_MSG_DRAIN)
			drain(w);
		else if (msg.type == SD_MSG_REOPEN_LOGS && sd_log_reopen(&err) != 0)
			sd_log_err(SD_LOG_ERROR, &err, "cannot reopen the log");
	}
	if (r < 0)
		sd_orphaned();
}

static void on_term(struct ev_loop *loop, ev_signal *s, int revents)
{
	struct sd_web *w = s->data;
	int64_t deadline = atomic_load(&w->child->slot->deadline_us), since;
	const struct sd_attempt *a = sd_runner_current(w->runner, &since);
	char text[SD_LIMIT_TEXT];
	const char *limit;

	if (w->ending)
		return;
	w->ending = true;
	sd_web_give_back(w);
	limit = a ? sd_limit_of_slot(w->child->slot, -(int64_t)a->http->id, text) : NULL;
	if (a && (limit || (deadline != 0 && sd_now_us() >= deadline)))
		sd_web_timed_out(w, a, limit);
	sd_web_settle(w);
}

static void on_db_up(void *arg, struct sd_db *db)
{
	struct sd_web *w = arg;

	atomic_store(&w->child->slot->db_up, 1);
	if (w->connection == 0 && !w->draining)
		sd_web_connect(w); /* not before: a worker that is still starting must not look like a database that is away */
	sd_web_settle(w);
}

static void on_db_down(void *arg, struct sd_db *db, const struct sd_err *err)
{
	struct sd_web *w = arg;

	atomic_store(&w->child->slot->db_up, 0);
	sd_log_err(SD_LOG_WARN, err, "database connection lost");
}

/* --- start --- */

static void init_watchers(struct sd_web *w)
{
	ev_io_init(&w->chan_io, on_chan, w->child->chan, EV_READ);
	ev_io_init(&w->runner_io, on_runner, sd_runner_fd(w->runner), EV_READ);
	ev_timer_init(&w->slow_timer, on_slow, 0., SLOW_SECONDS);
	ev_timer_init(&w->retry_timer, on_retry, 0., 0.);
	ev_timer_init(&w->beat_timer, on_beat, 0., BEAT_SECONDS);
	ev_prepare_init(&w->turn, on_turn);
	ev_signal_init(&w->term, on_term, SIGTERM);
	w->chan_io.data = w->runner_io.data = w->slow_timer.data = w->retry_timer.data = w->beat_timer.data = w->turn.data =
		w->term.data = w;
	ev_io_start(w->loop, &w->chan_io);
	ev_io_start(w->loop, &w->runner_io);
	ev_timer_start(w->loop, &w->beat_timer);
	ev_prepare_start(w->loop, &w->turn);
	ev_signal_start(w->loop, &w->term);
}

static int load_steps(struct sd_web *w, struct sd_err *err)
{
	w->arena = sd_arena_new();
	w->manifest = sd_manifest_parse(w->child->manifest, w->child->manifest_len, w->arena, err);
	if (!w->manifest)
		return -1;
	w->registry = sd_registry_load(w->child->manifest, w->child->manifest_len, err);
	if (!w->registry)
		return -1;
	sd_registry_set_log_level(w->registry, w->child->conf->log_database);
	return 0;
}

_Noreturn void sd_web_main(const struct sd_child *child)
{
	struct sd_web w = {.child = child};
	const struct sd_db_events events = {.up = on_db_up, .down = on_db_down, .arg = &w};
	struct sd_err err;
	char name[64];

	sd_err_clear(&err);
	if (load_steps(&w, &err) != 0)
		sd_child_fail(child, 78, &err);
	w.runner = sd_runner_new(w.registry, child->slot, &err);
	if (!w.runner)
		sd_child_fail(child, 71, &err);
	sd_runner_set_hook(w.runner, sd_web_ended, &w);
	w.loop = ev_loop_new(EVFLAG_AUTO);
	w.db_ev = sd_db_ev_new(w.loop, &w.db_loop);
	snprintf(name, sizeof(name), "stepd web %s/%d", child->pool->name, atomic_load(&child->slot->index));
	w.db = sd_db_new(child->conninfo, name, NULL, &w.db_loop, &events);
	init_watchers(&w);
	sd_web_link_init(&w);
	sd_web_stream_init(&w);
	sd_db_start(w.db);
	ev_run(w.loop, 0);
	abort(); /* the loop never ends: the channel is always watched */
}
