/* stepctl queues, queue, pause, resume. */
#include "cli/cli.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- settings ---- */

#define MAX_SETTINGS 32

/* Milliseconds of a column in the largest unit that says them exactly, as in stepd.yaml; null for 0. */
#define DURATION(column)                                                                                                   \
	"case when " column " = 0 then null when " column " % 86400000 = 0 then " column " / 86400000 || 'd' when " column    \
	" % 3600000 = 0 then " column " / 3600000 || 'h' when " column " % 60000 = 0 then " column " / 60000 || 'm' when "     \
	column " % 1000 = 0 then " column " / 1000 || 's' else " column " || 'ms' end"

static int show_settings(struct sd_cli *cli, const char *queue)
{
	static const struct sd_column shown[] = {
		{"SETTING", SD_CELL_TEXT, false}, {"VALUE", SD_CELL_TEXT, true}, {"FROM", SD_CELL_TEXT, false}, {0},
	};
	static const char sql[] =
		"select s.name, s.value, case when q.overrides ? s.col then 'set by hand' else 'configuration' end from stepd.queues q "
		"cross join lateral (values ('strategy', q.strategy, 'strategy'), ('maxRetries', q.max_retries::text, 'max_retries'), "
		"('retryDelay', coalesce(" DURATION("q.retry_delay_ms") ", '0'), 'retry_delay_ms'), ('backoff', q.backoff, 'backoff'), "
		"('maxRetryDelay', coalesce(" DURATION("q.max_retry_delay_ms") ", '0'), 'max_retry_delay_ms'), ('jitter', q.jitter::text, 'jitter'), "
		"('maxConcurrency', coalesce(nullif(q.max_concurrency, 0)::text, 'none'), 'max_concurrency'), "
		"('timeout', coalesce(" DURATION("q.timeout_ms") ", 'none'), 'timeout_ms'), "
		"('rateLimit', coalesce(nullif(q.rate_limit, 0) || '/' || " DURATION("q.rate_window_ms") ", 'none'), 'rate_limit'), "
		"('concurrencyPerGroup', coalesce(nullif(q.concurrency_per_group, 0)::text, 'none'), 'concurrency_per_group'), "
		"('history', coalesce(" DURATION("q.history_ms") ", 'keep'), 'history_ms')) s (name, value, col) where q.name = $1";
	int rc;

	if (cli->json)
		return sd_cli_json_array(cli, "select * from stepd.queues where name = $1", 1, &queue);
	PGresult *res = sd_cli_query(cli, sql, 1, &queue, &rc);
	if (!res)
		return rc;
	rc = PQntuples(res) > 0 ? SD_EXIT_OK : SD_EXIT_FAILED;
	if (rc == SD_EXIT_OK)
		sd_cli_table(res, shown, true);
	else
		fprintf(stderr, "stepctl: there is no queue \"%s\"\n", queue);
	PQclear(res);
	return rc;
}

/* SETTING=VALUE… as a JSON object; false when one has no '='. */
static bool settings_json(struct sd_buf *b, int n, const char *const *words, const char **bad)
{
	sd_buf_chr(b, '{');
	for (int i = 0; i < n; i++) {
		const char *eq = strchr(words[i], '=');

		if (!eq || eq == words[i]) {
			*bad = words[i];
			return false;
		}
		char *name = sd_xasprintf("%.*s", (int)(eq - words[i]), words[i]);
		if (i > 0)
			sd_buf_chr(b, ',');
		sd_buf_json_str(b, name);
		sd_buf_chr(b, ':');
		sd_buf_json_str(b, eq + 1);
		free(name);
	}
	sd_buf_chr(b, '}');
	return true;
}

static void names_array(struct sd_buf *b, int n, const char *const *words)
{
	sd_buf_chr(b, '{');
	for (int i = 0; i < n; i++)
		sd_buf_pgarray(b, words[i], strlen(words[i]));
	sd_buf_chr(b, '}');
}

static int change_settings(struct sd_cli *cli, bool set, const char *queue, const struct sd_buf *settings)
{
	const char *values[] = {queue, settings->data};
	int rc;
	PGresult *res = sd_cli_query(cli, set ? "select stepd.queue_set($1, $2::jsonb)" : "select stepd.queue_reset($1, variadic $2::text[])", 2,
				     values, &rc);

	if (!res)
		return rc;
	PQclear(res);
	return show_settings(cli, queue);
}

int sd_cmd_queue(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv)
{
	const char *words[MAX_SETTINGS + 2], *bad;
	struct sd_buf settings = SD_BUF_INIT;
	int rc, n = sd_cli_args(cli, cmd, argc, argv, NULL, 1, MAX_SETTINGS + 2, words, &rc);

	if (n < 0)
		return rc;
	bool set = n > 1 && strcmp(words[0], "set") == 0, reset = n > 1 && strcmp(words[0], "reset") == 0;
	if (n > 1 && !set && !reset)
		return sd_cli_usage(cmd, "\"%.60s\" is neither set nor reset", words[0]);
	if (set && n < 3)
		return sd_cli_usage(cmd, "a SETTING=VALUE is missing");
	if (set && !settings_json(&settings, n - 2, words + 2, &bad)) {
		rc = sd_cli_usage(cmd, "\"%.60s\" is not SETTING=VALUE", bad);
	} else {
		if (reset)
			names_array(&settings, n - 2, words + 2);
		rc = sd_cli_connect(cli);
		if (rc == SD_EXIT_OK)
			rc = n == 1 ? show_settings(cli, words[0]) : change_settings(cli, set, words[1], &settings);
	}
	sd_buf_fini(&settings);
	return rc;
}
