/*
 * What a running handler asks for: state that it has not written itself.
 * The step thread waits; the answer is copied into the attempt's arena, which
 * is safe because the step thread does not touch it meanwhile.
 *
 * Reading is safe to repeat, so a read that meets a database restart is asked
 * again until it is answered; the attempt's timeout bounds how long.
 */
#include "role/worker.h"

#include "role/ask.h"

#include <stdlib.h>

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
	sd_ask_answered(ask, results, err);
	sd_runner_answer(q->worker->runner, ask);
	free(q);
}

static void ask_database(struct question *q)
{
	const char *values[2];
	struct sd_db_call call = sd_ask_call(q->ask, values);
	sd_db_submit(q->worker->db, &call, 1, SD_DB_WAIT, 0, on_answer, q);
}

void sd_worker_answer(struct sd_worker *w, struct sd_ask *ask)
{
	struct question *q = sd_xmalloc(sizeof *q);
	*q = (struct question){w, ask};
	ask_database(q);
}
