/*
 * What a running handler asks for: state that it has not written itself.
 * The step thread waits; the answer is copied into the attempt's arena, which
 * is safe because the step thread does not touch it meanwhile.
 *
 * Reading is safe to repeat, so a read that meets a database restart is asked
 * again until it is answered; the attempt's timeout bounds how long.
 */
#include "role/worker.h"

#include "queue/sqlcalls.h"

#include <stdlib.h>

static const struct sd_db_stmt *const statements[] = {
	[SD_ASK_STATE_GET] = &sd_sql_state_get,
	[SD_ASK_STATE_LIST] = &sd_sql_state_list,
	[SD_ASK_STATE_GROUPS] = &sd_sql_state_groups,
};

struct question {
	struct sd_worker *worker;
	struct sd_ask *ask;
};

static void ask_database(struct question *q);

static void on_answer(void *arg, PGresult *const *results, size_t n, const struct sd_err *err)
{
	struct question *q = arg;
	struct sd_ask *ask = q->ask;
	if (results == NULL && err->class == SD_ERR_TRANSIENT && !q->worker->ending) {
		ask_database(q);
		return;
	}
	if (results == NULL) {
		ask->failed = true;
		ask->err = *err;
	} else if (PQntuples(results[0]) > 0 && !PQgetisnull(results[0], 0, 0)) {
		ask->json = sd_arena_memdup(ask->attempt->arena, PQgetvalue(results[0], 0, 0),
					    (size_t)PQgetlength(results[0], 0, 0));
	}
	sd_runner_answer(q->worker->runner, ask);
	free(q);
}

static void ask_database(struct question *q)
{
	const char *values[2] = {q->ask->group, q->ask->key};
	struct sd_db_call call = {statements[q->ask->kind], values};
	sd_db_submit(q->worker->db, &call, 1, SD_DB_WAIT, 0, on_answer, q);
}

void sd_worker_answer(struct sd_worker *w, struct sd_ask *ask)
{
	struct question *q = sd_xmalloc(sizeof *q);
	*q = (struct question){w, ask};
	ask->json = NULL;
	ask->failed = false;
	ask_database(q);
}
