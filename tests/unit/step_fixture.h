/* A step without a file, for tests: a handler of the test program behind a manifest entry. */
#ifndef TESTS_UNIT_STEP_FIXTURE_H
#define TESTS_UNIT_STEP_FIXTURE_H

#include "base/json.h"
#include "step/ctx.h"
#include "step/registry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const char *fixture_enqueues[] = {"next", "other"};
static const struct sd_mf_step fixture_mf = {
	.name = "Fixture", .file = "fixture.so", .kind = "c", .enqueues = fixture_enqueues, .nenqueues = 2};
static const int fixture_log_level = STEPD_LOG_INFO;

static inline struct sd_step fixture_step(int (*handler)(struct stepd_ctx *))
{
	return (struct sd_step){.mf = &fixture_mf, .handler = handler, .log_level = &fixture_log_level};
}

static inline struct sd_attempt *fixture_attempt(const struct sd_step *step, int64_t job, const char *input)
{
	struct sd_attempt *a = sd_attempt_new();

	a->step = step;
	a->trigger = SD_TRIGGER_QUEUE;
	a->job_id = job;
	a->attempt = 1;
	a->max_attempts = 4;
	a->queue = "topic";
	a->trace_id = "0b0e4b6e-53c4-4a68-8a39-5d4fdb8c11ab";
	a->input = sd_arena_strdup(a->arena, input);
	a->input_len = strlen(input);
	return a;
}

/* Run a handler as job 7 with this input; the caller frees. */
static inline struct sd_attempt *run(int (*handler)(struct stepd_ctx *), const char *input)
{
	struct sd_step s = fixture_step(handler);
	struct sd_attempt *a = fixture_attempt(&s, 7, input);

	sd_step_run(&s, a, NULL);
	a->step = NULL;
	return a;
}

/* The effects as they would be sent are JSON. */
static inline void assert_array(const struct sd_buf *b, int n)
{
	struct sd_buf text = SD_BUF_INIT;
	cJSON *tree;

	sd_buf_printf(&text, "[%s]", b->len > 0 ? b->data : "");
	tree = sd_json_parse(text.data, text.len, NULL);
	assert_non_null(tree);
	assert_int_equal(cJSON_GetArraySize(tree), n);
	cJSON_Delete(tree);
	sd_buf_fini(&text);
}

/* A call of a handler's is refused, with this in the reason. */
#define REFUSED(call, why)                                                                                             \
	do {                                                                                                           \
		assert_int_equal((call), -1);                                                                          \
		assert_non_null(strstr(stepd_last_error(ctx), (why)));                                                 \
	} while (0)

#endif
