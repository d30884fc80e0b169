/*
 * One connection as a state machine: IDLE → CONNECTING → SETUP → UP, and from
 * anywhere through WAITING (back-off) to CONNECTING again.  What is said over
 * it once it is there: pipeline.c.
 *
 * Callbacks may submit, never free.  They run from sd_db_on_io, sd_db_on_timer
 * and sd_db_free only.
 */
#include "db/db_impl.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_TIMEOUT_MS 30000
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 1000 /* a node that is away for longer than its lease after the server came back is dead */
#define STABLE_US (2 * SD_SEC) /* a connection that held this long starts the back-off afresh */
#define NEVER INT64_MAX

/* ---- timer and watch ---- */

void sd_db_arm(struct sd_db *db, int64_t at_us)
{
	if (at_us >= db->timer_us)
		return;
	int64_t left = at_us - sd_now_us();
	db->timer_us = at_us;
	db->loop.timer(db->loop.loop, db, left <= 0 ? 0 : (left + SD_MS - 1) / SD_MS);
}

void sd_db_watch(struct sd_db *db, int events)
{
	if (events == db->watching)
		return;
	db->watching = events;
	db->loop.watch(db->loop.loop, db, PQsocket(db->conn), events);
}

static void enter(struct sd_db *db, enum sd_db_state state, int64_t until_us)
{
	db->state = state;
	db->next_us = until_us;
	sd_db_arm(db, until_us);
}

/* ---- connecting ---- */

/* Jittered, so that the processes of many nodes do not come back in step. */
static int64_t backoff_us(int attempts)
{
	uint64_t mix = ((uint64_t)sd_now_us() ^ (uint64_t)getpid() << 32) * 0x9E3779B97F4A7C15ull;
	return sd_backoff_delay(SD_BACKOFF_EXPONENTIAL, BACKOFF_FIRST_MS * SD_MS, attempts > 0 ? attempts : 1, 0.25,
				BACKOFF_MAX_MS * SD_MS, (double)(mix >> 11) / 9007199254740992.);
}

static void tell_down(struct sd_db *db, const struct sd_err *why, bool was_up)
{
	if (!was_up && strcmp(db->told, why->message) == 0)
		return;
	snprintf(db->told, sizeof db->told, "%s", why->message);
	if (db->events.down)
		db->events.down(db->events.arg, db, why);
}

static void connect_step(struct sd_db *db)
{
	/* libpq may close the socket in here: nobody may watch it meanwhile */
	sd_db_watch(db, 0);
	PostgresPollingStatusType want = PQconnectPoll(db->conn);
	struct sd_err err;

	sd_err_clear(&err);
	switch (want) {
	case PGRES_POLLING_READING:
		sd_db_watch(db, SD_DB_READ);
		return;
	case PGRES_POLLING_WRITING:
		sd_db_watch(db, SD_DB_WRITE);
		return;
	case PGRES_POLLING_OK:
		break;
	default:
		(void)!sd_db_connect_error(&err, db->conn);
		sd_db_drop(db, &err);
		return;
	}
	PQsetErrorVerbosity(db->conn, PQERRORS_DEFAULT);
	if (PQsetnonblocking(db->conn, 1) != 0 || !PQenterPipelineMode(db->conn)) {
		(void)sd_db_error(&err, db->conn, NULL);
		sd_db_drop(db, &err);
		return;
	}
	enter(db, SD_DB_SETUP, sd_now_us() + db->params.attempt_ms * SD_MS);
	sd_db_pump(db);
}

/* What the server says unasked.  A FATAL is its last word on this connection. */
static void notice(void *arg, const PGresult *res)
{
	struct sd_db *db = arg;
	const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
	if (severity && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0))
		(void)sd_db_error(&db->fatal, NULL, res);
	else
		sd_log(SD_LOG_DEBUG, "database: %s", PQresultErrorMessage(res));
}

static void connect_start(struct sd_db *db)
{
	struct sd_err err;

	sd_err_clear(&err);
	if (db->params_err.class != SD_ERR_NONE) {
		err = db->params_err;
		sd_db_drop(db, &err);
		return;
	}
	db->attempts++;
	sd_err_clear(&db->fatal);
	db->conn = sd_db_params_start(&db->params);
	if (!db->conn || PQstatus(db->conn) == CONNECTION_BAD) {
		(void)!sd_db_connect_error(&err, db->conn);
		sd_db_drop(db, &err);
		return;
	}
	PQsetNoticeReceiver(db->conn, notice, db);
	enter(db, SD_DB_CONNECTING, sd_now_us() + db->params.attempt_ms * SD_MS);
	sd_db_watch(db, SD_DB_WRITE); /* "behave as if PQconnectPoll had last returned PGRES_POLLING_WRITING" */
}

void sd_db_drop(struct sd_db *db, const struct sd_err *why)
{
	struct sd_err err = *why, unknown;
	struct sd_reqs lost = sd_reqs_take(&db->flight), unsent;
	bool was_up = db->state == SD_DB_UP;
	int64_t now = sd_now_us();

	if (db->conn) {
		sd_db_watch(db, 0);
		PQfinish(db->conn);
		db->conn = NULL;
	}
	sd_req_stmts_free(&db->stmts);
	sd_reqs_init(&unsent);
	sd_reqs_split(&db->queue, &unsent, sd_req_will_not_wait, 0);
	db->broken = db->recycle = false;
	db->spent[0] = '\0';
	if (was_up && now - db->up_us > STABLE_US)
		db->attempts = 0;
	enter(db, SD_DB_WAITING, now + backoff_us(db->attempts));
	tell_down(db, &err, was_up);

	sd_err_clear(&unknown);
	sd_err_set(&unknown, SD_ERR_TRANSIENT, "the connection to the database was lost before it answered");
	sd_err_detail(&unknown, "%s", err.message);
	memcpy(unknown.sqlstate, "08007", 6);
	sd_reqs_fail(&lost, &unknown);
	if (!*err.sqlstate)
		memcpy(err.sqlstate, "08006", 6);
	err.class = SD_ERR_TRANSIENT;
	sd_reqs_fail(&unsent, &err);
}

void sd_db_break(struct sd_db *db)
{
	if (!db->broken)
		(void)sd_db_error(&db->breach, db->conn, NULL);
	db->broken = true;
	sd_db_arm(db, 0);
}

static void drop_broken(struct sd_db *db)
{
	struct sd_err err;
	struct sd_req *head = db->flight.head;

	sd_err_clear(&err);
	if (db->fatal.class != SD_ERR_NONE)
		err = db->fatal;
	else if (db->broken && !(head && head->error))
		err = db->breach;
	else
		(void)sd_db_error(&err, db->conn, head ? head->error : NULL);
	sd_db_drop(db, &err);
}

void sd_db_came_up(struct sd_db *db)
{
	db->up_us = sd_now_us();
	db->told[0] = '\0';
	enter(db, SD_DB_UP, NEVER);
	if (db->events.up)
		db->events.up(db->events.arg, db);
}

/* ---- input ---- */

static void notifies(struct sd_db *db)
{
	for (PGnotify *n; db->conn && (n = PQnotifies(db->conn));) {
		if (db->events.notify && db->state == SD_DB_UP)
			db->events.notify(db->events.arg, db, n->relname, n->extra);
		PQfreemem(n);
	}
}

void sd_db_on_io(struct sd_db *db, int events)
{
	(void)events;
	if (db->state == SD_DB_CONNECTING) {
		connect_step(db);
		return;
	}
	if (!db->conn)
		return;
	bool ok = PQconsumeInput(db->conn);
	if (!sd_db_receive(db))
		return;
	notifies(db);
	if (!db->conn)
		return;
	if (!ok || PQstatus(db->conn) == CONNECTION_BAD) {
		drop_broken(db);
		return;
	}
	sd_db_pump(db);
}

/* ---- deadlines ---- */

static int64_t earliest(const struct sd_reqs *l, int64_t at)
{
	for (const struct sd_req *r = l->head; r; r = r->next)
		if (r->deadline_us < at)
			at = r->deadline_us;
	return at;
}

static void state_timeout(struct sd_db *db)
{
	struct sd_err err;

	if (db->state == SD_DB_WAITING) {
		connect_start(db);
		return;
	}
	sd_err_clear(&err);
	sd_err_set(&err, SD_ERR_TRANSIENT, "the database did not answer within %lld s",
		   (long long)(db->params.attempt_ms / 1000));
	sd_db_params_rotate(&db->params);
	sd_db_drop(db, &err);
}

static void expire(struct sd_db *db, int64_t now)
{
	struct sd_err err;
	struct sd_reqs late;

	sd_err_clear(&err);
	sd_err_set(&err, SD_ERR_TRANSIENT, "the database did not answer in time");
	memcpy(err.sqlstate, "57014", 6);
	sd_reqs_init(&late);
	sd_reqs_split(&db->queue, &late, sd_req_is_expired, now);
	sd_reqs_fail(&late, &err);
	/* What was sent cannot be called back without the connection. */
	if (db->state == SD_DB_UP && earliest(&db->flight, NEVER) <= now)
		sd_db_drop(db, &err);
}

void sd_db_on_timer(struct sd_db *db)
{
	struct sd_reqs failed = sd_reqs_take(&db->failed);
	struct sd_err err;
	int64_t now = sd_now_us();

	db->timer_us = NEVER;
	if (failed.n) {
		sd_err_clear(&err);
		sd_err_set(&err, SD_ERR_TRANSIENT, "the database is not reachable");
		if (*db->told)
			sd_err_detail(&err, "%s", db->told);
		memcpy(err.sqlstate, "08003", 6);
		sd_reqs_fail(&failed, &err);
	}
	if (db->broken)
		drop_broken(db);
	if (db->next_us <= now)
		state_timeout(db);
	expire(db, now);
	sd_db_arm(db, db->failed.head ? 0 : earliest(&db->queue, earliest(&db->flight, db->next_us)));
}

/* ---- the interface ---- */

struct sd_db *sd_db_new(const char *conninfo, const char *application_name, const char *const *listen,
			const struct sd_db_loop *loop, const struct sd_db_events *events)
{
	struct sd_db *db = sd_xcalloc(1, sizeof *db);

	db->loop = *loop;
	if (events)
		db->events = *events;
	for (; listen && listen[db->nlisten]; db->nlisten++)
		;
	db->listen = sd_xcalloc(db->nlisten + 1, sizeof *db->listen);
	for (size_t i = 0; i < db->nlisten; i++)
		db->listen[i] = sd_xstrdup(listen[i]);
	sd_reqs_init(&db->queue);
	sd_reqs_init(&db->flight);
	sd_reqs_init(&db->failed);
	db->next_us = db->timer_us = NEVER;
	(void)!sd_db_params_init(&db->params, conninfo, application_name, &db->params_err);
	return db;
}

void sd_db_free(struct sd_db *db)
{
	struct sd_err err;

	if (!db)
		return;
	sd_err_clear(&err);
	sd_err_set(&err, SD_ERR_TRANSIENT, "the connection to the database is being closed");
	db->events = (struct sd_db_events){0};
	sd_db_drop(db, &err);
	for (size_t i = 0; i < 2; i++) {
		struct sd_reqs rest = sd_reqs_take(i ? &db->failed : &db->queue);
		sd_reqs_fail(&rest, &err);
	}
	db->loop.timer(db->loop.loop, db, -1);
	sd_db_params_fini(&db->params);
	for (size_t i = 0; i < db->nlisten; i++)
		free((char *)db->listen[i]);
	free(db->listen);
	free(db);
}

void sd_db_start(struct sd_db *db)
{
	if (db->state == SD_DB_IDLE)
		enter(db, SD_DB_WAITING, 0);
}

bool sd_db_is_up(const struct sd_db *db)
{
	return db->state == SD_DB_UP && !db->broken && !db->recycle;
}

int sd_db_backend(const struct sd_db *db)
{
	return db->conn ? PQbackendPID(db->conn) : 0;
}

void sd_db_submit(struct sd_db *db, const struct sd_db_call *calls, size_t ncalls, unsigned flags, int64_t timeout_ms,
		  sd_db_done *done, void *arg)
{
	struct sd_req *r = sd_req_new(SD_REQ_CALLS, done, arg);

	if (ncalls > SD_DB_MAX_CALLS)
		abort(); /* part of a transaction must not look like all of it */
	r->flags = flags;
	r->ncalls = ncalls;
	r->deadline_us = sd_now_us() + (timeout_ms > 0 ? timeout_ms : DEFAULT_TIMEOUT_MS) * SD_MS;
	for (size_t i = 0; i < r->ncalls; i++)
		r->calls[i].stmt = calls[i].stmt;
	if (!sd_db_is_up(db) && !(flags & SD_DB_WAIT)) {
		sd_reqs_add(&db->failed, r);
		sd_db_arm(db, 0);
		return;
	}
	sd_db_arm(db, r->deadline_us);
	if (sd_db_may_send(db) && !db->queue.head) {
		sd_db_send(db, r, calls);
		return;
	}
	for (size_t i = 0; i < r->ncalls; i++)
		r->calls[i].values = sd_req_values_copy(calls[i].values, calls[i].stmt->nparams);
	sd_reqs_add(&db->queue, r);
}
