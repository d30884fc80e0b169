/*
 * Replies in pieces, a web worker's end.
 *
 * The step thread puts frames into the connection's output and sends what the
 * socket takes; for the rest it wakes the loop thread.  It waits while the
 * client has taken too little: `room` counts down with each write and up with
 * each CREDIT.  What ends the wait without room: the client is gone, or the
 * connection to the http process is.
 */
#include "role/web.h"

#include "base/clock.h"

#define PIECE (64u * 1024u) /* of DATA in a frame, so that the other side can work while we go on */

/* With the lock held. */
static bool lost(const struct sd_web *w, const struct sd_web_call *c)
{
	return w->sock < 0 || c->connection != w->connection || c->gone;
}

/* With the lock held: send what is there. */
static void push(struct sd_web *w)
{
	if (!sd_web_write_locked(w))
		ev_async_send(w->loop, &w->full);
}

static int begin(void *arg, struct sd_attempt *a)
{
	struct sd_web *w = arg;
	struct sd_web_call *c = sd_web_call_of(a);
	struct sd_frame_reply r;
	struct sd_err err;
	int rc = -1;

	sd_reply_of(a, &r);
	pthread_mutex_lock(&w->lock);
	c->room = SD_FRAME_WINDOW;
	if (!lost(w, c) && sd_frame_put_stream(&w->out, &r, &err) == 0) {
		push(w);
		rc = 0;
	}
	pthread_mutex_unlock(&w->lock);
	return rc;
}

static int write_piece(void *arg, struct sd_attempt *a, const char *p, size_t n)
{
	struct sd_web *w = arg;
	struct sd_web_call *c = sd_web_call_of(a);
	int rc = 0;

	pthread_mutex_lock(&w->lock);
	while (n > 0 && rc == 0) {
		struct sd_frame_stream s = {.id = a->http->id, .data = p};

		while (c->room == 0 && !lost(w, c))
			pthread_cond_wait(&w->room, &w->lock);
		if (lost(w, c)) {
			rc = -1;
			break;
		}
		s.data_len = n < PIECE ? n : PIECE;
		if (s.data_len > c->room)
			s.data_len = c->room;
		sd_frame_put_part(&w->out, SD_FRAME_DATA, &s);
		push(w);
		c->room -= s.data_len;
		p += s.data_len;
		n -= s.data_len;
	}
	pthread_mutex_unlock(&w->lock);
	return rc;
}

static bool gone(void *arg, const struct sd_attempt *a)
{
	struct sd_web *w = arg;
	const struct sd_web_call *c = sd_web_call_of(a);
	bool is;

	pthread_mutex_lock(&w->lock);
	is = c->left || lost(w, c);
	pthread_mutex_unlock(&w->lock);
	return is;
}

static const struct sd_stream_ops ops = {begin, write_piece, gone};

void sd_web_end(struct sd_web *w, const struct sd_attempt *a, bool complete)
{
	const struct sd_web_call *c = sd_web_call_of(a);
	const struct sd_frame_stream s = {.id = a->http->id, .handler_us = sd_now_us() - a->started_us, .complete = complete};

	pthread_mutex_lock(&w->lock);
	if (w->sock >= 0 && c->connection == w->connection) {
		sd_frame_put_part(&w->out, SD_FRAME_END, &s);
		push(w);
	}
	pthread_mutex_unlock(&w->lock);
}

bool sd_web_hear(struct sd_web *w, enum sd_frame_type type, const char *p, size_t size)
{
	struct sd_frame_stream s;
	const struct sd_attempt *a;
	struct sd_web_call *c;
	struct sd_err err;
	int64_t since;

	if (sd_frame_get_part(p, size, type, &s, &err) != 0)
		return false;
	a = sd_runner_current(w->runner, &since); /* only this thread frees it */
	if (!a || a->http->id != s.id)
		return true; /* it ended, or did not begin: then we are told again */
	c = sd_web_call_of(a);
	pthread_mutex_lock(&w->lock);
	if (type == SD_FRAME_CREDIT) {
		c->room += s.taken;
	} else {
		c->left = true;
		c->gone = c->gone || s.complete;
	}
	pthread_cond_signal(&w->room);
	pthread_mutex_unlock(&w->lock);
	return true;
}

static void on_full(struct ev_loop *loop, ev_async *async, int revents)
{
	sd_web_write(async->data);
}

void sd_web_stream_init(struct sd_web *w)
{
	pthread_cond_init(&w->room, NULL);
	ev_async_init(&w->full, on_full);
	w->full.data = w;
	ev_async_start(w->loop, &w->full);
	sd_runner_set_stream(w->runner, &ops, w);
}
