/* stepctl check: what stepd --check does, the steps in a child since they may crash. */
#include "cli/cli.h"

#include "role/supervisor.h"

#include <stdio.h>

int sd_cmd_check(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv)
{
	int rc;

	if (sd_cli_args(cli, cmd, argc, argv, NULL, 0, 0, NULL, &rc) < 0)
		return rc;
	if ((rc = sd_cli_conf(cli)) != SD_EXIT_OK)
		return rc;
	if (sd_supervise_check(cli->conf, false) != 0)
		return SD_EXIT_CONFIG;
	if (cli->json)
		printf("{\"ok\":true}\n");
	else
		printf("%s: no problems\n", cli->conf->file ? cli->conf->file : "built-in defaults");
	return SD_EXIT_OK;
}
