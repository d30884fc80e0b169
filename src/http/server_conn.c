/*
 * Connections: from accept to close, with what h2o 2.2 leaves undone.
 *
 *   - Nothing limits connections: accepting stops while there are too many, and
 *     the idle ones go.
 *   - Its HTTP/1 parser is lax, answers what it cannot parse in plain text, and
 *     knows one deadline for all.  So every byte is looked at first: the
 *     socket's read callback is ours (a "hook") and calls h2o's when
 *     http/head.h has found nothing wrong.  h2o sets its own callback again
 *     for each request; the hook is put back before the next turn of the loop,
 *     and a socket is only read in a turn.  h2o gets a connection when its
 *     first head is complete.
 *   - What is wrong behind a good request (pipelining) waits until that is
 *     answered; then the connection is closed.
 *   - HTTP/2 has no budgets and no deadlines: server_http2.c.
 *   - It closes a refused upload's connection while the client still sends:
 *     server_linger.c.
 */
#include "http/server_impl.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "http/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define ACCEPTS_A_TURN 64
#define LATE_US (10 * SD_SEC) /* after its GOAWAY a client may ask for so long */
#define REUSE_US SD_SEC /* so long may a connection be idle even when there are too many */
#define CLOSED "closed by us" /* for h2o, which closes on any error */

static void on_acceptable(h2o_socket_t *listen_sock, const char *err);
static void on_http1_read(h2o_socket_t *sock, const char *err);

/* --- the end, later --- */

void sd_server_client_linger(struct client *c)
{
	if (c->linger_fd < 0 && (c->server->draining || c->server->nlingerers < MAX_LINGERERS))
		c->linger_fd = fcntl(h2o_socket_get_fd(c->sock), F_DUPFD_CLOEXEC, 3);
}

void sd_server_client_last(h2o_req_t *req)
{
	if (req->version >= 0x200)
		return;
	req->http1_is_persistent = 0;
	sd_server_client_linger(client_of(req));
}

/* --- lists --- */

void sd_server_client_wait(struct client *c, enum wait wait)
{
	struct client_list *l = &c->server->waiting[c->wait];

	if (c->prev)
		c->prev->next = c->next;
	else if (l->head == c)
		l->head = c->next;
	if (c->next)
		c->next->prev = c->prev;
	else if (l->tail == c)
		l->tail = c->prev;
	l = &c->server->waiting[wait];
	c->wait = wait;
	c->since_us = sd_now_us();
	c->next = NULL;
	c->prev = l->tail;
	if (l->tail)
		l->tail->next = c;
	else
		l->head = c;
	l->tail = c;
}

static void leave_list(struct client *c)
{
	struct client_list *l;

	sd_server_client_wait(c, WAIT_NONE); /* now it is the last of that list */
	l = &c->server->waiting[WAIT_NONE];
	l->tail = c->prev;
	if (c->prev)
		c->prev->next = NULL;
	else
		l->head = NULL;
}

static void hook_later(struct client *c)
{
	struct sd_server *s = c->server;

	if (c->to_hook)
		return;
	c->to_hook = true;
	c->hook_prev = NULL;
	c->hook_next = s->to_hook;
	if (c->hook_next)
		c->hook_next->hook_prev = c;
	s->to_hook = c;
}

static void unlink_hook(struct client *c)
{
	if (!c->to_hook)
		return;
	c->to_hook = false;
	if (c->hook_prev)
		c->hook_prev->hook_next = c->hook_next;
	else
		c->server->to_hook = c->hook_next;
	if (c->hook_next)
		c->hook_next->hook_prev = c->hook_prev;
}

/* --- the end --- */

static void pause_accepting(struct sd_server *s, enum sd_listener which, bool pause)
{
	s->paused[which] = pause;
	for (size_t i = 0; i < s->nlisteners; i++) {
		if (!s->listeners[i].sock || s->listeners[i].which != which)
			continue;
		if (pause)
			h2o_socket_read_stop(s->listeners[i].sock);
		else
			h2o_socket_read_start(s->listeners[i].sock, on_acceptable);
	}
}

void sd_server_client_hold(struct client *c, size_t bytes)
{
	c->server->buffered += bytes - c->buffered;
	c->buffered = bytes;
}

static void on_closed(void *data)
{
	struct client *c = data;
	struct sd_server *s = c->server;

	leave_list(c);
	unlink_hook(c);
	sd_server_client_hold(c, 0);
	s->nclients[c->which]--;
	if (c->linger_fd >= 0)
		sd_server_linger(s, c->linger_fd);
	if (s->paused[c->which] && s->nclients[c->which] < s->max_clients[c->which])
		pause_accepting(s, c->which, false);
	free(c->guard);
	free(c->refusal);
	free(c);
}

/* Is h2o waiting for input from it?  Then it also closes it when told of an error. */
static bool is_hooked(const struct client *c)
{
	return c->sock->_cb.read == on_http1_read || sd_server_http2_reads(c);
}

void sd_server_client_cut(struct client *c)
{
	unlink_hook(c);
	if (c->proto == PROTO_UNKNOWN) {
		h2o_socket_close(c->sock);
		return;
	}
	shutdown(h2o_socket_get_fd(c->sock), SHUT_RDWR);
	if (is_hooked(c))
		c->h2o_read(c->sock, CLOSED);
}

static void on_refused(h2o_socket_t *sock, const char *err)
{
	struct client *c = sock->on_close.data;

	if (!err)
		sd_server_client_linger(c);
	if (c->proto == PROTO_UNKNOWN)
		h2o_socket_close(sock);
	else
		c->h2o_read(sock, CLOSED);
}

/* Answer in h2o's place what is no request, or not yet one, and close. */
static void refuse(struct client *c, int status, const char *code, const char *message)
{
	struct sd_buf body = SD_BUF_INIT, out = SD_BUF_INIT;
	time_t now = h2o_get_timestamp(&c->server->ctx, NULL, NULL)->tv_sec;
	char date[H2O_TIMESTR_RFC1123_LEN + 1];
	struct tm tm;
	h2o_iovec_t v;

	if (c->sock->_cb.write || (c->proto == PROTO_HTTP1 && !is_hooked(c))) { /* something is being sent already */
		sd_server_client_cut(c);
		return;
	}
	sd_error_body(&body, code, message, NULL);
	h2o_time2str_rfc1123(date, gmtime_r(&now, &tm));
	sd_buf_printf(&out, "HTTP/1.1 %d %s\r\nDate: %s\r\nConnection: close\r\n%sContent-Length: %zu\r\nContent-Type: application/json\r\n\r\n%.*s",
		      status, sd_http_reason(status), date, status == 503 ? "Retry-After: 1\r\n" : "", body.len, (int)body.len, body.data);
	sd_buf_fini(&body);
	c->refusal = out.data;
	v = h2o_iovec_init(out.data, out.len);
	unlink_hook(c);
	sd_server_client_wait(c, WAIT_NONE);
	c->server->events.replied(c->server->events.arg, c->which, NULL, c->remote, status, 0);
	h2o_socket_read_stop(c->sock);
	h2o_socket_write(c->sock, &v, 1, on_refused);
}

/* --- HTTP/1 --- */

/* Scan what came; false: refused, and c may be gone. */
static bool scan(struct client *c, size_t came)
{
	const h2o_buffer_t *in = c->sock->input;
	struct sd_scan *sc = &c->scan;

	c->unscanned += came;
	c->unscanned -= sd_scan_feed(sc, in->bytes + in->size - c->unscanned, c->unscanned, &c->server->limits);
	if (sc->status == 0 || sc->messages > c->requests)
		return true;
	refuse(c, sc->status, sc->code, sc->message);
	return false;
}

/* Between two requests, or in the middle of one that is still coming. */
static void wait_for_more(struct client *c)
{
	enum wait wait = sd_scan_in_body(&c->scan) ? WAIT_BODY : c->unscanned ? WAIT_HEAD : WAIT_IDLE;

	if (c->scan.messages > c->requests) /* all is there, h2o is to take it */
		wait = WAIT_BODY;
	if (c->wait != wait)
		sd_server_client_wait(c, wait);
}

static void on_http1_read(h2o_socket_t *sock, const char *err)
{
	struct client *c = sock->on_close.data;
	uint64_t heads = c->scan.heads;

	if (err) {
		unlink_hook(c);
		sd_server_client_wait(c, WAIT_NONE);
		c->h2o_read(sock, err);
		return;
	}
	if (!scan(c, sock->bytes_read))
		return;
	sd_server_client_hold(c, sock->input->size > SMALL_INPUT ? sock->input->size : 0);
	if (sd_scan_in_body(&c->scan) && c->buffered > 0 && c->server->buffered > c->server->options.body_memory) {
		refuse(c, 503, "saturated", "too many bodies are under way (http.bodyMemory)");
		return;
	}
	wait_for_more(c);
	if (c->scan.heads > heads) /* h2o may answer "100 Continue" and set its own callback then */
		hook_later(c);
	c->h2o_read(sock, NULL);
}

/* h2o gave its callback back, or is about to. */
static void hook(struct client *c)
{
	if (!c->sock->_cb.read)
		return; /* it answers or writes; later */
	if (c->sock->_cb.read != on_http1_read) {
		c->h2o_read = c->sock->_cb.read;
		c->sock->_cb.read = on_http1_read;
	}
	unlink_hook(c);
}

static void become_http1(struct client *c, struct timeval at)
{
	c->proto = PROTO_HTTP1;
	hook_later(c);
	wait_for_more(c);
	h2o_http1_accept(&c->server->accept[c->which], c->sock, at);
}

/* --- the first bytes --- */

static bool is_preface(const struct client *c, bool *whole)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	size_t n = c->sock->input->size;

	*whole = n >= sizeof(preface) - 1;
	return memcmp(c->sock->input->bytes, preface, *whole ? sizeof(preface) - 1 : n) == 0;
}

/* Nothing is known yet but what is in the input. */
static void on_first_read(h2o_socket_t *sock, const char *err)
{
	struct client *c = sock->on_close.data;
	struct sd_server *s = c->server;
	struct timeval at = *h2o_get_timestamp(&s->ctx, NULL, NULL);
	bool whole;

	if (err) {
		h2o_socket_close(sock);
		return;
	}
	if (s->options.http2 == SD_HTTP2_CLEAR && !sock->ssl && c->which == SD_LISTENER_PUBLIC && sock->input->size > 0 && is_preface(c, &whole)) {
		if (whole)
			sd_server_http2_begin(c, at);
		else if (c->wait != WAIT_HEAD)
			sd_server_client_wait(c, WAIT_HEAD);
		return;
	}
	if (!scan(c, sock->input->size - c->unscanned))
		return;
	if (c->scan.heads > 0)
		become_http1(c, at);
	else
		wait_for_more(c);
}

static void on_handshake(h2o_socket_t *sock, const char *err)
{
	struct client *c = sock->on_close.data;
	h2o_iovec_t proto;

	if (err) {
		h2o_socket_close(sock);
		return;
	}
	proto = h2o_socket_ssl_get_selected_protocol(sock);
	if (h2o_memis(proto.base, proto.len, H2O_STRLIT("h2"))) {
		sd_server_http2_begin(c, *h2o_get_timestamp(&c->server->ctx, NULL, NULL));
		return;
	}
	sd_server_client_wait(c, WAIT_IDLE);
	h2o_socket_read_start(sock, on_first_read);
	if (sock->input->size > 0)
		on_first_read(sock, NULL);
}

/* --- accepting --- */

static void set_remote(struct client *c, h2o_socket_t *sock)
{
	struct sockaddr_storage sa;
	socklen_t len = h2o_socket_getpeername(sock, (struct sockaddr *)&sa);

	c->remote[0] = '\0';
	if (len && sa.ss_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *)&sa)->sin_addr, c->remote, sizeof(c->remote));
	else if (len && sa.ss_family == AF_INET6)
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&sa)->sin6_addr, c->remote, sizeof(c->remote));
}

/* h2o waits for a slow reader forever; the kernel need not.  It counts from the last acknowledged byte, closed windows included. */
static void set_write_limit(const struct sd_server *s, h2o_socket_t *sock)
{
	unsigned ms = (unsigned)s->options.write_ms;

	if (setsockopt(h2o_socket_get_fd(sock), IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms)) != 0)
		sd_log(SD_LOG_DEBUG, "TCP_USER_TIMEOUT: %s", strerror(errno));
}

static void begin(struct listener *l, h2o_socket_t *sock)
{
	struct sd_server *s = l->server;
	struct client *c = sd_xcalloc(1, sizeof(*c));
	struct ssl_ctx_st *tls = s->accept[l->which].ssl_ctx;

	c->server = s;
	c->which = l->which;
	c->sock = sock;
	c->linger_fd = -1;
	set_remote(c, sock);
	set_write_limit(s, sock);
	sock->on_close.cb = on_closed;
	sock->on_close.data = c;
	s->nclients[l->which]++;
	sd_server_client_wait(c, tls ? WAIT_HEAD : WAIT_IDLE);
	if (tls)
		h2o_socket_ssl_handshake(sock, tls, NULL, on_handshake);
	else
		h2o_socket_read_start(sock, on_first_read);
}

static void on_acceptable(h2o_socket_t *listen_sock, const char *err)
{
	struct listener *l = listen_sock->data;
	struct sd_server *s = l->server;

	if (err)
		return;
	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		h2o_socket_t *sock;

		if (s->nclients[l->which] >= s->max_clients[l->which]) {
			sd_log(SD_LOG_WARN, "%zu connections are open, accepting no more until one closes", s->nclients[l->which]);
			pause_accepting(s, l->which, true);
			return;
		}
		sock = h2o_evloop_socket_accept(listen_sock);
		if (!sock)
			return;
		begin(l, sock);
	}
}

void sd_server_client_listen(struct listener *l)
{
	h2o_socket_read_start(l->sock, on_acceptable);
}

/* --- what becomes of requests --- */

bool sd_server_client_asked(struct client *c, h2o_req_t *req)
{
	sd_server_client_wait(c, WAIT_NONE);
	unlink_hook(c);
	if (req->version >= 0x200) {
		c->streams++;
		c->late = c->goaway_us && c->goaway_us < sd_now_us() - LATE_US;
		return true;
	}
	if (++c->requests >= c->scan.messages && c->scan.status != 0) /* what follows is not understood */
		sd_server_client_last(req);
	return c->requests <= c->scan.messages;
}

void sd_server_client_answered(struct client *c, const h2o_req_t *req)
{
	if (req->version >= 0x200 && c->unsent++ == 0)
		c->progress_us = sd_now_us();
}

void sd_server_client_over(struct client *c, const h2o_req_t *req, bool answered)
{
	if (req->version < 0x200) {
		sd_server_client_hold(c, 0);
		hook_later(c);
		return;
	}
	c->streams--;
	c->active_us = sd_now_us();
	if (answered) {
		c->unsent--;
		c->progress_us = c->active_us;
	}
}

/* --- time --- */

static void on_late(struct client *c)
{
	bool handshake = c->sock->ssl && c->proto == PROTO_UNKNOWN && c->sock->_cb.read != on_first_read;

	if (c->wait == WAIT_IDLE || handshake)
		sd_server_client_cut(c);
	else
		refuse(c, 408, "request_timeout",
		       c->wait == WAIT_HEAD ? "the request's head did not arrive in time" : "the request's body did not arrive in time");
}

/* Others wait to be accepted: close who is idle, longest first. */
static void make_room(struct sd_server *s, enum sd_listener which, int64_t now)
{
	size_t most = ACCEPTS_A_TURN;

	for (struct client *c = s->waiting[WAIT_IDLE].head, *next; c && most > 0 && c->since_us <= now - REUSE_US; c = next) {
		next = c->next;
		if (c->which != which)
			continue;
		sd_server_client_cut(c);
		most--;
	}
}

static void expire(struct sd_server *s, enum wait wait, int64_t ms, int64_t now)
{
	struct client *c;

	while ((c = s->waiting[wait].head) && c->since_us <= now - ms * SD_MS) {
		on_late(c);
		if (s->waiting[wait].head == c) /* h2o still writes to it */
			sd_server_client_wait(c, WAIT_NONE);
	}
}

void sd_server_client_turn(struct sd_server *s)
{
	int64_t now = sd_now_us();

	for (struct client *c = s->to_hook, *next; c; c = next) {
		next = c->hook_next;
		if (c->sock->_cb.read && c->wait == WAIT_NONE && !c->refusal)
			wait_for_more(c);
		hook(c);
	}
	if (s->lingerers)
		sd_server_linger_turn(s);
	for (int which = 0; which < 2; which++)
		if (s->paused[which] && !s->draining)
			make_room(s, (enum sd_listener)which, now);
	expire(s, WAIT_IDLE, s->options.idle_ms, now);
	expire(s, WAIT_HEAD, s->options.head_ms, now);
	expire(s, WAIT_BODY, s->options.read_ms, now);
	sd_server_http2_turn(s, now);
}
