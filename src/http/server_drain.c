/*
 * Ends of connections that cost no request.
 *
 * HTTP/1: while draining, each reply is its connection's last, and who sent
 * nothing for a while is shut.  Not at once: a busy client's next request is
 * under way at any moment.
 *
 * HTTP/2: RFC 9113, 6.8, has two GOAWAY frames.  The first tells the client to
 * ask no more and names no stream; what was on its way is served.  The second
 * names the last stream that was, so that whatever comes after it may be asked
 * elsewhere, and the connection ends.  h2o 2.2 says the first to those
 * connections only that exist at that moment; after its second one, a second
 * later, it drops bodies that are under way and closes before what it wrote has
 * left.  So h2o says the first one alone, again whenever a connection came to
 * be since.  The second one is ours: once the connection was told long ago and
 * has nothing under way, it is stopped, and the frame is the last it gets.
 *
 * The client may be sending at that moment, and a socket that is closed with
 * bytes unread is reset: server_linger.c.
 */
#include "http/server_impl.h"

#include "base/clock.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define IDLE_US (500 * SD_MS) /* HTTP/1 */
#define TOLD_US SD_SEC /* more than one round trip */
#define QUIET_US (100 * SD_MS) /* then h2o has nothing to write, nor plans to */
#define PREFACE_US (2 * SD_SEC)

enum { GOAWAY_SIZE = 17, GOAWAY_TYPE = 7 };

/* --- HTTP/2 --- */

/* A connection that has begun, and was not told. */
static bool to_be_told(const struct client *c)
{
	return sd_server_http2_reads(c) && c->guard->preface && c->goaway_us == 0;
}

/* The first GOAWAY, to all, if one was not told; not before its own first frame.  h2o writes it in the next turn.  false: all know. */
static bool tell(struct sd_server *s)
{
	bool any = false;

	for (struct client *c = s->waiting[WAIT_NONE].head; c; c = c->next) {
		if (to_be_told(c)) {
			c->goaway_us = sd_now_us();
			any = true;
		}
	}
	if (!any)
		return false;
	s->ctx.http2._graceful_shutdown_timeout.cb = NULL; /* what h2o knows by that it did so before */
	h2o_context_request_shutdown(&s->ctx);
	h2o_timeout_unlink(&s->ctx.http2._graceful_shutdown_timeout); /* of the second one */
	return true;
}

static void on_goodbye(h2o_socket_t *sock, const char *err)
{
	struct client *c = sock->on_close.data;

	if (!err)
		sd_server_client_linger(c);
	c->h2o_read(sock, "closed by us");
}

static bool writable(const struct client *c)
{
	struct pollfd p = {.fd = h2o_socket_get_fd(c->sock), .events = POLLOUT};

	return !c->sock->_cb.write && poll(&p, 1, 0) > 0 && (p.revents & POLLOUT);
}

bool sd_server_say_goodbye(struct client *c, int64_t idle_us)
{
	uint32_t last = htonl(c->guard->last_stream);
	char frame[GOAWAY_SIZE] = {0, 0, 8, GOAWAY_TYPE};
	h2o_iovec_t v = h2o_iovec_init(frame, sizeof(frame));

	if (c->streams > 0 || c->guard->nuploads > 0 || c->guard->block > 0 || c->active_us > sd_now_us() - idle_us || !writable(c))
		return false;
	memcpy(frame + 9, &last, sizeof(last));
	h2o_socket_read_stop(c->sock);
	h2o_socket_write(c->sock, &v, 1, on_goodbye); /* that much a socket takes at once */
	return true;
}

static void end_http2(struct sd_server *s, int64_t now)
{
	for (struct client *c = s->waiting[WAIT_NONE].head, *next; c; c = next) {
		next = c->next;
		if (!sd_server_http2_reads(c))
			continue;
		if (c->late || (c->goaway_us == 0 && c->since_us <= now - PREFACE_US))
			sd_server_client_cut(c);
		else if (c->goaway_us != 0 && c->goaway_us <= now - TOLD_US)
			sd_server_say_goodbye(c, QUIET_US);
	}
}

/* --- HTTP/1 --- */

/* Between two requests, and no byte of the next has come. */
static void end_idle(struct sd_server *s, int64_t now)
{
	for (struct client *c = s->waiting[WAIT_IDLE].head, *next; c && c->since_us <= now - IDLE_US; c = next) {
		char byte;

		next = c->next;
		if (c->sock->input->size == 0 && recv(h2o_socket_get_fd(c->sock), &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0)
			sd_server_client_cut(c);
	}
}

/* --- */

void sd_server_drain_begin(struct sd_server *s)
{
	tell(s);
}

void sd_server_drain_turn(struct sd_server *s)
{
	int64_t now = sd_now_us();
	bool told = tell(s);

	if (now < s->drain_us + IDLE_US)
		return;
	end_idle(s, now);
	if (!told)
		end_http2(s, now);
}
