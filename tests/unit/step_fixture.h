/* A step without a file, for tests: a handler of the test program behind a manifest entry. */
#ifndef TESTS_UNIT_STEP_FIXTURE_H
#define TESTS_UNIT_STEP_FIXTURE_H

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

#endif
