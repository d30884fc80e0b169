/* stepctl check: the configuration, as stepd --check begins. */
#include "cli/cli.h"

int sd_cmd_check(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv)
{
	int rc;
	if (sd_cli_args(cli, cmd, argc, argv, NULL, 0, 0, NULL, &rc) < 0)
		return rc;
	return sd_cli_conf(cli);
}
