/*
 * The keeper's start, before it has a loop: wait for the database, bring its
 * schema up to date.  A database that starts up, is full or cannot be reached
 * is waited for; one that refuses us for good (wrong password, unknown
 * database) or whose schema is not ours to use is reported at once.
 */
#include "role/keeper.h"

#include "base/clock.h"
#include "base/log.h"
#include "db/migrate.h"
#include "proc/spawn.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXIT_UNREACHABLE 69
#define EXIT_CONFIG 78
#define CONNECT_MS 10000
#define PAUSE_FIRST_MS 50
#define PAUSE_MAX_MS 1000

/* Wait, but hear the supervisor meanwhile. */
static void pause_ms(const struct sd_child *child, int64_t ms)
{
	int64_t until = sd_now_us() + ms * SD_MS;

	for (int64_t left; (left = until - sd_now_us()) > 0;) {
		struct pollfd p = {child->chan, POLLIN, 0};
		struct sd_msg msg;
		struct sd_err err;
		int n = 1;

		if (poll(&p, 1, (int)(left / SD_MS) + 1) <= 0)
			continue;
		while (n > 0 && (n = sd_chan_recv(child->chan, &msg, &err)) > 0) {
			if (msg.type == SD_MSG_DRAIN)
				sd_leave(0); /* a death told to us now is told again to the next keeper */
			if (msg.type == SD_MSG_REOPEN_LOGS && sd_log_reopen(&err) < 0)
				sd_log_err(SD_LOG_WARN, &err, "reopening the log");
		}
		if (n < 0)
			sd_orphaned();
	}
}

static void migrate(const struct sd_child *child, PGconn *conn, struct sd_err *err, bool *done)
{
	int from, to;

	*done = false;
	if (sd_migrate(conn, NULL, &from, &to, err) == 0) {
		*done = true;
		if (from == 0)
			sd_log(SD_LOG_INFO, "schema created, version %d", to);
		else if (from != to)
			sd_log(SD_LOG_INFO, "schema upgraded from version %d to %d", from, to);
	} else if (err->class != SD_ERR_TRANSIENT) {
		PQfinish(conn);
		sd_child_fail(child, EXIT_CONFIG, err);
	}
}

/* Today's partitions, before the first job comes.  It is tried again later, so a failure here is only told. */
static void first_maintenance(const struct sd_child *child, PGconn *conn)
{
	char keep[40];
	const char *values[] = {keep};
	struct sd_err err;

	snprintf(keep, sizeof keep, "%lld milliseconds", (long long)child->conf->history_keep_ms);
	PQclear(PQexec(conn, "set statement_timeout = '5s'"));
	PGresult *res = PQexecParams(conn, "select stepd.maintain($1::interval)", 1, NULL, values, NULL, NULL, 0);
	if (PQresultStatus(res) != PGRES_TUPLES_OK) {
		(void)sd_db_error(&err, conn, res);
		sd_log_err(SD_LOG_WARN, &err, "maintenance at start");
	}
	PQclear(res);
}

static void give_up(const struct sd_child *child, struct sd_err *err, int64_t waited_ms)
{
	char where[256];
	char why[sizeof err->message];

	sd_log_conninfo(child->conninfo, where, sizeof where);
	snprintf(why, sizeof why, "%s", err->message);
	if (err->class == SD_ERR_TRANSIENT)
		sd_err_set(err, SD_ERR_TRANSIENT, "the database cannot be reached, waited %lld s: %s",
			   (long long)(waited_ms / 1000), why);
	else
		sd_err_set(err, SD_ERR_PERMANENT, "the database refuses the connection: %s", why);
	sd_err_hint(err, "database.url is \"%s\"", where);
	sd_child_fail(child, EXIT_UNREACHABLE, err);
}

void sd_keeper_prepare(const struct sd_child *child)
{
	int64_t begin = sd_now_us(), limit = begin + child->conf->database_wait_ms * SD_MS;
	int64_t pause = PAUSE_FIRST_MS;
	char told[sizeof((struct sd_err){0}.message)] = "";

	for (;;) {
		struct sd_err err;
		bool done = false;
		PGconn *conn = sd_db_connect(child->conninfo, "stepd keeper", CONNECT_MS, &err);

		if (conn) {
			migrate(child, conn, &err, &done);
			if (done)
				first_maintenance(child, conn);
			PQfinish(conn);
		}
		if (done)
			return;
		int64_t now = sd_now_us();
		if (err.class != SD_ERR_TRANSIENT || now >= limit)
			give_up(child, &err, (now - begin) / SD_MS);
		if (strcmp(told, err.message) != 0) {
			sd_log_err(SD_LOG_WARN, &err, "waiting for the database");
			sd_child_status(child, "waiting for the database: %s", err.message);
			memcpy(told, err.message, sizeof told);
		}
		pause_ms(child, pause < (limit - now) / SD_MS + 1 ? pause : (limit - now) / SD_MS + 1);
		pause = pause * 2 < PAUSE_MAX_MS ? pause * 2 : PAUSE_MAX_MS;
	}
}
