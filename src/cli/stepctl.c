/* stepctl: the table of commands, and main. */
#include "cli/cli.h"

#include "base/suggest.h"
#include "config.h"

#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const struct sd_command sd_commands[] = {
	{"status", "", "nodes, queues, sizes and warnings", sd_cmd_status},
	{"steps", "", "the steps that nodes provide", sd_cmd_steps},
	{"queues", "", "the queues and how full they are", sd_cmd_queues},
	{"schedules", "[next STEP [--count N] [--from TIME] | pause STEP | resume STEP] [--trigger I]",
	 "cron schedules with their next and last run; coming ticks; stop and go on", sd_cmd_schedules},
	{"run", "STEP [--trigger I]", "run a step now as its cron trigger would; prints the job's id", sd_cmd_run},
	{"jobs", "[--queue Q] [--step S] [--status S] [--trace T] [--limit N]", "jobs, the newest first", sd_cmd_jobs},
	{"job", "ID", "everything about one job", sd_cmd_job},
	{"logs", "ID", "what a job logged", sd_cmd_logs},
	{"enqueue", "TOPIC JSON|-|@FILE [--priority N] [--delay 5m] [--group G] [--unique K]",
	 "enqueue a job; prints the ids, one for each step", sd_cmd_enqueue},
	{"cancel", "ID", "cancel a job", sd_cmd_cancel},
	{"retry", "ID | --queue Q", "run a failed, cancelled or unrouted job again, or all failed ones of a queue", sd_cmd_retry},
	{"queue", "Q | set Q SETTING=VALUE… | reset Q [SETTING…]", "a queue's settings; change them by hand, and take that back", sd_cmd_queue},
	{"pause", "Q", "start no more jobs of a queue", sd_cmd_pause},
	{"resume", "Q", "undo pause", sd_cmd_resume},
	{"migrate", "", "bring the schema up to date", sd_cmd_migrate},
	{"check", "", "check the configuration and the steps", sd_cmd_check},
	{NULL, NULL, NULL, NULL},
};

static const struct sd_command *find_command(const char *name)
{
	const char *names[32];
	size_t n = 0;

	for (const struct sd_command *c = sd_commands; c->name; c++) {
		if (strcmp(c->name, name) == 0)
			return c;
		names[n++] = c->name;
	}
	const char *near = sd_suggest(name, names, n);
	if (near)
		sd_cli_usage(NULL, "unknown command \"%.60s\", did you mean \"%s\"?", name, near);
	else
		sd_cli_usage(NULL, "unknown command \"%.60s\"", name);
	return NULL;
}

/* A standard descriptor that is closed must not become the database's: it is held by one that fails. */
static void hold_standard_descriptors(void)
{
	for (int fd; (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) {
		if (fd > STDERR_FILENO) {
			close(fd);
			return;
		}
	}
}

static int run(struct sd_cli *cli, int argc, char **argv)
{
	int rc = sd_cli_common(cli, &argc, &argv);

	if (rc >= 0)
		return rc;
	if (argc == 0)
		return sd_cli_usage(NULL, "a command is missing");
	bool help = strcmp(argv[0], "help") == 0; /* --help as people also say it */
	const struct sd_command *cmd = help && argc == 1 ? NULL : find_command(argv[help]);
	if (!cmd && !(help && argc == 1))
		return SD_EXIT_USAGE;
	if (!help)
		return cmd->run(cli, cmd, argc, argv);
	sd_cli_help(cmd);
	return SD_EXIT_OK;
}

int main(int argc, char **argv)
{
	struct sd_cli cli = {0};

	hold_standard_descriptors();
	setlocale(LC_ALL, "");
	setlocale(LC_NUMERIC, "C"); /* numbers come from the database, and go into JSON */
	int rc = run(&cli, argc, argv);
	if (cli.db)
		PQfinish(cli.db);
	sd_conf_free(cli.conf);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "stepctl: cannot write the output\n");
		return rc != SD_EXIT_OK ? rc : SD_EXIT_FAILED;
	}
	return rc;
}
