/* stepctl queues, pause, resume. */
#include "cli/cli.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

static const struct sd_column columns[] = {
	{"QUEUE", SD_CELL_TEXT, true},	   {"STRATEGY", SD_CELL_TEXT, false}, {"STATE", SD_CELL_STATUS, false},
	{"READY", SD_CELL_NUMBER, false},  {"SCHED", SD_CELL_NUMBER, false},  {"RUN", SD_CELL_NUMBER, false},
	{"RETRY", SD_CELL_NUMBER, false},  {"FAILED", SD_CELL_NUMBER, false}, {"OLDEST", SD_CELL_AGE, false},
	{0},
};

const struct sd_list sd_queues_list = {
	"select name, strategy, case when paused then 'paused' else 'open' end, ready, scheduled, running, retrying, failed, "
	"extract(epoch from oldest_ready_age) from stepd.queues order by name",
	"select * from stepd.queues order by name", columns, "no queues"};

int sd_cmd_queues(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv)
{
	int rc;
	if (sd_cli_args(cli, cmd, argc, argv, NULL, 0, 0, NULL, &rc) < 0)
		return rc;
	if ((rc = sd_cli_connect(cli)) != SD_EXIT_OK)
		return rc;
	return sd_cli_list(cli, &sd_queues_list, 0, NULL);
}

static int set_paused(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv, bool paused)
{
	const char *queue;
	int rc;

	if (sd_cli_args(cli, cmd, argc, argv, NULL, 1, 1, &queue, &rc) < 0)
		return rc;
	if ((rc = sd_cli_connect(cli)) != SD_EXIT_OK)
		return rc;
	PGresult *res = sd_cli_query(cli, paused ? "select stepd.pause($1)" : "select stepd.resume($1)", 1, &queue, &rc);
	if (!res)
		return rc;
	PQclear(res);
	if (cli->json)
		return sd_cli_json_array(cli, "select name, paused from stepd.queues where name = $1", 1, &queue);
	printf("queue ");
	sd_cli_put(queue);
	printf(paused ? " is paused\n" : " is open\n");
	return SD_EXIT_OK;
}

int sd_cmd_pause(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv)
{
	return set_paused(cli, cmd, argc, argv, true);
}

int sd_cmd_resume(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv)
{
	return set_paused(cli, cmd, argc, argv, false);
}
