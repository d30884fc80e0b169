/*
 * What one does with a configuration once it is loaded: print what was wrong,
 * compare two of them for a reload, hand the queues to SQL.
 */
#include "conf/conf.h"

#include "conf/options.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *sd_conf_find_file(const char *given)
{
	static const char installed[] = SD_SYSCONFDIR "/stepd/stepd.yaml";

	if (given)
		return given;
	const char *env = getenv("STEPD_CONFIG");
	if (env && *env)
		return env;
	return access(installed, F_OK) == 0 ? installed : NULL;
}

void sd_conf_free(struct sd_conf *conf)
{
	if (conf)
		sd_arena_free(conf->arena);
}

void sd_conf_problems_free(struct sd_conf_problems *problems)
{
	free(problems->v);
	*problems = (struct sd_conf_problems){NULL, 0};
}

void sd_conf_problems_print(FILE *out, const char *file, const struct sd_conf_problems *problems)
{
	for (size_t i = 0; i < problems->n; i++) {
		const struct sd_conf_problem *p = &problems->v[i];
		fprintf(out, "%s:", file ? file : "built-in defaults");
		if (p->line > 0)
			fprintf(out, "%d:%d:", p->line, p->col);
		fprintf(out, " %s\n", p->text);
	}
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_value(const struct sd_option *o, const struct sd_conf *a, const struct sd_conf *b)
{
	const void *x = (const char *)a + o->offset, *y = (const char *)b + o->offset;
	const struct sd_conf_listen *lx = x, *ly = y;

	switch (o->type) {
	case SD_OPTION_STRING:
	case SD_OPTION_FILE:
	case SD_OPTION_CONNINFO:
	case SD_OPTION_WORDTEXT:
		return same_text(*(const char *const *)x, *(const char *const *)y);
	case SD_OPTION_INT:
	case SD_OPTION_WORD:
	case SD_OPTION_WORDSET:
		return *(const int *)x == *(const int *)y;
	case SD_OPTION_COUNT:
	case SD_OPTION_TIME:
	case SD_OPTION_SIZE:
		return *(const int64_t *)x == *(const int64_t *)y;
	case SD_OPTION_FACTOR:
		return *(const double *)x == *(const double *)y;
	case SD_OPTION_LISTEN:
		return lx->port == ly->port && same_text(lx->host, ly->host);
	case SD_OPTION_RATE:
	case SD_OPTION_DIRS:
		break; /* always reloadable */
	}
	return true;
}

size_t sd_conf_restart_options(const struct sd_conf *old, const struct sd_conf *new, struct sd_buf *names)
{
	size_t n = 0;
	for (size_t i = 0; i < sd_noptions; i++) {
		const struct sd_option *o = &sd_options[i];
		if (o->reloadable || strchr(o->path, '*') || same_value(o, old, new))
			continue;
		sd_buf_printf(names, "%s%s", n++ > 0 ? ", " : "", o->path);
	}
	return n;
}

static void append_number(struct sd_buf *b, const char *name, int64_t value, bool zero_is_none)
{
	sd_buf_printf(b, ",\"%s\":", name);
	if (value == 0 && zero_is_none)
		sd_buf_str(b, "null");
	else
		sd_buf_i64(b, value);
}

static void append_queue(struct sd_buf *b, const struct sd_conf_queue *q)
{
	static const char *const strategies[] = {"standard", "fifo", "priority"};
	static const char *const backoffs[] = {"exponential", "linear", "fixed"};

	sd_buf_chr(b, '{');
	if (q->name) {
		sd_buf_str(b, "\"name\":");
		sd_buf_json_str(b, q->name);
		sd_buf_chr(b, ',');
	}
	sd_buf_printf(b, "\"strategy\":\"%s\",\"backoff\":\"%s\",\"jitter\":%.4f", strategies[q->strategy],
		      backoffs[q->backoff], q->jitter);
	append_number(b, "max_retries", q->max_retries, false);
	append_number(b, "retry_delay_ms", q->retry_delay_ms, false);
	append_number(b, "max_retry_delay_ms", q->max_retry_delay_ms, false);
	append_number(b, "max_concurrency", q->max_concurrency, true);
	append_number(b, "timeout_ms", q->timeout_ms, true);
	append_number(b, "rate_limit", q->rate_limit, true);
	append_number(b, "rate_window_ms", q->rate_window_ms, true);
	append_number(b, "concurrency_per_group", q->concurrency_per_group, true);
	append_number(b, "history_ms", q->history_ms, true);
	sd_buf_chr(b, '}');
}

static const char *move_to(struct sd_arena *arena, struct sd_buf *b)
{
	const char *text = sd_arena_memdup(arena, b->data, b->len);
	sd_buf_fini(b);
	return text;
}

const char *sd_conf_queues_json(const struct sd_conf *conf, struct sd_arena *arena)
{
	struct sd_buf b = SD_BUF_INIT;
	sd_buf_chr(&b, '[');
	for (size_t i = 0; i < conf->nqueues; i++) {
		if (i > 0)
			sd_buf_chr(&b, ',');
		append_queue(&b, &conf->queues[i]);
	}
	sd_buf_chr(&b, ']');
	return move_to(arena, &b);
}

const char *sd_conf_queue_defaults_json(const struct sd_conf *conf, struct sd_arena *arena)
{
	struct sd_buf b = SD_BUF_INIT;
	append_queue(&b, &conf->queue_defaults);
	return move_to(arena, &b);
}
