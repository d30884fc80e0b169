/*
 * The http process' own database connections: they store accepted requests, and
 * the first asks for the depths of queues.  No handler is near them.
 *
 * db/db.h wants a loop that watches a descriptor which libpq owns; a watch of
 * http/server.h closes what it watches.  So the server's loop watches an epoll
 * instance of our own, and libpq's socket is in that.  The timer is looked at
 * by the main loop, which sleeps no longer than it says.
 */
#include "role/http.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>

#define PATIENCE_US (3 * SD_SEC) /* for the first connection; until then accepted requests wait */

static void watch(void *arg, struct sd_db *db, int fd, int events)
{
	struct sd_http_db *d = arg;
	struct epoll_event ev = {.events = (events & SD_DB_READ ? (uint32_t)EPOLLIN : 0) | (events & SD_DB_WRITE ? (uint32_t)EPOLLOUT : 0)};

	if (d->fd >= 0 && (events == 0 || d->fd != fd)) {
		epoll_ctl(sd_watch_fd(d->epoll), EPOLL_CTL_DEL, d->fd, NULL);
		d->fd = -1;
	}
	if (events == 0)
		return;
	if (epoll_ctl(sd_watch_fd(d->epoll), d->fd < 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &ev) != 0)
		sd_log(SD_LOG_ERROR, "cannot watch the database connection: %m");
	d->fd = fd;
}

static void timer(void *arg, struct sd_db *db, int64_t ms)
{
	struct sd_http_db *d = arg;

	d->due_us = ms < 0 ? INT64_MAX : sd_now_us() + ms * SD_MS;
}

static void on_epoll(void *arg)
{
	struct sd_http_db *d = arg;
	struct epoll_event ev;

	if (epoll_wait(sd_watch_fd(d->epoll), &ev, 1, 0) != 1)
		return;
	/* an error or the end of the connection is found by reading and by writing alike */
	if (ev.events & (EPOLLERR | EPOLLHUP))
		ev.events |= EPOLLIN | EPOLLOUT;
	sd_db_on_io(d->db, (ev.events & EPOLLIN ? SD_DB_READ : 0) | (ev.events & EPOLLOUT ? SD_DB_WRITE : 0));
}

static void on_up(void *arg, struct sd_db *db)
{
	struct sd_http_db *d = arg;

	d->was_up = true;
	if (d == &d->http->db)
		sd_http_jobs_up(d->http);
	sd_http_accept_up(d->http);
}

static void on_down(void *arg, struct sd_db *db, const struct sd_err *err)
{
	struct sd_http_db *d = arg;

	if (d != &d->http->db) /* the first one says so, if it is the database that is away */
		return;
	sd_log_err(SD_LOG_WARN, err, "database connection lost");
	if (d->was_up)
		sd_http_accept_down(d->http);
}

static int start(struct sd_http *h, struct sd_http_db *d, struct sd_err *err)
{
	const struct sd_db_loop loop = {watch, timer, d};
	const struct sd_db_events events = {.up = on_up, .down = on_down, .arg = d};
	int fd = epoll_create1(EPOLL_CLOEXEC);

	if (fd < 0)
		return sd_err_errno(err, errno, "cannot make an epoll instance");
	d->http = h;
	d->fd = -1;
	d->due_us = INT64_MAX;
	d->patience_us = sd_now_us() + PATIENCE_US;
	d->epoll = sd_watch_new(h->server, fd, on_epoll, NULL, d);
	d->db = sd_db_new(h->child->conninfo, "stepd http", NULL, &loop, &events);
	return 0;
}

int sd_http_db_start(struct sd_http *h, struct sd_err *err)
{
	if (start(h, &h->db, err) != 0 || start(h, &h->second, err) != 0)
		return -1;
	sd_db_start(h->db.db);
	if (sd_http_accepts(h))
		sd_db_start(h->second.db);
	return 0;
}

bool sd_http_db_away(const struct sd_http *h)
{
	return !sd_db_is_up(h->db.db) && (h->db.was_up || sd_now_us() >= h->db.patience_us);
}

static void turn(struct sd_http_db *d, int64_t now_us)
{
	if (now_us < d->due_us)
		return;
	d->due_us = INT64_MAX;
	sd_db_on_timer(d->db);
}

void sd_http_db_turn(struct sd_http *h, int64_t now_us)
{
	turn(&h->db, now_us);
	turn(&h->second, now_us);
}

int64_t sd_http_db_due(const struct sd_http *h)
{
	return h->db.due_us < h->second.due_us ? h->db.due_us : h->second.due_us;
}
