/* stepctl jobs, job, logs: reading stepd.jobs, stepd.attempts and stepd.logs. */
#include "cli/cli.h"

#include "base/suggest.h"
#include "base/uuid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const statuses[] = {"scheduled", "ready",  "running",   "retrying", "completed",
				       "failed",    "cancelled", "skipped", "unrouted"};
#define NSTATUSES (sizeof(statuses) / sizeof(statuses[0]))

static int check_status(const struct sd_command *cmd, const char *status)
{
	for (size_t i = 0; i < NSTATUSES; i++) {
		if (strcmp(status, statuses[i]) == 0)
			return SD_EXIT_OK;
	}
	const char *near = sd_suggest(status, statuses, NSTATUSES);
	return near ? sd_cli_usage(cmd, "\"%.60s\" is not a status, did you mean \"%s\"?", status, near)
		    : sd_cli_usage(cmd, "\"%.60s\" is not a status", status);
}

#define LATEST " from stepd.jobs where id = any (array(select stepd.latest_jobs($1, $2, $3, $4, $5))) order by id desc"
static const char jobs_people[] =
	"select id, status, step, queue, attempt || '/' || max_attempts, extract(epoch from now() - enqueued_at), "
	"extract(epoch from coalesce(duration, case when status = 'running' then clock_timestamp() - started_at end)), "
	"left(split_part(error, e'\\n', 1), 200)" LATEST;
static const char jobs_programs[] = "select *" LATEST;

int sd_cmd_jobs(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv)
{
	static const struct sd_column columns[] = {
		{"ID", SD_CELL_NUMBER, false},	{"STATUS", SD_CELL_STATUS, false}, {"STEP", SD_CELL_TEXT, true},
		{"QUEUE", SD_CELL_TEXT, true},	{"TRY", SD_CELL_TEXT, false},	   {"AGE", SD_CELL_AGE, false},
		{"TOOK", SD_CELL_SECONDS, false}, {"ERROR", SD_CELL_TEXT, true},   {0},
	};
	const char *queue = NULL, *step = NULL, *status = NULL, *trace = NULL, *limit = NULL;
	const struct sd_flag flags[] = {{"queue", &queue}, {"step", &step},   {"status", &status},
					{"trace", &trace}, {"limit", &limit}, {NULL, NULL}};
	int rc;

	if (sd_cli_args(cli, cmd, argc, argv, flags, 0, 0, NULL, &rc) < 0)
		return rc;
	if (status && check_status(cmd, status) != SD_EXIT_OK)
		return SD_EXIT_USAGE;
	if (trace && !sd_uuid_valid(trace))
		return sd_cli_usage(cmd, "\"%.60s\" is not a trace id (a UUID, or its 32 hexadecimal digits)", trace);
	if (limit && (strspn(limit, "0123456789") != strlen(limit) || strlen(limit) > 7 || atoi(limit) < 1))
		return sd_cli_usage(cmd, "the limit must be from 1 to 9999999, found \"%.60s\"", limit);
	if ((rc = sd_cli_connect(cli)) != SD_EXIT_OK)
		return rc;
	return sd_cli_list(cli, &(struct sd_list){jobs_people, jobs_programs, columns, "no jobs"}, 5,
			   (const char *[]){limit ? limit : "50", queue, step, status, trace});
}

static int no_job(const char *id)
{
	fprintf(stderr, "stepctl: there is no job %s\n", id);
	return SD_EXIT_FAILED;
}

static int job_json(struct sd_cli *cli, const char *id)
{
	int rc;
	PGresult *res = sd_cli_query(cli,
				     "select row_to_json(q) from (select j.*, (select coalesce(json_agg(a order by a.attempt), '[]') "
				     "from stepd.attempts a where a.job_id = j.id) as attempts from stepd.jobs j where j.id = $1) q",
				     1, &id, &rc);
	if (!res)
		return rc;
	if (PQntuples(res) == 0)
		rc = no_job(id);
	else
		printf("%s\n", PQgetvalue(res, 0, 0));
	PQclear(res);
	return rc;
}

/* One row a fact, in the order people ask; those that are null are left out. Payloads come last, they may be long. */
static const char job_facts[] =
	"select f.name, f.value from stepd.jobs j, lateral (values "
	"(1, 'id', j.id::text), (2, 'status', j.status), (3, 'attempt', j.attempt || ' of ' || j.max_attempts), "
	"(4, 'step', j.step), (5, 'queue', j.queue), (6, 'trigger', j.trigger), (7, 'priority', j.priority::text), "
	"(8, 'group', j.group_id), (9, 'unique key', j.unique_key), (10, 'parent', j.parent_id::text), "
	"(11, 'trace', j.trace_id::text), (12, '@enqueued', extract(epoch from j.enqueued_at)::text), "
	"(13, '@run at', extract(epoch from nullif(j.run_at, j.enqueued_at))::text), (14, '@started', extract(epoch from j.started_at)::text), "
	"(15, '@finished', extract(epoch from j.finished_at)::text), (16, '~took', extract(epoch from j.duration)::text), "
	"(17, 'node', j.node || coalesce(' (pid ' || j.pid || ')', '')), "
	"(18, 'progress', concat_ws(' ', round((j.progress -> 'percent')::numeric, 1) || ' %', j.progress ->> 'message', j.progress ->> 'fields', "
	"'(attempt ' || (j.progress ->> 'attempt') || ')')), (19, '@reported', extract(epoch from (j.progress ->> 'at')::timestamptz)::text), "
	"(20, 'error', j.error), (21, 'input', jsonb_pretty(j.input::jsonb)), (22, 'output', jsonb_pretty(j.output::jsonb))) f (n, name, value) "
	"where j.id = $1 and f.value <> '' order by f.n";

static void print_fact(const char *name, const char *value)
{
	char buf[32];

	if (*name == '@')
		value = sd_cli_time(strtod(value, NULL), buf);
	else if (*name == '~')
		value = sd_cli_seconds(strtod(value, NULL), false, buf);
	printf("%-11s ", name + (*name == '@' || *name == '~'));
	for (const char *line = value; *line;) { /* further lines are indented like the first */
		size_t len = strcspn(line, "\n");
		char *copy = strndup(line, len);
		sd_cli_put(copy ? copy : "");
		free(copy);
		line += len;
		if (*line == '\n' && *++line)
			printf("\n%-11s ", "");
	}
	printf("\n");
}

static int job_attempts(struct sd_cli *cli, const char *id)
{
	static const struct sd_column columns[] = {
		{"TRY", SD_CELL_NUMBER, false},	 {"OUTCOME", SD_CELL_STATUS, false}, {"STARTED", SD_CELL_TIME, false},
		{"TOOK", SD_CELL_SECONDS, false}, {"EXIT", SD_CELL_TEXT, false},     {"MAXRSS", SD_CELL_TEXT, false},
		{"NODE", SD_CELL_TEXT, true},	 {"ERROR", SD_CELL_TEXT, true},	     {0},
	};
	int rc;
	PGresult *res = sd_cli_query(cli,
				     "select attempt, outcome, extract(epoch from started_at), extract(epoch from finished_at - started_at), "
				     "coalesce('signal ' || nullif(signal, 0), 'code ' || exit_code), "
				     "case when max_rss_kb > 0 then round(max_rss_kb / 1024.0) || 'MiB' end, node, split_part(error, e'\\n', 1) "
				     "from stepd.attempts where job_id = $1 order by attempt, started_at", 1, &id, &rc);
	if (!res)
		return rc;
	if (PQntuples(res) > 0) {
		printf("\nAttempts that did not succeed:\n");
		sd_cli_table(res, columns, true);
	}
	PQclear(res);
	return SD_EXIT_OK;
}

int sd_cmd_job(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv)
{
	int rc;
	const char *id = sd_cli_one_job(cli, cmd, argc, argv, &rc);

	if (id == NULL)
		return rc;
	if (cli->json)
		return job_json(cli, id);
	PGresult *res = sd_cli_query(cli, job_facts, 1, &id, &rc);
	if (!res)
		return rc;
	for (int i = 0; i < PQntuples(res); i++)
		print_fact(PQgetvalue(res, i, 0), PQgetvalue(res, i, 1));
	rc = PQntuples(res) > 0 ? job_attempts(cli, id) : no_job(id);
	PQclear(res);
	return rc;
}

static int logs_of(struct sd_cli *cli, const char *id)
{
	int rc;

	if (cli->json)
		return sd_cli_json_array(cli, "select * from stepd.logs where job_id = $1 order by at", 1, &id);
	PGresult *res = sd_cli_query(cli,
				     "select extract(epoch from at), to_char(at, 'MS'), attempt, level, message, "
				     "nullif(fields::text, '{}') from stepd.logs where job_id = $1 order by at", 1, &id, &rc);
	if (!res)
		return rc;
	for (int i = 0; i < PQntuples(res); i++) {
		char at[32];
		printf("%s.%s %s %-5s ", sd_cli_time(strtod(PQgetvalue(res, i, 0), NULL), at), PQgetvalue(res, i, 1),
		       PQgetvalue(res, i, 2), PQgetvalue(res, i, 3));
		sd_cli_put(PQgetvalue(res, i, 4));
		if (!PQgetisnull(res, i, 5)) {
			putchar(' ');
			sd_cli_put(PQgetvalue(res, i, 5));
		}
		putchar('\n');
	}
	if (PQntuples(res) == 0)
		fprintf(stderr, "job %s has logged nothing\n", id);
	PQclear(res);
	return SD_EXIT_OK;
}

int sd_cmd_logs(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv)
{
	int rc;
	const char *id = sd_cli_one_job(cli, cmd, argc, argv, &rc);

	if (id == NULL)
		return rc;
	PGresult *res = sd_cli_query(cli, "select from stepd.jobs where id = $1", 1, &id, &rc);
	if (!res)
		return rc;
	bool there = PQntuples(res) > 0;
	PQclear(res);
	return there ? logs_of(cli, id) : no_job(id);
}
