/*
 * One run of a handler: from the attempt to its context, through the handler,
 * and from what it returned to the attempt's outcome.
 */
#include "step/ctx.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/utf8.h"
#include "step/input.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERROR_TEXT_MAX 8192

struct sd_owned {
	cJSON *tree;
	struct sd_owned *next;
};

cJSON *sd_ctx_own(struct sd_ctx *c, cJSON *tree)
{
	struct sd_owned *o;

	if (tree == NULL)
		return NULL;
	o = sd_arena_alloc(c->a->arena, sizeof *o);
	o->tree = tree;
	o->next = c->owned;
	c->owned = o;
	return tree;
}

int sd_ctx_tree(struct sd_ctx *c, const char *text, cJSON **tree)
{
	*tree = sd_ctx_own(c, cJSON_Parse(text));
	sd_json_keep_digits(*tree, text);
	if (*tree == NULL)
		return sd_ctx_error(c, "a number of more than 63 characters can not be read as a tree; use the text");
	return 0;
}

int sd_ctx_error(struct sd_ctx *c, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = sd_xstrdup("out of memory");
	va_end(ap);
	c->error = sd_clean_text(c->a->arena, text, ERROR_TEXT_MAX);
	if (c->error == text)
		c->error = sd_arena_strdup(c->a->arena, text);
	free(text);
	return -1;
}

int sd_ctx_error_from(struct sd_ctx *c, const struct sd_err *err, const char *what)
{
	return sd_ctx_error(c, "%s: %s%s%s", what, err->message, err->detail[0] != '\0' ? "; " : "", err->detail);
}

bool sd_text_valid(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;

	while (*p != '\0') {
		size_t len = sd_utf8_len(p, strnlen((const char *)p, 4));

		if (len == 0)
			return false;
		p += len;
	}
	return true;
}

const char *sd_clean_text(struct sd_arena *arena, const char *s, size_t max)
{
	struct sd_buf b = SD_BUF_INIT;
	const char *copy;
	size_t n;

	if (s == NULL)
		return "(null)";
	if (strnlen(s, max + 1) <= max && sd_text_valid(s))
		return s;
	n = strnlen(s, max + 4);
	for (size_t i = 0; i < n && b.len < max;) {
		size_t len = sd_utf8_len((const unsigned char *)s + i, n - i);

		if (len > 0)
			sd_buf_append(&b, s + i, len);
		else
			sd_buf_str(&b, "\xef\xbf\xbd");
		i += len > 0 ? len : 1;
	}
	copy = sd_arena_memdup(arena, b.data, b.len);
	sd_buf_fini(&b);
	return copy;
}

static void begin(struct sd_ctx *c, const struct sd_step *s, struct sd_attempt *a, struct sd_runner *runner)
{
	static const enum stepd_trigger_type types[] = {
		[SD_TRIGGER_QUEUE] = STEPD_TRIGGER_QUEUE,
		[SD_TRIGGER_HTTP] = STEPD_TRIGGER_HTTP,
		[SD_TRIGGER_CRON] = STEPD_TRIGGER_CRON,
	};

	*c = (struct sd_ctx){
		.pub = {
			.api = &sd_step_api,
			.trigger = (int32_t)types[a->trigger],
			.trigger_index = a->trigger_index,
			.attempt = a->attempt,
			.max_attempts = a->max_attempts,
			.job_id = a->job_id,
			.parent_id = a->parent_id,
			.enqueued_at = a->enqueued_wall_us / 1000,
			.step = s->mf->name,
			.queue = a->queue != NULL ? a->queue : s->mf->name,
			.group = a->group_id,
			.trace_id = a->trace_id != NULL ? a->trace_id : "",
			.data = a->input != NULL ? a->input : "null",
		},
		.a = a,
		.step = s,
		.runner = runner,
		.delay_ms = -1,
	};
}

/* The outcome from what the handler returned and what it said before. */
static void settle(struct sd_ctx *c, int result)
{
	struct sd_attempt *a = c->a;

	a->delay_ms = c->result == result ? c->delay_ms : -1;
	a->error = result == STEPD_OK || result == STEPD_SNOOZE ? NULL : c->error;
	switch (result) {
	case STEPD_OK:
		a->outcome = SD_OUTCOME_COMPLETED;
		break;
	case STEPD_FAIL:
		a->outcome = SD_OUTCOME_FAIL;
		if (a->error == NULL)
			a->error = "the handler returned STEPD_FAIL without a message";
		break;
	case STEPD_SNOOZE:
		a->outcome = SD_OUTCOME_SNOOZE;
		if (a->delay_ms < 0)
			a->delay_ms = 1000;
		break;
	case STEPD_RETRY:
		a->outcome = SD_OUTCOME_ERROR;
		if (a->error == NULL)
			a->error = "the handler returned STEPD_RETRY without a message";
		break;
	default:
		a->outcome = SD_OUTCOME_ERROR;
		if (a->error == NULL)
			a->error = sd_arena_printf(a->arena, "the handler returned %d", result);
	}
	if (a->client_gone && result != STEPD_OK) {
		a->outcome = SD_OUTCOME_CANCELLED;
		a->error = "the client left before the reply was complete";
	}
	if (c->saw_cancel) {
		a->outcome = SD_OUTCOME_CANCELLED;
		a->delay_ms = -1;
	}
	if (a->outcome != SD_OUTCOME_COMPLETED) {
		memset(&a->reply, 0, sizeof a->reply);
		a->output = NULL;
		a->output_len = 0;
	}
}

/* An http handler that returned well without a reply. */
static void default_reply(struct sd_attempt *a)
{
	if (a->output != NULL) {
		a->reply.status = 200;
		a->reply.body = a->output;
		a->reply.body_len = a->output_len;
		a->reply.body_is_json = true;
	} else {
		a->reply.status = 204;
	}
}

static void end(struct sd_ctx *c, int result)
{
	struct sd_attempt *a = c->a;

	settle(c, result);
	if (a->outcome == SD_OUTCOME_COMPLETED && a->http != NULL && a->reply.status == 0 && c->reply_error != NULL) {
		a->outcome = SD_OUTCOME_ERROR;
		a->error = c->reply_error;
	}
	if (a->trigger == SD_TRIGGER_HTTP && a->outcome == SD_OUTCOME_COMPLETED && a->reply.status == 0)
		default_reply(a);
	cJSON_Delete(c->data);
	for (struct sd_owned *o = c->owned; o != NULL; o = o->next)
		cJSON_Delete(o->tree);
}

/* The input is not what the trigger asks for: the handler never runs. */
static void refuse(struct sd_ctx *c)
{
	c->a->outcome = SD_OUTCOME_INVALID_INPUT;
	cJSON_Delete(c->data);
}

void sd_step_run(const struct sd_step *s, struct sd_attempt *a, struct sd_runner *runner)
{
	struct sd_ctx c;

	if (a->started_us == 0)
		a->started_us = sd_now_us();
	begin(&c, s, a, runner);
	if (sd_input_valid(&c))
		end(&c, s->handler(&c.pub));
	else
		refuse(&c);
	a->finished_us = sd_now_us();
}
