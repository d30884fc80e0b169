/* stepctl migrate: what the daemon does at its start, on request. */
#include "cli/cli.h"

#include "db/migrate.h"

#include <stdio.h>

int sd_cmd_migrate(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv)
{
	struct sd_err err;
	int rc, from, to;

	if (sd_cli_args(cli, cmd, argc, argv, NULL, 0, 0, NULL, &rc) < 0)
		return rc;
	if ((rc = sd_cli_connect_any(cli)) != SD_EXIT_OK)
		return rc;
	if (sd_migrate(cli->db, NULL, &from, &to, &err) < 0)
		return sd_cli_fail(PQstatus(cli->db) == CONNECTION_OK ? SD_EXIT_FAILED : SD_EXIT_DATABASE, &err);
	if (cli->json)
		printf("{\"from\":%d,\"to\":%d}\n", from, to);
	else if (from == to)
		printf("the schema is up to date, version %d\n", to);
	else
		printf("the schema is now version %d (was %d)\n", to, from);
	return SD_EXIT_OK;
}
