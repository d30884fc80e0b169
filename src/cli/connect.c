/* The configuration, the connection, and statements on it. */
#include "cli/cli.h"

#include "base/log.h"
#include "base/mem.h"
#include "cli/find.h"
#include "db/db.h"
#include "db/migrate.h"
#include "db/schema_version.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_MS 10000

int sd_cli_fail(enum sd_exit code, const struct sd_err *err)
{
	fprintf(stderr, "stepctl: %s\n", err->message);
	if (*err->detail)
		fprintf(stderr, "  %s\n", err->detail);
	if (*err->hint)
		fprintf(stderr, "  hint: %s\n", err->hint);
	return code;
}

int sd_cli_conf(struct sd_cli *cli)
{
	struct sd_conf_problems problems;
	const char *file = sd_conf_find_file(cli->config);

	if (cli->conf)
		return SD_EXIT_OK;
	cli->conf = sd_conf_load(file, &problems);
	if (cli->conf)
		return SD_EXIT_OK;
	sd_conf_problems_print(stderr, file, &problems);
	sd_conf_problems_free(&problems);
	return SD_EXIT_CONFIG;
}

static int try_connect(struct sd_cli *cli, const char *conninfo, const char *source, bool tell)
{
	struct sd_err err;
	char shown[512];

	cli->db = sd_db_connect(conninfo, "stepctl", CONNECT_MS, &err);
	if (cli->db)
		return SD_EXIT_OK;
	if (!tell)
		return SD_EXIT_DATABASE;
	sd_log_conninfo(conninfo, shown, sizeof(shown));
	sd_err_prefix(&err, "cannot connect to the database \"%s\" (from %s)", shown, source);
	bool malformed = err.class == SD_ERR_PERMANENT && *err.sqlstate == '\0';
	return sd_cli_fail(malformed ? SD_EXIT_USAGE : SD_EXIT_DATABASE, &err);
}

/* No database was named: the installed configuration's, a running embedded instance, or the default. */
static int connect_unnamed(struct sd_cli *cli)
{
	char *path, *embedded = sd_cli_embedded(&path);
	int rc = SD_EXIT_DATABASE;

	if (cli->conf->database_given || !embedded)
		rc = try_connect(cli, cli->conf->database_url,
				 cli->conf->database_given ? cli->conf->file : "the built-in default", !embedded);
	if (rc != SD_EXIT_OK && embedded) {
		if (cli->conf->database_given)
			fprintf(stderr, "stepctl: the database of %s is not reachable, trying the embedded instance of %s\n",
				cli->conf->file, path);
		rc = try_connect(cli, embedded, path, true);
	}
	free(embedded);
	free(path);
	return rc;
}

static void ignore_notice(void *arg, const PGresult *res)
{
}

int sd_cli_connect_any(struct sd_cli *cli)
{
	const char *env = getenv("STEPD_DATABASE_URL"), *conf_env = getenv("STEPD_CONFIG");
	int rc;

	if (cli->database)
		rc = try_connect(cli, cli->database, "--database", true);
	else if (env && *env)
		rc = try_connect(cli, env, "$STEPD_DATABASE_URL", true);
	else if ((rc = sd_cli_conf(cli)) != SD_EXIT_OK)
		return rc;
	else if (cli->conf->database_given && (cli->config || (conf_env && *conf_env)))
		rc = try_connect(cli, cli->conf->database_url, cli->conf->file, true);
	else
		rc = connect_unnamed(cli);
	if (rc == SD_EXIT_OK) {
		PQsetNoticeReceiver(cli->db, ignore_notice, NULL);
		PQclear(PQexec(cli->db, "set jit = off")); /* to compile a view of many parts takes a second, to read it a hundredth */
	}
	return rc;
}

PGresult *sd_cli_query(struct sd_cli *cli, const char *sql, int n, const char *const *values, int *rc)
{
	struct sd_err err;
	PGresult *res = PQexecParams(cli->db, sql, n, NULL, values, NULL, NULL, 0);

	if (PQresultStatus(res) == PGRES_TUPLES_OK || PQresultStatus(res) == PGRES_COMMAND_OK) {
		*rc = SD_EXIT_OK;
		return res;
	}
	sd_err_clear(&err);
	(void)sd_db_error(&err, cli->db, res);
	memcpy(cli->sqlstate, err.sqlstate, sizeof cli->sqlstate);
	bool lost = PQstatus(cli->db) != CONNECTION_OK || strncmp(err.sqlstate, "08", 2) == 0 || strncmp(err.sqlstate, "57P", 3) == 0;
	*rc = sd_cli_fail(lost ? SD_EXIT_DATABASE : SD_EXIT_FAILED, &err);
	PQclear(res);
	return NULL;
}

/* Views and functions belong to a version, so an older or newer schema is refused rather than half understood; whoever
 * may not read which it is can use what was granted to them. */
static int check_schema(struct sd_cli *cli)
{
	struct sd_err err;
	int have;

	if (sd_schema_version(cli->db, &have, &err) < 0)
		return strcmp(err.sqlstate, SD_DENIED) == 0
			       ? SD_EXIT_OK
			       : sd_cli_fail(PQstatus(cli->db) == CONNECTION_OK ? SD_EXIT_FAILED : SD_EXIT_DATABASE, &err);
	if (have == SD_SCHEMA_VERSION)
		return SD_EXIT_OK;
	if (have == 0) {
		sd_err_set(&err, SD_ERR_PERMANENT, "the database \"%s\" has no schema stepd", PQdb(cli->db));
		sd_err_hint(&err, "It is made when stepd starts, or by \"stepctl migrate\". Is it the right database?");
	} else if (have < SD_SCHEMA_VERSION) {
		sd_err_set(&err, SD_ERR_PERMANENT, "the schema in database \"%s\" is version %d, older than this stepctl, which needs %d",
			   PQdb(cli->db), have, SD_SCHEMA_VERSION);
		sd_err_hint(&err, "\"stepctl migrate\" brings it up to date, and so does the start of a new stepd.");
	} else {
		sd_err_set(&err, SD_ERR_PERMANENT,
			   "the schema in database \"%s\" is version %d, newer than this stepctl, which knows up to %d",
			   PQdb(cli->db), have, SD_SCHEMA_VERSION);
		sd_err_hint(&err, "Use the stepctl that belongs to the stepd that upgraded it.");
	}
	return sd_cli_fail(SD_EXIT_FAILED, &err);
}

int sd_cli_connect(struct sd_cli *cli)
{
	int rc = sd_cli_connect_any(cli);
	return rc == SD_EXIT_OK ? check_schema(cli) : rc;
}
