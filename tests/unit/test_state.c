/* State within an attempt: writes, reads that see them, updates by operations. */
#include "step_fixture.h"

#include "step/overlay.h"
#include "step/stateop.h"

static int state_of_own(struct stepd_ctx *ctx)
{
	const char *text;
	cJSON *v, *old;

	assert_int_equal(stepd_state_clear(ctx, "g"), 0); /* from here on nothing needs the database */
	assert_int_equal(stepd_state_get(ctx, "g", "b", &v), 0);
	assert_null(v);
	assert_int_equal(stepd_state_set_text(ctx, "g", "b", "12345678901234567890"), 0);
	assert_int_equal(stepd_state_get_text(ctx, "g", "b", &text), 0);
	assert_string_equal(text, "12345678901234567890");
	assert_int_equal(stepd_state_swap(ctx, "g", "a", stepd_data(ctx), &old), 0);
	assert_null(old);
	assert_int_equal(stepd_state_swap(ctx, "g", "a", NULL, &old), 0);
	assert_true(cJSON_IsObject(old));
	assert_int_equal(stepd_state_get(ctx, "g", "a", &v), 0);
	assert_null(v);
	assert_int_equal(stepd_state_set(ctx, "g", "c", NULL), 0); /* JSON null is a value */
	assert_int_equal(stepd_state_get(ctx, "g", "c", &v), 0);
	assert_true(cJSON_IsNull(v));
	assert_int_equal(stepd_state_set_text(ctx, "g", "a2", "[1]"), 0);
	assert_int_equal(stepd_state_list_text(ctx, "g", &text), 0);
	assert_string_equal(text, "[[1],12345678901234567890,null]");
	assert_int_equal(stepd_state_list(ctx, "g", &v), 0);
	assert_int_equal(cJSON_GetArraySize(v), 3);
	assert_int_equal(stepd_state_delete(ctx, "g", "b"), 0);
	REFUSED(stepd_state_set_text(ctx, "g", "b", "{"), "invalid JSON");
	REFUSED(stepd_state_set_text(ctx, "", "b", "1"), "group is empty");
	REFUSED(stepd_state_set_text(ctx, "g", NULL, "1"), "key is empty");
	REFUSED(stepd_state_get(ctx, "other", "b", &v), "can not be read");
	return STEPD_OK;
}

static void test_state(void **state)
{
	struct sd_attempt *a = run(state_of_own, "{\"x\":1}");

	(void)state;
	assert_int_equal(a->nstates, 7);
	assert_array(&a->states, 7);
	assert_string_equal(a->states.data, "{\"op\":\"clear\",\"group\":\"g\"},"
					    "{\"op\":\"set\",\"group\":\"g\",\"key\":\"b\",\"value\":12345678901234567890},"
					    "{\"op\":\"set\",\"group\":\"g\",\"key\":\"a\",\"value\":{\"x\":1}},"
					    "{\"op\":\"delete\",\"group\":\"g\",\"key\":\"a\"},"
					    "{\"op\":\"set\",\"group\":\"g\",\"key\":\"c\",\"value\":null},"
					    "{\"op\":\"set\",\"group\":\"g\",\"key\":\"a2\",\"value\":[1]},"
					    "{\"op\":\"delete\",\"group\":\"g\",\"key\":\"b\"}");
	sd_attempt_free(a);
}

static void assert_list(struct sd_attempt *a, const char *stored, const char *expected)
{
	struct sd_buf b = SD_BUF_INIT;

	assert_int_equal(sd_overlay_list(a, "g", stored, &b, NULL), 0);
	assert_string_equal(b.data, expected);
	sd_buf_fini(&b);
}

static void test_overlay_list(void **state)
{
	struct sd_attempt *a = sd_attempt_new();
	const char *stored = "{\"b\": {\"x\": \"}]\\\"\", \"y\": [1, {}]}, \"a\": 1.50, \"q\\\"\\u00e9\" :null, \"z\": \"\\\\\"}";

	(void)state;
	assert_list(a, NULL, "[]");
	assert_list(a, "{}", "[]");
	assert_list(a, " { } ", "[]");
	assert_list(a, stored, "[1.50,{\"x\": \"}]\\\"\", \"y\": [1, {}]},null,\"\\\\\"]");
	sd_overlay_set(a, "g", "a", "2");
	sd_overlay_set(a, "g", "aa", "3");
	sd_overlay_set(a, "g", "q\"é", NULL);
	sd_overlay_set(a, "g", "b", NULL);
	sd_overlay_set(a, "h", "b", "9");
	assert_list(a, stored, "[2,3,\"\\\\\"]");
	sd_overlay_clear(a, "g");
	assert_true(sd_overlay_hides(a, "g"));
	assert_list(a, stored, "[]");
	sd_overlay_set(a, "g", "n", "4");
	assert_list(a, stored, "[4]");
	assert_string_equal(sd_overlay_group(a, 0), "g");
	assert_string_equal(sd_overlay_group(a, 1), "h");
	assert_null(sd_overlay_group(a, 2));
	sd_attempt_reset(a);
	assert_list(a, "{\"a\":1}", "[1]");
	sd_attempt_free(a);
}

/* The operations as SQL does them: tests/sql has the same cases. */
static void test_operations(void **state)
{
	static const struct {
		const char *value, *ops, *expected; /* expected NULL: refused */
	} cases[] = {
		{NULL, "[]", ""},
		{NULL, "[{\"type\":\"remove\",\"path\":[\"a\"]},{\"type\":\"remove\"}]", ""},
		{NULL, "[{\"type\":\"remove\",\"path\":[\"a\"]},{\"type\":\"set\",\"path\":[\"b\"],\"value\":1}]", "{\"b\":1}"},
		{"[]", "[{\"type\":\"increment\",\"path\":[\"5\",\"n\"]},{\"type\":\"increment\",\"path\":[\"5\",\"n\"]}]", "[{\"n\":1},{\"n\":1}]"},
		{"{\"a\":[1]}", "[{\"type\":\"append\",\"path\":[\"a\",\"-3\",\"1\",\"l\"],\"value\":2}]", "{\"a\":[{\"1\":{\"l\":[2]}},1]}"},
		{"[null,1]", "[{\"type\":\"set\",\"path\":[\"-2\",\"x\"],\"value\":2}]", "[{\"x\":2},1]"},
		{"[1]", "[{\"type\":\"set\",\"path\":[\"+0\"],\"value\":9}]", NULL},
		{"[1]", "[{\"type\":\"set\",\"path\":[\"\"],\"value\":9}]", NULL},
		{"1", "[{\"type\":\"increment\",\"by\":2}]", "3"},
		{NULL, "[{\"type\":\"decrement\"}]", "-1"},
		{"\"x\"", "[{\"type\":\"increment\"}]", NULL},
		{NULL, "[{\"type\":\"increment\",\"path\":[\"a\",\"b\"],\"by\":1.5}]", "{\"a\":{\"b\":1.5}}"},
		{"{\"a\":1,\"b\":{\"c\":null}}", "[{\"type\":\"append\",\"path\":[\"b\",\"c\"],\"value\":7}]", "{\"a\":1,\"b\":{\"c\":[7]}}"},
		{"[1,2,3]", "[{\"type\":\"set\",\"path\":[\"-1\"],\"value\":9},{\"type\":\"set\",\"path\":[\"7\"],\"value\":8}]", "[1,2,9,8]"},
		{"[1,2,3]", "[{\"type\":\"remove\",\"path\":[\"0\"]},{\"type\":\"remove\",\"path\":[\"5\"]}]", "[2,3]"},
		{"[1]", "[{\"type\":\"set\",\"path\":[\"x\"],\"value\":9}]", NULL},
		{"5", "[{\"type\":\"set\",\"path\":[\"x\"],\"value\":9}]", NULL},
		{"5", "[{\"type\":\"remove\",\"path\":[\"x\"]}]", "5"},
		{"5", "[{\"type\":\"remove\"}]", "null"},
		{"{\"a\":{\"x\":1,\"y\":12345678901234567890}}", "[{\"type\":\"merge\",\"path\":[\"a\"],\"value\":{\"x\":2}}]",
		 "{\"a\":{\"y\":12345678901234567890,\"x\":2}}"},
		{"[]", "[{\"type\":\"merge\",\"value\":{}}]", NULL},
		{"{\"a\":1}", "[{\"type\":\"set\",\"path\":[\"a\",\"b\"],\"value\":1}]", NULL},
	};
	struct sd_err err;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct sd_buf out = SD_BUF_INIT;
		int rc = sd_stateops_apply(cases[i].value, cases[i].ops, &out, &err);

		if (cases[i].expected == NULL)
			assert_int_equal(rc, -1);
		else if (rc < 0 || strcmp(out.len > 0 ? out.data : "", cases[i].expected) != 0)
			fail_msg("%s %s: %s", cases[i].value, cases[i].ops, rc < 0 ? err.message : out.data);
		sd_buf_fini(&out);
	}
}

static int update_own(struct stepd_ctx *ctx)
{
	const char *text;

	stepd_state_set_text(ctx, "g", "k", "{\"n\":1}");
	assert_int_equal(stepd_state_update(ctx, "g", "k", stepd_op_increment("/n", 2), stepd_op_set("/a~1b/~0", stepd_data(ctx)),
					    stepd_op_append("/l", NULL), stepd_op_merge("", stepd_object(ctx, stepd_int("m", 1))),
					    stepd_op_remove("/none"), stepd_op_decrement(NULL, 0)),
			 -1); /* the last one does not fit */
	assert_int_equal(stepd_state_update(ctx, "g", "k", stepd_op_increment("/n", 2), stepd_op_set("/a~1b/~0", stepd_data(ctx))), 0);
	assert_int_equal(stepd_state_get_text(ctx, "g", "k", &text), 0);
	assert_string_equal(text, "{\"n\":3,\"a/b\":{\"~\":\"d\"}}");
	REFUSED(stepd_state_update(ctx, "g", "k", stepd_op_remove("n")), "no JSON Pointer");
	REFUSED(stepd_state_update(ctx, "g", "k", stepd_op_merge("/n", stepd_data(ctx))), "needs an object");
	REFUSED(stepd_state_update(ctx, "g", "k", stepd_op_increment("/n", 0.0 / 0.0)), "no number");
	/* unknown here: kept for the database, and for a read */
	assert_int_equal(stepd_state_update(ctx, "h", "k", stepd_op_increment("", 1)), 0);
	return STEPD_OK;
}

static void test_update(void **state)
{
	struct sd_attempt *a = run(update_own, "\"d\"");

	(void)state;
	assert_string_equal(a->states.data,
			    "{\"op\":\"set\",\"group\":\"g\",\"key\":\"k\",\"value\":{\"n\":1}},"
			    "{\"op\":\"update\",\"group\":\"g\",\"key\":\"k\",\"ops\":[{\"type\":\"increment\",\"path\":[\"n\"],\"by\":2},"
			    "{\"type\":\"set\",\"path\":[\"a/b\",\"~\"],\"value\":\"d\"}]},"
			    "{\"op\":\"update\",\"group\":\"h\",\"key\":\"k\",\"ops\":[{\"type\":\"increment\",\"by\":1}]}");
	assert_array(&a->states, 3);
	assert_int_equal(a->nstates, 3);
	sd_attempt_free(a);
}

static int update_paths(struct stepd_ctx *ctx)
{
	char deep[2 * 513 + 1];

	REFUSED(stepd_state_update(ctx, "g", "k", stepd_op_remove("/a~2")), "a '~' is written ~0");
	REFUSED(stepd_state_update(ctx, "g", "k", stepd_op_remove("/a~")), "a '~' is written ~0");
	for (size_t i = 0; i < sizeof deep - 1; i++)
		deep[i] = i % 2 ? 'p' : '/';
	deep[sizeof deep - 1] = '\0';
	REFUSED(stepd_state_update(ctx, "g", "k", stepd_op_remove(deep)), "more than 512 steps");
	deep[2 * 512] = '\0';
	assert_int_equal(stepd_state_update(ctx, "deep", "k", stepd_op_remove(deep)), 0);
	stepd_state_set_text(ctx, "g", "list", "[1,2]");
	REFUSED(stepd_state_update(ctx, "g", "list", stepd_op_set("/01", stepd_data(ctx))), "no member \"01\"");
	REFUSED(stepd_state_update(ctx, "g", "list", stepd_op_set("/-0", stepd_data(ctx))), "no member \"-0\"");
	return STEPD_OK;
}

static void test_paths(void **state)
{
	struct sd_attempt *a = run(update_paths, "\"d\"");

	(void)state;
	assert_int_equal(a->nstates, 2);
	sd_attempt_free(a);
}

static void test_overlay_pending(void **state)
{
	const char *value = "4", *plus = "[{\"type\":\"increment\"}]";
	struct sd_attempt *a = sd_attempt_new();
	struct sd_err err;

	(void)state;
	assert_int_equal(sd_overlay_update(a, "g", "b", plus, &err), 0);
	assert_int_equal(sd_overlay_update(a, "g", "b", plus, &err), 0);
	assert_int_equal(sd_overlay_update(a, "g", "new", plus, &err), 0);
	assert_false(sd_overlay_get(a, "g", "b", &(const char *){NULL}));
	assert_list(a, "{\"a\": 1, \"b\": 2}", "[1,4,1]");
	assert_int_equal(sd_overlay_update(a, "h", "b", plus, &err), 0);
	assert_int_equal(sd_overlay_resolve(a, "h", "b", &value, &err), 0);
	assert_string_equal(value, "5");
	assert_int_equal(sd_overlay_update(a, "h", "b", plus, &err), 0);
	assert_true(sd_overlay_get(a, "h", "b", &value));
	assert_string_equal(value, "6");
	sd_overlay_clear(a, "g");
	assert_int_equal(sd_overlay_update(a, "g", "b", plus, &err), 0);
	assert_list(a, "{\"a\": 1, \"b\": 2}", "[1]");
	sd_attempt_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_state),
		cmocka_unit_test(test_overlay_list),
		cmocka_unit_test(test_operations),
		cmocka_unit_test(test_update),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_overlay_pending),
	};

	return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
