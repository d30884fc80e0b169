/*
 * One connection as a state machine: IDLE → CONNECTING → SETUP → UP, and from
 * anywhere through WAITING (back-off) to CONNECTING again.
 *
 * Pipeline mode.  A request is its statements and one Sync; requests are sent
 * as they come, answered in order, and `flight` mirrors what libpq still has to
 * answer.  Two kinds of request are our own: the session's set-up, and the
 * Parse of a statement.  A Parse has a Sync of its own in front of the request
 * that needs it: inside that request an error before it would skip it, and a
 * request pipelined behind would find the statement missing.  When a Parse
 * fails, the request behind it fails with 26000, and is told the Parse's error.
 *
 * What libpq hands out: for each statement its result and a NULL, for each Sync
 * one result without a NULL.  Errors skip the rest up to the Sync
 * (PGRES_PIPELINE_ABORTED).  A commit that fails gives an error after the last
 * statement.  So a request is decided at its Sync and never before: no Sync,
 * no knowledge (08007).
 *
 * Callbacks may submit, never free.  They run from sd_db_on_io, sd_db_on_timer
 * and sd_db_free only.
 */
#include "db/db.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "db/params.h"
#include "db/req.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_TIMEOUT_MS 30000
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 1000 /* a node that is away for longer than its lease after the server came back is dead */
#define STABLE_US (2 * SD_SEC) /* a connection that held this long starts the back-off afresh */
#define MAX_FLIGHT 64
#define NEVER INT64_MAX

/* What every session of ours is, whatever role, database or server defaults say. */
static const char setup_sql[] =
	"select set_config(name, value, false) from (values"
	" ('search_path', 'pg_catalog, stepd, pg_temp'), ('timezone', 'UTC'), ('datestyle', 'ISO, YMD'),"
	" ('synchronous_commit', 'on'), ('jit', 'off'), ('default_transaction_isolation', 'read committed'),"
	" ('idle_in_transaction_session_timeout', '60s')) as s(name, value)";
/* So that the server drops the work of a peer that left.  Not every server's platform can. */
static const char setup_optional_sql[] = "select set_config('client_connection_check_interval', '5s', false)";

enum state { IDLE, WAITING, CONNECTING, SETUP, UP };

struct sd_db {
	struct sd_db_params params;
	struct sd_err params_err; /* set: the conninfo is malformed */
	const char **listen;
	size_t nlisten;
	struct sd_db_loop loop;
	struct sd_db_events events;

	enum state state;
	PGconn *conn;
	struct sd_req_stmt *stmts;
	struct sd_reqs queue, flight, failed; /* not sent; sent; to be told from the loop */
	bool broken;   /* found while sending; handled from the loop */
	bool recycle;  /* send nothing more, reconnect when the flight is answered */
	int watching;  /* events */
	int64_t up_us; /* since when, for the back-off */
	int attempts;  /* since the last stable connection */
	int64_t next_us; /* of this state: end of wait, of connecting, of set-up */
	int64_t timer_us; /* what the loop's timer is set to */
	char told[512];	  /* the last failure that `down` was told */
	struct sd_err fatal; /* the server's last words */
};

static void drop(struct sd_db *db, const struct sd_err *why);
static void pump(struct sd_db *db);

/* ---- timer and watch ---- */

static void arm(struct sd_db *db, int64_t at_us)
{
	if (at_us >= db->timer_us)
		return;
	int64_t left = at_us - sd_now_us();
	db->timer_us = at_us;
	db->loop.timer(db->loop.loop, db, left <= 0 ? 0 : (left + SD_MS - 1) / SD_MS);
}

static void watch(struct sd_db *db, int events)
{
	if (events == db->watching)
		return;
	db->watching = events;
	db->loop.watch(db->loop.loop, db, PQsocket(db->conn), events);
}

static void enter(struct sd_db *db, enum state state, int64_t until_us)
{
	db->state = state;
	db->next_us = until_us;
	arm(db, until_us);
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
	watch(db, 0);
	PostgresPollingStatusType want = PQconnectPoll(db->conn);
	struct sd_err err;

	sd_err_clear(&err);
	switch (want) {
	case PGRES_POLLING_READING:
		watch(db, SD_DB_READ);
		return;
	case PGRES_POLLING_WRITING:
		watch(db, SD_DB_WRITE);
		return;
	case PGRES_POLLING_OK:
		break;
	default:
		(void)!sd_db_connect_error(&err, db->conn);
		drop(db, &err);
		return;
	}
	PQsetErrorVerbosity(db->conn, PQERRORS_DEFAULT);
	if (PQsetnonblocking(db->conn, 1) != 0 || !PQenterPipelineMode(db->conn)) {
		(void)sd_db_error(&err, db->conn, NULL);
		drop(db, &err);
		return;
	}
	enter(db, SETUP, sd_now_us() + db->params.attempt_ms * SD_MS);
	pump(db);
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
		drop(db, &err);
		return;
	}
	db->attempts++;
	sd_err_clear(&db->fatal);
	db->conn = sd_db_params_start(&db->params);
	if (!db->conn || PQstatus(db->conn) == CONNECTION_BAD) {
		(void)!sd_db_connect_error(&err, db->conn);
		drop(db, &err);
		return;
	}
	PQsetNoticeReceiver(db->conn, notice, db);
	enter(db, CONNECTING, sd_now_us() + db->params.attempt_ms * SD_MS);
	watch(db, SD_DB_WRITE); /* "behave as if PQconnectPoll had last returned PGRES_POLLING_WRITING" */
}

/* The connection is gone, or is to go: forget it, tell, and come again after a while. */
static void drop(struct sd_db *db, const struct sd_err *why)
{
	struct sd_err err = *why, unknown;
	struct sd_reqs lost = sd_reqs_take(&db->flight), unsent;
	bool was_up = db->state == UP;
	int64_t now = sd_now_us();

	if (db->conn) {
		watch(db, 0);
		PQfinish(db->conn);
		db->conn = NULL;
	}
	sd_req_stmts_free(&db->stmts);
	sd_reqs_init(&unsent);
	sd_reqs_split(&db->queue, &unsent, sd_req_will_not_wait, 0);
	db->broken = db->recycle = false;
	if (was_up && now - db->up_us > STABLE_US)
		db->attempts = 0;
	enter(db, WAITING, now + backoff_us(db->attempts));
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

static void drop_broken(struct sd_db *db)
{
	struct sd_err err;
	struct sd_req *head = db->flight.head;

	sd_err_clear(&err);
	if (db->fatal.class != SD_ERR_NONE)
		err = db->fatal;
	else
		(void)sd_db_error(&err, db->conn, head ? head->error : NULL);
	drop(db, &err);
}

static void now_up(struct sd_db *db)
{
	db->up_us = sd_now_us();
	db->told[0] = '\0';
	enter(db, UP, NEVER);
	if (db->events.up)
		db->events.up(db->events.arg, db);
}

/* ---- sending ---- */

static bool send_sync(struct sd_db *db, struct sd_req *r)
{
	sd_reqs_add(&db->flight, r);
	return PQpipelineSync(db->conn);
}

static bool send_parse(struct sd_db *db, const struct sd_db_stmt *stmt)
{
	struct sd_req_stmt *s = sd_req_stmt_get(&db->stmts, stmt->name);
	if (s->sent)
		return true;
	struct sd_req *r = sd_req_new(SD_REQ_PARSE, NULL, NULL);
	r->parse = s;
	s->sent = true;
	bool ok = PQsendPrepare(db->conn, stmt->name, stmt->sql, 0, NULL);
	return send_sync(db, r) && ok;
}

/* values are the caller's or the queue's: libpq copies them. */
static void send_request(struct sd_db *db, struct sd_req *r)
{
	bool ok = true;
	for (size_t i = 0; ok && i < r->ncalls; i++)
		ok = send_parse(db, r->calls[i].stmt);
	for (size_t i = 0; ok && i < r->ncalls; i++) {
		const struct sd_db_stmt *stmt = r->calls[i].stmt;
		ok = PQsendQueryPrepared(db->conn, stmt->name, stmt->nparams, r->calls[i].values, NULL, NULL, 0);
	}
	ok = send_sync(db, r) && ok;
	if (!ok) {
		db->broken = true;
		arm(db, 0);
	}
}

static bool send_session(struct sd_db *db)
{
	bool ok = PQsendQueryParams(db->conn, setup_optional_sql, 0, NULL, NULL, NULL, NULL, 0);
	ok = send_sync(db, sd_req_new(SD_REQ_OPTIONAL, NULL, NULL)) && ok;
	ok = ok && PQsendQueryParams(db->conn, setup_sql, 0, NULL, NULL, NULL, NULL, 0);
	for (size_t i = 0; ok && i < db->nlisten; i++) {
		char *sql = sd_xasprintf("listen \"%s\"", db->listen[i]);
		ok = PQsendQueryParams(db->conn, sql, 0, NULL, NULL, NULL, NULL, 0);
		free(sql);
	}
	return send_sync(db, sd_req_new(SD_REQ_SESSION, NULL, NULL)) && ok;
}

static bool may_send(const struct sd_db *db)
{
	return db->state == UP && !db->broken && !db->recycle && db->flight.n < MAX_FLIGHT;
}

static void send_queued(struct sd_db *db)
{
	while (db->queue.head && may_send(db)) {
		struct sd_req *r = sd_reqs_pop(&db->queue);
		send_request(db, r);
		sd_req_values_free(r);
	}
}

/* ---- receiving ---- */

/* Some errors say that this connection has had its day, though it works. */
static bool is_spent(const struct sd_err *err)
{
	return strcmp(err->sqlstate, "25006") == 0  /* the primary became a standby */
	    || strcmp(err->sqlstate, "26000") == 0  /* somebody took our statements away */
	    || (strcmp(err->sqlstate, "0A000") == 0 && strstr(err->message, "cached plan"));
}

/* r has its Sync: tell what became of it. */
static void req_finish(struct sd_db *db, struct sd_req *r)
{
	struct sd_err err;

	sd_err_clear(&err);
	if (r->error) {
		(void)sd_db_error(&err, NULL, r->error);
		if (PQresultErrorField(r->error, PG_DIAG_SQLSTATE) == NULL) {
			/* the server answered, but libpq had no memory for it; what it had read goes with the session */
			snprintf(err.sqlstate, sizeof err.sqlstate, SD_DB_UNREAD);
			db->recycle = true;
		}
	} else if (r->kind == SD_REQ_CALLS && r->nresults != r->ncalls) {
		sd_err_set(&err, SD_ERR_BUG, "the database answered %zu of %zu statements", r->nresults, r->ncalls);
	}

	if (r->kind == SD_REQ_PARSE) {
		r->parse->sent = err.class == SD_ERR_NONE;
		r->parse->err = err;
	} else if (r->kind == SD_REQ_SESSION && err.class == SD_ERR_NONE) {
		now_up(db);
	} else if (r->kind == SD_REQ_SESSION) {
		sd_err_prefix(&err, "setting up the session");
		sd_req_free(r);
		drop(db, &err);
		return;
	} else if (r->kind == SD_REQ_CALLS && err.class == SD_ERR_NONE) {
		r->done(r->arg, r->results, r->ncalls, NULL);
	} else if (r->kind == SD_REQ_CALLS) {
		struct sd_req_stmt *s = r->nresults < r->ncalls ? sd_req_stmt_find(db->stmts, r->calls[r->nresults].stmt->name) : NULL;
		if (strcmp(err.sqlstate, "26000") == 0 && s && s->err.class != SD_ERR_NONE)
			err = s->err;
		else if (is_spent(&err)) {
			db->recycle = true;
			err.class = SD_ERR_TRANSIENT;
		}
		r->done(r->arg, NULL, r->ncalls, &err);
	}
	sd_req_free(r);
}

/* Results that are complete in memory.  False: the connection was dropped meanwhile. */
static bool receive(struct sd_db *db)
{
	PGconn *conn = db->conn;
	int nulls = 0;

	while (db->flight.head && nulls < 2 && !PQisBusy(conn)) {
		PGresult *res = PQgetResult(conn);
		struct sd_req *r = db->flight.head;
		if (!res) {
			nulls++; /* one ends a statement; two in a row: nothing more for now */
			continue;
		}
		nulls = 0;
		switch (PQresultStatus(res)) {
		case PGRES_PIPELINE_SYNC:
			PQclear(res);
			req_finish(db, sd_reqs_pop(&db->flight));
			if (db->conn != conn)
				return false;
			break;
		case PGRES_TUPLES_OK:
		case PGRES_COMMAND_OK:
		case PGRES_EMPTY_QUERY:
			if (r->kind == SD_REQ_CALLS && r->nresults < r->ncalls && !r->error)
				r->results[r->nresults++] = res;
			else
				PQclear(res);
			break;
		case PGRES_PIPELINE_ABORTED:
			PQclear(res);
			break;
		default:
			if (r->error)
				PQclear(res);
			else
				r->error = res;
		}
	}
	return true;
}

static void notifies(struct sd_db *db)
{
	for (PGnotify *n; db->conn && (n = PQnotifies(db->conn));) {
		if (db->events.notify && db->state == UP)
			db->events.notify(db->events.arg, db, n->relname, n->extra);
		PQfreemem(n);
	}
}

/* Send what waits, flush, and watch for what is needed next. */
static void pump(struct sd_db *db)
{
	if (db->state == SETUP && !db->flight.head && !send_session(db))
		db->broken = true;
	send_queued(db);
	if (db->recycle && !db->flight.head && !db->broken) {
		struct sd_err err;
		sd_err_clear(&err);
		sd_err_set(&err, SD_ERR_TRANSIENT, "this database session cannot be used any longer");
		drop(db, &err);
		return;
	}
	int left = db->broken ? -1 : PQflush(db->conn);
	if (left < 0) {
		db->broken = true;
		arm(db, 0);
		return;
	}
	watch(db, SD_DB_READ | (left ? SD_DB_WRITE : 0));
}

void sd_db_on_io(struct sd_db *db, int events)
{
	(void)events;
	if (db->state == CONNECTING) {
		connect_step(db);
		return;
	}
	if (!db->conn)
		return;
	bool ok = PQconsumeInput(db->conn);
	if (!receive(db))
		return;
	notifies(db);
	if (!db->conn)
		return;
	if (!ok || PQstatus(db->conn) == CONNECTION_BAD) {
		drop_broken(db);
		return;
	}
	pump(db);
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

	if (db->state == WAITING) {
		connect_start(db);
		return;
	}
	sd_err_clear(&err);
	sd_err_set(&err, SD_ERR_TRANSIENT, "the database did not answer within %lld s",
		   (long long)(db->params.attempt_ms / 1000));
	sd_db_params_rotate(&db->params);
	drop(db, &err);
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
	if (db->state == UP && earliest(&db->flight, NEVER) <= now)
		drop(db, &err);
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
	arm(db, db->failed.head ? 0 : earliest(&db->queue, earliest(&db->flight, db->next_us)));
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
	drop(db, &err);
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
	if (db->state == IDLE)
		enter(db, WAITING, 0);
}

bool sd_db_is_up(const struct sd_db *db)
{
	return db->state == UP && !db->broken && !db->recycle;
}

int sd_db_backend(const struct sd_db *db)
{
	return db->conn ? PQbackendPID(db->conn) : 0;
}

void sd_db_submit(struct sd_db *db, const struct sd_db_call *calls, size_t ncalls, unsigned flags, int64_t timeout_ms,
		  sd_db_done *done, void *arg)
{
	struct sd_req *r = sd_req_new(SD_REQ_CALLS, done, arg);

	r->flags = flags;
	r->ncalls = ncalls <= SD_DB_MAX_CALLS ? ncalls : SD_DB_MAX_CALLS;
	r->deadline_us = sd_now_us() + (timeout_ms > 0 ? timeout_ms : DEFAULT_TIMEOUT_MS) * SD_MS;
	for (size_t i = 0; i < r->ncalls; i++)
		r->calls[i].stmt = calls[i].stmt;
	if (!sd_db_is_up(db) && !(flags & SD_DB_WAIT)) {
		sd_reqs_add(&db->failed, r);
		arm(db, 0);
		return;
	}
	arm(db, r->deadline_us);
	if (may_send(db) && !db->queue.head) {
		for (size_t i = 0; i < r->ncalls; i++)
			r->calls[i].values = calls[i].values;
		send_request(db, r);
		for (size_t i = 0; i < r->ncalls; i++)
			r->calls[i].values = NULL;
		int left = db->broken ? 0 : PQflush(db->conn);
		if (left < 0) {
			db->broken = true;
			arm(db, 0);
		} else if (left > 0) {
			watch(db, SD_DB_READ | SD_DB_WRITE);
		}
		return;
	}
	for (size_t i = 0; i < r->ncalls; i++)
		r->calls[i].values = sd_req_values_copy(calls[i].values, calls[i].stmt->nparams);
	sd_reqs_add(&db->queue, r);
}
