/*
 * A web worker's end of the connection to the http process.
 *
 * The connection outlives neither side.  When it ends, what runs goes on and is
 * stored, but its reply has no place to go; a new connection is tried until
 * there is one.
 */
#include "role/web.h"

#include "base/clock.h"
#include "base/fdutil.h"
#include "base/log.h"
#include "http/form.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_CHUNK (64 * 1024)
#define KEEP_BUFFER (1024 * 1024)
#define RECONNECT_SECONDS 0.05

static void connect_later(struct sd_web *w)
{
	ev_timer_stop(w->loop, &w->connect_timer);
	ev_timer_set(&w->connect_timer, RECONNECT_SECONDS, 0.);
	ev_timer_start(w->loop, &w->connect_timer);
}

static void disconnect(struct sd_web *w)
{
	ev_io_stop(w->loop, &w->read_io);
	ev_io_stop(w->loop, &w->write_io);
	pthread_mutex_lock(&w->lock);
	sd_close(&w->sock);
	sd_buf_fini(&w->out);
	w->sent = 0;
	pthread_cond_signal(&w->room);
	pthread_mutex_unlock(&w->lock);
	sd_buf_fini(&w->in);
	w->welcome = false;
	if (!w->draining)
		connect_later(w);
	sd_web_settle(w);
}

/* --- requests --- */

/* What the handler sees as its data; the http process has checked the body already. */
static int set_input(struct sd_attempt *a, struct sd_frame_request *f)
{
	struct sd_err err;

	f->http.form = f->media == SD_MEDIA_FORM;
	if (f->media == SD_MEDIA_JSON) {
		a->input = f->http.raw_body;
		a->input_len = f->http.raw_body_len;
		return 0;
	}
	return sd_body_json(f->media, f->http.raw_body, f->http.raw_body_len, a->arena, &a->input, &a->input_len, &err);
}

static void fill(struct sd_web *w, struct sd_attempt *a, struct sd_web_call *c, const struct sd_step *step)
{
	const struct sd_frame_request *f = &c->frame;

	c->connection = w->connection;
	c->deadline_us = f->timeout_ms > 0 ? sd_now_us() + f->timeout_ms * SD_MS : INT64_MAX;
	c->replied = c->left = c->gone = false;
	c->room = 0;
	c->database_failed = false;
	c->error_id = NULL;
	a->step = step;
	a->step_index = (int)f->step;
	a->trigger = SD_TRIGGER_HTTP;
	a->trigger_index = (int)f->trigger;
	a->attempt = a->max_attempts = 1;
	a->queue = sd_step_name(step);
	a->trace_id = f->trace_id;
	a->enqueued_wall_us = sd_wall_us();
	a->http = &f->http;
	a->timeout_ms = f->timeout_ms;
}

/* An attempt from a request frame; NULL when it is not understood. */
static struct sd_attempt *take_request(struct sd_web *w, const char *p, size_t size)
{
	struct sd_attempt *a = w->spare ? w->spare : sd_attempt_new();
	struct sd_web_call *c;
	struct sd_err err;

	if (w->spare) {
		w->spare = a->next;
		w->nspare--;
		a->next = NULL;
	}
	c = sd_arena_alloc(a->arena, sizeof(*c));
	if (sd_frame_get_request(sd_arena_memdup(a->arena, p, size), size, a->arena, &c->frame, &err) != 0 ||
	    c->frame.step >= w->manifest->nsteps || c->frame.trigger >= w->manifest->steps[c->frame.step].ntriggers ||
	    set_input(a, &c->frame) != 0) {
		sd_attempt_free(a);
		return NULL;
	}
	fill(w, a, c, sd_registry_step(w->registry, c->frame.step));
	return a;
}

/* All whole frames in w->in go to the runner.  How many bytes the next one needs in all, or 0; -1: the other side talks nonsense. */
static ptrdiff_t take_frames(struct sd_web *w)
{
	struct sd_attempt *list = NULL, **tail = &list;
	size_t at = 0, size = 0;
	bool bad = false;

	for (;;) {
		enum sd_frame_type type;
		struct sd_err err;
		struct sd_attempt *a;
		int r = sd_frame_next(w->in.data + at, w->in.len - at, &size, &type, &err);

		bad = r < 0;
		if (r <= 0)
			break;
		if (type == SD_FRAME_WELCOME) {
			w->welcome = true;
			at += size;
			continue;
		}
		if (type == SD_FRAME_STOP) {
			sd_runner_set_stopping(w->runner);
			at += size;
			continue;
		}
		if (type == SD_FRAME_CREDIT || type == SD_FRAME_GONE) {
			bad = !sd_web_hear(w, type, w->in.data + at, size);
			if (bad)
				break;
			at += size;
			continue;
		}
		a = type == SD_FRAME_REQUEST ? take_request(w, w->in.data + at, size) : NULL;
		bad = a == NULL;
		if (bad)
			break;
		*tail = a;
		tail = &a->next;
		w->running++;
		at += size;
	}
	sd_buf_consume(&w->in, at);
	if (list)
		sd_runner_give(w->runner, list);
	return bad ? -1 : (ptrdiff_t)size;
}

static void on_readable(struct ev_loop *loop, ev_io *io, int revents)
{
	struct sd_web *w = io->data;
	size_t want = READ_CHUNK;

	for (;;) {
		ptrdiff_t whole;
		ssize_t n;

		sd_buf_reserve(&w->in, want);
		n = recv(w->sock, w->in.data + w->in.len, want, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n <= 0) {
			disconnect(w);
			return;
		}
		w->in.len += (size_t)n;
		whole = take_frames(w);
		if (whole < 0) {
			sd_log(SD_LOG_ERROR, "the http process sent a frame that is not understood");
			disconnect(w);
			return;
		}
		if ((size_t)n < want)
			break;
		want = (size_t)whole > w->in.len + READ_CHUNK ? (size_t)whole - w->in.len : READ_CHUNK;
	}
	if (w->in.len == 0)
		sd_buf_empty(&w->in, KEEP_BUFFER);
}

/* --- replies --- */

/* With the lock held; true when out is empty.  An error is left to the reading side, which sees the end of the connection. */
bool sd_web_write_locked(struct sd_web *w)
{
	if (w->sock >= 0 && sd_send_rest(w->sock, &w->out, &w->sent) == 0)
		return false;
	w->sent = 0;
	sd_buf_empty(&w->out, KEEP_BUFFER);
	return true;
}

void sd_web_write(struct sd_web *w)
{
	bool done;

	pthread_mutex_lock(&w->lock);
	done = sd_web_write_locked(w);
	pthread_mutex_unlock(&w->lock);
	if (done)
		ev_io_stop(w->loop, &w->write_io);
	else
		ev_io_start(w->loop, &w->write_io);
}

static void on_writable(struct ev_loop *loop, ev_io *io, int revents)
{
	sd_web_write(io->data);
}

static void put_reply(struct sd_web *w, const struct sd_attempt *a, const struct sd_frame_reply *r)
{
	struct sd_frame_reply too_large;
	struct sd_err err;

	if (sd_frame_put_reply(&w->out, r, &err) == 0)
		return;
	sd_log_err(SD_LOG_ERROR, &err, "the reply of step %s", a->queue);
	sd_reply_error(a, &too_large, 500, "reply_too_large", "the handler's reply is too large", NULL, 0);
	if (sd_frame_put_reply(&w->out, &too_large, &err) != 0)
		sd_log_err(SD_LOG_ERROR, &err, "the reply of step %s", a->queue);
}

void sd_web_reply(struct sd_web *w, const struct sd_attempt *a, const struct sd_frame_reply *r)
{
	pthread_mutex_lock(&w->lock);
	if (w->sock >= 0 && sd_web_call_of(a)->connection == w->connection) {
		put_reply(w, a, r);
		sd_web_write_locked(w);
	}
	pthread_mutex_unlock(&w->lock);
}

void sd_web_bye(struct sd_web *w)
{
	pthread_mutex_lock(&w->lock);
	if (w->sock >= 0)
		sd_frame_put_bye(&w->out);
	pthread_mutex_unlock(&w->lock);
}

void sd_web_give_back(struct sd_web *w)
{
	struct sd_attempt *a = sd_runner_recall(w->runner), *next;

	pthread_mutex_lock(&w->lock);
	for (; a; a = next) {
		const struct sd_frame_return r = {a->http->id};

		next = a->next;
		w->running--;
		if (w->sock >= 0 && sd_web_call_of(a)->connection == w->connection)
			sd_frame_put_return(&w->out, &r);
		sd_web_forget(w, a);
	}
	pthread_mutex_unlock(&w->lock);
}

/* --- the connection --- */

/* The listening socket is the supervisor's, which may still be root. */
static bool peer_is_ours(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && (peer.uid == geteuid() || peer.uid == 0);
}

static int open_socket(struct sd_web *w)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd >= 0 && getsockname(w->child->web_listen, (struct sockaddr *)&sa, &len) == 0 &&
	    connect(fd, (struct sockaddr *)&sa, len) == 0 && peer_is_ours(fd))
		return fd;
	sd_close(&fd);
	return -1;
}

void sd_web_connect(struct sd_web *w)
{
	const struct sd_frame_hello hello = {SD_FRAME_VERSION, w->child->slot_index, w->child->slot_generation};

	int fd;

	if (w->sock >= 0)
		return;
	fd = open_socket(w);
	if (fd < 0) {
		connect_later(w);
		return;
	}
	pthread_mutex_lock(&w->lock);
	w->sock = fd;
	w->connection++;
	sd_frame_put_hello(&w->out, &hello);
	pthread_mutex_unlock(&w->lock);
	ev_io_set(&w->read_io, w->sock, EV_READ);
	ev_io_set(&w->write_io, w->sock, EV_WRITE);
	ev_io_start(w->loop, &w->read_io);
	sd_web_settle(w);
}

static void on_connect_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	sd_web_connect(t->data);
}

void sd_web_link_init(struct sd_web *w)
{
	w->sock = -1;
	pthread_mutex_init(&w->lock, NULL);
	ev_io_init(&w->read_io, on_readable, -1, EV_READ);
	ev_io_init(&w->write_io, on_writable, -1, EV_WRITE);
	ev_timer_init(&w->connect_timer, on_connect_timer, 0., 0.);
	w->read_io.data = w->write_io.data = w->connect_timer.data = w;
}
