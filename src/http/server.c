/*
 * The server on libh2o-evloop 2.2: the only file that knows h2o.
 *
 * What h2o leaves to its user, and where it is done here:
 *   - a request that dies before its reply frees its memory without a word:
 *     every exchange is in the request's pool with a dispose hook (on_dispose);
 *   - conflicting lengths are accepted and hidden: the raw head, which is still
 *     in front of the connection's input, is checked again (on_request);
 *   - errors h2o answers itself are plain text: a filter on the host's fallback
 *     path turns them into our JSON (on_own_error).  Only a head that does not
 *     parse at all gets h2o's built-in text;
 *   - it closes a refused upload's connection while the client still sends,
 *     which resets it before the reply is read: such a socket is duplicated,
 *     shut for writing and read empty for a while (linger_*);
 *   - nothing limits connections: accepting stops while descriptors are short;
 *   - idle connections outlive a shutdown: while draining, each reply is its
 *     connection's last, and who sent nothing for a while is shut.  Not at
 *     once: a busy client's next request is under way at any moment.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>

#define H2O_USE_LIBUV 0
#include <h2o.h>
#include <h2o/http1.h>

#include "http/server.h"

#include "base/clock.h"
#include "base/fdutil.h"
#include "base/log.h"
#include "base/mem.h"
#include "http/error.h"
#include "http/target.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPTS_A_TURN 64
#define SPARE_FDS 64
#define MAX_LISTENERS 4
#define MAX_LINGERERS 256
#define MAX_ADMIN 64
#define OTHER_FDS (SPARE_FDS + MAX_LINGERERS + MAX_ADMIN)
#define LINGER_US (5 * SD_SEC)
#define DRAIN_GRACE_US (500 * SD_MS)

struct listener {
	struct sd_server *server;
	enum sd_listener which;
	h2o_socket_t *sock;
};

/* A connection of a client; freed when h2o closes it. */
struct client {
	struct sd_server *server;
	enum sd_listener which;
	int linger_fd; /* -1: none */
	char remote[INET6_ADDRSTRLEN];
};

struct exchange {
	struct sd_exchange x; /* first: the two are cast into each other */
	struct sd_server *server;
	h2o_req_t *req;
	bool open; /* given to events.request, not answered */
};

struct lingerer {
	struct lingerer *next, *prev;
	struct sd_server *server;
	h2o_socket_t *sock;
	int64_t until_us;
};

struct sd_server {
	struct sd_server_options options;
	struct sd_server_events events;
	h2o_globalconf_t conf;
	h2o_context_t ctx;
	h2o_accept_ctx_t accept[2]; /* by enum sd_listener */
	struct listener listeners[MAX_LISTENERS];
	size_t nlisteners, nlingerers;
	size_t nclients[2], max_clients[2]; /* by enum sd_listener: health and metrics answer when the public side is full */
	struct lingerer *lingerers; /* newest first */
	bool paused[2], draining;
	int64_t shut_idle_us; /* while draining */
};

struct sd_watch {
	h2o_socket_t *sock;
	int fd;
	void (*on_readable)(void *arg);
	void (*on_writable)(void *arg);
	void *arg;
};

struct handler {
	h2o_handler_t super;
	struct sd_server *server;
};

struct filter {
	h2o_filter_t super;
	struct sd_server *server;
};

static h2o_socket_t *socket_of(h2o_req_t *req)
{
	return req->conn->callbacks->get_socket(req->conn);
}

static struct client *client_of(h2o_req_t *req)
{
	return socket_of(req)->on_close.data;
}

/* --- lingering close --- */

static void linger_end(struct lingerer *l)
{
	struct sd_server *s = l->server;

	if (l->prev)
		l->prev->next = l->next;
	else
		s->lingerers = l->next;
	if (l->next)
		l->next->prev = l->prev;
	s->nlingerers--;
	h2o_socket_close(l->sock);
	free(l);
}

static void linger_read(h2o_socket_t *sock, const char *err)
{
	struct lingerer *l = sock->data;
	char waste[16384];
	ssize_t n;

	do
		n = recv(h2o_socket_get_fd(sock), waste, sizeof(waste), MSG_DONTWAIT);
	while (n > 0 || (n < 0 && errno == EINTR));
	if (n == 0 || err || (errno != EAGAIN && errno != EWOULDBLOCK))
		linger_end(l);
}

static void linger_begin(struct sd_server *s, int fd)
{
	struct lingerer *l = sd_xcalloc(1, sizeof(*l));

	shutdown(fd, SHUT_WR);
	l->server = s;
	l->until_us = sd_now_us() + LINGER_US;
	l->sock = h2o_evloop_socket_create(s->ctx.loop, fd, H2O_SOCKET_FLAG_DONT_READ);
	l->sock->data = l;
	l->next = s->lingerers;
	if (l->next)
		l->next->prev = l;
	s->lingerers = l;
	s->nlingerers++;
	h2o_socket_read_start(l->sock, linger_read);
}

static void linger_expire(struct sd_server *s)
{
	int64_t now = sd_now_us();

	for (struct lingerer *l = s->lingerers, *next; l; l = next) {
		next = l->next;
		if (now >= l->until_us || s->draining)
			linger_end(l);
	}
}

/* The connection will be closed after the reply, maybe with bytes unread. */
static void close_gently(h2o_req_t *req)
{
	struct client *c = client_of(req);

	req->http1_is_persistent = 0;
	if (c->linger_fd < 0 && c->server->nlingerers < MAX_LINGERERS)
		c->linger_fd = fcntl(h2o_socket_get_fd(socket_of(req)), F_DUPFD_CLOEXEC, 3);
}

/* --- connections --- */

static void on_acceptable(h2o_socket_t *listen_sock, const char *err);

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

static void on_client_closed(void *data)
{
	struct client *c = data;
	struct sd_server *s = c->server;

	s->nclients[c->which]--;
	if (c->linger_fd >= 0)
		linger_begin(s, c->linger_fd);
	if (s->paused[c->which] && s->nclients[c->which] < s->max_clients[c->which])
		pause_accepting(s, c->which, false);
	free(c);
}

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

static void on_acceptable(h2o_socket_t *listen_sock, const char *err)
{
	struct listener *l = listen_sock->data;
	struct sd_server *s = l->server;

	if (err)
		return;
	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		h2o_socket_t *sock;
		struct client *c;

		if (s->nclients[l->which] >= s->max_clients[l->which]) {
			sd_log(SD_LOG_WARN, "%zu connections are open, accepting no more until one closes", s->nclients[l->which]);
			pause_accepting(s, l->which, true);
			return;
		}
		sock = h2o_evloop_socket_accept(listen_sock);
		if (!sock)
			return;
		c = sd_xmalloc(sizeof(*c));
		c->server = s;
		c->which = l->which;
		c->linger_fd = -1;
		set_remote(c, sock);
		set_write_limit(s, sock);
		sock->on_close.cb = on_client_closed;
		sock->on_close.data = c;
		s->nclients[l->which]++;
		h2o_accept(&s->accept[l->which], sock);
	}
}

/* --- requests --- */

static void on_dispose(void *p)
{
	struct exchange *e = p;

	if (e->open) {
		e->open = false;
		e->server->events.gone(e->server->events.arg, &e->x);
	}
}

static const char *pool_str(h2o_req_t *req, h2o_iovec_t v)
{
	return h2o_strdup(&req->pool, v.base, v.len).base;
}

static void set_headers(struct exchange *e, h2o_req_t *req)
{
	struct sd_pair *v = h2o_mem_alloc_pool(&req->pool, (req->headers.size + 2) * sizeof(*v));
	size_t n = 0;

	if (req->input.authority.base)
		v[n++] = (struct sd_pair){"host", req->input.authority.base, req->input.authority.len};
	if (req->entity.base) {
		char *len = h2o_mem_alloc_pool(&req->pool, sizeof(H2O_UINT64_LONGEST_STR));

		v[n++] = (struct sd_pair){"content-length", len, (size_t)sprintf(len, "%zu", req->entity.len)};
	}
	for (size_t i = 0; i < req->headers.size; i++) {
		const h2o_header_t *h = &req->headers.entries[i];

		v[n].name = h2o_iovec_is_token(h->name) ? h->name->base : pool_str(req, *h->name);
		v[n].value = h->value.base;
		v[n++].value_len = h->value.len;
	}
	e->x.headers = v;
	e->x.nheaders = n;
}

/* "http://host/path" means "/path" (RFC 9112, 3.2.2); h2o leaves it as sent. */
static h2o_iovec_t origin_form(h2o_iovec_t t)
{
	h2o_url_t url;

	if (t.len > 0 && t.base[0] != '/' && h2o_url_parse(t.base, t.len, &url) == 0)
		return url.path;
	return t;
}

static void set_target(struct sd_exchange *x, h2o_req_t *req)
{
	h2o_iovec_t t = origin_form(req->input.path);
	const char *mark = memchr(t.base, '?', t.len);

	x->path = t.base;
	x->path_len = mark ? (size_t)(mark - t.base) : t.len;
	x->query = mark ? mark + 1 : "";
	x->query_len = mark ? t.len - x->path_len - 1 : 0;
}

static int on_request(h2o_handler_t *handler, h2o_req_t *req)
{
	struct sd_server *s = ((struct handler *)handler)->server;
	struct exchange *e = h2o_mem_alloc_shared(&req->pool, sizeof(*e), on_dispose);
	h2o_buffer_t *in = socket_of(req)->input;
	struct client *c = client_of(req);
	struct sd_err err;

	memset(e, 0, sizeof(*e));
	e->server = s;
	e->req = req;
	e->x.listener = c->which;
	e->x.method = pool_str(req, req->input.method);
	set_target(&e->x, req);
	e->x.body = req->entity.base ? req->entity.base : "";
	e->x.body_len = req->entity.len;
	e->x.remote = c->remote;
	e->x.began_us = sd_now_us();
	if (sd_head_check(in->bytes, in->size, &err) != 0) {
		sd_exchange_close(&e->x);
		sd_error_reply(&e->x, 400, "bad_request", err.message, NULL);
		return 0;
	}
	if (e->x.body_len > s->options.body_limit) {
		sd_exchange_close(&e->x);
		sd_error_reply(&e->x, 413, "body_too_large", "the body is larger than http.bodyLimit", NULL);
		return 0;
	}
	set_headers(e, req);
	e->open = true;
	s->events.request(s->events.arg, &e->x);
	return 0;
}

const char *sd_exchange_header(const struct sd_exchange *x, const char *name, size_t *len)
{
	for (size_t i = 0; i < x->nheaders; i++) {
		if (strcmp(x->headers[i].name, name) == 0) {
			*len = x->headers[i].value_len;
			return x->headers[i].value;
		}
	}
	return NULL;
}

/* --- replies --- */

static bool server_sets(const h2o_token_t *t)
{
	return t == H2O_TOKEN_CONNECTION || t == H2O_TOKEN_CONTENT_LENGTH || t == H2O_TOKEN_TRANSFER_ENCODING || t == H2O_TOKEN_DATE ||
	       t == H2O_TOKEN_UPGRADE || t == H2O_TOKEN_TE;
}

static void add_header(h2o_req_t *req, const struct sd_pair *p)
{
	size_t n = strlen(p->name);
	h2o_iovec_t name = h2o_strdup(&req->pool, p->name, n), value = h2o_strdup(&req->pool, p->value, p->value_len);
	const h2o_token_t *token;

	h2o_strtolower(name.base, n);
	token = h2o_lookup_token(name.base, n);
	if (token && !server_sets(token))
		h2o_add_header(&req->pool, &req->res.headers, token, NULL, value.base, value.len);
	else if (!token && !h2o_memis(name.base, n, H2O_STRLIT("keep-alive")))
		h2o_add_header_by_str(&req->pool, &req->res.headers, name.base, n, 0, NULL, value.base, value.len);
}

void sd_exchange_close(struct sd_exchange *x)
{
	close_gently(((struct exchange *)x)->req);
}

void sd_exchange_reply(struct sd_exchange *x, int status, const struct sd_pair *headers, size_t nheaders, const char *body, size_t body_len)
{
	static h2o_generator_t generator = {NULL, NULL};
	struct exchange *e = (struct exchange *)x;
	struct sd_server *s = e->server;
	h2o_req_t *req = e->req;
	bool bodiless = status < 200 || status == 204 || status == 304;
	h2o_iovec_t buf;

	e->open = false;
	req->res.status = status;
	req->res.reason = sd_http_reason(status);
	req->res.content_length = bodiless ? SIZE_MAX : body_len;
	for (size_t i = 0; i < nheaders; i++)
		add_header(req, &headers[i]);
	if (s->draining) /* here and not in sd_server_drain: who was told keep-alive already must not be closed */
		req->http1_is_persistent = 0;
	s->events.replied(s->events.arg, x->listener, x, status, sd_now_us() - x->began_us);
	if (bodiless || body_len == 0 || strcmp(x->method, "HEAD") == 0) {
		h2o_start_response(req, &generator);
		h2o_send(req, NULL, 0, H2O_SEND_STATE_FINAL);
		return;
	}
	buf = h2o_strdup(&req->pool, body, body_len);
	h2o_start_response(req, &generator);
	h2o_send(req, &buf, 1, H2O_SEND_STATE_FINAL);
}

/* --- the errors of h2o itself --- */

struct error_stream {
	h2o_ostream_t super;
	h2o_iovec_t body;
};

static void send_error(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t n, h2o_send_state_t state)
{
	struct error_stream *e = (struct error_stream *)self;

	h2o_ostream_send_next(self, req, &e->body, n ? 1 : 0, state);
}

static void on_own_error(h2o_filter_t *filter, h2o_req_t *req, h2o_ostream_t **slot)
{
	struct sd_server *s = ((struct filter *)filter)->server;
	struct error_stream *e = (struct error_stream *)h2o_add_ostream(req, sizeof(*e), slot);
	struct sd_buf b = SD_BUF_INIT;
	int status = req->res.status;

	if (status == 413)
		sd_error_body(&b, "body_too_large", "the body is larger than http.bodyLimit", NULL);
	else
		sd_error_body(&b, "bad_request", "the request's framing is broken", NULL);
	e->super.do_send = send_error;
	e->body = h2o_strdup(&req->pool, b.data, b.len);
	sd_buf_fini(&b);
	req->res.content_length = e->body.len;
	h2o_set_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, H2O_STRLIT("application/json"), 1);
	close_gently(req);
	s->events.replied(s->events.arg, client_of(req)->which, NULL, status, 0);
	h2o_setup_next_ostream(req, &e->super.next);
}

/* --- the loop --- */

static size_t raise_fd_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) != 0)
		return 1024;
	r.rlim_cur = r.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &r) != 0)
		getrlimit(RLIMIT_NOFILE, &r);
	return r.rlim_cur == RLIM_INFINITY ? 1u << 20 : (size_t)r.rlim_cur;
}

struct sd_server *sd_server_new(const struct sd_server_options *options, const struct sd_server_events *events, struct sd_err *err)
{
	struct sd_server *s = sd_xcalloc(1, sizeof(*s));
	size_t fds = raise_fd_limit();
	h2o_hostconf_t *host;
	struct handler *handler;
	struct filter *filter;
	h2o_evloop_t *loop = h2o_evloop_create();

	if (!loop) {
		free(s);
		sd_err_errno(err, errno, "cannot make an event loop");
		return NULL;
	}
	s->options = *options;
	s->events = *events;
	s->max_clients[SD_LISTENER_ADMIN] = fds > 4 * OTHER_FDS ? MAX_ADMIN : fds / 8;
	s->max_clients[SD_LISTENER_PUBLIC] = fds > 4 * OTHER_FDS ? fds - OTHER_FDS : fds / 2;
	if (options->max_connections > 0 && options->max_connections < s->max_clients[SD_LISTENER_PUBLIC])
		s->max_clients[SD_LISTENER_PUBLIC] = options->max_connections;
	h2o_config_init(&s->conf);
	s->conf.server_name = h2o_iovec_init(NULL, 0);
	s->conf.http1.upgrade_to_http2 = 0;
	s->conf.http1.req_timeout = (uint64_t)options->read_ms;
	/* One more than the limit: a chunked body of exactly the limit would be refused. */
	s->conf.max_request_entity_size = options->body_limit + 1;
	host = h2o_config_register_host(&s->conf, h2o_iovec_init(H2O_STRLIT("default")), 65535);
	handler = (struct handler *)h2o_create_handler(h2o_config_register_path(host, "/", 0), sizeof(*handler));
	handler->super.on_req = on_request;
	handler->server = s;
	filter = (struct filter *)h2o_create_filter(&host->fallback_path, sizeof(*filter));
	filter->super.on_setup_ostream = on_own_error;
	filter->server = s;
	h2o_context_init(&s->ctx, loop, &s->conf);
	for (int i = 0; i < 2; i++) {
		s->accept[i].ctx = &s->ctx;
		s->accept[i].hosts = s->conf.hosts;
	}
	s->accept[SD_LISTENER_PUBLIC].ssl_ctx = options->tls;
	return s;
}

void sd_server_listen(struct sd_server *s, int fd, enum sd_listener which)
{
	struct listener *l = &s->listeners[s->nlisteners++];

	l->server = s;
	l->which = which;
	l->sock = h2o_evloop_socket_create(s->ctx.loop, fd, H2O_SOCKET_FLAG_DONT_READ);
	l->sock->data = l;
	h2o_socket_read_start(l->sock, on_acceptable);
}

/* Between two requests, and no byte of the next has come. */
static int shut_idle(h2o_req_t *req, void *data)
{
	h2o_socket_t *sock = socket_of(req);
	char c;

	if (req->version == 0 && sock->input->size == 0 && recv(h2o_socket_get_fd(sock), &c, 1, MSG_PEEK | MSG_DONTWAIT) <= 0)
		shutdown(h2o_socket_get_fd(sock), SHUT_RDWR);
	return 0;
}

void sd_server_drain(struct sd_server *s)
{
	s->draining = true;
	s->shut_idle_us = sd_now_us() + DRAIN_GRACE_US;
	for (size_t i = 0; i < s->nlisteners; i++) {
		if (s->listeners[i].sock) {
			h2o_socket_close(s->listeners[i].sock);
			s->listeners[i].sock = NULL;
		}
	}
	s->ctx.shutdown_requested = 1;
}

void sd_server_run(struct sd_server *s, int max_wait_ms)
{
	if (s->lingerers)
		linger_expire(s);
	if (s->draining && sd_now_us() >= s->shut_idle_us)
		s->conf.http1.callbacks.foreach_request(&s->ctx, shut_idle, NULL);
	if (h2o_evloop_run(s->ctx.loop, max_wait_ms) != 0 && errno != EINTR) {
		sd_log(SD_LOG_ERROR, "the event loop failed: %s", strerror(errno));
		abort();
	}
}

size_t sd_server_connections(const struct sd_server *s)
{
	return s->nclients[SD_LISTENER_PUBLIC] + s->nclients[SD_LISTENER_ADMIN];
}

/* --- watches --- */

static void watch_read(h2o_socket_t *sock, const char *err)
{
	struct sd_watch *w = sock->data;

	w->on_readable(w->arg);
}

static void watch_write(h2o_socket_t *sock, const char *err)
{
	struct sd_watch *w = sock->data;

	w->on_writable(w->arg);
}

struct sd_watch *sd_watch_new(struct sd_server *s, int fd, void (*on_readable)(void *arg), void (*on_writable)(void *arg), void *arg)
{
	struct sd_watch *w = sd_xmalloc(sizeof(*w));

	*w = (struct sd_watch){NULL, fd, on_readable, on_writable, arg};
	w->sock = h2o_evloop_socket_create(s->ctx.loop, fd, H2O_SOCKET_FLAG_DONT_READ);
	w->sock->data = w;
	h2o_socket_read_start(w->sock, watch_read);
	return w;
}

void sd_watch_writable(struct sd_watch *w)
{
	if (!h2o_socket_is_writing(w->sock))
		h2o_socket_notify_write(w->sock, watch_write);
}

int sd_watch_fd(const struct sd_watch *w)
{
	return w->fd;
}

void sd_watch_free(struct sd_watch *w)
{
	h2o_socket_close(w->sock);
	free(w);
}
