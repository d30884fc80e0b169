/*
 * Requests of one connection, the lists they wait in, and the statements a
 * connection knows.  Private to src/db.
 */
#ifndef SD_DB_REQ_H
#define SD_DB_REQ_H

#include "db/db.h"

/* A statement as this connection knows it. */
struct sd_req_stmt {
	struct sd_req_stmt *next;
	const char *name;
	bool sent;
	struct sd_err err; /* why its last Parse failed */
};

enum sd_req_kind { SD_REQ_CALLS, SD_REQ_PARSE, SD_REQ_SESSION, SD_REQ_OPTIONAL };

struct sd_req {
	struct sd_req *next;
	enum sd_req_kind kind;
	struct sd_req_stmt *parse; /* of SD_REQ_PARSE */
	unsigned flags;
	size_t ncalls, nresults;
	struct sd_db_call calls[SD_DB_MAX_CALLS]; /* values only while queued, then ours */
	PGresult *results[SD_DB_MAX_CALLS];
	PGresult *error;
	int64_t deadline_us;
	sd_db_done *done;
	void *arg;
};

struct sd_reqs {
	struct sd_req *head, **tail;
	size_t n;
};

void sd_reqs_init(struct sd_reqs *l);
void sd_reqs_add(struct sd_reqs *l, struct sd_req *r);
struct sd_req *sd_reqs_pop(struct sd_reqs *l); /* NULL: empty */
/* Move those that match to out; both stay in order. */
void sd_reqs_split(struct sd_reqs *from, struct sd_reqs *out, bool (*match)(const struct sd_req *, int64_t), int64_t arg);
/* Move everything out, to be walked while callbacks add to the list again. */
struct sd_reqs sd_reqs_take(struct sd_reqs *l);
/* Tell each and free it. */
void sd_reqs_fail(struct sd_reqs *l, const struct sd_err *err);

struct sd_req *sd_req_new(enum sd_req_kind kind, sd_db_done *done, void *arg); /* without a deadline */
void sd_req_free(struct sd_req *r);
void sd_req_values_free(struct sd_req *r);
/* Pointers and texts in one block, for calls[].values. */
const char *const *sd_req_values_copy(const char *const *values, int n);

/* For sd_reqs_split. */
bool sd_req_is_expired(const struct sd_req *r, int64_t now);
bool sd_req_will_not_wait(const struct sd_req *r, int64_t unused);

struct sd_req_stmt *sd_req_stmt_find(struct sd_req_stmt *list, const char *name);
struct sd_req_stmt *sd_req_stmt_get(struct sd_req_stmt **list, const char *name); /* made when missing; name is kept */
void sd_req_stmts_free(struct sd_req_stmt **list);

#endif
