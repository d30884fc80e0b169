/*
 * Nodes of this host whose daemon is gone.  A supervisor killed with -9 never
 * said goodbye, and its lease has still to run out; but here, on its own
 * machine, it can be seen that its process is no more (proc/place.h).  Such
 * nodes are declared lost when we join, and the rescue that follows takes back
 * what they held.
 */
#include "role/keeper.h"

#include "base/log.h"
#include "db/number.h"
#include "proc/place.h"

#include <stdlib.h>
#include <unistd.h>

#define TIMEOUT_MS 10000

static const struct sd_db_stmt st_place = {
	"node_place", "select other_id, other_pid, other_started from stepd.node_place($1, $2, $3)", 3};
static const struct sd_db_stmt st_gone = {"node_gone", "select stepd.node_gone($1)", 1};

static void on_gone(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_keeper *k = arg;

	if (err)
		sd_log_err(SD_LOG_WARN, err, "declaring dead daemons of this host lost");
	else
		sd_keeper_rescue(k);
}

static void on_placed(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct sd_keeper *k = arg;
	struct sd_buf gone = SD_BUF_INIT;

	if (err) {
		sd_log_err(SD_LOG_WARN, err, "looking for dead daemons of this host");
		return;
	}
	sd_buf_chr(&gone, '{');
	for (int i = 0; i < PQntuples(results[0]); i++) {
		int pid = atoi(PQgetvalue(results[0], i, 1));

		if (pid > 0 && sd_place_started(pid) == strtoll(PQgetvalue(results[0], i, 2), NULL, 10))
			continue;
		sd_log(SD_LOG_INFO, "node %s ran on this host as pid %d, which is gone", PQgetvalue(results[0], i, 0), pid);
		sd_buf_pgarray_i64(&gone, strtoll(PQgetvalue(results[0], i, 0), NULL, 10));
	}
	sd_buf_chr(&gone, '}');
	if (gone.len > 2) {
		const char *values[] = {gone.data};
		sd_keeper_ask(k, &st_gone, values, TIMEOUT_MS, on_gone);
	}
	sd_buf_fini(&gone);
}

void sd_keeper_place(struct sd_keeper *k)
{
	struct sd_db_numbers b = {0};
	char host[128];
	const char *values[] = {sd_db_number(&b, k->node_id), host, sd_db_number(&b, sd_place_started(getppid()))};

	sd_place_here(host, sizeof host);
	if (host[0] == '\0')
		return;
	sd_keeper_ask(k, &st_place, values, TIMEOUT_MS, on_placed);
}
