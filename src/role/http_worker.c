/*
 * The connections of the web workers: frames out, frames in, and what becomes
 * of a worker's requests when it dies.
 *
 * A connection is never freed in the middle of a turn: trouble marks it dead,
 * and the end of the turn buries it.
 */
#include "role/http.h"

#include "base/clock.h"
#include "base/fdutil.h"
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GREETING_US (5 * SD_SEC)
#define GOODBYE_US (200 * SD_MS) /* so that a drain of our own, sent at the same time, is known first */
#define READ_CHUNK (64 * 1024)
#define KEEP_BUFFER (1024 * 1024)

void sd_http_lose(struct sd_http_worker *w, const char *why)
{
	if (!w->dead && why)
		sd_log(SD_LOG_WARN, "web worker %d: %s", (int)w->pid, why);
	w->dead = true;
	w->b.usable = false;
}

static const struct sd_slot *slot_of(const struct sd_http_worker *w)
{
	const struct sd_slot *slot = &w->http->child->scoreboard->slot[w->slot];

	return atomic_load(&slot->generation) == w->generation ? slot : NULL;
}

bool sd_http_database_away(const struct sd_http *h)
{
	bool any = false;

	for (const struct sd_http_worker *w = h->workers; w; w = w->next) {
		const struct sd_slot *slot = w->greeted && !w->dead ? slot_of(w) : NULL;

		if (slot && atomic_load(&slot->db_up))
			return false;
		any |= slot != NULL;
	}
	return any;
}

/* --- frames in --- */

static void greet(struct sd_http_worker *w, const char *p, size_t size)
{
	const struct sd_scoreboard *sb = w->http->child->scoreboard;
	struct sd_frame_hello hello;
	struct sd_err err;

	if (w->greeted || sd_frame_get_hello(p, size, &hello, &err) != 0 || hello.version != SD_FRAME_VERSION || hello.slot >= sb->nslots) {
		sd_http_lose(w, "its greeting is not understood");
		return;
	}
	w->slot = hello.slot;
	w->generation = hello.generation;
	if (!slot_of(w) || atomic_load(&slot_of(w)->pid) != w->pid) {
		sd_http_lose(w, "it is not the process its slot belongs to");
		return;
	}
	w->greeted = true;
	w->b.usable = true;
	sd_frame_put_welcome(&w->out);
	if (w->http->draining)
		sd_frame_put_stop(&w->out);
	w->dirty = true;
	w->http->dispatch_due = true;
}

struct sd_http_flight *sd_http_flight_of(struct sd_http_worker *w, uint64_t id)
{
	struct sd_flight *f = sd_backend_find(&w->b, id);

	if (!f)
		sd_http_lose(w, "it answers what it was not asked");
	return (struct sd_http_flight *)f;
}

struct sd_http_flight *sd_http_reply_begins(struct sd_http_worker *w, sd_frame_get_head *get, const char *p, size_t size, struct sd_frame_reply *r)
{
	struct sd_http_flight *fl;
	struct sd_err err;

	sd_arena_reset(w->http->scratch);
	if (get(p, size, w->http->scratch, r, &err) != 0) {
		sd_http_lose(w, err.message);
		return NULL;
	}
	fl = sd_http_flight_of(w, r->id);
	if (fl && fl->streaming) {
		sd_http_lose(w, "it replied twice");
		return NULL;
	}
	return fl;
}

static void take_reply(struct sd_http_worker *w, const char *p, size_t size)
{
	struct sd_http *h = w->http;
	struct sd_frame_reply r;
	struct sd_http_flight *fl = sd_http_reply_begins(w, sd_frame_get_reply, p, size, &r);

	if (!fl)
		return;
	sd_dispatch_learn(&h->dispatch, fl->f.step, r.handler_us);
	if (fl->x)
		sd_http_answer(h, fl, &r);
	sd_http_forget(h, fl);
	h->dispatch_due = true;
}

/* Nobody began it: wait for another worker, unless its client is gone or answered. */
static void take_back(struct sd_http *h, struct sd_http_flight *fl)
{
	if (fl->streaming && fl->x) /* it was begun all the same: a worker gone wild */
		sd_http_answer_error(h, fl, 502, "worker_died", "the process that ran this request ended");
	if (fl->x)
		sd_dispatch_return(&h->dispatch, &fl->f);
	else
		sd_http_forget(h, fl);
	h->dispatch_due = true;
}

static void take_return(struct sd_http_worker *w, const char *p, size_t size)
{
	struct sd_frame_return r;
	struct sd_http_flight *fl;
	struct sd_err err;

	if (sd_frame_get_return(p, size, &r, &err) != 0) {
		sd_http_lose(w, err.message);
		return;
	}
	fl = sd_http_flight_of(w, r.id);
	if (!fl)
		return;
	/* What it runs in front of this one is slow: do not queue behind that step until it was quick again. */
	if (w->b.flights.head != &fl->f)
		sd_dispatch_learn(&w->http->dispatch, w->b.flights.head->step, SD_DISPATCH_UNKNOWN_US);
	take_back(w->http, fl);
}

static void take_frame(struct sd_http_worker *w, enum sd_frame_type type, const char *p, size_t size)
{
	if (type == SD_FRAME_HELLO)
		greet(w, p, size);
	else if (!w->greeted || type == SD_FRAME_REQUEST || type == SD_FRAME_WELCOME || type == SD_FRAME_CREDIT || type == SD_FRAME_GONE ||
		 type == SD_FRAME_STOP)
		sd_http_lose(w, "it sent a frame that is not its to send");
	else if (type == SD_FRAME_REPLY)
		take_reply(w, p, size);
	else if (type == SD_FRAME_RETURN)
		take_return(w, p, size);
	else if (type != SD_FRAME_BYE)
		sd_http_stream_frame(w, type, p, size);
	else if (!w->leaving) {
		w->leaving = true;
		w->since_us = sd_now_us();
	}
}

/* The whole frames in w->in.  The size of one that is not whole, or 0. */
static size_t take_frames(struct sd_http_worker *w)
{
	size_t at = 0, size = 0;

	while (!w->dead) {
		enum sd_frame_type type;
		struct sd_err err;
		int r = sd_frame_next(w->in.data + at, w->in.len - at, &size, &type, &err);

		if (r < 0)
			sd_http_lose(w, err.message);
		if (r <= 0)
			break;
		take_frame(w, type, w->in.data + at, size);
		at += size;
		size = 0;
	}
	sd_buf_consume(&w->in, at);
	return size;
}

static void on_readable(void *arg)
{
	struct sd_http_worker *w = arg;
	size_t want = READ_CHUNK;

	while (!w->dead) {
		ssize_t n;

		sd_buf_reserve(&w->in, want);
		n = recv(sd_watch_fd(w->watch), w->in.data + w->in.len, want, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n <= 0) {
			sd_http_lose(w, NULL);
			break;
		}
		w->in.len += (size_t)n;
		size_t whole = take_frames(w);
		if ((size_t)n < want)
			break;
		want = whole > w->in.len + READ_CHUNK ? whole - w->in.len : READ_CHUNK;
	}
	if (w->in.len == 0)
		sd_buf_empty(&w->in, KEEP_BUFFER);
}

/* --- frames out --- */

static void on_writable(void *arg)
{
	struct sd_http_worker *w = arg;

	w->blocked = false;
	w->dirty = true;
}

static void write_out(struct sd_http_worker *w)
{
	int rc = w->dead ? 1 : sd_send_rest(sd_watch_fd(w->watch), &w->out, &w->sent);

	w->dirty = false;
	if (rc == 0) {
		w->blocked = true;
		sd_watch_writable(w->watch);
		return;
	}
	if (rc < 0) { /* it is gone; what it answered before is still to be read, then comes EOF */
		w->blocked = true;
		w->b.usable = false;
		return;
	}
	w->sent = 0;
	sd_buf_empty(&w->out, KEEP_BUFFER);
}

static void send_flight(struct sd_http *h, struct sd_http_flight *fl)
{
	struct sd_http_worker *w = (struct sd_http_worker *)fl->f.backend;
	int64_t left_us = fl->f.deadline_us - h->now_us;
	struct sd_err err;

	fl->frame.id = fl->f.id;
	fl->frame.timeout_ms = fl->f.deadline_us == INT64_MAX ? 0 : left_us > SD_MS ? left_us / SD_MS : 1;
	if (sd_frame_put_request(&w->out, &fl->frame, &err) != 0) {
		sd_http_answer_error(h, fl, 413, "request_too_large", "the request is too large for a worker");
		sd_http_forget(h, fl);
		return;
	}
	w->dirty = true;
}

void sd_http_dispatch(struct sd_http *h)
{
	struct sd_flight *f;

	h->dispatch_due = false;
	while ((f = sd_dispatch_next(&h->dispatch)))
		send_flight(h, (struct sd_http_flight *)f);
}

void sd_http_stop_workers(struct sd_http *h)
{
	for (struct sd_http_worker *w = h->workers; w; w = w->next) {
		if (!w->greeted || w->dead)
			continue;
		sd_frame_put_stop(&w->out);
		w->dirty = true;
	}
}

/* --- the end of a connection --- */

/*
 * A worker settles one request before it begins the next, so of a dead
 * worker's requests at most the oldest had begun: that one gets 502.  The
 * others go to another worker, and so does the oldest if the slot is still that
 * worker's and says that it had begun nothing so young.
 */
static void settle_flights(struct sd_http_worker *w)
{
	struct sd_http *h = w->http;
	const struct sd_slot *slot = w->greeted ? slot_of(w) : NULL;
	uint64_t begun = slot ? atomic_load(&slot->request) : UINT64_MAX;
	struct sd_http_flight *oldest = (struct sd_http_flight *)w->b.flights.head;

	if (oldest && (!slot_of(w) || begun >= oldest->f.id)) {
		sd_http_worker_died(h, w, oldest, slot ? atomic_load(&slot->started_us) : 0);
		sd_http_forget(h, oldest);
	}
	while (w->b.flights.head)
		take_back(h, (struct sd_http_flight *)w->b.flights.head);
}

static void bury(struct sd_http_worker *w)
{
	struct sd_http *h = w->http;

	settle_flights(w);
	sd_dispatch_detach(&h->dispatch, &w->b);
	for (struct sd_http_worker **p = &h->workers; *p; p = &(*p)->next) {
		if (*p == w) {
			*p = w->next;
			break;
		}
	}
	sd_watch_free(w->watch);
	sd_buf_fini(&w->in);
	sd_buf_fini(&w->out);
	free(w);
}

void sd_http_flush_workers(struct sd_http *h)
{
	for (struct sd_http_worker *w = h->workers, *next; w; w = next) {
		next = w->next;
		if (w->dirty && !w->blocked && !w->dead)
			write_out(w);
		if (w->dead)
			bury(w);
	}
}

/* May a worker that said goodbye go?  While we drain ourselves, only when nobody waits for an answer any more. */
static bool may_leave(const struct sd_http *h, const struct sd_http_worker *w)
{
	if (w->b.flights.n > 0 || h->now_us - w->since_us < GOODBYE_US)
		return false;
	return !h->draining || h->in_flight == 0;
}

void sd_http_check_workers(struct sd_http *h)
{
	bool others = false;

	for (const struct sd_http_worker *w = h->workers; w; w = w->next)
		others |= w->greeted && !w->leaving && !w->dead;
	for (struct sd_http_worker *w = h->workers; w; w = w->next) {
		if (!w->greeted && h->now_us - w->since_us > GREETING_US)
			sd_http_lose(w, "it did not greet");
		if (!w->greeted || w->dead)
			continue;
		w->b.usable = !w->leaving || (h->draining && !others);
		if (w->leaving && may_leave(h, w))
			sd_http_lose(w, NULL);
	}
	h->dispatch_due = true;
}

/* Web workers run as we do, or as the user of their pool; which process it is, the greeting tells. */
static bool may_be_worker(const struct sd_http *h, uid_t uid)
{
	const struct sd_conf *conf = h->child->conf;

	if (uid == geteuid())
		return true;
	for (size_t i = 0; i < conf->npools; i++)
		if ((conf->pools[i].serves & SD_SERVES_HTTP) && h->child->users[i].name[0] != '\0' && h->child->users[i].uid == uid)
			return true;
	return false;
}

/* Anybody on this machine may connect, as often as he likes: one line a minute. */
static void refuse_stranger(struct sd_http *h, const struct ucred *peer)
{
	if (h->stranger_us != 0 && h->now_us < h->stranger_us + 60 * SD_SEC)
		return;
	h->stranger_us = h->now_us;
	sd_log(SD_LOG_WARN, "pid %d of user %u connected to the web workers' socket; refused", (int)peer->pid, (unsigned)peer->uid);
}

static void add_worker(struct sd_http *h, int fd)
{
	struct sd_http_worker *w;
	struct ucred peer = {.uid = (uid_t)-1};
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0 || !may_be_worker(h, peer.uid)) {
		refuse_stranger(h, &peer);
		close(fd);
		return;
	}
	w = sd_xcalloc(1, sizeof(*w));
	w->http = h;
	w->pid = peer.pid;
	w->since_us = sd_now_us();
	w->watch = sd_watch_new(h->server, fd, on_readable, on_writable, w);
	w->next = h->workers;
	h->workers = w;
	sd_dispatch_attach(&h->dispatch, &w->b);
}

void sd_http_accept_workers(void *arg)
{
	struct sd_http *h = arg;
	int fd;

	while ((fd = accept4(sd_watch_fd(h->web_listener), NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		add_worker(h, fd);
}
