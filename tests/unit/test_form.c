/* Bodies as JSON. */
#include "http/form.h"

#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void check(enum sd_media media, const char *body, size_t n, const char *want)
{
	struct sd_arena *arena = sd_arena_new();
	const char *json;
	size_t len;
	struct sd_err err;
	int rc = sd_body_json(media, body, n, arena, &json, &len, &err);

	assert_int_equal(rc, want ? 0 : -1);
	if (want) {
		assert_int_equal(len, strlen(want));
		assert_memory_equal(json, want, len);
	} else {
		assert_true(err.message[0] != '\0');
	}
	sd_arena_free(arena);
}

#define FORM(body, want) check(SD_MEDIA_FORM, (body), sizeof(body) - 1, (want))
#define TEXT(body, want) check(SD_MEDIA_TEXT, (body), sizeof(body) - 1, (want))

static void test_form(void **state)
{
	FORM("a=1", "{\"a\":\"1\"}");
	FORM("a=1&b=2&a=3&c&a=", "{\"a\":[\"1\",\"3\",\"\"],\"b\":\"2\",\"c\":\"\"}");
	FORM("a+b=%22%5c%0a&&=x", "{\"a b\":\"\\\"\\\\\\n\",\"\":\"x\"}");
	FORM("a=x=y&A=1", "{\"a\":\"x=y\",\"A\":\"1\"}");
	FORM("&", "{}");
	FORM("a=%c3%a4", "{\"a\":\"\xc3\xa4\"}");
	FORM("b=1&a=2&b=3&a=4&b=5&c", "{\"b\":[\"1\",\"3\",\"5\"],\"a\":[\"2\",\"4\"],\"c\":\"\"}");
	FORM("a=%", NULL);
	FORM("a=%00", NULL);
	FORM("a=%c3", NULL);
	FORM("%ed%a0%80=1", NULL);
	FORM("a=\xff", NULL);
	FORM("a\0=1", NULL);
}

static void test_text(void **state)
{
	TEXT("x \"y\"\t\x7f\x01\xc3\xa4", "\"x \\\"y\\\"\\t\x7f\\u0001\xc3\xa4\"");
	TEXT("a\0b", NULL);
	TEXT("\xc0\x80", NULL);
	TEXT("\xe2\x82", NULL);
}

static void test_others(void **state)
{
	check(SD_MEDIA_JSON, "{\"a\": 1.50}", 11, "{\"a\": 1.50}");
	check(SD_MEDIA_JSON, "{", 1, NULL);
	check(SD_MEDIA_OTHER, "\xff", 1, "null");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_form), cmocka_unit_test(test_text), cmocka_unit_test(test_others)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
