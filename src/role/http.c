/*
 * The http process: serves the routes of http triggers by handing requests to
 * web workers, and the admin listener.  It runs no step code.  Its database
 * connections store accepted requests (http_accept.c).
 *
 * A turn of the loop: handle what came (requests become waiting flights,
 * replies free their workers), hand out waiting flights, write each worker's
 * frames with one send.  Ten times a second, when something is under way, it
 * looks at deadlines and at the workers.
 *
 * Drain: the listening sockets are closed (the next generation has them too),
 * what comes on open connections is answered and each of them closed; then the
 * process ends.
 */
#include "role/http.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/uuid.h"
#include "proc/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define TICK_MS 100
#define IDLE_MS 1000

static void on_request(void *arg, struct sd_exchange *x)
{
	sd_http_request(arg, x);
}

static void on_gone(void *arg, struct sd_exchange *x)
{
	sd_http_gone(arg, x);
}

static void on_taken(void *arg, struct sd_exchange *x, size_t n)
{
	sd_http_stream_taken(arg, x, n);
}

/* Neither headers nor the query: either may hold secrets. */
static void log_access(const struct sd_exchange *x, int status, int64_t took_us)
{
	const struct sd_http_flight *fl = x->data;
	char path[1024], code[16], ms[32], bytes[32];

	snprintf(path, sizeof(path), "%.*s", (int)(x->path_len < sizeof(path) ? x->path_len : sizeof(path) - 1), x->path);
	snprintf(code, sizeof(code), "%d", status);
	snprintf(ms, sizeof(ms), "%.3f", (double)took_us / 1000.);
	snprintf(bytes, sizeof(bytes), "%" PRIu64, x->reply_len);
	sd_log_kv(SD_LOG_INFO, "request", "remote", x->remote, "method", x->method, "path", path, "protocol", x->protocol, "#status", code,
		  "#bytes", bytes, "#ms", ms, "trace", fl ? fl->trace_id : "", NULL);
}

/* What was refused before it was a request. */
static void log_refused(const char *remote, int status)
{
	char code[16];

	snprintf(code, sizeof(code), "%d", status);
	sd_log_kv(SD_LOG_INFO, "request", "remote", remote, "#status", code, NULL);
}

static void on_replied(void *arg, enum sd_listener listener, const struct sd_exchange *x, const char *remote, int status, int64_t took_us)
{
	struct sd_http *h = arg;

	if (listener != SD_LISTENER_PUBLIC)
		return;
	sd_http_metrics_count(&h->metrics, status, took_us);
	if (h->child->conf->http.access_log && x)
		log_access(x, status, took_us);
	else if (h->child->conf->http.access_log)
		log_refused(remote, status);
}

static void drain(struct sd_http *h)
{
	if (h->draining)
		return;
	h->draining = true;
	sd_server_drain(h->server);
	sd_http_stop_workers(h);
}

static void on_chan(void *arg)
{
	struct sd_http *h = arg;
	struct sd_msg msg;
	struct sd_err err;
	int r;

	while ((r = sd_chan_recv(h->child->chan, &msg, &err)) > 0) {
		if (msg.type == SD_MSG_DRAIN) {
			drain(h);
			sd_child_closed(h->child);
		} else if (msg.type == SD_MSG_DEATH) {
			sd_http_death(h, &msg.death);
		} else if (msg.type == SD_MSG_REOPEN_LOGS && sd_log_reopen(&err) != 0) {
			sd_log_err(SD_LOG_ERROR, &err, "cannot reopen the log");
		}
	}
	if (r < 0)
		sd_orphaned();
}

static void on_term(void *arg)
{
	struct sd_http *h = arg;
	struct signalfd_siginfo info;

	while (read(sd_watch_fd(h->term), &info, sizeof(info)) == sizeof(info))
		drain(h);
}

/* Routes of all http triggers.  Discovery refused what cannot be routed, so an error here is a defect. */
static int load_routes(struct sd_http *h, struct sd_err *err)
{
	h->arena = sd_arena_new();
	h->scratch = sd_arena_new();
	h->manifest = sd_manifest_parse(h->child->manifest, h->child->manifest_len, h->arena, err);
	if (!h->manifest)
		return -1;
	h->router = sd_router_new(h->arena);
	for (size_t i = 0; i < h->manifest->nsteps; i++) {
		const struct sd_mf_step *s = &h->manifest->steps[i];

		for (size_t k = 0; k < s->ntriggers; k++) {
			const struct sd_mf_trigger *t = &s->triggers[k];

			if (t->type != SD_TRIGGER_HTTP)
				continue;
			if (sd_router_add(h->router, t->method, t->path, (int)i, (int)k, s->file, err) != 0)
				return sd_err_prefix(err, "step %s", s->name);
		}
	}
	return 0;
}

/* A descriptor of its own for a watch, which closes what it watches; -1 stays -1. */
static int own_copy(int fd, struct sd_err *err)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (copy < 0)
		sd_err_errno(err, errno, "cannot duplicate a descriptor");
	else
		fcntl(copy, F_SETFL, fcntl(copy, F_GETFL) | O_NONBLOCK);
	return copy;
}

static int watch_signals(struct sd_http *h, struct sd_err *err)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0)
		return sd_err_errno(err, errno, "cannot make a signalfd");
	h->term = sd_watch_new(h->server, fd, on_term, NULL, h);
	return 0;
}

static int listen_on(struct sd_http *h, int fd, enum sd_listener which, struct sd_err *err)
{
	int own;

	if (fd < 0)
		return 0;
	own = own_copy(fd, err);
	if (own < 0)
		return -1;
	sd_server_listen(h->server, own, which);
	return 0;
}

static int start(struct sd_http *h, struct sd_err *err)
{
	const struct sd_conf *conf = h->child->conf;
	struct sd_server_options options = {.body_limit = (size_t)conf->http.body_limit,
					    .body_memory = (size_t)conf->http.body_memory,
					    .head_limit = (size_t)conf->http.header_limit,
					    .target_limit = (size_t)conf->http.url_limit,
					    .idle_ms = conf->http.idle_timeout_ms,
					    .head_ms = conf->http.header_timeout_ms,
					    .read_ms = conf->http.read_timeout_ms,
					    .write_ms = conf->http.write_timeout_ms,
					    .http2 = (enum sd_http2)conf->http.http2,
					    .max_connections = (size_t)conf->http.max_connections};
	const struct sd_server_events events = {on_request, on_gone, on_taken, on_replied, h};
	int chan, web;

	sd_random_bytes(h->random, sizeof(h->random));
	if (sd_http_tls(h->child, &options.tls, err) != 0)
		return -1;
	h->server = sd_server_new(&options, &events, err);
	if (!h->server || load_routes(h, err) != 0 || sd_http_accept_init(h, err) != 0)
		return -1;
	sd_dispatch_init(&h->dispatch, h->manifest->nsteps, (uint64_t)sd_now_us() * 1000);
	chan = own_copy(h->child->chan, err);
	web = own_copy(h->child->web_listen, err);
	if (chan < 0 || web < 0 || watch_signals(h, err) != 0)
		return -1;
	h->chan = sd_watch_new(h->server, chan, on_chan, NULL, h);
	if (sd_http_db_start(h, err) != 0)
		return -1;
	h->web_listener = sd_watch_new(h->server, web, sd_http_accept_workers, NULL, h);
	if (listen_on(h, h->child->http_listen, SD_LISTENER_PUBLIC, err) != 0 ||
	    listen_on(h, h->child->admin_listen, SD_LISTENER_ADMIN, err) != 0)
		return -1;
	return 0;
}

/* Nothing left to answer: the end of a drain. */
static bool drained(const struct sd_http *h)
{
	return h->draining && h->in_flight == 0 && !h->lost && sd_server_connections(h->server) == 0;
}

/* Requests that no worker could take are told to the supervisor: the pools may grow. */
static void tell_demand(struct sd_http *h)
{
	const struct sd_scoreboard *sb = h->child->scoreboard;
	struct sd_msg msg = {.type = SD_MSG_DEMAND, .demand = {.waiting = (int32_t)h->dispatch.waiting.n}};
	struct sd_err err;

	for (int i = 0; i < SD_GROUPS && h->dispatch.waiting.n > 0; i++) {
		const struct sd_slot_group *g = &sb->group[i];
		int32_t pool = atomic_load(&g->pool);

		if (atomic_load(&g->conf_generation) != atomic_load(&h->child->slot->conf_generation) || pool < 0 ||
		    (size_t)pool >= h->child->conf->npools || !(h->child->conf->pools[pool].serves & SD_SERVES_HTTP) ||
		    atomic_load(&g->want) >= atomic_load(&g->max))
			continue;
		msg.demand.group = i;
		if (sd_chan_send(h->child->chan, &msg, &err) != 0)
			sd_log(SD_LOG_DEBUG, "demand not told: %s", err.message); /* the next one will be */
	}
}

static int64_t tick(struct sd_http *h)
{
	tell_demand(h);
	sd_http_expire(h);
	sd_http_look_for_gone(h);
	sd_http_check_workers(h);
	sd_http_accept_expire(h);
	return h->now_us + TICK_MS * SD_MS;
}

/* How long the loop may sleep. */
static int max_wait_ms(const struct sd_http *h)
{
	int64_t ms = h->in_flight > 0 || h->lost || h->draining ? TICK_MS : IDLE_MS, due;

	due = sd_http_db_due(h);
	if (h->jobs.waiting.head && !h->jobs.busy && h->jobs.poll_us < due)
		due = h->jobs.poll_us;
	if (due == INT64_MAX)
		return (int)ms;
	due = (due - sd_now_us() + SD_MS - 1) / SD_MS;
	return (int)(due < 0 ? 0 : due < ms ? due : ms);
}

_Noreturn void sd_http_main(const struct sd_child *child)
{
	struct sd_http h = {.child = child};
	int64_t next_tick = 0;
	struct sd_err err;

	sd_err_clear(&err);
	if (start(&h, &err) != 0)
		sd_child_fail(child, 78, &err);
	sd_child_ready(child);
	while (!drained(&h)) {
		sd_server_run(h.server, max_wait_ms(&h));
		h.now_us = sd_now_us();
		sd_http_db_turn(&h, h.now_us);
		if (h.lost)
			sd_http_deaths_turn(&h);
		atomic_store(&child->slot->beat_us, h.now_us);
		if (h.now_us >= next_tick)
			next_tick = tick(&h);
		if (h.accept.due)
			sd_http_accept_turn(&h);
		if (h.jobs.waiting.head)
			sd_http_jobs_turn(&h);
		do { /* burying a dead worker may set requests free */
			if (h.dispatch_due)
				sd_http_dispatch(&h);
			sd_http_flush_workers(&h);
		} while (h.dispatch_due);
	}
	sd_leave(0);
}
