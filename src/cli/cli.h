/*
 * stepctl's inner agreements: what a command is, what it is given, and how it
 * asks the database and answers people or programs.
 *
 * stepctl knows no table: it reads the views of schema stepd and calls its
 * functions, as any user may.  Results go to stdout, everything else to
 * stderr with "stepctl: " in front.
 */
#ifndef SD_CLI_CLI_H
#define SD_CLI_CLI_H

#include "base/buf.h"
#include "base/err.h"
#include "conf/conf.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sd_exit {
	SD_EXIT_OK = 0,
	SD_EXIT_FAILED = 1,    /* what was asked for failed, or is not there */
	SD_EXIT_USAGE = 64,
	SD_EXIT_DATABASE = 69, /* the database is not reachable */
	SD_EXIT_CONFIG = 78,
};

#define SD_DENIED "42501" /* SQLSTATE: insufficient_privilege */

struct sd_cli {
	bool json;
	const char *database; /* --database */
	const char *config;   /* -c */
	PGconn *db;	      /* after sd_cli_connect */
	char sqlstate[6];     /* of the last statement that failed */
	struct sd_conf *conf; /* after sd_cli_conf */
};

struct sd_command {
	const char *name;
	const char *synopsis; /* its arguments */
	const char *summary;
	int (*run)(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv); /* argv[0] is its name; returns the exit code */
};
extern const struct sd_command sd_commands[]; /* ends with a NULL name */

int sd_cmd_status(struct sd_cli *, const struct sd_command *, int, char **);
int sd_cmd_steps(struct sd_cli *, const struct sd_command *, int, char **);
int sd_cmd_queues(struct sd_cli *, const struct sd_command *, int, char **);
int sd_cmd_schedules(struct sd_cli *, const struct sd_command *, int, char **);
int sd_cmd_run(struct sd_cli *, const struct sd_command *, int, char **);
int sd_cmd_jobs(struct sd_cli *, const struct sd_command *, int, char **);
int sd_cmd_job(struct sd_cli *, const struct sd_command *, int, char **);
int sd_cmd_logs(struct sd_cli *, const struct sd_command *, int, char **);
int sd_cmd_enqueue(struct sd_cli *, const struct sd_command *, int, char **);
int sd_cmd_cancel(struct sd_cli *, const struct sd_command *, int, char **);
int sd_cmd_retry(struct sd_cli *, const struct sd_command *, int, char **);
int sd_cmd_queue(struct sd_cli *, const struct sd_command *, int, char **);
int sd_cmd_pause(struct sd_cli *, const struct sd_command *, int, char **);
int sd_cmd_resume(struct sd_cli *, const struct sd_command *, int, char **);
int sd_cmd_migrate(struct sd_cli *, const struct sd_command *, int, char **);
int sd_cmd_check(struct sd_cli *, const struct sd_command *, int, char **);

/* --- args.c --- */

/* An option of one command, `--name VALUE`; *value stays NULL when it is not given. */
struct sd_flag {
	const char *name;
	const char **value;
};
/*
 * Read argv: the command's flags (ended by a NULL name; NULL: none) and the
 * common ones, in any order with min to max positional arguments, which go to
 * pos.  Returns how many, or -1 with *rc: a usage error that was told, or 0
 * after --help.
 */
int sd_cli_args(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv, const struct sd_flag *flags, int min,
		int max, const char **pos, int *rc);
void sd_cli_help(const struct sd_command *cmd); /* how it is used; NULL: stepctl as a whole */
int sd_cli_common(struct sd_cli *cli, int *argc, char ***argv); /* options in front of the command; -1 go on, else the exit code */
/* Print "stepctl: …" and return SD_EXIT_USAGE. */
int sd_cli_usage(const struct sd_command *cmd, const char *fmt, ...) SD_PRINTF(2, 3);
/* Is it a job's id?  false after telling that it is not. */
bool sd_cli_is_id(const struct sd_command *cmd, const char *text);
/* For a command about one job: read the arguments and connect.  The job's id, or NULL with the exit code in *rc. */
const char *sd_cli_one_job(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv, int *rc);

/* --- connect.c --- */

/* 0, or the exit code after telling what is wrong. connect also checks the schema. */
int sd_cli_conf(struct sd_cli *cli);
int sd_cli_connect_any(struct sd_cli *cli); /* without looking at the schema */
int sd_cli_connect(struct sd_cli *cli);
/* Run a statement with text parameters.  NULL with *rc after telling the server's error. */
PGresult *sd_cli_query(struct sd_cli *cli, const char *sql, int n, const char *const *values, int *rc);
int sd_cli_fail(enum sd_exit code, const struct sd_err *err); /* tell, return code */

/* --- output.c --- */

enum sd_cell {
	SD_CELL_TEXT,
	SD_CELL_NUMBER,	  /* as it is, to the right */
	SD_CELL_STATUS,	  /* coloured by its word */
	SD_CELL_SECONDS,  /* a duration in seconds: 1.2s */
	SD_CELL_AGE,	  /* a duration in seconds, roughly: 5m */
	SD_CELL_TIME,	  /* seconds since the epoch: local date and time */
};
struct sd_column {
	const char *name;
	enum sd_cell cell;
	bool cut; /* may be cut to fit the terminal */
};
/*
 * A list: SQL for people, whose columns are as in columns (ended by a NULL
 * name), and SQL for programs, whose rows become JSON objects.  json NULL: the
 * first one serves both.
 */
struct sd_list {
	const char *sql, *json_sql;
	const struct sd_column *columns;
	const char *none; /* told when there is no row: "no jobs" */
};
extern const struct sd_list sd_queues_list; /* cmd_queues.c */
int sd_cli_list(struct sd_cli *cli, const struct sd_list *list, int n, const char *const *values);
/* The table of a result that is already there. */
void sd_cli_table(const PGresult *res, const struct sd_column *columns, bool headings);
/* Every row of sql as JSON objects, one JSON array. */
int sd_cli_json_array(struct sd_cli *cli, const char *sql, int n, const char *const *values);
/* Text of others to the terminal or a pipe: control characters but newline and tab become \xNN. */
void sd_cli_put(const char *text);

/* seconds as "1.2s" (rough false) or "5m" (rough true); local time of epoch seconds. Return out. */
char *sd_cli_seconds(double seconds, bool rough, char out[32]);
char *sd_cli_time(double epoch, char out[32]);

#endif
