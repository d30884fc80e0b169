/*
 * The server on libh2o-evloop 2.2: requests and replies.  Connections are in
 * server_conn.c; no other file knows h2o.
 *
 * What h2o leaves to its user, and where it is done here:
 *   - a request that dies before its reply frees its memory without a word:
 *     every exchange is in the request's pool with a dispose hook (on_dispose);
 *   - errors h2o answers itself are plain text: a filter on the host's fallback
 *     path turns them into our JSON (on_own_error);
 *   - connections outlive a shutdown, or lose what is under way: server_drain.c.
 */
#include "http/server_impl.h"

#include "base/clock.h"
#include "base/fdutil.h"
#include "base/log.h"
#include "base/mem.h"
#include "http/error.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define SPARE_FDS 64
#define MAX_ADMIN 64
#define OTHER_FDS (SPARE_FDS + MAX_LINGERERS + MAX_ADMIN)
#define LATER_MS 10000 /* our own deadlines come first */
#define REQUESTS_A_CONNECTION 32 /* at the same time, over HTTP/2; more wait */

struct exchange {
	struct sd_exchange x; /* first: the two are cast into each other */
	struct sd_server *server;
	struct client *client;
	h2o_req_t *req;
	bool open;     /* given to events.request, not answered */
	bool answered; /* h2o has all of the reply */

	/* a reply in pieces */
	h2o_generator_t generator;
	struct sd_buf waiting, flying; /* flying is with h2o */
	bool sending;
	h2o_send_state_t fate; /* when waiting is empty; in progress: wait for more */
};

struct handler {
	h2o_handler_t super;
	struct sd_server *server;
};

struct filter {
	h2o_filter_t super;
	struct sd_server *server;
};

/* --- requests --- */

static void on_dispose(void *p)
{
	struct exchange *e = p;

	sd_server_client_over(e->client, e->req, e->answered);
	if (e->open) {
		e->open = false;
		e->server->events.gone(e->server->events.arg, &e->x);
	}
	sd_buf_fini(&e->waiting);
	sd_buf_fini(&e->flying);
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

/* HTTP/2 heads are h2o's to parse; what they hold is limited as in HTTP/1.  0: fine, else the status of the refusal. */
static int check_http2(const struct sd_server *s, const h2o_req_t *req, const char **code, const char **message)
{
	size_t size = req->input.path.len;

	for (size_t i = 0; i < req->headers.size; i++)
		size += req->headers.entries[i].name->len + req->headers.entries[i].value.len + 4;
	*code = "bad_request";
	*message = "the method is not a token, or the path does not begin with /";
	if (!sd_head_method_ok(req->input.method.base, req->input.method.len) || req->input.path.len == 0 ||
	    (req->input.path.base[0] != '/' && !h2o_memis(req->input.path.base, req->input.path.len, H2O_STRLIT("*"))))
		return 400;
	*code = "uri_too_long";
	*message = "the request target is longer than http.urlLimit";
	if (req->input.path.len > s->limits.target)
		return 414;
	*code = "head_too_large";
	*message = "the request's head is larger than http.headerLimit";
	return size > s->limits.head ? 431 : 0;
}

/* What is refused before anybody hears of it. */
static int check(const struct sd_server *s, struct client *c, h2o_req_t *req, const char **code, const char **message)
{
	if (!sd_server_client_asked(c, req)) {
		*code = "bad_request";
		*message = "the request's framing is broken";
		return 400;
	}
	if (req->entity.len > s->options.body_limit) {
		*code = "body_too_large";
		*message = "the body is larger than http.bodyLimit";
		return 413;
	}
	return req->version >= 0x200 ? check_http2(s, req, code, message) : 0;
}

static int on_request(h2o_handler_t *handler, h2o_req_t *req)
{
	struct sd_server *s = ((struct handler *)handler)->server;
	struct exchange *e = h2o_mem_alloc_shared(&req->pool, sizeof(*e), on_dispose);
	struct client *c = client_of(req);
	const char *code, *message;
	int refusal;

	memset(e, 0, sizeof(*e));
	e->server = s;
	e->client = c;
	e->req = req;
	e->x.listener = c->which;
	e->x.method = pool_str(req, req->input.method);
	set_target(&e->x, req);
	e->x.body = req->entity.base ? req->entity.base : "";
	e->x.body_len = req->entity.len;
	e->x.remote = c->remote;
	e->x.protocol = req->version >= 0x200 ? "HTTP/2" : req->version == 0x100 ? "HTTP/1.0" : "HTTP/1.1";
	e->x.began_us = sd_now_us();
	refusal = check(s, c, req, &code, &message);
	if (refusal) {
		sd_server_client_last(req); /* its body may be unread */
		sd_error_reply(&e->x, refusal, code, message, NULL);
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

size_t sd_exchange_count(const struct sd_exchange *x, const char *name)
{
	size_t n = 0;

	for (size_t i = 0; i < x->nheaders; i++)
		n += strcmp(x->headers[i].name, name) == 0;
	return n;
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

void sd_exchange_reply(struct sd_exchange *x, int status, const struct sd_pair *headers, size_t nheaders, const char *body, size_t body_len)
{
	static h2o_generator_t generator = {NULL, NULL};
	struct exchange *e = (struct exchange *)x;
	struct sd_server *s = e->server;
	h2o_req_t *req = e->req;
	bool bodiless = status < 200 || status == 204 || status == 304;
	h2o_iovec_t buf;

	e->open = false;
	e->answered = true;
	sd_server_client_answered(e->client, req);
	req->res.status = status;
	req->res.reason = sd_http_reason(status);
	req->res.content_length = bodiless ? SIZE_MAX : body_len;
	for (size_t i = 0; i < nheaders; i++)
		add_header(req, &headers[i]);
	if (s->draining) /* here and not in sd_server_drain: who was told keep-alive already must not be closed */
		sd_server_client_last(req);
	x->reply_len = bodiless || strcmp(x->method, "HEAD") == 0 ? 0 : body_len;
	s->events.replied(s->events.arg, x->listener, x, x->remote, status, sd_now_us() - x->began_us);
	if (bodiless || body_len == 0 || strcmp(x->method, "HEAD") == 0) {
		h2o_start_response(req, &generator);
		h2o_send(req, NULL, 0, H2O_SEND_STATE_FINAL);
		return;
	}
	buf = h2o_strdup(&req->pool, body, body_len);
	h2o_start_response(req, &generator);
	h2o_send(req, &buf, 1, H2O_SEND_STATE_FINAL);
}

/* --- replies in pieces --- */

/* Hand what waits to h2o.  The exchange may be freed when this returns, if it was the last. */
static void stream_on(struct exchange *e)
{
	struct sd_buf empty = e->flying;
	h2o_iovec_t buf;

	if (e->sending || (e->waiting.len == 0 && e->fate == H2O_SEND_STATE_IN_PROGRESS))
		return;
	sd_buf_reset(&empty);
	e->flying = e->waiting;
	e->waiting = empty;
	e->sending = true;
	buf = h2o_iovec_init(e->flying.data, e->flying.len);
	h2o_send(e->req, &buf, buf.len > 0, e->fate);
}

static void on_proceed(h2o_generator_t *generator, h2o_req_t *req)
{
	struct exchange *e = H2O_STRUCT_FROM_MEMBER(struct exchange, generator, generator);
	size_t n = e->flying.len;

	e->sending = false;
	sd_buf_reset(&e->flying);
	if (e->open && n > 0)
		e->server->events.taken(e->server->events.arg, &e->x, n);
	stream_on(e);
}

/* No more will come. */
static void answered(struct exchange *e)
{
	e->open = false;
	e->answered = true;
	sd_server_client_answered(e->client, e->req);
	e->server->events.replied(e->server->events.arg, e->x.listener, &e->x, e->x.remote, e->req->res.status,
				   sd_now_us() - e->x.began_us);
}

bool sd_exchange_begin(struct sd_exchange *x, int status, const struct sd_pair *headers, size_t nheaders)
{
	struct exchange *e = (struct exchange *)x;
	h2o_req_t *req = e->req;
	bool head = strcmp(x->method, "HEAD") == 0;

	req->res.status = 200; /* h2o chunks nothing else, and decides here */
	req->res.reason = sd_http_reason(status);
	req->res.content_length = SIZE_MAX;
	for (size_t i = 0; i < nheaders; i++)
		add_header(req, &headers[i]);
	if (e->server->draining)
		sd_server_client_last(req);
	e->generator = (h2o_generator_t){on_proceed, NULL};
	e->fate = head ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS;
	h2o_start_response(req, &e->generator);
	req->res.status = status;
	if (req->version < 0x101)
		req->http1_is_persistent = 0;
	if (head)
		answered(e);
	e->sending = true;
	h2o_send(req, NULL, 0, e->fate);
	return !head;
}

void sd_exchange_send(struct sd_exchange *x, const char *p, size_t n)
{
	struct exchange *e = (struct exchange *)x;

	sd_buf_append(&e->waiting, p, n);
	x->reply_len += n;
	stream_on(e);
}

void sd_exchange_end(struct sd_exchange *x)
{
	struct exchange *e = (struct exchange *)x;

	answered(e);
	e->fate = H2O_SEND_STATE_FINAL;
	stream_on(e);
}

/*
 * h2o ends a chunked reply with a chunk that is none.  A reply without chunks would look complete: its connection is
 * reset.  And so is one whose client reads nothing, because h2o would wait for it.
 */
void sd_exchange_cut(struct sd_exchange *x)
{
	struct exchange *e = (struct exchange *)x;
	const struct sockaddr nobody = {.sa_family = AF_UNSPEC};

	answered(e);
	e->fate = H2O_SEND_STATE_ERROR;
	if ((e->req->version < 0x200 && e->sending) || e->req->version < 0x101)
		(void)!connect(h2o_socket_get_fd(socket_of(e->req)), &nobody, sizeof(nobody)); /* resets it: tcp(7) has no other way that closes nothing */
	sd_buf_reset(&e->waiting);
	stream_on(e);
}

bool sd_exchange_left(const struct sd_exchange *x)
{
	struct pollfd p = {.fd = h2o_socket_get_fd(socket_of(((const struct exchange *)x)->req)), .events = POLLRDHUP};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
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
	else if (status == 417)
		sd_error_body(&b, "expectation_failed", "the only expectation known is 100-continue", NULL);
	else
		sd_error_body(&b, "bad_request", "the request's framing is broken", NULL);
	e->super.do_send = send_error;
	e->body = h2o_strdup(&req->pool, b.data, b.len);
	sd_buf_fini(&b);
	req->res.content_length = e->body.len;
	h2o_set_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, H2O_STRLIT("application/json"), 1);
	sd_server_client_wait(client_of(req), WAIT_NONE);
	sd_server_client_last(req);
	s->events.replied(s->events.arg, client_of(req)->which, NULL, client_of(req)->remote, status, 0);
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
	s->limits = (struct sd_scan_limits){.head = options->head_limit, .target = options->target_limit};
	s->events = *events;
	s->max_clients[SD_LISTENER_ADMIN] = fds > 4 * OTHER_FDS ? MAX_ADMIN : fds / 8;
	s->max_clients[SD_LISTENER_PUBLIC] = fds > 4 * OTHER_FDS ? fds - OTHER_FDS : fds / 2;
	if (options->max_connections > s->max_clients[SD_LISTENER_PUBLIC])
		sd_log(SD_LOG_INFO, "of http.maxConnections %zu, the limit on open files (%zu) leaves %zu", options->max_connections, fds,
		       s->max_clients[SD_LISTENER_PUBLIC]);
	else if (options->max_connections > 0)
		s->max_clients[SD_LISTENER_PUBLIC] = options->max_connections;
	h2o_config_init(&s->conf);
	s->conf.server_name = h2o_iovec_init(NULL, 0);
	s->conf.http1.upgrade_to_http2 = 0; /* server_conn.c tells what is HTTP/2 */
	s->conf.http1.req_timeout = (uint64_t)(options->idle_ms + options->head_ms + options->read_ms + LATER_MS);
	s->conf.http2.idle_timeout = (uint64_t)options->idle_ms + LATER_MS;
	s->conf.http2.max_concurrent_requests_per_connection = REQUESTS_A_CONNECTION;
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
	sd_server_client_listen(l);
}

void sd_server_drain(struct sd_server *s)
{
	s->draining = true;
	s->drain_us = sd_now_us();
	for (size_t i = 0; i < s->nlisteners; i++) {
		if (s->listeners[i].sock) {
			h2o_socket_close(s->listeners[i].sock);
			s->listeners[i].sock = NULL;
		}
	}
	sd_server_drain_begin(s);
}

void sd_server_run(struct sd_server *s, int max_wait_ms)
{
	sd_server_client_turn(s);
	if (s->draining)
		sd_server_drain_turn(s);
	if (h2o_evloop_run(s->ctx.loop, max_wait_ms) != 0 && errno != EINTR) {
		sd_log(SD_LOG_ERROR, "the event loop failed: %s", strerror(errno));
		abort();
	}
}

size_t sd_server_connections(const struct sd_server *s)
{
	return s->nclients[SD_LISTENER_PUBLIC] + s->nclients[SD_LISTENER_ADMIN] + s->nlingerers;
}
