/* stepctl enqueue: a job from the command line. */
#include "cli/cli.h"

#include "base/fdutil.h"
#include "base/json.h"
#include "base/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_DATA (64 * 1024 * 1024)

static int read_stdin(struct sd_buf *b, struct sd_err *err)
{
	char chunk[65536];
	ssize_t n;

	while ((n = read(STDIN_FILENO, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return sd_err_errno(err, errno, "cannot read standard input");
		sd_buf_append(b, chunk, (size_t)n);
		if (b->len > MAX_DATA)
			return sd_err_set(err, SD_ERR_PERMANENT, "the data is larger than 64 MiB");
	}
	return 0;
}

/* The JSON argument: the text itself, "-" for stdin or "@FILE".  Whatever is no JSON is a mistake of who calls. */
static enum sd_exit read_data(const char *arg, struct sd_buf *b, struct sd_err *err)
{
	sd_err_clear(err);
	if (strcmp(arg, "-") == 0) {
		if (read_stdin(b, err) < 0)
			return SD_EXIT_FAILED;
	} else if (*arg == '@') {
		if (sd_read_file(arg + 1, MAX_DATA, b, err) < 0)
			return SD_EXIT_FAILED;
	} else {
		sd_buf_str(b, arg);
	}
	if (sd_json_check(b->data ? b->data : "", b->len, err) == 0)
		return SD_EXIT_OK;
	(void)sd_err_prefix(err, "the data");
	return SD_EXIT_USAGE;
}

struct call {
	struct sd_buf sql;
	const char *values[6];
	int n;
};

/* ", name => $n::type"; an option that was not given is left to the function's default. */
static void add_argument(struct call *c, const char *name, const char *cast, const char *value)
{
	if (!value)
		return;
	c->values[c->n++] = value;
	sd_buf_printf(&c->sql, "%s%s => %s$%d%s", c->n > 1 ? ", " : "", name, strcmp(name, "run_at") == 0 ? "now() + " : "", c->n,
		      cast);
}

/* Say so when nobody listens: the job is kept, but it will not run.  Who may only enqueue cannot see that. */
static void warn_unrouted(struct sd_cli *cli, const char *topic, const char *ids)
{
	PGresult *res = PQexecParams(cli->db, "select id from stepd.jobs where id = any($1::bigint[]) and status = 'unrouted'", 1, NULL, &ids,
				     NULL, NULL, 0);
	if (PQntuples(res) > 0)
		fprintf(stderr, "stepctl: no step subscribes to \"%s\"; job %s is kept as unrouted until \"stepctl retry %s\"\n", topic,
			PQgetvalue(res, 0, 0), PQgetvalue(res, 0, 0));
	PQclear(res);
}

/* What the function says about an argument (SQLSTATE 22...) is about one of ours. */
static int refused(const struct sd_cli *cli, int rc)
{
	if (strcmp(cli->sqlstate, SD_DENIED) == 0)
		fprintf(stderr, "  hint: \"Rights in the database\" in stepd(8) has what a role is granted to enqueue.\n");
	else if (strcmp(cli->sqlstate, "22003") == 0) /* said by the cast to jsonb, before the function has a say */
		fprintf(stderr, "  hint: It is about a number in the data.\n");
	return strncmp(cli->sqlstate, "22", 2) == 0 ? SD_EXIT_USAGE : rc;
}

static int enqueue(struct sd_cli *cli, const char *topic, const struct call *c)
{
	struct sd_buf ids = SD_BUF_INIT;
	int rc;
	PGresult *res = sd_cli_query(cli, c->sql.data, c->n, c->values, &rc);

	if (!res)
		return refused(cli, rc);
	sd_buf_chr(&ids, '{');
	printf("%s", cli->json ? "{\"jobs\":[" : "");
	for (int i = 0; i < PQntuples(res); i++) {
		printf(cli->json ? "%s%s" : "%.0s%s\n", i > 0 ? "," : "", PQgetvalue(res, i, 0));
		sd_buf_printf(&ids, "%s%s", i > 0 ? "," : "", PQgetvalue(res, i, 0));
	}
	printf("%s", cli->json ? "]}\n" : "");
	sd_buf_chr(&ids, '}');
	PQclear(res);
	warn_unrouted(cli, topic, ids.data);
	sd_buf_fini(&ids);
	return SD_EXIT_OK;
}

int sd_cmd_enqueue(struct sd_cli *cli, const struct sd_command *cmd, int argc, char **argv)
{
	const char *priority = NULL, *delay = NULL, *group = NULL, *unique = NULL, *pos[2];
	const struct sd_flag flags[] = {
		{"priority", &priority}, {"delay", &delay}, {"group", &group}, {"unique", &unique}, {NULL, NULL}};
	struct sd_buf data = SD_BUF_INIT;
	struct call c = {SD_BUF_INIT, {0}, 0};
	struct sd_err err;
	char interval[40];
	int64_t ms;
	int rc;

	if (sd_cli_args(cli, cmd, argc, argv, flags, 2, 2, pos, &rc) < 0)
		return rc;
	if (priority) {
		char *end;
		long p = strtol(priority, &end, 10);
		if (*priority == '\0' || *end || p < -32768 || p > 32767)
			return sd_cli_usage(cmd, "the priority must be from -32768 to 32767, found \"%.60s\"", priority);
	}
	if (delay && sd_duration_parse(delay, &ms, &err) < 0)
		return sd_cli_usage(cmd, "--delay: %s", err.message);
	if (delay && ms > SD_DELAY_MAX_MS)
		return sd_cli_usage(cmd, "--delay: \"%.60s\" is more than a hundred years", delay);
	if (delay)
		snprintf(interval, sizeof(interval), "%" PRId64 " milliseconds", ms);
	if ((rc = read_data(pos[1], &data, &err)) != SD_EXIT_OK) {
		sd_cli_fail(rc, &err);
		goto out;
	}
	if ((rc = sd_cli_connect(cli)) != SD_EXIT_OK)
		goto out;
	sd_buf_str(&c.sql, "select stepd.enqueue(");
	add_argument(&c, "topic", "", pos[0]);
	add_argument(&c, "data", "::jsonb", data.data);
	add_argument(&c, "priority", "::int", priority);
	add_argument(&c, "run_at", "::interval", delay ? interval : NULL);
	add_argument(&c, "group_id", "", group);
	add_argument(&c, "unique_key", "", unique);
	sd_buf_chr(&c.sql, ')');
	rc = enqueue(cli, pos[0], &c);
out:
	sd_buf_fini(&c.sql);
	sd_buf_fini(&data);
	return rc;
}
