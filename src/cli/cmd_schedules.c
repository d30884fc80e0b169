/*
 * stepctl schedules, run.
 *
 * Coming ticks are computed here, from the expression that the database has,
 * by the same code as in the daemon: nothing needs to run for it.
 */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/cronspec.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_MAX 100000

static int list(struct sd_cli *cli)
{
	static const struct sd_column columns[] = {
		{"STEP", SD_CELL_TEXT, true},	    {"EXPRESSION", SD_CELL_TEXT, false}, {"ZONE", SD_CELL_TEXT, true},
		{"IN WORDS", SD_CELL_TEXT, true},   {"STATE", SD_CELL_STATUS, false},	 {"NEXT", SD_CELL_TIME, false},
		{"LAST", SD_CELL_TIME, false},	    {"LAST JOB", SD_CELL_NUMBER, false}, {"OUTCOME", SD_CELL_STATUS, false},
		{0},
	};
	static const struct sd_list schedules = {
		"select step, expression, timezone, description, case when paused then 'paused' else 'on' end, extract(epoch from next_run), "
		"extract(epoch from last_run), last_job_id, last_outcome from stepd.schedules order by next_run, step, trigger_index",
		"select * from stepd.schedules order by next_run, step, trigger_index", columns, "no schedules"};
	return sd_cli_list(cli, &schedules, 0, NULL);
}

static int pause_or_resume(struct sd_cli *cli, bool pause, const char *step, const char *trigger)
{
	const char *values[] = {step, trigger};
	int rc;
	PGresult *res = sd_cli_query(cli, pause ? "select stepd.pause_schedule($1, $2::int)" : "select stepd.resume_schedule($1, $2::int)",
				     2, values, &rc);

	if (!res)
		return rc;
	bool changed = strcmp(PQgetvalue(res, 0, 0), "t") == 0;
	PQclear(res);
	if (cli->json)
		return sd_cli_json_array(cli, "select step, trigger_index, paused from stepd.schedules where step = $1 "
					 "and trigger_index = coalesce($2::int, trigger_index) order by trigger_index", 2, values);
	sd_cli_put(step);
	printf("%s%s\n", changed ? " is " : " was ", pause ? "paused" : changed ? "resumed" : "not paused");
	return SD_EXIT_OK;
}

struct calendar {
	struct sd_cronspec spec;
	const struct sd_zone *zone;
	int64_t next_us;
	bool ended;
};

static int fail(const char *what, const struct sd_err *err)
{
	fprintf(stderr, "stepctl: %s: %s\n", what, err->message);
	return SD_EXIT_FAILED;
}

/* A time as PostgreSQL reads it, without an offset in the schedule's own zone; after it: µs since the epoch. */
static int read_from(struct sd_cli *cli, const char *zone, const char *text, int64_t *from)
{
	int rc;
	PGresult *res = sd_cli_query(cli, "select set_config('timezone', $1, false)", 1, &zone, &rc);

	if (!res)
		return rc;
	PQclear(res);
	res = PQexecParams(cli->db, "select floor(extract(epoch from $1::timestamptz) * 1000000)::bigint where isfinite($1::timestamptz)", 1, NULL,
			   &text, NULL, NULL, 0);
	if (PQntuples(res) == 1)
		*from = strtoll(PQgetvalue(res, 0, 0), NULL, 10);
	else
		rc = sd_cli_usage(NULL, "--from \"%.60s\" is no time, such as 2026-03-29T01:30 or \"2026-03-29 01:30+02\"", text);
	PQclear(res);
	return rc;
}

static void print_tick(struct sd_cli *cli, const struct calendar *c, int64_t at, bool first)
{
	int64_t sec = at / SD_SEC, offset = sd_zone_offset(c->zone, sec), local = sec + offset, year;
	int64_t days = local / 86400 - (local % 86400 < 0), time = local - days * 86400;
	char utc[28], here[48];
	int month, day;

	sd_date_of_days(days, &year, &month, &day);
	snprintf(here, sizeof here, "%04" PRId64 "-%02d-%02d%c%02d:%02d:%02d%c%02d:%02d", year, month, day, cli->json ? 'T' : ' ',
		 (int)(time / 3600), (int)(time / 60 % 60), (int)(time % 60), offset < 0 ? '-' : '+', (int)(labs((long)offset) / 3600),
		 (int)(labs((long)offset) / 60 % 60));
	sd_wall_format(at, utc);
	/* ticks are whole seconds: the first 19 characters say it all */
	if (cli->json)
		printf("%s\n  {\"at\":\"%.19sZ\",\"local\":\"%s\"}", first ? "" : ",", utc, here);
	else
		printf("%.19sZ  %s\n", utc, here);
}

/* The ticks of all calendars in order of time; those of one instant are one.  How many there were. */
static long print_ticks(struct sd_cli *cli, struct calendar *v, int n, long count)
{
	long k;

	if (cli->json)
		printf("[");
	for (k = 0; k < count; k++) {
		const struct calendar *best = NULL;

		for (int i = 0; i < n; i++)
			if (!v[i].ended && (!best || v[i].next_us < best->next_us))
				best = &v[i];
		if (!best)
			break;
		int64_t at = best->next_us;
		print_tick(cli, best, at, k == 0);
		for (int i = 0; i < n; i++)
			if (!v[i].ended && v[i].next_us == at)
				v[i].ended = !sd_cron_next(&v[i].spec, v[i].zone, at, &v[i].next_us);
	}
	if (cli->json)
		printf("\n]\n");
	return k;
}

static int next_of(struct sd_cli *cli, const PGresult *res, const char *from_text, long count)
{
	int n = PQntuples(res), rc = SD_EXIT_OK;
	struct calendar *v = sd_xcalloc((size_t)n, sizeof *v);
	struct sd_zoneset *zones = sd_zoneset_new();
	int64_t from = sd_wall_us();
	struct sd_err err;

	if (from_text)
		rc = read_from(cli, PQgetvalue(res, 0, 1), from_text, &from);
	for (int i = 0; i < n && rc == SD_EXIT_OK; i++) {
		v[i].zone = sd_zoneset_get(zones, PQgetvalue(res, i, 1), &err);
		if (!v[i].zone || sd_cron_parse(PQgetvalue(res, i, 0), &v[i].spec, &err) < 0)
			rc = fail(PQgetvalue(res, i, 0), &err);
		else
			v[i].ended = !sd_cron_next(&v[i].spec, v[i].zone, from, &v[i].next_us);
	}
	if (rc == SD_EXIT_OK && print_ticks(cli, v, n, count) == 0)
		fprintf(stderr, "there is no tick after that\n");
	sd_zoneset_free(zones);
	free(v);
	return rc;
}

static int next(struct sd_cli *cli, const char *step, const char *trigger, const char *from, long count)
{
	const char *values[] = {step, trigger};
	int rc;
	PGresult *res = sd_cli_query(cli, "select expression, timezone from stepd.schedules where step = $1 "
				     "and trigger_index = coalesce($2::int, trigger_index) order by trigger_index", 2, values, &rc);

	if (!res)
		return rc;
	if (PQntuples(res) > 0) {
		rc = next_of(cli, res, from, count);
	} else {
		fprintf(stderr, "stepctl: there is no such cron trigger; \"stepctl schedules\" shows all\n");
		rc = SD_EXIT_FAILED;
	}
	PQclear(res);
	return rc;
}

static int check_number(const struct sd_command *cmd, const char *name, const char *text, long min, long max, long *value)
{
	char *end;

	errno = 0;
	*value = strtol(text, &end, 10);
	if (errno == 0 && end != text && *end == '\0' && *value >= min && *value <= max)
		return 0;
	sd_cli_usage(cmd, "--%s \"%.40s\" is no number from %ld to %ld", name, text, min, max);
	return -1;
}

int sd_cmd_schedules(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv)
{
	const char *count_text = NULL, *from = NULL, *trigger = NULL, *pos[2] = {NULL, NULL};
	const struct sd_flag flags[] = {{"count", &count_text}, {"from", &from}, {"trigger", &trigger}, {NULL, NULL}};
	int rc, n = sd_cli_args(cli, cmd, argc, argv, flags, 0, 2, pos, &rc);
	long count = 10, index;

	if (n < 0)
		return rc;
	bool is_next = n > 0 && strcmp(pos[0], "next") == 0, is_pause = n > 0 && strcmp(pos[0], "pause") == 0;
	if (n > 0 && !is_next && !is_pause && strcmp(pos[0], "resume") != 0)
		return sd_cli_usage(cmd, "schedules \"%.60s\" is none of next, pause, resume", pos[0]);
	if (n == 1)
		return sd_cli_usage(cmd, "which step?");
	if (!is_next && (count_text || from))
		return sd_cli_usage(cmd, "--count and --from belong to \"schedules next\"");
	if (n == 0 && trigger)
		return sd_cli_usage(cmd, "--trigger belongs to next, pause and resume");
	if ((count_text && check_number(cmd, "count", count_text, 1, COUNT_MAX, &count) < 0) ||
	    (trigger && check_number(cmd, "trigger", trigger, 0, INT16_MAX, &index) < 0))
		return SD_EXIT_USAGE;
	if ((rc = sd_cli_connect(cli)) != SD_EXIT_OK)
		return rc;
	if (n == 0)
		return list(cli);
	if (is_next)
		return next(cli, pos[1], trigger, from, count);
	return pause_or_resume(cli, is_pause, pos[1], trigger);
}

int sd_cmd_run(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv)
{
	const char *trigger = NULL, *values[2] = {NULL, NULL};
	const struct sd_flag flags[] = {{"trigger", &trigger}, {NULL, NULL}};
	long index;
	int rc;

	if (sd_cli_args(cli, cmd, argc, argv, flags, 1, 1, values, &rc) < 0)
		return rc;
	if (trigger && check_number(cmd, "trigger", trigger, 0, INT16_MAX, &index) < 0)
		return SD_EXIT_USAGE;
	values[1] = trigger;
	if ((rc = sd_cli_connect(cli)) != SD_EXIT_OK)
		return rc;
	if (cli->json)
		return sd_cli_json_array(cli, "select stepd.run($1, $2::int) as id", 2, values);
	PGresult *res = sd_cli_query(cli, "select stepd.run($1, $2::int)", 2, values, &rc);
	if (!res)
		return rc;
	printf("%s\n", PQgetvalue(res, 0, 0));
	PQclear(res);
	return SD_EXIT_OK;
}
