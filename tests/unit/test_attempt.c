/* What a handler can do and what it leaves behind: every call of <stepd/step.h>, with good and hostile arguments. */
#include "step_fixture.h"

#include "base/uuid.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- data and job ---- */

static int look(struct stepd_ctx *ctx)
{
	const cJSON *d = stepd_data(ctx);

	assert_ptr_equal(d, stepd_data(ctx));
	assert_string_equal(stepd_get_str(d, "s"), "text");
	assert_null(stepd_get_str(d, "S")); /* names are case-sensitive */
	assert_null(stepd_get_str(d, "n"));
	assert_null(stepd_get_str(NULL, "n"));
	assert_true(stepd_get_num(d, "n", 0) == 1.5);
	assert_true(stepd_get_num(d, "s", 4) == 4);
	assert_true(stepd_get_bool(d, "b", false));
	assert_true(stepd_get_bool(d, "none", true));
	assert_string_equal(stepd_get_str(stepd_get(d, "o"), "k"), "v");
	assert_non_null(strstr(stepd_data_text(ctx), "12345678901234567890123"));
	assert_int_equal(stepd_trigger(ctx), STEPD_TRIGGER_QUEUE);
	assert_string_equal(stepd_trigger_name(ctx), "queue");
	assert_int_equal(stepd_job_id(ctx), 7);
	assert_int_equal(stepd_attempt(ctx), 1);
	assert_int_equal(stepd_max_attempts(ctx), 4);
	assert_string_equal(stepd_step_name(ctx), "Fixture");
	assert_string_equal(stepd_queue(ctx), "topic");
	assert_null(stepd_group(ctx));
	assert_false(stepd_cancelled(ctx));
	assert_null(stepd_path(ctx));
	assert_null(stepd_header(ctx, "x"));
	assert_string_equal(stepd_last_error(ctx), "");
	return STEPD_OK;
}

static void test_data(void **state)
{
	struct sd_attempt *a =
		run(look, "{\"s\":\"text\",\"n\":1.5,\"b\":true,\"o\":{\"k\":\"v\"},\"big\":12345678901234567890123}");

	(void)state;
	assert_int_equal(a->outcome, SD_OUTCOME_COMPLETED);
	assert_true(a->finished_us >= a->started_us && a->started_us > 0);
	assert_null(a->error);
	sd_attempt_free(a);
}

static int make(struct stepd_ctx *ctx)
{
	cJSON *o = stepd_object(ctx, stepd_str("s", "a\"b"), stepd_int("i", -3), stepd_num("n", 0.25), stepd_bool("b", true),
				stepd_str("null", NULL), stepd_json("in", stepd_object(ctx, stepd_int("x", INT64_MAX))));
	char *text = cJSON_PrintUnformatted(o);

	assert_string_equal(text, "{\"s\":\"a\\\"b\",\"i\":-3,\"n\":0.25,\"b\":true,\"null\":null,\"in\":{\"x\":9223372036854775807}}");
	free(text);
	assert_string_equal(stepd_format(ctx, "%d-%s", 5, "x"), "5-x");
	assert_int_equal(strlen(stepd_now(ctx)), 24);
	assert_true(stepd_now(ctx)[23] == 'Z');
	assert_int_equal(((char *)stepd_alloc(ctx, 100))[99], 0);
	assert_true(sd_uuid_valid(stepd_uuid(ctx)));
	assert_string_not_equal(stepd_uuid(ctx), stepd_uuid(ctx));
	stepd_own(ctx, cJSON_CreateArray());
	stepd_return(ctx, stepd_object(ctx, stepd_str("id", stepd_uuid(ctx))));
	return STEPD_OK;
}

static void test_make(void **state)
{
	struct sd_attempt *a = run(make, "null"), *b = run(make, "null");

	(void)state;
	assert_string_equal(a->output, b->output); /* the same job, the same identifiers */
	assert_int_equal(a->output_len, strlen(a->output));
	sd_attempt_free(a);
	sd_attempt_free(b);
}

/* ---- enqueue ---- */

static int enqueue_well(struct stepd_ctx *ctx)
{
	assert_int_equal(stepd_enqueue(ctx, "next", stepd_data(ctx)), 0);
	assert_int_equal(stepd_enqueue(ctx, "other", NULL, .text = " [1e400, 12345678901234567890] ", .priority = -5, .delay_ms = 1500,
				       .group = "g\"1", .unique = "ü", .always = true),
			 0);
	assert_int_equal(stepd_enqueue(ctx, "next", NULL, .run_at = 1000), 0);
	return STEPD_OK;
}

static void test_enqueue(void **state)
{
	struct sd_attempt *a = run(enqueue_well, "{\"a\":[1,2]}");

	(void)state;
	assert_int_equal(a->nenqueues, 3);
	assert_string_equal(a->enqueues.data,
			    "{\"topic\":\"next\",\"data\":{\"a\":[1,2]}},"
			    "{\"topic\":\"other\",\"data\": [1e400, 12345678901234567890] ,\"priority\":-5,\"delay_ms\":1500,"
			    "\"group\":\"g\\\"1\",\"unique\":\"ü\",\"always\":true},"
			    "{\"topic\":\"next\",\"data\":null,\"run_at\":\"1970-01-01T00:00:01.000000Z\"}");
	assert_array(&a->enqueues, 3);
	sd_attempt_free(a);
}

/* Numbers that pass through trees keep their digits, unless they are changed. */
static int pass_on(struct stepd_ctx *ctx)
{
	const cJSON *d = stepd_data(ctx);
	cJSON *copy = stepd_own(ctx, cJSON_Duplicate(d, 1));

	stepd_enqueue(ctx, "next", d);
	cJSON_SetNumberValue(cJSON_GetObjectItem(copy, "big"), 2);
	return stepd_enqueue(ctx, "next", copy);
}

static void test_digits(void **state)
{
	const char *input = "{\"s\":\"1.0 \\\" -7\",\"big\":12345678901234567890,\"l\":[1.50,-0.1,1e400,1E2,{\"0\":3}],\"n\":null,\"x\":0.30000000000000000001}";
	struct sd_attempt *a = run(pass_on, input);
	char expected[512];

	(void)state;
	snprintf(expected, sizeof expected, "{\"topic\":\"next\",\"data\":%s},{\"topic\":\"next\",\"data\":%s}", input,
		 "{\"s\":\"1.0 \\\" -7\",\"big\":2,\"l\":[1.50,-0.1,1e400,1E2,{\"0\":3}],\"n\":null,\"x\":0.30000000000000000001}");
	assert_string_equal(a->enqueues.data, expected);
	sd_attempt_free(a);
}

static int enqueue_badly(struct stepd_ctx *ctx)
{
	cJSON *bad = stepd_object(ctx, stepd_str("s", "\xff\xfe")), *raw = stepd_own(ctx, cJSON_CreateRaw("1},{\"topic\":\"evil\""));
	cJSON *deep = cJSON_CreateArray(), *nan = stepd_object(ctx, stepd_num("n", 0.0 / 0.0));
	char long_name[2000];

	for (int i = 0; i < 600; i++) {
		cJSON *outer = cJSON_CreateArray();

		cJSON_AddItemToArray(outer, deep);
		deep = outer;
	}
	stepd_own(ctx, deep);
	memset(long_name, 'x', sizeof long_name);
	long_name[sizeof long_name - 1] = '\0';
	REFUSED(stepd_enqueue(ctx, "evil", NULL), "\"evil\" is not among the topics");
	REFUSED(stepd_enqueue(ctx, NULL, NULL), "empty");
	REFUSED(stepd_enqueue(ctx, "", NULL), "empty");
	REFUSED(stepd_enqueue(ctx, "next", NULL, .text = "{\"a\":1} x"), "invalid JSON");
	REFUSED(stepd_enqueue(ctx, "next", NULL, .text = ""), "invalid JSON");
	REFUSED(stepd_enqueue(ctx, "next", NULL, .text = "\"\\u0000\""), "\\u0000");
	REFUSED(stepd_enqueue(ctx, "next", NULL, .text = "1,\"topic\":\"evil\""), "invalid JSON");
	REFUSED(stepd_enqueue(ctx, "next", bad), "UTF-8");
	REFUSED(stepd_enqueue(ctx, "next", raw), "invalid JSON");
	REFUSED(stepd_enqueue(ctx, "next", deep), "deep");
	REFUSED(stepd_enqueue(ctx, "next", bad, .text = "1"), "both");
	REFUSED(stepd_enqueue(ctx, "next", NULL, .priority = 40000), "priority");
	REFUSED(stepd_enqueue(ctx, "next", NULL, .delay_ms = -1), "delay_ms");
	REFUSED(stepd_enqueue(ctx, "next", NULL, .delay_ms = 1, .run_at = 1), "both");
	REFUSED(stepd_enqueue(ctx, "next", NULL, .run_at = INT64_MAX), "run_at");
	REFUSED(stepd_enqueue(ctx, "next", NULL, .group = ""), "group is empty");
	REFUSED(stepd_enqueue(ctx, "next", NULL, .group = long_name), "longer");
	REFUSED(stepd_enqueue(ctx, "next", NULL, .unique = "\xc0\x80"), "UTF-8");
	assert_int_equal(stepd_enqueue(ctx, "next", nan), 0); /* no number: null, as in JavaScript */
	return STEPD_OK;
}

static void test_enqueue_badly(void **state)
{
	struct sd_attempt *a = run(enqueue_badly, "null");

	(void)state;
	assert_int_equal(a->nenqueues, 1);
	assert_string_equal(a->enqueues.data, "{\"topic\":\"next\",\"data\":{\"n\":null}}");
	assert_int_equal(a->outcome, SD_OUTCOME_COMPLETED);
	sd_attempt_free(a);
}

/* ---- log ---- */

static int log_lines(struct stepd_ctx *ctx)
{
	stepd_log_debug(ctx, "dropped");
	stepd_log_info(ctx, "plain");
	stepd_log_warn(ctx, "bad \xff text", stepd_str("k\xfe", "v\xfd"), stepd_int("i", INT64_MIN), stepd_num("n", 1.0 / 0.0));
	stepd_log_error(ctx, NULL, stepd_json("j", stepd_own(ctx, cJSON_CreateRaw("{{{"))), stepd_json("none", NULL));
	return STEPD_OK;
}

static void test_log(void **state)
{
	struct sd_attempt *a = run(log_lines, "null");

	(void)state;
	assert_int_equal(a->nlogs, 3);
	assert_array(&a->logs, 3);
	assert_non_null(strstr(a->logs.data, "\"level\":\"info\",\"message\":\"plain\"}"));
	assert_non_null(strstr(a->logs.data, "\"message\":\"bad \xef\xbf\xbd text\",\"fields\":{\"k\xef\xbf\xbd\":\"v\xef\xbf\xbd\","
					     "\"i\":-9223372036854775808,\"n\":null}"));
	assert_non_null(strstr(a->logs.data, "\"fields\":{\"j\":\"(not valid JSON)\",\"none\":null}"));
	sd_attempt_free(a);
}

static int log_without_end(struct stepd_ctx *ctx)
{
	for (int i = 0; i < 3 * SD_LOG_LINES_MAX; i++)
		stepd_log_info(ctx, "again");
	return STEPD_OK;
}

static void test_log_flood(void **state)
{
	struct sd_attempt *a = run(log_without_end, "null");

	(void)state;
	assert_array(&a->logs, SD_LOG_LINES_MAX + 1);
	assert_non_null(strstr(a->logs.data, "what follows is dropped"));
	sd_attempt_free(a);
}

static int enqueue_without_end(struct stepd_ctx *ctx)
{
	int n = 0;

	while (stepd_enqueue(ctx, "next", NULL) == 0 && stepd_state_set(ctx, "g", "k", NULL) == 0)
		n++;
	assert_int_equal(n, SD_EFFECTS_MAX / 2);
	return STEPD_RETRY;
}

static void test_effect_flood(void **state)
{
	struct sd_attempt *a = run(enqueue_without_end, "null");

	(void)state;
	assert_int_equal(a->nenqueues, SD_EFFECTS_MAX / 2);
	assert_int_equal(a->outcome, SD_OUTCOME_ERROR);
	assert_non_null(strstr(a->error, "split the work"));
	sd_attempt_free(a);
}

/* ---- outcomes ---- */

static int ends_retry(struct stepd_ctx *ctx)
{
	stepd_return(ctx, stepd_data(ctx));
	return stepd_retry(ctx, "no %s today", "luck\xff");
}
static int ends_retry_after(struct stepd_ctx *ctx)
{
	return stepd_retry_after(ctx, 2500, "busy");
}
static int ends_fail(struct stepd_ctx *ctx)
{
	return stepd_fail(ctx, "never");
}
static int ends_snooze(struct stepd_ctx *ctx)
{
	return stepd_snooze(ctx, 60000);
}
static int ends_bare(struct stepd_ctx *ctx)
{
	(void)ctx;
	return STEPD_RETRY;
}
static int ends_odd(struct stepd_ctx *ctx)
{
	(void)ctx;
	return 42;
}
static int ends_in_call(struct stepd_ctx *ctx)
{
	return stepd_enqueue(ctx, "evil", NULL);
}
static int ends_otherwise(struct stepd_ctx *ctx)
{
	stepd_retry_after(ctx, 5, "noted, but not returned");
	return STEPD_OK;
}

static void expect(int (*handler)(struct stepd_ctx *), enum sd_outcome outcome, int64_t delay_ms, const char *error)
{
	struct sd_attempt *a = run(handler, "1");

	assert_int_equal(a->outcome, outcome);
	assert_int_equal(a->delay_ms, delay_ms);
	if (error == NULL)
		assert_null(a->error);
	else
		assert_non_null(strstr(a->error, error));
	assert_null(a->output);
	sd_attempt_free(a);
}

static void test_outcomes(void **state)
{
	(void)state;
	expect(ends_retry, SD_OUTCOME_ERROR, -1, "no luck\xef\xbf\xbd today");
	expect(ends_retry_after, SD_OUTCOME_ERROR, 2500, "busy");
	expect(ends_fail, SD_OUTCOME_FAIL, -1, "never");
	expect(ends_snooze, SD_OUTCOME_SNOOZE, 60000, NULL);
	expect(ends_bare, SD_OUTCOME_ERROR, -1, "without a message");
	expect(ends_odd, SD_OUTCOME_ERROR, -1, "returned 42");
	expect(ends_in_call, SD_OUTCOME_ERROR, -1, "not among the topics");
	expect(ends_otherwise, SD_OUTCOME_COMPLETED, -1, NULL);
}

/* ---- http ---- */

static struct sd_attempt *run_http(int (*handler)(struct stepd_ctx *))
{
	static struct sd_pair params[] = {{"id", "17", 2}};
	static struct sd_pair query[] = {{"q", "one", 3}, {"q", "two", 3}};
	static struct sd_pair headers[] = {{"content-type", "application/json", 16}, {"x-sign", "abc", 3}};
	static const struct sd_http_request request = {
		.method = "POST", .path = "/orders/17", .remote = "127.0.0.1", .params = params, .query = query, .headers = headers,
		.nparams = 1, .nquery = 2, .nheaders = 2, .raw_body = "{\"a\": 1}\0x", .raw_body_len = 10};
	struct sd_step s = fixture_step(handler);
	struct sd_attempt *a = fixture_attempt(&s, 0, "{\"a\":1}");

	a->trigger = SD_TRIGGER_HTTP;
	a->http = &request;
	sd_step_run(&s, a, NULL);
	return a;
}

static int look_at_request(struct stepd_ctx *ctx)
{
	const char *name, *value;
	size_t len;

	assert_string_equal(stepd_method(ctx), "POST");
	assert_string_equal(stepd_path(ctx), "/orders/17");
	assert_string_equal(stepd_remote(ctx), "127.0.0.1");
	assert_string_equal(stepd_param(ctx, "id"), "17");
	assert_null(stepd_param(ctx, "ID"));
	assert_string_equal(stepd_query(ctx, "q"), "one");
	assert_string_equal(stepd_header(ctx, "X-Sign"), "abc");
	assert_null(stepd_header(ctx, NULL));
	assert_true(stepd_query_at(ctx, 1, &name, &value));
	assert_string_equal(value, "two");
	assert_false(stepd_query_at(ctx, 2, &name, &value));
	assert_true(stepd_header_at(ctx, 0, &name, &value));
	assert_string_equal(name, "content-type");
	assert_memory_equal(stepd_raw_body(ctx, &len), "{\"a\": 1}\0x", 10);
	assert_int_equal(len, 10);
	assert_int_equal(stepd_reply_header(ctx, "X-Order", "17"), 0);
	assert_int_equal(stepd_reply_header(ctx, "Set-Cookie", "a=1"), 0);
	assert_int_equal(stepd_reply_header(ctx, "Set-Cookie", "b=2"), 0);
	REFUSED(stepd_reply_header(ctx, "X-Bad", "a\r\nSet-Cookie: evil"), "control character");
	REFUSED(stepd_reply_header(ctx, "X-Bad: y", "a"), "not the name");
	REFUSED(stepd_reply_header(ctx, "", "a"), "not the name");
	REFUSED(stepd_reply_header(ctx, "Content-Length", "3"), "set by stepd");
	REFUSED(stepd_reply_header(ctx, "transfer-encoding", "chunked"), "set by stepd");
	REFUSED(stepd_reply(ctx, 99, NULL), "out of range");
	REFUSED(stepd_reply(ctx, 204, stepd_data(ctx)), "no body");
	REFUSED(stepd_reply_raw(ctx, 200, "text/html\r\nX: y", "x", 1), "control character");
	assert_int_equal(stepd_reply_raw(ctx, 200, "text/plain", "x", 1), 0);
	assert_int_equal(stepd_reply_raw(ctx, 201, "image/png", "\0png", 4), 0);
	return STEPD_OK;
}

static void test_http(void **state)
{
	struct sd_attempt *a = run_http(look_at_request);

	(void)state;
	assert_int_equal(a->reply.status, 201);
	assert_int_equal(a->reply.body_len, 4);
	assert_memory_equal(a->reply.body, "\0png", 4);
	assert_false(a->reply.body_is_json);
	assert_int_equal(a->reply.nheaders, 4);
	assert_string_equal(a->reply.headers[0].name, "x-order");
	assert_string_equal(a->reply.headers[3].name, "content-type");
	assert_string_equal(a->reply.headers[3].value, "image/png");
	sd_attempt_free(a);
}

static int large_headers(struct stepd_ctx *ctx)
{
	for (int i = 0; i < 8; i++)
		assert_int_equal(stepd_reply_header(ctx, "X-Large", stepd_format(ctx, "%08000d", i)), 0);
	REFUSED(stepd_reply_header(ctx, "X-Large", stepd_format(ctx, "%08000d", 8)), "larger than 65536");
	return STEPD_OK;
}

static void test_large_headers(void **state)
{
	struct sd_attempt *a = run_http(large_headers);

	(void)state;
	assert_int_equal(a->reply.nheaders, 8);
	sd_attempt_free(a);
}

static int reply_uuid(struct stepd_ctx *ctx)
{
	return stepd_reply(ctx, 200, stepd_object(ctx, stepd_str("id", stepd_uuid(ctx))));
}

/* Two requests of one client's trace. */
static void test_request_uuids(void **state)
{
	struct sd_attempt *a = run_http(reply_uuid), *b = run_http(reply_uuid);

	(void)state;
	assert_string_not_equal(a->reply.body, b->reply.body);
	sd_attempt_free(a);
	sd_attempt_free(b);
}

static int reply_json(struct stepd_ctx *ctx)
{
	return stepd_reply(ctx, 202, stepd_data(ctx));
}
static int reply_then_fail(struct stepd_ctx *ctx)
{
	stepd_reply(ctx, 200, stepd_data(ctx));
	return stepd_fail(ctx, "after all");
}
static int reply_not(struct stepd_ctx *ctx)
{
	(void)ctx;
	return STEPD_OK;
}
static int reply_by_return(struct stepd_ctx *ctx)
{
	return stepd_return(ctx, stepd_data(ctx));
}

static void test_reply(void **state)
{
	struct sd_attempt *a = run_http(reply_json);

	(void)state;
	assert_int_equal(a->reply.status, 202);
	assert_string_equal(a->reply.body, "{\"a\":1}");
	assert_true(a->reply.body_is_json);
	assert_string_equal(a->output, "{\"a\":1}");
	sd_attempt_free(a);
	a = run_http(reply_then_fail);
	assert_int_equal(a->outcome, SD_OUTCOME_FAIL);
	assert_int_equal(a->reply.status, 0);
	assert_null(a->output);
	sd_attempt_free(a);
	a = run_http(reply_not);
	assert_int_equal(a->reply.status, 204);
	sd_attempt_free(a);
	a = run_http(reply_by_return);
	assert_int_equal(a->reply.status, 200);
	assert_string_equal(a->reply.body, "{\"a\":1}");
	sd_attempt_free(a);
	a = run(reply_json, "5"); /* a queue job: the body is the output */
	assert_int_equal(a->outcome, SD_OUTCOME_COMPLETED);
	assert_string_equal(a->output, "5");
	sd_attempt_free(a);
}

static int on_http(struct stepd_ctx *ctx, void *data)
{
	return stepd_reply(ctx, *(int *)data, NULL);
}
static int matching(struct stepd_ctx *ctx)
{
	int status = 418;

	return stepd_match(ctx, &status, .http = on_http);
}

static void test_match(void **state)
{
	struct sd_attempt *a = run_http(matching);

	(void)state;
	assert_int_equal(a->reply.status, 418);
	sd_attempt_free(a);
	a = run(matching, "null");
	assert_int_equal(a->outcome, SD_OUTCOME_COMPLETED);
	assert_int_equal(a->reply.status, 0);
	sd_attempt_free(a);
}

static int leave_state(struct stepd_ctx *ctx)
{
	stepd_log_info(ctx, "line");
	return stepd_state_set(ctx, "g", "k", stepd_data(ctx));
}

static void test_reuse(void **state)
{
	struct sd_step s = fixture_step(leave_state), t = fixture_step(enqueue_well);
	struct sd_attempt *a = fixture_attempt(&s, 7, "{\"x\":1}");

	(void)state;
	sd_step_run(&s, a, NULL);
	assert_int_equal(a->nstates, 1);
	sd_attempt_reset(a);
	assert_int_equal(a->states.len, 0);
	assert_int_equal(a->nstates, 0);
	assert_null(a->overlay);
	assert_int_equal(a->delay_ms, -1);
	a->input = "[]";
	sd_step_run(&t, a, NULL);
	assert_int_equal(a->nenqueues, 3);
	assert_array(&a->enqueues, 3);
	sd_attempt_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_data),
		cmocka_unit_test(test_make),
		cmocka_unit_test(test_enqueue),
		cmocka_unit_test(test_enqueue_badly),
		cmocka_unit_test(test_log),
		cmocka_unit_test(test_log_flood),
		cmocka_unit_test(test_outcomes),
		cmocka_unit_test(test_http), cmocka_unit_test(test_large_headers),
		cmocka_unit_test(test_request_uuids),
		cmocka_unit_test(test_reply),
		cmocka_unit_test(test_match),
		cmocka_unit_test(test_reuse),
		cmocka_unit_test(test_digits),
		cmocka_unit_test(test_effect_flood),
	};

	return cmocka_run_group_tests_name("attempt", tests, NULL, NULL);
}
