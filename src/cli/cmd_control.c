/* stepctl cancel, retry. */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the jobs (a PostgreSQL array) are now, after we asked for something. */
static int tell_status(struct sd_cli *cli, const char *ids, bool cancelled)
{
	static const char sql[] = "select id, status from stepd.jobs where id = any($1::bigint[]) order by id";
	int rc;

	if (cli->json)
		return sd_cli_json_array(cli, sql, 1, &ids);
	PGresult *res = sd_cli_query(cli, sql, 1, &ids, &rc);
	if (!res)
		return rc;
	for (int i = 0; i < PQntuples(res); i++) {
		const char *status = PQgetvalue(res, i, 1);
		bool ended = strcmp(status, "failed") == 0 || strcmp(status, "completed") == 0 || strcmp(status, "cancelled") == 0;
		printf("job %s %sis %s%s\n", PQgetvalue(res, i, 0), ended && !cancelled ? "ran again and " : "", status,
		       cancelled && strcmp(status, "running") == 0 ? " still; it was told to stop" : "");
	}
	PQclear(res);
	return SD_EXIT_OK;
}

int sd_cmd_cancel(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv)
{
	int rc;
	const char *id = sd_cli_one_job(cli, cmd, argc, argv, &rc);

	if (id == NULL)
		return rc;
	PGresult *res = sd_cli_query(cli, "select stepd.cancel($1)", 1, &id, &rc);
	if (!res)
		return rc;
	bool refused = strcmp(PQgetvalue(res, 0, 0), "f") == 0;
	PQclear(res);
	if (refused) {
		fprintf(stderr, "stepctl: job %s has ended already\n", id);
		return SD_EXIT_FAILED;
	}
	char ids[40];
	snprintf(ids, sizeof(ids), "{%lld}", strtoll(id, NULL, 10));
	return tell_status(cli, ids, true);
}

static int retry_queue(struct sd_cli *cli, const char *queue)
{
	int rc;
	PGresult *res = sd_cli_query(cli, "select stepd.retry_queue($1)", 1, &queue, &rc);

	if (!res)
		return rc;
	char *count = sd_xstrdup(PQntuples(res) > 0 ? PQgetvalue(res, 0, 0) : "0");
	PQclear(res);
	res = sd_cli_query(cli, "select count(*) from stepd.jobs where queue = $1 and status = 'failed'", 1, &queue, &rc);
	const char *kept = res ? PQgetvalue(res, 0, 0) : "0";
	if (cli->json)
		printf("{\"retried\":%s,\"left\":%s}\n", count, kept);
	else
		printf("%s job%s to run again\n", count, strcmp(count, "1") == 0 ? " is" : "s are");
	if (!cli->json && strcmp(kept, "0") != 0)
		printf("%s failed %s left as %s; \"stepctl retry ID\" says why\n", kept, strcmp(kept, "1") == 0 ? "job is" : "jobs are",
		       strcmp(kept, "1") == 0 ? "it is" : "they are");
	PQclear(res);
	free(count);
	return rc;
}

int sd_cmd_retry(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv)
{
	const char *queue = NULL, *id = NULL;
	const struct sd_flag flags[] = {{"queue", &queue}, {NULL, NULL}};
	int rc, n = sd_cli_args(cli, cmd, argc, argv, flags, 0, 1, &id, &rc);

	if (n < 0)
		return rc;
	if ((n == 1) == (queue != NULL))
		return sd_cli_usage(cmd, n == 1 ? "either a job or --queue, not both" : "which job, or which --queue?");
	if (id && !sd_cli_is_id(cmd, id))
		return SD_EXIT_USAGE;
	if ((rc = sd_cli_connect(cli)) != SD_EXIT_OK)
		return rc;
	if (queue)
		return retry_queue(cli, queue);
	PGresult *res = sd_cli_query(cli, "select array_agg(r) from stepd.retry($1) r", 1, &id, &rc);
	if (!res)
		return rc;
	rc = tell_status(cli, PQgetvalue(res, 0, 0), false);
	PQclear(res);
	return rc;
}
