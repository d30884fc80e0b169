/*
 * A connection to PostgreSQL as a state machine that knows no event loop.
 *
 * One struct sd_db is one connection that keeps itself alive: it connects,
 * reconnects with back-off (100 ms doubling to 1 s, jittered), listens again,
 * and prepares each named statement once per connection.  The loop it lives in
 * is given as an adapter of two calls (db/db_ev.h for libev, role/http_db.c for h2o).
 *
 * The unit of work is the *request*: up to SD_DB_MAX_CALLS statements sent in
 * pipeline mode in front of one Sync, so they are one transaction: all of them
 * happen or none.  Requests are queued while the connection is busy and
 * answered in order.  While the connection is down a request fails at once
 * with SD_ERR_TRANSIENT unless it asked to wait.
 *
 * A request whose connection is lost after it was sent fails with
 * SD_ERR_TRANSIENT and sqlstate "08007": whether it committed is unknown.
 * Every call that changes something must therefore be safe to repeat (the
 * lease fence makes outcomes so).  One that was done, but for whose answer there
 * was no memory, fails with SD_ERR_TRANSIENT and SD_DB_UNREAD.
 */
#ifndef SD_DB_DB_H
#define SD_DB_DB_H

#include "base/err.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SD_DB_MAX_CALLS 8
#define SD_DB_UNREAD "HY001"
#define SD_DB_READ 1
#define SD_DB_WRITE 2

struct sd_db;

/* A statement: a literal name (prepared once per connection under it) and its text. */
struct sd_db_stmt {
	const char *name;
	const char *sql;
	int nparams;
};

/* One statement with its text-format values (NULL is SQL null); copied by sd_db_submit. */
struct sd_db_call {
	const struct sd_db_stmt *stmt;
	const char *const *values;
};

/*
 * results: one per call, PGRES_TUPLES_OK or PGRES_COMMAND_OK, valid until the
 * callback returns.  On failure results is NULL and err is set (sqlstate too).
 */
typedef void sd_db_done(void *arg, PGresult *const *results, size_t n, const struct sd_err *err);

struct sd_db_loop {
	/*
	 * Call sd_db_on_io(db, events) when fd is ready for any of events
	 * (SD_DB_READ|SD_DB_WRITE); events 0 ends the watch.  It is always ended
	 * before libpq may close fd, so a watch that begins may be for another
	 * socket under the same number.
	 */
	void (*watch)(void *loop, struct sd_db *db, int fd, int events);
	/* Call sd_db_on_timer(db) once, in ms milliseconds; -1 ends the timer. */
	void (*timer)(void *loop, struct sd_db *db, int64_t ms);
	void *loop;
};

struct sd_db_events {
	void (*up)(void *arg, struct sd_db *db);   /* connected, session settings done */
	/* lost, or connecting failed for another reason than the last time; reconnecting by itself */
	void (*down)(void *arg, struct sd_db *db, const struct sd_err *err);
	void (*notify)(void *arg, struct sd_db *db, const char *channel, const char *payload);
	void *arg;
};

/* conninfo and application_name are copied.  listen: NULL-ended channel names or NULL.  Does not connect yet. */
struct sd_db *sd_db_new(const char *conninfo, const char *application_name, const char *const *listen,
			const struct sd_db_loop *loop, const struct sd_db_events *events);
void sd_db_free(struct sd_db *db); /* fails what is not answered; not from within a callback, which must not submit then */
void sd_db_start(struct sd_db *db);
bool sd_db_is_up(const struct sd_db *db);
int sd_db_backend(const struct sd_db *db); /* pid of the server process; 0: not connected */

enum { SD_DB_WAIT = 1 }; /* flags: keep the request queued while the connection is down (until its deadline) */

/*
 * One transaction of ncalls statements, at most SD_DB_MAX_CALLS.  timeout_ms bounds the whole request, queueing included;
 * 0 takes the default (30 s).  done is always called, exactly once, never from within sd_db_submit.
 */
void sd_db_submit(struct sd_db *db, const struct sd_db_call *calls, size_t ncalls, unsigned flags, int64_t timeout_ms,
		  sd_db_done *done, void *arg);

/* For the loop adapter. */
void sd_db_on_io(struct sd_db *db, int events);
void sd_db_on_timer(struct sd_db *db);

/*
 * Fill *err from a failed result (or, without one, the connection's last
 * error); returns -1.  Class by SQLSTATE: 08, 57P, 40, 53, 55P03, 57014, 58,
 * 25006 transient; else permanent.
 */
int sd_db_error(struct sd_err *err, const PGconn *conn, const PGresult *res);

/* Blocking, for stepctl, tests and migrations: connect with a deadline, or NULL with *err. */
PGconn *sd_db_connect(const char *conninfo, const char *application_name, int64_t timeout_ms, struct sd_err *err);

#endif
