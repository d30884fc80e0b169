/*
 * stepd: argv → role.  This process becomes the supervisor; every other role
 * is a child of it.  Exit codes: 0 ok, 64 usage, 69 database unreachable at
 * start past the wait limit, 78 configuration.
 */
#include "config.h"

#include "base/log.h"
#include "base/mem.h"
#include "conf/conf.h"
#include "proc/title.h"
#include "role/supervisor.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { EX_OK = 0, EX_USAGE = 64, EX_CONFIG = 78 };

static const char help[] =
	"Usage: stepd [-c FILE] [--embedded DIR] [--check]\n"
	"\n"
	"Runs background jobs on PostgreSQL, in the foreground.\n"
	"\n"
	"  -c, --config FILE   configuration; default $STEPD_CONFIG, " SD_SYSCONFDIR "/stepd/stepd.yaml\n"
	"      --embedded DIR  run a private PostgreSQL in DIR, made on first use\n"
	"      --check         load configuration and steps, print every problem, exit 0 or 78\n"
	"      --version       print the version\n"
	"      --help          print this\n"
	"\n"
	"Signals: TERM drain and stop, INT or a second TERM stop fast, HUP reload, USR1 reopen logs.\n";

struct options {
	const char *file, *embedded;
	bool check;
};

static _Noreturn void usage(const char *what, const char *arg)
{
	fprintf(stderr, "stepd: %s%s\nTry: stepd --help\n", what, arg);
	exit(EX_USAGE);
}

/* Output that could not be written must not look like success. */
static _Noreturn void print_and_exit(const char *text)
{
	exit(fputs(text, stdout) >= 0 && fflush(stdout) == 0 ? EX_OK : 1);
}

static void parse(int argc, char **argv, struct options *o)
{
	enum { EMBEDDED = 256, CHECK, PRINT_VERSION, PRINT_HELP };
	static const struct option longs[] = {
		{"config", required_argument, NULL, 'c'}, {"embedded", required_argument, NULL, EMBEDDED},
		{"check", no_argument, NULL, CHECK},	  {"version", no_argument, NULL, PRINT_VERSION},
		{"help", no_argument, NULL, PRINT_HELP},	  {NULL, 0, NULL, 0},
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "c:", longs, NULL)) != -1) {
		switch (opt) {
		case 'c':
			o->file = optarg; /* the title of the process is written over argv */
			break;
		case EMBEDDED:
			o->embedded = optarg;
			break;
		case CHECK:
			o->check = true;
			break;
		case PRINT_VERSION:
			print_and_exit(PACKAGE_STRING "\n");
		case PRINT_HELP:
			print_and_exit(help);
		default: /* getopt has said what is wrong */
			fputs("Try: stepd --help\n", stderr);
			exit(EX_USAGE);
		}
	}
	if (optind < argc)
		usage("unexpected argument: ", argv[optind]);
	if (o->embedded != NULL && o->embedded[0] == '\0')
		usage("--embedded needs a directory", "");
}

/* Descriptors 0, 1 and 2 exist from here on, so that nothing of ours is ever opened as one of them. */
static void hold_standard_descriptors(void)
{
	int fd;

	while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= STDERR_FILENO)
		;
	if (fd >= 0)
		close(fd);
}

static int check(const struct sd_conf *conf, bool embedded)
{
	int problems = conf != NULL ? sd_supervise_check(conf, embedded) : 1;

	return problems == 0 ? EX_OK : EX_CONFIG;
}

static char *own_copy(const char *text)
{
	return text != NULL ? sd_xstrdup(text) : NULL;
}

int main(int argc, char **argv)
{
	struct options o = {0};
	struct sd_conf_problems problems = {NULL, 0};
	struct sd_conf *conf;
	char *file, *embedded;
	int rc;

	hold_standard_descriptors();
	parse(argc, argv, &o);
	/* kept beyond argv and the environment as they were: process titles are written over both */
	file = own_copy(sd_conf_find_file(o.file));
	embedded = own_copy(o.embedded);
	sd_title_init(argc, argv);
	conf = sd_conf_load(file, &problems);
	sd_conf_problems_print(stderr, file, &problems);
	sd_conf_problems_free(&problems);
	if (o.check) {
		rc = check(conf, embedded != NULL);
		sd_conf_free(conf);
	} else {
		rc = conf == NULL ? EX_CONFIG
				  : sd_supervise(&(struct sd_supervise){.conf = conf, .conf_file = file, .embedded_dir = embedded});
	}
	free(file);
	free(embedded);
	return rc;
}
