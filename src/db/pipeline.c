/*
 * What is said over a connection: pipeline mode.
 *
 * A request is its statements and one Sync; requests are sent as they come,
 * answered in order, and `flight` mirrors what libpq still has to answer.  Two
 * kinds of request are our own: the session's set-up, and the Parse of a
 * statement.  A Parse has a Sync of its own in front of the request that needs
 * it: inside that request an error before it would skip it, and a request
 * pipelined behind would find the statement missing.  When a Parse fails, the
 * request behind it fails with 26000, and is told the Parse's error.
 *
 * What libpq hands out: for each statement its result and a NULL, for each Sync
 * one result without a NULL.  Errors skip the rest up to the Sync
 * (PGRES_PIPELINE_ABORTED).  A commit that fails gives an error after the last
 * statement.  So a request is decided at its Sync and never before: no Sync,
 * no knowledge (08007).
 */
#include "db/db_impl.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FLIGHT 64

/* What every session of ours is, whatever role, database or server defaults say. */
static const char setup_sql[] =
	"select set_config(name, value, false) from (values"
	" ('search_path', 'pg_catalog, stepd, pg_temp'), ('timezone', 'UTC'), ('datestyle', 'ISO, YMD'),"
	" ('synchronous_commit', 'on'), ('jit', 'off'), ('default_transaction_isolation', 'read committed'),"
	" ('idle_in_transaction_session_timeout', '60s')) as s(name, value)";
/* So that the server drops the work of a peer that left.  Not every server's platform can. */
static const char setup_optional_sql[] = "select set_config('client_connection_check_interval', '5s', false)";

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
	if (!ok)
		sd_db_break(db);
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

bool sd_db_may_send(const struct sd_db *db)
{
	return db->state == SD_DB_UP && !db->broken && !db->recycle && db->flight.n < MAX_FLIGHT;
}

static void send_queued(struct sd_db *db)
{
	while (db->queue.head && sd_db_may_send(db)) {
		struct sd_req *r = sd_reqs_pop(&db->queue);
		send_request(db, r);
		sd_req_values_free(r);
	}
}

void sd_db_send(struct sd_db *db, struct sd_req *r, const struct sd_db_call *calls)
{
	for (size_t i = 0; i < r->ncalls; i++)
		r->calls[i].values = calls[i].values;
	send_request(db, r);
	for (size_t i = 0; i < r->ncalls; i++)
		r->calls[i].values = NULL;
	int left = db->broken ? 0 : PQflush(db->conn);
	if (left < 0)
		sd_db_break(db);
	else if (left > 0)
		sd_db_watch(db, SD_DB_READ | SD_DB_WRITE);
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
		sd_db_came_up(db);
	} else if (r->kind == SD_REQ_SESSION) {
		sd_err_prefix(&err, "setting up the session");
		sd_req_free(r);
		sd_db_drop(db, &err);
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
			snprintf(db->spent, sizeof db->spent, ": %.150s", err.message);
		}
		r->done(r->arg, NULL, r->ncalls, &err);
	}
	sd_req_free(r);
}

bool sd_db_receive(struct sd_db *db)
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

void sd_db_pump(struct sd_db *db)
{
	if (db->state == SD_DB_SETUP && !db->flight.head && !send_session(db))
		sd_db_break(db);
	send_queued(db);
	if (db->recycle && !db->flight.head && !db->broken) {
		struct sd_err err;
		sd_err_clear(&err);
		sd_err_set(&err, SD_ERR_TRANSIENT, "this database session cannot be used any longer%s", db->spent);
		sd_db_drop(db, &err);
		return;
	}
	int left = db->broken ? -1 : PQflush(db->conn);
	if (left < 0) {
		sd_db_break(db);
		return;
	}
	sd_db_watch(db, SD_DB_READ | (left ? SD_DB_WRITE : 0));
}
