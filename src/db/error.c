/* PostgreSQL's errors as ours: the SQLSTATE decides whether trying again makes sense. */
#include "db/db.h"

#include <stdio.h>
#include <string.h>

/*
 * 08 connection, 57P shutdown and start-up, 40 serialization and deadlock,
 * 53 out of resources, 55P03 lock not available, 57014 cancelled by somebody,
 * 58 the server's own input/output, 25006 the primary became a standby.
 */
static const char *const transient[] = {"08", "57P", "40", "53", "55P03", "57014", "58", "25006"};

static enum sd_errclass classify(const char *sqlstate)
{
	for (size_t i = 0; i < sizeof transient / sizeof *transient; i++)
		if (strncmp(sqlstate, transient[i], strlen(transient[i])) == 0)
			return SD_ERR_TRANSIENT;
	return SD_ERR_PERMANENT;
}

/* libpq's texts end in a newline and may have several lines; ours have one. */
static void one_line(char *s)
{
	size_t n = strlen(s);
	while (n && (s[n - 1] == '\n' || s[n - 1] == ' '))
		s[--n] = '\0';
	for (; *s; s++)
		if (*s == '\n' || *s == '\t')
			*s = ' ';
}

int sd_db_error(struct sd_err *err, const PGconn *conn, const PGresult *res)
{
	const char *sqlstate = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
	const char *primary = res ? PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	const char *detail = res ? PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL) : NULL;
	const char *hint = res ? PQresultErrorField(res, PG_DIAG_MESSAGE_HINT) : NULL;
	const char *text = res ? PQresultErrorMessage(res) : NULL;

	if (!primary && text && *text)
		primary = text;
	if (!primary && conn && *PQerrorMessage(conn))
		primary = PQerrorMessage(conn);
	if (!sqlstate) /* libpq's own: the connection broke, or memory is out */
		sqlstate = "08006";
	sd_err_set(err, classify(sqlstate), "%s", primary ? primary : "the database gave no answer");
	if (!err)
		return -1;
	one_line(err->message);
	snprintf(err->sqlstate, sizeof err->sqlstate, "%.5s", sqlstate);
	if (detail)
		sd_err_detail(err, "%s", detail);
	if (hint)
		sd_err_hint(err, "%s", hint);
	return -1;
}
