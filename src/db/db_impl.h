/* Inside of a connection; shared by db.c, its life, and pipeline.c, what is said over it. */
#ifndef SD_DB_DB_IMPL_H
#define SD_DB_DB_IMPL_H

#include "db/db.h"
#include "db/params.h"
#include "db/req.h"

enum sd_db_state { SD_DB_IDLE, SD_DB_WAITING, SD_DB_CONNECTING, SD_DB_SETUP, SD_DB_UP };

struct sd_db {
	struct sd_db_params params;
	struct sd_err params_err; /* set: the conninfo is malformed */
	const char **listen;
	size_t nlisten;
	struct sd_db_loop loop;
	struct sd_db_events events;

	enum sd_db_state state;
	PGconn *conn;
	struct sd_req_stmt *stmts;
	struct sd_reqs queue, flight, failed; /* not sent; sent; to be told from the loop */
	bool broken;   /* found while sending, see sd_db_break */
	bool recycle;  /* send nothing more, reconnect when the flight is answered */
	char spent[160]; /* why, after a colon; "": not known */
	int watching;  /* events */
	int64_t up_us; /* since when, for the back-off */
	int attempts;  /* since the last stable connection */
	int64_t next_us; /* of this state: end of wait, of connecting, of set-up */
	int64_t timer_us; /* what the loop's timer is set to */
	char told[512];	  /* the last failure that `down` was told */
	struct sd_err fatal; /* the server's last words */
	struct sd_err breach; /* what libpq said when it was found to be broken: of a second call it only says "invalid socket" */
};

/* db.c */
void sd_db_arm(struct sd_db *db, int64_t at_us); /* sd_db_on_timer not later than then */
void sd_db_watch(struct sd_db *db, int events);
/* It is broken, as libpq just said; handled from the loop. */
void sd_db_break(struct sd_db *db);
/* The session is set up. */
void sd_db_came_up(struct sd_db *db);
/* The connection is gone, or is to go: forget it, tell, and come again after a while. */
void sd_db_drop(struct sd_db *db, const struct sd_err *why);

/* pipeline.c */
bool sd_db_may_send(const struct sd_db *db);
/* Send what waits (the session's set-up first), flush, and watch for what is needed next. */
void sd_db_pump(struct sd_db *db);
/* Send r past the queue, which must be empty; libpq copies the values. */
void sd_db_send(struct sd_db *db, struct sd_req *r, const struct sd_db_call *calls);
/* Results that are complete in memory.  False: the connection was dropped meanwhile. */
bool sd_db_receive(struct sd_db *db);

#endif
