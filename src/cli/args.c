/* The command line.  Common options may stand before or behind the command. */
#include "cli/cli.h"

#include "base/suggest.h"
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_DATABASE = 256, OPT_JSON, OPT_HELP, OPT_VERSION, OPT_CONFIG, OPT_FLAG };

#define MAX_OPTIONS 16

static const struct option common[] = {
	{"database", required_argument, NULL, OPT_DATABASE},
	{"config", required_argument, NULL, OPT_CONFIG},
	{"json", no_argument, NULL, OPT_JSON},
	{"help", no_argument, NULL, OPT_HELP},
	{"version", no_argument, NULL, OPT_VERSION},
};
#define NCOMMON (sizeof(common) / sizeof(common[0]))

void sd_cli_help(const struct sd_command *cmd)
{
	if (cmd) {
		printf("usage: stepctl [--database URL] [-c FILE] [--json] %s%s%s\n\n%s\n", cmd->name, *cmd->synopsis ? " " : "",
		       cmd->synopsis, cmd->summary);
		return;
	}
	printf("usage: stepctl [--database URL] [-c FILE] [--json] COMMAND\n\n");
	for (const struct sd_command *c = sd_commands; c->name; c++) {
		char synopsis[120];
		snprintf(synopsis, sizeof(synopsis), "%s %s", c->name, c->synopsis);
		if (strlen(synopsis) > 20)
			printf("  %s\n  %20s %s\n", synopsis, "", c->summary);
		else
			printf("  %-20s %s\n", synopsis, c->summary);
	}
	printf("\n  --database URL       the database; else $STEPD_DATABASE_URL, database.url of the\n"
	       "                       configuration, or a running embedded instance\n"
	       "  -c, --config FILE    the configuration; else $STEPD_CONFIG or the installed one\n"
	       "  --json               print JSON\n\n"
	       "Exit codes: 0 done; 1 it failed, or what was asked for is not there; 64 usage;\n"
	       "69 the database is not reachable; 78 the configuration is wrong.\n"
	       "See stepctl(1).\n");
}

int sd_cli_usage(const struct sd_command *cmd, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "stepctl: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	if (cmd)
		fprintf(stderr, "\nusage: stepctl %s%s%s\n", cmd->name, *cmd->synopsis ? " " : "", cmd->synopsis);
	else
		fprintf(stderr, "\nTry \"stepctl --help\".\n");
	return SD_EXIT_USAGE;
}

static int bad_option(const struct sd_command *cmd, const struct option *options, size_t n, char **argv, int opt)
{
	const char *names[MAX_OPTIONS], *word = argv[optind - 1];

	if (opt == ':')
		return sd_cli_usage(cmd, "option \"%.60s\" needs a value", word);
	if (optopt > 0 && optopt < 256)
		return sd_cli_usage(cmd, "unknown option \"-%c\"", optopt);
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(options[i].name);
		names[i] = options[i].name;
		if (optopt == options[i].val && strncmp(word, "--", 2) == 0 && strncmp(word + 2, names[i], len) == 0)
			return sd_cli_usage(cmd, "option \"--%s\" takes no value", names[i]);
	}
	const char *near = strncmp(word, "--", 2) == 0 ? sd_suggest(word + 2, names, n) : NULL;
	if (near)
		return sd_cli_usage(cmd, "unknown option \"%.60s\", did you mean \"--%s\"?", word, near);
	return sd_cli_usage(cmd, "unknown option \"%.60s\"", word);
}

/* One option that every command has.  -1: go on, else the exit code. */
static int take_common(struct sd_cli *cli, const struct sd_command *cmd, int opt)
{
	switch (opt) {
	case OPT_DATABASE:
		if (*optarg == '\0')
			return sd_cli_usage(cmd, "--database is empty");
		cli->database = optarg;
		return -1;
	case 'c':
	case OPT_CONFIG:
		cli->config = optarg;
		return -1;
	case OPT_JSON:
		cli->json = true;
		return -1;
	case OPT_VERSION:
		printf("stepctl %s\n", PACKAGE_VERSION);
		return SD_EXIT_OK;
	default:
		sd_cli_help(cmd);
		return SD_EXIT_OK;
	}
}

int sd_cli_common(struct sd_cli *cli, int *argc, char ***argv)
{
	struct option options[NCOMMON + 1] = {0};
	int opt, rc = -1;

	memcpy(options, common, sizeof(common));
	opterr = 0;
	while (rc < 0 && (opt = getopt_long(*argc, *argv, "+:c:h", options, NULL)) != -1)
		rc = opt == '?' || opt == ':' ? bad_option(NULL, options, NCOMMON, *argv, opt) : take_common(cli, NULL, opt);
	*argc -= optind;
	*argv += optind;
	return rc;
}

int sd_cli_args(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv, const struct sd_flag *flags, int min,
		int max, const char **pos, int *rc)
{
	struct option options[MAX_OPTIONS + 1] = {0};
	size_t n = NCOMMON;
	int opt;

	memcpy(options, common, sizeof(common));
	for (const struct sd_flag *f = flags; f && f->name; f++)
		options[n++] = (struct option){f->name, required_argument, NULL, OPT_FLAG + (int)(f - flags)};
	opterr = 0;
	optind = 0; /* start anew, with GNU's permutation */
	*rc = -1;
	while (*rc < 0 && (opt = getopt_long(argc, argv, ":c:h", options, NULL)) != -1) {
		if (opt == '?' || opt == ':')
			*rc = bad_option(cmd, options, n, argv, opt);
		else if (opt >= OPT_FLAG)
			*flags[opt - OPT_FLAG].value = optarg;
		else
			*rc = take_common(cli, cmd, opt);
	}
	if (*rc >= 0)
		return -1;
	int found = argc - optind;
	if (found < min || found > max) {
		*rc = found < min ? sd_cli_usage(cmd, "an argument is missing")
				  : sd_cli_usage(cmd, "too many arguments: \"%.60s\"", argv[optind + max]);
		return -1;
	}
	for (int i = 0; i < found; i++)
		pos[i] = argv[optind + i];
	return found;
}

bool sd_cli_is_id(const struct sd_command *cmd, const char *text)
{
	if (*text && strspn(text, "0123456789") == strlen(text)) {
		errno = 0;
		if (strtoll(text, NULL, 10) > 0 && errno == 0)
			return true;
	}
	sd_cli_usage(cmd, "\"%.60s\" is not a job id", text);
	return false;
}

const char *sd_cli_one_job(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv, int *rc)
{
	const char *id;

	if (sd_cli_args(cli, cmd, argc, argv, NULL, 1, 1, &id, rc) < 0)
		return NULL;
	if (!sd_cli_is_id(cmd, id)) {
		*rc = SD_EXIT_USAGE;
		return NULL;
	}
	*rc = sd_cli_connect(cli);
	return *rc == SD_EXIT_OK ? id : NULL;
}
