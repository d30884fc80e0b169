/*
 * Answers: tables for people through libsmartcols, JSON for programs.  Tables
 * fit the terminal by cutting the columns that allow it; in a pipe nothing is
 * cut and nothing is coloured.
 */
#include "cli/cli.h"

#include "base/mem.h"

#include <libsmartcols.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

char *sd_cli_seconds(double s, bool rough, char out[32])
{
	if (s < 0)
		s = 0;
	if (!rough && s < 0.9995)
		snprintf(out, 32, "%.*fms", s < 0.000995 ? 2 : s < 0.00995 ? 1 : 0, s * 1000);
	else if (!rough && s < 59.95)
		snprintf(out, 32, "%.1fs", s);
	else if (s < 120)
		snprintf(out, 32, "%.0fs", floor(s));
	else if (s < 7200)
		snprintf(out, 32, "%.0fm", floor(s / 60));
	else if (s < 172800)
		snprintf(out, 32, "%.0fh", floor(s / 3600));
	else
		snprintf(out, 32, "%.0fd", floor(s / 86400));
	return out;
}

char *sd_cli_time(double epoch, char out[32])
{
	time_t t = (time_t)floor(epoch);
	struct tm tm;

	if (!localtime_r(&t, &tm) || strftime(out, 32, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		snprintf(out, 32, "%.3f", epoch);
	return out;
}

static const char *status_color(const char *status)
{
	static const struct {
		const char *word, *color;
	} colors[] = {
		{"completed", "green"}, {"running", "cyan"},  {"failed", "red"},    {"error", "red"}, {"retrying", "yellow"},
		{"unrouted", "yellow"}, {"paused", "yellow"}, {"warn", "yellow"}, {"lost", "red"},	{"crashed", "red"},
		{"timeout", "red"},	{"alive", "green"},
	};
	for (size_t i = 0; i < sizeof(colors) / sizeof(colors[0]); i++) {
		if (strcmp(colors[i].word, status) == 0)
			return colors[i].color;
	}
	return NULL;
}

static const char *cell_text(const struct sd_column *c, const char *value, char out[32])
{
	switch (c->cell) {
	case SD_CELL_SECONDS:
	case SD_CELL_AGE:
		return *value ? sd_cli_seconds(strtod(value, NULL), c->cell == SD_CELL_AGE, out) : "";
	case SD_CELL_TIME:
		return *value ? sd_cli_time(strtod(value, NULL), out) : "";
	default:
		return value;
	}
}

static void *need(void *p)
{
	if (!p) {
		fprintf(stderr, "stepctl: out of memory\n");
		exit(SD_EXIT_FAILED);
	}
	return p;
}

static int column_flags(const struct sd_column *c)
{
	bool right = c->cell == SD_CELL_NUMBER || c->cell == SD_CELL_SECONDS || c->cell == SD_CELL_AGE;
	return (right ? SCOLS_FL_RIGHT : 0) | (c->cut ? SCOLS_FL_TRUNC : 0);
}

void sd_cli_table(const PGresult *res, const struct sd_column *columns, bool headings)
{
	struct libscols_table *tb = need(scols_new_table());
	const char *no_color = getenv("NO_COLOR");

	scols_table_enable_colors(tb, isatty(STDOUT_FILENO) && !(no_color && *no_color));
	scols_table_enable_noheadings(tb, !headings);
	for (const struct sd_column *c = columns; c->name; c++)
		need(scols_table_new_column(tb, c->name, c->cut ? 0.2 : 0, column_flags(c)));
	for (int row = 0; row < PQntuples(res); row++) {
		struct libscols_line *line = need(scols_table_new_line(tb, NULL));
		for (int i = 0; columns[i].name; i++) {
			char buf[32];
			const char *text = cell_text(&columns[i], PQgetvalue(res, row, i), buf);
			if (scols_line_set_data(line, (size_t)i, text) != 0)
				need(NULL);
			const char *color = columns[i].cell == SD_CELL_STATUS ? status_color(text) : NULL;
			if (color)
				scols_cell_set_color(scols_line_get_cell(line, (size_t)i), color);
		}
	}
	fflush(stdout);
	scols_print_table(tb);
	scols_unref_table(tb);
}

int sd_cli_json_array(struct sd_cli *cli, const char *sql, int n, const char *const *values)
{
	int rc;
	char *wrapped = sd_xasprintf("select row_to_json(q) from (%s) q", sql);
	PGresult *res = sd_cli_query(cli, wrapped, n, values, &rc);
	free(wrapped);
	if (!res)
		return rc;
	int rows = PQntuples(res);
	printf("[");
	for (int i = 0; i < rows; i++)
		printf("%s\n  %s", i > 0 ? "," : "", PQgetvalue(res, i, 0));
	printf("%s]\n", rows > 0 ? "\n" : "");
	PQclear(res);
	return SD_EXIT_OK;
}

int sd_cli_list(struct sd_cli *cli, const struct sd_list *list, int n, const char *const *values)
{
	int rc;

	if (cli->json)
		return sd_cli_json_array(cli, list->json_sql ? list->json_sql : list->sql, n, values);
	PGresult *res = sd_cli_query(cli, list->sql, n, values, &rc);
	if (!res)
		return rc;
	if (PQntuples(res) > 0)
		sd_cli_table(res, list->columns, true);
	else
		fprintf(stderr, "%s\n", list->none);
	PQclear(res);
	return SD_EXIT_OK;
}

void sd_cli_put(const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		bool c1 = p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0; /* the terminal controls beyond ASCII */
		if ((*p < ' ' && *p != '\n' && *p != '\t') || *p == 127)
			printf("\\x%02x", *p);
		else if (c1)
			printf("\\u%04x", *++p);
		else
			putchar(*p);
	}
}
