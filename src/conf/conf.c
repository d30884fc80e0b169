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

/* Make new's value of o as old's; was it another? Only types that options with RESTART have. */
static bool keep_option(const struct sd_option *o, const struct sd_conf *old, struct sd_conf *new)
{
	const void *from = (const char *)old + o->offset;
	void *to = (char *)new + o->offset;
	bool differs = false;

	if (o->type == SD_OPTION_STRING || o->type == SD_OPTION_CONNINFO) {
		const char *text = *(const char *const *)from;
		differs = !same_text(text, *(const char *const *)to);
		*(const char **)to = sd_arena_strdup(new->arena, text);
	} else if (o->type == SD_OPTION_TIME) {
		differs = *(const int64_t *)from != *(const int64_t *)to;
		*(int64_t *)to = *(const int64_t *)from;
	}
	return differs;
}

size_t sd_conf_keep_restart_options(const struct sd_conf *old, struct sd_conf *new, struct sd_buf *names)
{
	size_t n = 0;
	for (size_t i = 0; i < sd_noptions; i++) {
		if (!sd_options[i].reloadable && keep_option(&sd_options[i], old, new))
			sd_buf_printf(names, "%s%s", n++ > 0 ? ", " : "", sd_options[i].path);
	}
	return n;
}

bool sd_conf_names_has(const struct sd_conf_names *names, const char *name)
{
	for (size_t i = 0; i < names->n; i++)
		if (strcmp(names->v[i], name) == 0)
			return true;
	return false;
}

bool sd_conf_pool_runs(const struct sd_conf_pool *pool, const char *queue, const char *step)
{
	return (pool->serves & SD_SERVES_QUEUE) && (pool->queues.n == 0 || sd_conf_names_has(&pool->queues, queue)) &&
	       (pool->steps.n == 0 || sd_conf_names_has(&pool->steps, step));
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
