/* The blocking connect: for stepctl, tests and migrations, which have no loop. */
#include "base/clock.h"
#include "base/log.h"
#include "db/db.h"
#include "db/params.h"

#include <errno.h>
#include <poll.h>

/* Poll one attempt to its end: 0, or -1 with *err; errnum ETIMEDOUT when until passed first. */
static int attempt(PGconn *conn, int64_t until, struct sd_err *err)
{
	PostgresPollingStatusType want = PGRES_POLLING_WRITING;

	if (PQstatus(conn) == CONNECTION_BAD)
		return sd_db_connect_error(err, conn);
	for (;;) {
		struct pollfd pfd = {.fd = PQsocket(conn), .events = want == PGRES_POLLING_READING ? POLLIN : POLLOUT};
		int64_t left = until - sd_now_us();
		int n = left <= 0 ? 0 : poll(&pfd, 1, (int)((left + SD_MS - 1) / SD_MS));
		if (n == 0) {
			sd_err_set(err, SD_ERR_TRANSIENT, "the database did not answer in time");
			if (err)
				err->errnum = ETIMEDOUT;
			return -1;
		}
		if (n < 0 && errno != EINTR)
			return sd_err_errno(err, errno, "poll");
		if (n < 0)
			continue;
		want = PQconnectPoll(conn);
		if (want == PGRES_POLLING_OK)
			return 0;
		if (want == PGRES_POLLING_FAILED)
			return sd_db_connect_error(err, conn);
	}
}

/* libpq would write them to stderr. */
static void notice(void *arg, const PGresult *res)
{
	(void)arg;
	sd_log(SD_LOG_DEBUG, "database: %s", PQresultErrorMessage(res));
}

PGconn *sd_db_connect(const char *conninfo, const char *application_name, int64_t timeout_ms, struct sd_err *err)
{
	struct sd_db_params params;
	PGconn *conn = NULL;
	int64_t until = sd_now_us() + timeout_ms * SD_MS;

	sd_err_clear(err);
	if (sd_db_params_init(&params, conninfo, application_name, err) < 0)
		goto out;
	/* One round over the hosts; a host that hangs costs its share of the time, then comes last. */
	for (size_t i = 0; i < params.nhosts; i++) {
		int64_t now = sd_now_us(), share = (until - now) / (int64_t)(params.nhosts - i);
		conn = sd_db_params_start(&params);
		if (!conn) {
			sd_err_set(err, SD_ERR_TRANSIENT, "out of memory");
			goto out;
		}
		struct sd_err why;
		sd_err_clear(&why);
		if (attempt(conn, now + share, &why) == 0) {
			PQsetErrorVerbosity(conn, PQERRORS_DEFAULT);
			PQsetNoticeReceiver(conn, notice, NULL);
			break;
		}
		PQfinish(conn);
		conn = NULL;
		if (err)
			*err = why;
		if (why.errnum != ETIMEDOUT)
			break; /* libpq itself went through all hosts */
		sd_db_params_rotate(&params);
	}
out:
	sd_db_params_fini(&params);
	return conn;
}
