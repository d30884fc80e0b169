/*
 * Nodes of this host whose daemon is gone.  A supervisor killed with -9 never
 * said goodbye, and its lease has still to run out; but here, on its own
 * machine, it can be seen that its process is no more (proc/place.h).  Such
 * nodes are declared lost when we join, and the rescue that follows takes back
 * what they held; but not before their workers have ended, which outlive the
 * supervisor for a moment (worker_orphan.c).
 */
#include "role/keeper.h"

#include "base/clock.h"
#include "base/log.h"
#include "db/number.h"
#include "proc/place.h"
#include "proc/spawn.h"

#include <stdlib.h>
#include <unistd.h>

#define TIMEOUT_MS 10000
#define LOOK_SECONDS 0.02
#define ENDED_SECONDS (SD_ORPHAN_SECONDS + 0.1) /* by then; what is there still is another process of that pid */

static const struct sd_db_stmt st_place = {
	"node_place", "select other_id, other_pid, other_started, other_workers from stepd.node_place($1, $2, $3)", 3};
static const struct sd_db_stmt st_gone = {"node_gone", "select stepd.node_gone($1)", 1};

static void on_gone(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_keeper *k = arg;

	if (err)
		sd_log_err(SD_LOG_WARN, err, "declaring dead daemons of this host lost");
	else
		sd_keeper_rescue(k);
}

/* pids: an array as SQL writes it. */
static bool any_lives(const char *pids)
{
	for (const char *p = pids; *p != '\0'; p++)
		if ((p == pids || p[-1] == ',' || p[-1] == '{') && sd_place_lives(atoi(p), -1))
			return true;
	return false;
}

static void on_gone_timer(struct ev_loop *loop, ev_timer *t, int revents)
{
	struct sd_keeper *k = t->data;
	const char *values[] = {k->gone.data};

	if (any_lives(k->gone_workers.data) && sd_now_us() < k->gone_by_us)
		return;
	ev_timer_stop(loop, t);
	sd_keeper_ask(k, &st_gone, values, TIMEOUT_MS, on_gone);
}

static void on_placed(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_keeper *k = arg;
	struct sd_buf *gone = &k->gone;

	if (err) {
		sd_log_err(SD_LOG_WARN, err, "looking for dead daemons of this host");
		return;
	}
	sd_buf_reset(gone);
	sd_buf_reset(&k->gone_workers);
	sd_buf_chr(gone, '{');
	for (int i = 0; i < PQntuples(results[0]); i++) {
		int pid = atoi(PQgetvalue(results[0], i, 1));
		int64_t started = PQgetisnull(results[0], i, 2) ? -1 : strtoll(PQgetvalue(results[0], i, 2), NULL, 10);

		if (started < 0 || sd_place_lives(pid, started)) /* not known, or still there */
			continue;
		sd_log(SD_LOG_INFO, "node %s ran on this host as pid %d, which is gone", PQgetvalue(results[0], i, 0), pid);
		sd_buf_pgarray_i64(gone, strtoll(PQgetvalue(results[0], i, 0), NULL, 10));
		sd_buf_str(&k->gone_workers, PQgetvalue(results[0], i, 3));
	}
	sd_buf_chr(gone, '}');
	ev_timer_stop(k->loop, &k->gone_timer);
	if (gone->len > 2) {
		k->gone_by_us = sd_now_us() + (int64_t)(ENDED_SECONDS * SD_SEC);
		ev_timer_init(&k->gone_timer, on_gone_timer, LOOK_SECONDS, LOOK_SECONDS);
		k->gone_timer.data = k;
		ev_timer_start(k->loop, &k->gone_timer);
	}
}

void sd_keeper_place(struct sd_keeper *k)
{
	struct sd_db_numbers b = {0};
	char host[128];
	int64_t started = sd_place_started(getppid()); /* -1 where /proc hides it */
	const char *values[] = {sd_db_number(&b, k->node_id), host, started >= 0 ? sd_db_number(&b, started) : NULL};

	sd_place_here(host, sizeof host);
	if (host[0] == '\0')
		return;
	sd_keeper_ask(k, &st_place, values, TIMEOUT_MS, on_placed);
}
