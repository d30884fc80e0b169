/* Errors as values: filling, adding, classes, and texts too long for their place. */
#include "base/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_set(void **state)
{
	struct sd_err err;

	memset(&err, 'x', sizeof err);
	assert_int_equal(sd_err_set(&err, SD_ERR_PERMANENT, "no queue %d", 7), -1);
	assert_string_equal(err.message, "no queue 7");
	assert_int_equal(err.class, SD_ERR_PERMANENT);
	assert_int_equal(err.errnum, 0);
	assert_string_equal(err.sqlstate, "");
	assert_string_equal(err.detail, "");
	assert_int_equal(sd_err_detail(&err, "seen %s", "this"), -1);
	assert_int_equal(sd_err_hint(&err, "do that"), -1);
	assert_int_equal(sd_err_prefix(&err, "pool %s", "web"), -1);
	assert_string_equal(err.message, "pool web: no queue 7");
	assert_string_equal(err.detail, "seen this");
	assert_string_equal(err.hint, "do that");
	sd_err_clear(&err);
	assert_int_equal(err.class, SD_ERR_NONE);
	assert_string_equal(err.message, "");
}

static void test_null_is_allowed(void **state)
{
	sd_err_clear(NULL);
	assert_int_equal(sd_err_set(NULL, SD_ERR_BUG, "x"), -1);
	assert_int_equal(sd_err_errno(NULL, ENOENT, "x"), -1);
	assert_int_equal(sd_err_detail(NULL, "x"), -1);
	assert_int_equal(sd_err_hint(NULL, "x"), -1);
	assert_int_equal(sd_err_prefix(NULL, "x"), -1);
}

static void test_errno(void **state)
{
	struct sd_err err;

	assert_int_equal(sd_err_errno(&err, ENOENT, "cannot open %s", "/x"), -1);
	assert_string_equal(err.message, "cannot open /x: No such file or directory");
	assert_int_equal(err.errnum, ENOENT);
	assert_int_equal(err.class, SD_ERR_PERMANENT);
	sd_err_errno(&err, ECONNREFUSED, "x");
	assert_int_equal(err.class, SD_ERR_TRANSIENT);
	sd_err_errno(&err, ENOSPC, "x");
	assert_int_equal(err.class, SD_ERR_TRANSIENT);
	sd_err_errno(&err, EBADF, "x");
	assert_int_equal(err.class, SD_ERR_BUG);
}

static void test_own_text_as_argument(void **state)
{
	struct sd_err err;

	sd_err_set(&err, SD_ERR_PERMANENT, "inner");
	sd_err_set(&err, SD_ERR_TRANSIENT, "outer (%s)", err.message);
	assert_string_equal(err.message, "outer (inner)");
	sd_err_errno(&err, EIO, "again (%s)", err.message);
	assert_string_equal(err.message, "again (outer (inner)): Input/output error");
	sd_err_detail(&err, "%s", "one");
	sd_err_detail(&err, "%s, two", err.detail);
	assert_string_equal(err.detail, "one, two");
}

static void test_too_long(void **state)
{
	char text[4096];
	struct sd_err err;

	memset(text, 'a', sizeof text);
	text[sizeof text - 1] = '\0';
	sd_err_set(&err, SD_ERR_PERMANENT, "%s", text);
	assert_int_equal(strlen(err.message), sizeof err.message - 1);
	sd_err_errno(&err, EIO, "%s", text);
	sd_err_prefix(&err, "%s", text);
	sd_err_prefix(&err, "p");
	assert_int_equal(strlen(err.message), sizeof err.message - 1);
	sd_err_detail(&err, "%s", text);
	sd_err_hint(&err, "%s", text);
	assert_int_equal(strlen(err.detail), sizeof err.detail - 1);
	assert_int_equal(strlen(err.hint), sizeof err.hint - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_null_is_allowed),
		cmocka_unit_test(test_errno),
		cmocka_unit_test(test_own_text_as_argument),
		cmocka_unit_test(test_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
