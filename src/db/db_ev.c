/*
 * The libev adapter.  The socket changes with each connection, and while
 * connecting even within one: libpq may close it and get the same number
 * again.  So the watcher is always stopped, set and started anew, which makes
 * libev tell the kernel again (EV__IOFDSET), even if number and events are as before.
 */
#include "db/db_ev.h"

#include "base/mem.h"

#include <ev.h>
#include <stdlib.h>

struct sd_db_ev {
	struct ev_loop *loop;
	struct sd_db *db;
	ev_io io;
	ev_timer timer;
};

static void on_io(struct ev_loop *loop, ev_io *w, int revents)
{
	struct sd_db_ev *e = w->data;
	(void)loop;
	sd_db_on_io(e->db, ((revents & EV_READ) ? SD_DB_READ : 0) | ((revents & EV_WRITE) ? SD_DB_WRITE : 0));
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct sd_db_ev *e = w->data;
	(void)loop;
	(void)revents;
	sd_db_on_timer(e->db);
}

static void watch(void *arg, struct sd_db *db, int fd, int events)
{
	struct sd_db_ev *e = arg;
	e->db = db;
	ev_io_stop(e->loop, &e->io);
	if (!events)
		return;
	ev_io_set(&e->io, fd, ((events & SD_DB_READ) ? EV_READ : 0) | ((events & SD_DB_WRITE) ? EV_WRITE : 0));
	ev_io_start(e->loop, &e->io);
}

static void timer(void *arg, struct sd_db *db, int64_t ms)
{
	struct sd_db_ev *e = arg;
	e->db = db;
	ev_timer_stop(e->loop, &e->timer);
	if (ms < 0)
		return;
	/* The loop's idea of now is from its last poll; a timer that fires early for it is set again by the connection. */
	ev_timer_set(&e->timer, (double)ms / 1000., 0.);
	ev_timer_start(e->loop, &e->timer);
}

struct sd_db_ev *sd_db_ev_new(struct ev_loop *loop, struct sd_db_loop *adapter)
{
	struct sd_db_ev *e = sd_xcalloc(1, sizeof *e);
	e->loop = loop;
	ev_init(&e->io, on_io);
	ev_init(&e->timer, on_timer);
	e->io.data = e->timer.data = e;
	*adapter = (struct sd_db_loop){.watch = watch, .timer = timer, .loop = e};
	return e;
}

void sd_db_ev_free(struct sd_db_ev *e)
{
	if (!e)
		return;
	ev_io_stop(e->loop, &e->io);
	ev_timer_stop(e->loop, &e->timer);
	free(e);
}
