/*
 * A connection string, read once: what it says, our defaults where it is
 * silent, and the order of its hosts.  Nothing of it is ever printed; errors
 * name what is wrong without quoting it, because a password may be in it.
 */
#ifndef SD_DB_PARAMS_H
#define SD_DB_PARAMS_H

#include "base/err.h"

#include <libpq-fe.h>
#include <stddef.h>
#include <stdint.h>

struct sd_db_params {
	PQconninfoOption *given;    /* as parsed from the string */
	char *application_name;
	size_t nhosts;
	int64_t attempt_ms;	    /* how long one attempt to connect may take: connect_timeout, or our default */
};

/* Errors are permanent: the string is malformed.  Fini is allowed after a failed init and on zeroed memory. */
int sd_db_params_init(struct sd_db_params *p, const char *conninfo, const char *application_name,
		      struct sd_err *err) SD_MUST_CHECK;
void sd_db_params_fini(struct sd_db_params *p);
/* The first host goes last: libpq's asynchronous connect would hang on it again, for it knows no timeout. */
void sd_db_params_rotate(struct sd_db_params *p);
/* PQconnectStartParams; NULL only when memory is out. */
PGconn *sd_db_params_start(const struct sd_db_params *p);

/*
 * Fill *err from a connection that could not be made.  Permanent when the
 * server itself refused in a way that repeats (28 wrong password, 3D unknown
 * database …); everything else is transient: refused, not found, starting up.
 */
int sd_db_connect_error(struct sd_err *err, const PGconn *conn) SD_MUST_CHECK;

#endif
