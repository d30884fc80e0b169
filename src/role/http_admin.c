/*
 * The admin listener: /health (this process answers), /ready (jobs and requests
 * can run), /metrics (Prometheus).  All it tells comes from memory, the
 * scoreboard and what this process counts, but for the queues (http_depths.c).  With admin.token set every request
 * needs "Authorization: Bearer TOKEN".
 */
#include "role/http.h"

#include "base/clock.h"
#include "http/error.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char *const role_names[SD_ROLE_COUNT] = {
	[SD_ROLE_POSTGRES] = "postgres", [SD_ROLE_KEEPER] = "keeper", [SD_ROLE_CRON] = "cron",
	[SD_ROLE_HTTP] = "http",	 [SD_ROLE_WORKER] = "worker", [SD_ROLE_WEB] = "web",
};

/* What the scoreboard says, read once and distrustfully. */
struct census {
	unsigned ready[SD_ROLE_COUNT], busy[SD_ROLE_COUNT];
	uint64_t starts;
	bool database, pools_ready;
	unsigned pool_ready[SD_CONF_MAX_POOLS], pool_busy[SD_CONF_MAX_POOLS]; /* by index in conf->pools */
	int group[SD_CONF_MAX_POOLS]; /* of our generation; -1: it has none */
};

static void count_slot(const struct sd_http *h, const struct sd_slot *s, struct census *c)
{
	int role = atomic_load(&s->role), pool = atomic_load(&s->pool);

	c->starts += atomic_load(&s->generation);
	if (atomic_load(&s->state) != SD_SLOT_READY || role < 0 || role >= SD_ROLE_COUNT)
		return;
	c->ready[role]++;
	c->busy[role] += atomic_load(&s->job) != 0 || atomic_load(&s->serving) != 0;
	if (role == SD_ROLE_KEEPER || role == SD_ROLE_WORKER || role == SD_ROLE_WEB)
		c->database |= atomic_load(&s->db_up) != 0;
	if (pool < 0 || (size_t)pool >= h->child->conf->npools)
		return;
	c->pool_ready[pool]++;
	c->pool_busy[pool] += atomic_load(&s->job) != 0 || atomic_load(&s->serving) != 0;
}

static bool is_degraded(const struct sd_http *h, const struct census *c, size_t pool)
{
	return c->group[pool] >= 0 && atomic_load(&h->child->scoreboard->group[c->group[pool]].degraded) != 0;
}

/* The groups of our generation; while a reload drains us there are none. */
static void find_groups(const struct sd_http *h, struct census *c)
{
	const struct sd_scoreboard *sb = h->child->scoreboard;

	for (int i = 0; i < SD_CONF_MAX_POOLS; i++)
		c->group[i] = -1;
	for (int i = 0; i < SD_GROUPS; i++) {
		int pool = atomic_load(&sb->group[i].pool);

		if (atomic_load(&sb->group[i].conf_generation) == atomic_load(&h->child->slot->conf_generation) && pool >= 0 &&
		    pool < SD_CONF_MAX_POOLS)
			c->group[pool] = i;
	}
}

static struct census take_census(const struct sd_http *h)
{
	const struct sd_scoreboard *sb = h->child->scoreboard;
	struct census c = {.pools_ready = true};

	for (uint32_t i = 0; i < sb->nslots; i++)
		count_slot(h, &sb->slot[i], &c);
	find_groups(h, &c);
	for (size_t i = 0; i < h->child->conf->npools; i++)
		if ((h->child->conf->pools[i].min > 0 || is_degraded(h, &c, i)) && c.pool_ready[i] == 0)
			c.pools_ready = false;
	return c;
}

static void reply_text(struct sd_exchange *x, int status, const char *type, const struct sd_buf *b)
{
	struct sd_pair h[] = {{"content-type", type, strlen(type)}, {"cache-control", "no-store", 8}};

	sd_exchange_reply(x, status, h, 2, b->data, b->len);
}

static void health(struct sd_http *h, struct sd_exchange *x, struct sd_buf *b)
{
	sd_buf_str(b, "{\"status\":\"ok\"}\n");
	reply_text(x, 200, "application/json", b);
}

static void ready(struct sd_http *h, struct sd_exchange *x, struct sd_buf *b)
{
	struct census c = take_census(h);
	const struct sd_scoreboard *sb = h->child->scoreboard;
	/* it joined, and the database has heard of it within its lease, without which no job starts */
	bool node = atomic_load(&sb->node_id) > 0 && atomic_load(&sb->lease_until_us) > sd_boot_us();
	bool ok = c.database && node && c.pools_ready && !h->draining;

	sd_buf_printf(b, "{\"status\":\"%s\",\"database\":%s,\"node\":%s,\"workers\":%s,\"draining\":%s,\"degraded\":[", ok ? "ready" : "not ready",
		      c.database ? "true" : "false", node ? "true" : "false", c.pools_ready ? "true" : "false",
		      h->draining ? "true" : "false");
	for (size_t i = 0, n = 0; i < h->child->conf->npools; i++)
		if (is_degraded(h, &c, i))
			sd_buf_printf(b, "%s\"%s\"", n++ > 0 ? "," : "", h->child->conf->pools[i].name);
	sd_buf_str(b, "]}\n");
	reply_text(x, ok ? 200 : 503, "application/json", b);
}

static void gauge(struct sd_buf *b, const char *name, const char *help, double v)
{
	sd_metric_head(b, name, "gauge", help);
	sd_metric_line(b, name, "", v);
}

static void by_role(struct sd_buf *b, const char *name, const char *help, const unsigned *v)
{
	char labels[32];

	sd_metric_head(b, name, "gauge", help);
	for (int r = SD_ROLE_KEEPER; r < SD_ROLE_COUNT; r++) {
		snprintf(labels, sizeof(labels), "role=\"%s\"", role_names[r]);
		sd_metric_line(b, name, labels, v[r]);
	}
}

enum { POOL_READY, POOL_BUSY, POOL_WANT, POOL_MIN, POOL_MAX, POOL_DEATHS, POOL_DEGRADED, POOL_VALUES };

static double pool_value(const struct sd_http *h, const struct census *c, size_t pool, int what)
{
	const struct sd_slot_group *g = c->group[pool] >= 0 ? &h->child->scoreboard->group[c->group[pool]] : NULL;
	const struct sd_conf_pool *conf = &h->child->conf->pools[pool];

	switch (what) {
	case POOL_READY:
		return c->pool_ready[pool];
	case POOL_BUSY:
		return c->pool_busy[pool];
	case POOL_WANT:
		return g ? atomic_load(&g->want) : 0;
	case POOL_MIN:
		return conf->min;
	case POOL_MAX:
		return conf->max;
	case POOL_DEATHS:
		return g ? (double)atomic_load(&g->deaths) : 0;
	default:
		return is_degraded(h, c, pool);
	}
}

static void print_pools(const struct sd_http *h, const struct census *c, struct sd_buf *b)
{
	static const struct {
		const char *name, *type, *help;
	} series[POOL_VALUES] = {
		[POOL_READY] = {"stepd_pool_processes_ready", "gauge", "Processes of a pool that can serve."},
		[POOL_BUSY] = {"stepd_pool_processes_busy", "gauge", "Processes of a pool that run a handler now."},
		[POOL_WANT] = {"stepd_pool_processes_wanted", "gauge", "Processes that a pool is to have now."},
		[POOL_MIN] = {"stepd_pool_processes_min", "gauge", "The least that a pool is to have."},
		[POOL_MAX] = {"stepd_pool_processes_max", "gauge", "The most that a pool may have."},
		[POOL_DEATHS] = {"stepd_pool_deaths_total", "counter", "Processes of a pool that died unasked since the last reload."},
		[POOL_DEGRADED] = {"stepd_pool_degraded", "gauge", "1 while a pool's processes die at once and are started again with a delay."},
	};
	char labels[80];

	for (int s = 0; s < POOL_VALUES; s++) {
		sd_metric_head(b, series[s].name, series[s].type, series[s].help);
		for (size_t i = 0; i < h->child->conf->npools; i++) {
			snprintf(labels, sizeof(labels), "pool=\"%s\"", h->child->conf->pools[i].name);
			sd_metric_line(b, series[s].name, labels, pool_value(h, c, i, s));
		}
	}
}

static void print_metrics(struct sd_http *h, struct sd_buf *b)
{
	const struct sd_scoreboard *sb = h->child->scoreboard;
	struct census c = take_census(h);

	sd_http_metrics_print(b, &h->metrics);
	gauge(b, "stepd_http_in_flight", "Requests that wait for an answer.", (double)h->in_flight);
	gauge(b, "stepd_http_waiting", "Requests among them that no worker has yet.", (double)h->dispatch.waiting.n);
	gauge(b, "stepd_http_connections", "Open client connections.", (double)sd_server_connections(h->server));
	by_role(b, "stepd_processes_ready", "Child processes that can serve.", c.ready);
	by_role(b, "stepd_processes_busy", "Child processes that run a handler now.", c.busy);
	sd_metric_head(b, "stepd_process_starts_total", "counter", "Child processes started since the daemon started.");
	sd_metric_line(b, "stepd_process_starts_total", "", (double)c.starts);
	gauge(b, "stepd_pools_degraded", "Pools whose workers die at once and are held back.", atomic_load(&sb->degraded));
	print_pools(h, &c, b);
	gauge(b, "stepd_database_up", "1 while the node has a database connection.", c.database);
	sd_buf_append(b, h->depths.text.data, h->depths.text.len);
}

void sd_http_metrics_reply(struct sd_http *h, struct sd_exchange *x)
{
	struct sd_buf b = SD_BUF_INIT;

	print_metrics(h, &b);
	reply_text(x, 200, "text/plain; version=0.0.4; charset=utf-8", &b);
	sd_buf_fini(&b);
}

static void metrics(struct sd_http *h, struct sd_exchange *x, struct sd_buf *b)
{
	sd_http_metrics_request(h, x);
}

static bool authorized(const struct sd_http *h, const struct sd_exchange *x)
{
	const char *token = h->child->conf->admin.token;
	size_t len, n = token ? strlen(token) : 0;
	const char *given;

	if (n == 0)
		return true;
	given = sd_exchange_header(x, "authorization", &len);
	return given && len == n + 7 && strncasecmp(given, "Bearer ", 7) == 0 && CRYPTO_memcmp(given + 7, token, n) == 0;
}

void sd_http_admin(struct sd_http *h, struct sd_exchange *x)
{
	static const struct {
		const char *path;
		void (*serve)(struct sd_http *h, struct sd_exchange *x, struct sd_buf *b);
	} pages[] = {{"/health", health}, {"/ready", ready}, {"/metrics", metrics}};
	struct sd_buf b = SD_BUF_INIT;

	if (!authorized(h, x)) {
		const struct sd_pair www = {"www-authenticate", "Bearer", 6};

		sd_error_reply_with(x, 401, "unauthorized", "admin.token is needed as a bearer token", NULL, &www, 1);
		return;
	}
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		if (x->path_len != strlen(pages[i].path) || memcmp(x->path, pages[i].path, x->path_len) != 0)
			continue;
		if (strcmp(x->method, "GET") != 0 && strcmp(x->method, "HEAD") != 0) {
			const struct sd_pair allow = {"allow", "GET, HEAD", 9};

			sd_error_reply_with(x, 405, "method_not_allowed", "this page is read with GET", NULL, &allow, 1);
			return;
		}
		pages[i].serve(h, x, &b);
		sd_buf_fini(&b);
		return;
	}
	sd_error_reply(x, 404, "not_found", "there are /health, /ready and /metrics", NULL);
}
