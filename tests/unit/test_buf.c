/* The growing buffer, and the quoting it does for JSON and for PostgreSQL's arrays. */
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT(b, s) assert_string_equal((b)->data, (s)), assert_int_equal((b)->len, strlen(s))

static void test_append(void **state)
{
	struct sd_buf b = SD_BUF_INIT;

	sd_buf_append(&b, NULL, 0);
	TEXT(&b, "");
	sd_buf_str(&b, "abc");
	sd_buf_chr(&b, '-');
	sd_buf_i64(&b, INT64_MIN);
	sd_buf_chr(&b, ' ');
	sd_buf_i64(&b, INT64_MAX);
	sd_buf_i64(&b, 0);
	TEXT(&b, "abc--9223372036854775808 92233720368547758070");
	sd_buf_consume(&b, 4);
	sd_buf_consume(&b, 0);
	assert_int_equal(b.data[0], '-');
	sd_buf_consume(&b, 1000);
	TEXT(&b, "");
	sd_buf_fini(&b);
	sd_buf_fini(&b);
	sd_buf_str(&b, "again");
	TEXT(&b, "again");
	sd_buf_reset(&b);
	TEXT(&b, "");
	sd_buf_fini(&b);
}

static void test_empty(void **state)
{
	struct sd_buf b = SD_BUF_INIT;

	sd_buf_empty(&b, 100);
	assert_null(b.data);
	sd_buf_str(&b, "small");
	sd_buf_empty(&b, 100);
	TEXT(&b, "");
	sd_buf_reserve(&b, 101);
	sd_buf_empty(&b, 100);
	assert_null(b.data);
	assert_int_equal(b.cap, 0);
}

static void test_printf_at_every_length(void **state)
{
	struct sd_buf b = SD_BUF_INIT;
	size_t len = 0;

	for (int n = 0; n < 600; n++) {
		sd_buf_printf(&b, "%*s|", n, "");
		len += (size_t)n + 1;
		assert_int_equal(b.len, len);
		assert_int_equal(b.data[len - 1], '|');
		assert_int_equal(b.data[len], '\0');
	}
	sd_buf_fini(&b);
}

static void test_take(void **state)
{
	struct sd_buf b = SD_BUF_INIT;
	size_t len = 99;
	char *s = sd_buf_take(&b, &len); /* of an empty buffer: an empty string */

	assert_string_equal(s, "");
	assert_int_equal(len, 0);
	free(s);
	sd_buf_str(&b, "mine");
	s = sd_buf_take(&b, NULL);
	assert_string_equal(s, "mine");
	assert_null(b.data);
	assert_int_equal(b.len + b.cap, 0);
	free(s);
}

static void test_json(void **state)
{
	struct sd_buf b = SD_BUF_INIT;

	sd_buf_json(&b, "a\"b\\c/\n\r\t\b\f\x01\x1f\x7f é€😀\0z", 26);
	TEXT(&b, "\"a\\\"b\\\\c/\\n\\r\\t\\u0008\\u000c\\u0001\\u001f\x7f é€😀\\u0000z\"");
	sd_buf_reset(&b);
	sd_buf_json_str(&b, NULL);
	sd_buf_json_str(&b, "");
	TEXT(&b, "null\"\"");
	sd_buf_reset(&b);
	/* overlong, a surrogate, above the last character, alone, and cut at the end */
	sd_buf_json_str(&b, "\xc0\xaf|\xed\xa0\x80|\xf4\x90\x80\x80|\x80|\xe2\x82");
	TEXT(&b, "\"��|���|����|�|��\"");
	sd_buf_fini(&b);
}

static void test_pgarray(void **state)
{
	struct sd_buf b = SD_BUF_INIT;

	sd_buf_chr(&b, '{');
	sd_buf_pgarray(&b, "{", 1); /* an element that ends in '{' is no beginning */
	sd_buf_pgarray(&b, "a\"b\\c,d}", 8);
	sd_buf_pgarray(&b, NULL, 0);
	sd_buf_pgarray(&b, "NULL", 4);
	sd_buf_pgarray(&b, "", 0);
	sd_buf_chr(&b, '}');
	TEXT(&b, "{\"{\",\"a\\\"b\\\\c,d}\",NULL,\"NULL\",\"\"}");
	sd_buf_reset(&b);
	sd_buf_chr(&b, '{');
	sd_buf_pgarray_i64(&b, 1);
	sd_buf_pgarray_i64(&b, -2);
	sd_buf_chr(&b, '}');
	TEXT(&b, "{1,-2}");
	sd_buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_append),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_printf_at_every_length),
		cmocka_unit_test(test_take),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_pgarray),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
