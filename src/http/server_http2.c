/*
 * Connections that speak HTTP/2.  h2o 2.2 gives them no budgets and no
 * deadlines: every byte passes http/h2guard.h first, by a read callback of ours
 * in front of h2o's, and twice a second we look who is overdue.
 */
#include "http/server_impl.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define CHECK_US (500 * SD_MS)

static void on_http2_read(h2o_socket_t *sock, const char *err)
{
	struct client *c = sock->on_close.data;
	const char *why;

	if (err) {
		c->h2o_read(sock, err);
		return;
	}
	c->active_us = sd_now_us();
	why = sd_h2_guard_feed(c->guard, (uint8_t *)sock->input->bytes, &sock->input->size, c->server->limits.head, c->active_us);
	sd_server_client_hold(c, c->guard->buffered);
	if (!why && c->buffered > SMALL_INPUT && c->server->buffered > c->server->options.body_memory)
		why = "too many bodies are under way";
	if (why) {
		sd_log_kv(SD_LOG_WARN, "connection cut", "remote", c->remote, "reason", why, NULL);
		sd_server_client_cut(c);
		return;
	}
	c->h2o_read(sock, NULL);
}

bool sd_server_http2_reads(const struct client *c)
{
	return c->sock->_cb.read == on_http2_read;
}

void sd_server_http2_begin(struct client *c, struct timeval at)
{
	size_t given = c->sock->input->size;
	int64_t now = sd_now_us();

	c->proto = PROTO_HTTP2;
	c->guard = sd_xmalloc(sizeof(*c->guard));
	sd_h2_guard_init(c->guard, now);
	c->progress_us = c->active_us = now;
	sd_server_client_wait(c, WAIT_NONE);
	/* What is there already goes through the guard like the rest: h2o must not find it when it is given the socket. */
	c->sock->input->size = 0;
	h2o_http2_accept(&c->server->accept[c->which], c->sock, at);
	c->h2o_read = c->sock->_cb.read;
	c->sock->_cb.read = on_http2_read;
	c->sock->input->size = given;
	if (given > 0)
		on_http2_read(c->sock, NULL);
}

/* Why an HTTP/2 connection is to be cut, or NULL. */
static const char *overdue(struct client *c, int64_t now)
{
	const struct sd_server_options *o = &c->server->options;

	if (c->windows != c->guard->windows)
		c->progress_us = now;
	c->windows = c->guard->windows;
	if (sd_h2_guard_head_since(c->guard) < now - o->head_ms * SD_MS)
		return "a header block did not arrive in time";
	if (sd_h2_guard_body_since(c->guard) < now - o->read_ms * SD_MS)
		return "a body did not arrive in time";
	if (c->unsent > 0 && c->progress_us < now - o->write_ms * SD_MS)
		return "it takes nothing of its replies";
	return NULL;
}

void sd_server_http2_turn(struct sd_server *s, int64_t now)
{
	if (s->options.http2 == SD_HTTP2_OFF || now < s->check_us)
		return;
	s->check_us = now + CHECK_US;
	for (struct client *c = s->waiting[WAIT_NONE].head, *next; c; c = next) {
		const char *why;

		next = c->next;
		if (!sd_server_http2_reads(c) || sd_server_say_goodbye(c, s->options.idle_ms * SD_MS) || !(why = overdue(c, now)))
			continue;
		sd_log_kv(SD_LOG_INFO, "connection cut", "remote", c->remote, "reason", why, NULL);
		sd_server_client_cut(c);
	}
}
